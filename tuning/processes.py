"""Trials in processes of their own, which may die of them: started, watched over, stopped."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import select
import signal
import socket
import time
from dataclasses import dataclass, field
from types import TracebackType

from pipelines.memory import resident
from tuning import last_words
from tuning.forks import ForkServer
from tuning.job import LOG, Job, Limits
from tuning.sessions import members
from tuning.trial import Result
from tuning.trial_process import GRACE, STOPPED, epochs_in, in_a_line

POLL = 0.05  # seconds between two looks at what trials take
FAMILY = 0.5  # seconds between two looks for processes that trials have started
BODY = "tuning.trial_process:train"
PRELOADED = ("pipelines.train", "pipelines.images", "pipelines.texts", "pipelines.tables", "pipelines.series")


@dataclass(eq=False)
class Running:
    """A trial at work, or, once `wait` has given it, at its end. `result` is None of one that was stopped."""

    job: Job
    limits: Limits
    process: int
    result: Result | None = None
    memory: int = 0  # bytes that it and the processes that it started had at the most, as far as was looked
    begun: float = field(default_factory=time.monotonic)
    verdict: str = ""  # why it was ended by force, and has failed
    kill_at: float | None = None  # once it was asked to stop

    @property
    def seconds(self) -> float:
        """Since its process began."""
        return time.monotonic() - self.begun


class Processes:
    """Starts trials, each in a process forked from one in which TensorFlow is imported, and waits for their ends.

    Limits are kept as long as somebody waits; a trial that is over one is killed, and has failed. If this process dies,
    in whatever way, its trials notice, save their state and end. As a context it stops them at its end.

    `body` names the function (Job) -> Result of a trial, "module:name", and `preload` the modules that all have in
    common. `grace` are the seconds that a trial has to save its state when it is to stop.
    """

    def __init__(self, *, body: str = BODY, preload: tuple[str, ...] = PRELOADED, grace: float = GRACE):
        self._body, self._grace = body, grace
        self.server = ForkServer("tuning.trial_process", *preload)
        self._running: dict[socket.socket, Running] = {}  # by what tells of their ends
        self._over: list[Running] = []  # which nobody was told of
        self._members: dict[int, list[int]] = {}
        self._looked = 0.0

    def __enter__(self) -> Processes:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def running(self) -> list[Running]:
        """Those that are at work."""
        return list(self._running.values())

    def start(self, job: Job, limits: Limits = Limits()) -> Running:
        """Start a trial, or go on with one. One whose very job has its result already is at its end at once.

        Raises:
            OSError: no process can be started, or the folder cannot be written to.
        """
        if (known := job.result) is not None:
            found = Running(job, limits, 0, known, known.memory)
            self._over.append(found)
            return found
        job.write()
        ours, theirs = socket.socketpair()
        with theirs:
            argument = {"folder": str(job.folder), "directory": os.getcwd(), "body": self._body}
            process = self.server.fork("tuning.trial_process:main", json.dumps(argument), theirs.fileno())
        self._running[ours] = Running(job, limits, process)
        self._looked = 0.0
        return self._running[ours]

    def wait(self, timeout: float | None = None) -> list[Running]:
        """Those that have come to their ends, at least one unless the seconds are over or none is at work."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            left = POLL if deadline is None else min(POLL, max(0.0, deadline - time.monotonic()))
            pause = left if self._running and not self._over else 0.0
            ended = select.select(list(self._running), [], [], pause)[0]
            for each in ended:
                self._over.append(self._conclude(each))
            self._look()
            if self._over or not self._running or (deadline is not None and time.monotonic() >= deadline):
                over, self._over = self._over, []
                return over

    def stop(self, running: Running) -> None:
        """Ask a trial to save its state and end, to go on another time; `wait` gives it when it has.

        It is killed if it takes longer than the grace, and goes on from its last checkpoint then.
        """
        if running in self._running.values() and running.kill_at is None:
            running.kill_at = time.monotonic() + self._grace
            with contextlib.suppress(ProcessLookupError):
                os.kill(running.process, signal.SIGTERM)

    def close(self) -> list[Running]:
        """Stop all that are at work, and end; those that have come to their ends meanwhile.

        If it is interrupted, they are left to save their state by themselves.
        """
        over = []
        try:
            for each in self.running:
                self.stop(each)
            while self._running:
                over += self.wait()
        finally:
            for life in self._running:
                life.close()
            self._running = {}
            self.server.close()
        return over

    def _look(self) -> None:
        """Look at what those at work take, and end those that take too much."""
        now = time.monotonic()
        fresh = now - self._looked > FAMILY
        if fresh and self._running:
            self._looked, self._members = now, members([each.process for each in self.running])
        for each in self.running:
            taken = sum(map(resident, {each.process, *self._members.get(each.process, ())}))
            each.memory = max(each.memory, taken)
            limits = each.limits
            if each.kill_at is not None and now > each.kill_at:
                _kill(each)
            elif limits.memory is not None and taken > limits.memory:
                self._end(each, f"It took {_gibibytes(taken)} of memory (limit {_gibibytes(limits.memory)}).")
            elif limits.seconds is not None and each.seconds > limits.seconds:
                self._end(each, f"It took longer than {limits.seconds:g} seconds, the limit.")

    def _end(self, running: Running, verdict: str) -> None:
        running.verdict = running.verdict or verdict
        _kill(running)

    def _conclude(self, life: socket.socket) -> Running:
        """One whose process has ended, with what became of it."""
        running = self._running.pop(life)
        life.close()
        code = self.server.code(running.process)
        with contextlib.suppress(ProcessLookupError, PermissionError):  # what it has left behind
            os.killpg(running.process, signal.SIGKILL)
        job, result = running.job, running.job.result
        if result is None and not _is_stopped(running, code):
            reason = running.verdict or last_words.of(job.folder / LOG, code)
            result = Result("failed", in_a_line(reason), epochs=epochs_in(job.folder))
        if result is not None:
            running.memory = max(running.memory, result.memory)
            result = dataclasses.replace(result, seconds=running.seconds, memory=running.memory)
            job.end(result)
        running.result = result
        return running


def _is_stopped(running: Running, code: int | None) -> bool:
    """Whether it ended so as to go on another time."""
    return not running.verdict and (running.kill_at is not None or code in (STOPPED, -signal.SIGTERM))


def _kill(running: Running) -> None:
    """End a trial's process and all that it has started, at once."""
    for kill in (os.killpg, os.kill):  # a process that has just begun has no group of its own yet
        with contextlib.suppress(ProcessLookupError, PermissionError):
            kill(running.process, signal.SIGKILL)


def _gibibytes(size: int) -> str:
    return f"{size / 2**30:.2f} GiB"
