"""Trials carried out by workers on other machines: the chief hands them out, and takes them back from who is lost."""

from __future__ import annotations

import logging
import threading
import time
from concurrent import futures
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import grpc

from tuning import protocol
from tuning.carrier import Done, checked
from tuning.plan import Plan
from tuning.protocol import TrialStatus
from tuning.terms import LEASE
from tuning.trial import Trial

_FAREWELL = 10.0  # seconds in which workers are told that the search is over
_log = logging.getLogger(__name__)


class ChiefError(OSError):
    """The chief cannot be where it is to be."""


@dataclass
class Held:
    """A trial that a worker has."""

    trial: Trial
    worker: str
    until: float  # by time.monotonic: when it is taken back, unless the worker says something
    stop: bool = False  # whether the worker is to save its state and let go of it


class Desk:
    """Where trials wait for a worker, are looked after while one has them, and come back. For any number of threads."""

    def __init__(self, plan: Plan, *, lease: float = LEASE):
        self._plan, self._lease = plan, lease
        self._changed = threading.Condition()
        self._waiting: list[Trial] = []
        self._held: dict[str, Held] = {}
        self._done: list[Done] = []
        self._workers: dict[str, float] = {}  # when each was heard of
        self._closed = False

    @property
    def workers(self) -> list[str]:
        """Those that were heard of within the lease."""
        with self._changed:
            self._look()
            return list(self._workers)

    @property
    def trials(self) -> tuple[str, ...]:
        """Those that wait for a worker, or that one has."""
        with self._changed:
            return (*self._held, *(trial.id for trial in self._waiting))

    def offer(self, trial: Trial) -> None:
        """Have a trial carried out by the next worker that asks."""
        with self._changed:
            self._waiting.append(trial)

    def take(self, worker: str) -> Trial | None:
        """A trial for a worker, the one that it has if the answer to its last question was lost; None if none waits."""
        with self._changed:
            self._heard(worker)
            for held in self._held.values():
                if held.worker == worker:
                    return held.trial
            if self._closed or not self._waiting:
                return None
            trial = self._waiting.pop(0)
            self._held[trial.id] = Held(trial, worker, time.monotonic() + self._lease)
            return trial

    def keep(self, worker: str, trial: str) -> bool:
        """A worker still has a trial; whether it is to go on with it, or it has to let go of it."""
        with self._changed:
            self._heard(worker)
            held = self._held_by(worker, trial)
            if held is None:
                return False
            held.until = time.monotonic() + self._lease
            return not held.stop

    def give_back(self, worker: str, done: Done) -> None:
        """A worker has come to the end with a trial, or, without a result, leaves it to another worker."""
        with self._changed:
            self._heard(worker)
            held = self._held_by(worker, done.trial)
            if held is None:
                return
            del self._held[done.trial]
            if done.result is None and not held.stop:
                return self._waiting.insert(0, held.trial)
            self._done.append(Done(done.trial, checked(done.result, self._plan)))
            self._changed.notify_all()

    def leave(self, worker: str) -> None:
        """A worker is told that the search is over, or goes of itself."""
        with self._changed:
            self._workers.pop(worker, None)

    def collect(self, seconds: float) -> list[Done]:
        """The trials that came back; waits for one for so long at the most."""
        with self._changed:
            self._look()
            if not self._done:
                self._changed.wait(seconds)
                self._look()
            done, self._done = self._done, []
            return done

    def stop(self, trial: str) -> None:
        """Have the worker that has a trial save its state and let go of it."""
        with self._changed:
            if trial in self._held:
                self._held[trial].stop = True
                return
            self._waiting = [each for each in self._waiting if each.id != trial]
            self._done.append(Done(trial, None))

    def close(self) -> None:
        """From now on, workers that ask are told that the search is over."""
        with self._changed:
            self._closed = True

    @property
    def closed(self) -> bool:
        """Whether the search is over."""
        return self._closed

    def _held_by(self, worker: str, trial: str) -> Held | None:
        """A trial that a worker has, from before this chief came too; None where another one has it."""
        waiting = next((each for each in self._waiting if each.id == trial), None)
        if waiting is not None:
            self._waiting.remove(waiting)
            self._held[trial] = Held(waiting, worker, time.monotonic() + self._lease)
        held = self._held.get(trial)
        return held if held is not None and held.worker == worker else None

    def _heard(self, worker: str) -> None:
        if worker not in self._workers and not self._closed:
            _log.warning("Worker %s is here.", worker)
        self._workers[worker] = time.monotonic()

    def _look(self) -> None:
        """Take back what lost workers had."""
        now = time.monotonic()
        for name, held in list(self._held.items()):
            if held.until < now:
                _log.warning("Worker %s is lost; trial %s goes on elsewhere.", held.worker, name)
                del self._held[name]
                self._workers.pop(held.worker, None)
                self._done.append(Done(name, None))
        self._workers = {name: heard for name, heard in self._workers.items() if heard + self._lease > now}


