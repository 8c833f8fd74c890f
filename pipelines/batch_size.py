"""The largest batch that fits into memory, by trial: `Run(batch="auto")`."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import os
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from pipelines import memory
from pipelines.recovery import OutOfMemory
from pipelines.run import Run

MARK = "trial: "  # begins the lines that a trial's process prints for this one
FIRST = 8  # examples of the first trial
FEWEST_STEPS = 8  # of an epoch: with fewer, larger batches train badly however well they fit
SHARE = 0.8  # of the available memory that a trial may take
SECONDS = 90.0  # for a size, at most
TOGETHER = 400.0  # after which no other size is tried
_STEP = 0.02  # seconds between two looks at a trial's memory
_ERRORS: dict[str, type[Exception]] = {"FileNotFoundError": FileNotFoundError, "ValueError": ValueError}
_log = logging.getLogger(__name__)


def settled(run: Run) -> Run:
    """The run with a number for its batch: its own, or the largest that fits.

    Raises:
        ValueError, FileNotFoundError: the data or the model cannot be had as described.
        OutOfMemory: not even the smallest batch fits.
    """
    if run.batch != "auto":
        return run
    with Trials(run) as trials:
        found = largest(trials.fits, unit=trials.unit, most=trials.most)
    _log.warning("A batch of %d: %s.", found, trials.told(found))
    return dataclasses.replace(run, batch=found)


def largest(fits: Callable[[int], bool], *, unit: int, most: int, first: int = FIRST) -> int:
    """The largest size that fits, as far as few trials tell: by doubling, then twice the middle between two.

    Sizes are multiples of `unit`, and `most` at the most.

    Raises:
        OutOfMemory: `unit` does not fit.
    """
    size, good = min(-(-first // unit) * unit, most), 0
    while fits(size):
        good = size
        if size == most:
            return good
        size = min(2 * size, most)
    bad = size
    while not good and bad > unit:
        size = max(unit, bad // 2 // unit * unit)
        good, bad = (size, bad) if fits(size) else (0, size)
    if not good:
        raise OutOfMemory(
            f"Not even a batch of {unit} fits into memory, or does not within {SECONDS:.0f} seconds. Take a smaller "
            "model, image size or length, freeze more of it, or see whether another process holds the memory."
        )
    for _ in range(2):
        middle = (good + bad) // 2 // unit * unit
        if middle == good:
            break
        good, bad = (middle, bad) if fits(middle) else (good, middle)
    return good


class Trials:
    """Trains a run's model for a few steps of any size, in a process of its own, which may die of it.

    It is ended when it takes more than its share of the memory that there is, or `limit` bytes: before the machine
    begins to swap, or its kernel to kill. `unit` is what sizes have to divide by, `most` the largest that makes sense.

    Raises:
        ValueError, FileNotFoundError: the data or the model cannot be had as described.
    """

    def __init__(self, run: Run, *, limit: int | None = None):
        self._run, self._begun = run, time.monotonic()
        free = memory.available()
        self._limit = limit or (None if free is None else int(SHARE * free))
        self._process: subprocess.Popen | None = None
        self._why: dict[int, str] = {}
        self._files = contextlib.ExitStack()
        folder = Path(self._files.enter_context(tempfile.TemporaryDirectory()))
        self._job, self._log = folder / "run.json", folder / "log.txt"
        self._job.write_text(run.to_json(), encoding="utf-8")
        try:
            known = self._begin()
        except BaseException:
            self.__exit__()
            raise
        self.unit, self.most = known["unit"], known["most"]

    def __enter__(self) -> Trials:
        return self

    def __exit__(self, *_: object) -> None:
        self._end()
        self._files.close()

    def fits(self, size: int) -> bool:
        """Whether a batch of this size can be trained on."""
        if time.monotonic() - self._begun > TOGETHER:
            self._why[size] = "there was no time to try it"
            return False
        if self._process is None:
            self._begin()
        _stream(self._process, "stdin").write(f"{size}\n".encode())
        answer = self._answer()
        if "error" in answer:
            raise _ERRORS.get(answer["error"], OSError)(answer["message"])
        self._why[size] = str(answer.get("why", ""))
        if self._why[size]:
            self._end()
        return not self._why[size]

    def told(self, found: int) -> str:
        """Why it is this size."""
        above = sorted(size for size, why in self._why.items() if size > found and why)
        if not above:
            return (
                f"larger ones would leave fewer than {FEWEST_STEPS} steps an epoch" if found == self.most else "tried"
            )
        return f"the largest that fits; with {above[0]}, {self._why[above[0]]}"

    def _begin(self) -> dict[str, Any]:
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path),
            "TF_CPP_MIN_LOG_LEVEL": "3",
        }
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "pipelines.batch_trial", str(self._job)],
                env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, bufsize=0,
            )  # fmt: skip
        known = self._answer()
        if "unit" in known:
            return known
        error = _ERRORS.get(str(known.get("error")), OSError)
        self._end()
        raise error(known.get("message") or f"The trial of a batch failed: {known.get('why')}. Set a number.")

    def _answer(self) -> dict[str, Any]:
        """The next line of the trial that is for us, or why there is none."""
        assert self._process is not None
        stream, deadline = _stream(self._process, "stdout"), time.monotonic() + SECONDS
        while time.monotonic() < deadline:
            if self._limit is not None and memory.resident(self._process.pid) > self._limit:
                return {"why": f"the process takes more than {self._limit / 2**30:.1f} GiB of memory"}
            if not select.select([stream], [], [], _STEP)[0]:
                continue
            line = stream.readline().decode(errors="replace")
            if line.startswith(MARK):
                return json.loads(line.removeprefix(MARK))
            if not line:
                return {"why": f"the process ended with {self._process.wait()}{self._last_words()}"}
        return {"why": f"it takes more than {SECONDS:.0f} seconds"}

    def _last_words(self) -> str:
        lines = self._log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return f": {lines[-1][:200]}" if lines else ""

    def _end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            for name in ("stdin", "stdout"):
                _stream(self._process, name).close()
        self._process = None


def _stream(process: subprocess.Popen | None, name: str) -> IO[bytes]:
    stream = getattr(process, name)
    assert stream is not None
    return stream
