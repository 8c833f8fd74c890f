"""What trials do in the tests of their processes: the run's model is named for it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from pipelines.data import Tables
from pipelines.run import Phase, Run
from tuning.job import Job
from tuning.trial import Result

MEGABYTE = 2**20


def job(folder: Path, act: str, **changes) -> Job:
    """A trial that does something else than to train."""
    return Job(folder, Run(act, Tables("iris"), (Phase(1, 1e-3),), folder), **changes)


def act(asked: Job) -> Result:
    """Do what the run's model names."""
    done = _ACTS[asked.run.model](asked)
    return done if isinstance(done, Result) else Result("completed", scores={"val_loss": 0.5}, epochs=3)


def _fail(asked: Job) -> None:
    raise ValueError("No model of 3 layers\n  fits into 2.\n")


def _surprise(asked: Job) -> None:
    raise KeyError("Graph execution error:\n\nDetected at node\n  it has no key 'x'")


def _crash(asked: Job) -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def _leave(asked: Job) -> None:
    print("One line.\nThe last words.", flush=True)
    os._exit(3)


def _eat(asked: Job) -> None:
    eaten = [b"x" * (20 * MEGABYTE) for _ in range(10) if time.sleep(0.05) is None]
    time.sleep(600 + len(eaten))


def _feed(asked: Job) -> None:
    """The memory is that of a process that it starts."""
    subprocess.run([sys.executable, "-c", f"import time; x = b'x' * {300 * MEGABYTE}; time.sleep(600)"], check=True)


def _sleep(asked: Job) -> None:
    (asked.folder / "process").write_text(str(os.getpid()))
    time.sleep(600)


def _refuse(asked: Job) -> None:
    """It does not end when it is asked to."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    _sleep(asked)


def _bear(asked: Job) -> None:
    """It leaves a process behind."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    (asked.folder / "process").write_text(str(process.pid))


_ACTS: dict[str, Callable[[Job], Result | None]] = {
    "fine": lambda asked: None,
    "fail": _fail,
    "surprise": _surprise,
    "crash": _crash,
    "leave": _leave,
    "eat": _eat,
    "feed": _feed,
    "sleep": _sleep,
    "refuse": _refuse,
    "bear": _bear,
}