class _Service(protocol.service()):  # type: ignore[misc]  # a class that is made when the program runs
    """keras-tuner's calls, answered from a desk."""

    def __init__(self, desk: Desk, plan: Plan, folder: Path):
        self._desk, self._plan, self._folder = desk, plan, folder

    def GetSpace(self, request: Any, context: grpc.ServicerContext) -> Any:
        context.set_trailing_metadata(protocol.said(folder=str(self._folder.resolve())))
        space = self._plan.space.hyperparameters()
        return protocol.messages.GetSpaceResponse(hyperparameters=space.to_proto())

    def CreateTrial(self, request: Any, context: grpc.ServicerContext) -> Any:
        trial = self._desk.take(request.tuner_id)
        status = TrialStatus.IDLE if trial is None else TrialStatus.RUNNING
        if trial is None and self._desk.closed:
            self._desk.leave(request.tuner_id)
            status = TrialStatus.STOPPED
        if trial is not None:
            context.set_trailing_metadata(protocol.said(id=trial.id, values=dict(trial.values)))
        return protocol.messages.CreateTrialResponse(trial=protocol.message(trial, status))

    def UpdateTrial(self, request: Any, context: grpc.ServicerContext) -> Any:
        worker = protocol.read(context.invocation_metadata()).get("worker", "")
        goes_on = self._desk.keep(worker, request.trial_id)
        status = TrialStatus.RUNNING if goes_on else TrialStatus.STOPPED
        return protocol.messages.UpdateTrialResponse(trial=protocol.message(Trial(request.trial_id, {}), status))

    def EndTrial(self, request: Any, context: grpc.ServicerContext) -> Any:
        values = protocol.read(context.invocation_metadata())
        worker = values.get("worker", "")
        self._desk.give_back(worker, Done(request.trial.trial_id, protocol.read_result(values)))
        if values.get("leaves"):
            self._desk.leave(worker)
        return protocol.messages.EndTrialResponse()


class Chief:
    """Carries trials out as `Carrier` does, by the workers that come to its address; leaving its block sends them home.

    Raises:
        ChiefError: the address cannot be had.
    """

    def __init__(self, plan: Plan, folder: Path, *, listen: str, lease: float = LEASE):
        self.desk = Desk(plan, lease=lease)
        self.address = protocol.address(listen)
        self._server = grpc.server(futures.ThreadPoolExecutor(max_workers=8), options=(("grpc.so_reuseport", 0),))
        protocol.calls.add_OracleServicer_to_server(_Service(self.desk, plan, folder), self._server)
        try:
            self._server.add_insecure_port(self.address)
        except RuntimeError as error:
            raise ChiefError(f"The chief cannot listen at {self.address}: is another program there? {error}") from None

    def __enter__(self) -> Chief:
        self._server.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.desk.close()
        end = time.monotonic() + _FAREWELL
        while self.desk.workers and time.monotonic() < end:
            time.sleep(0.1)
        self._server.stop(grace=1).wait()

    @property
    def places(self) -> int:
        """How many trials can run at a time: one for each worker, and one that waits for the first to come."""
        return max(1, len(self.desk.workers))

    @property
    def running(self) -> tuple[str, ...]:
        """The trials that workers have, or that wait for one."""
        return self.desk.trials

    def start(self, trial: Trial, *, place: int = 0) -> None:
        """Have a trial carried out by a worker; which one is not known before."""
        self.desk.offer(trial)

    def wait(self, seconds: float) -> list[Done]:
        """Those that have come back; waits for one for so long at the most."""
        return self.desk.collect(seconds)

    def stop(self, trial: str) -> None:
        """Have a trial save its state and end; `wait` tells when it has."""
        self.desk.stop(trial)
