"""The process of a trial: it trains, saves and ends when it is asked to or alone in the world, and says how it went."""

from __future__ import annotations

import contextlib
import dataclasses
import faulthandler
import fcntl
import importlib
import json
import math
import os
import resource
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import NoReturn

from pipelines.checkpoints import Checkpoints
from pipelines.interruption import SIGNALS
from pipelines.monitor import History
from tuning import adoption
from tuning.job import LOG, Job
from tuning.sessions import members
from tuning.trial import Result

STOPPED = 75  # what the process ends with if the trial is to go on another time: EX_TEMPFAIL
GRACE = 60.0  # seconds from being asked to end to being killed
LONGEST = 400  # characters of a reason
MISTAKES = (ValueError, ArithmeticError, OSError)  # told by their text alone, as the command line does

Body = Callable[[Job], Result]


def main(argument: str, life: int) -> int:
    """Carry out the job in a folder; how the process is to end.

    `argument` is JSON: the folder, the directory to work in, and the function (Job) -> Result that does the work.
    `life` is the number of a socket whose other end is open as long as somebody waits for the result.
    """
    asked = json.loads(argument)
    os.setsid()
    os.chdir(asked["directory"])
    for number in SIGNALS:
        signal.signal(number, _leave)
    try:
        begun = time.monotonic()
        _watch(life)
        job = Job.read(Path(asked["folder"]))
        result = _ending(asked["body"], job)
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        memory = max(result.memory, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
        job.end(dataclasses.replace(result, seconds=time.monotonic() - begun, memory=memory))
        return 0
    except KeyboardInterrupt as error:  # from within training
        print(error or "Interrupted.", file=sys.stderr)
        return STOPPED


def train(job: Job) -> Result:
    """Train and measure; the usual body."""
    from pipelines.train import CHECKPOINTS, advanced
    from tuning import placing

    placing.take(job)
    if job.start is not None:
        adoption.adopt(job.start, job.folder)
    with advanced(job.run, epochs=job.epochs, cache=job.cache, progress=True) as fitted:
        result = scored(fitted.history)
        if result.status == "completed" and job.measure:
            from tuning.measuring import measured

            result = dataclasses.replace(result, scores={**result.scores, **measured(fitted, job)})
        if not job.run.rollbacks:  # which lead to earlier ones
            Checkpoints(job.folder / CHECKPOINTS).thin_out()
        return result


def scored(history: History) -> Result:
    """What a trial scored: the metrics of the epoch whose weights were kept, as far as they are numbers."""
    best, epochs = history.best, len(history.epochs)
    if best is None or not math.isfinite(best.metrics.get("val_loss", math.nan)):
        value = "missing" if best is None else best.metrics.get("val_loss")
        return Result("failed", f"The validation loss is {value} after {epochs} epochs.", epochs=epochs)
    return Result("completed", scores={k: v for k, v in best.metrics.items() if math.isfinite(v)}, epochs=epochs)


def epochs_in(folder: Path) -> int:
    """The epochs that a run in a folder has trained."""
    with contextlib.suppress(OSError, ValueError):
        return len(History.from_json((folder / "history.json").read_text(encoding="utf-8")).epochs)
    return 0


def in_a_line(text: str) -> str:
    """A message of several lines as one, not too long to be shown in a table."""
    line = " ".join(text.split())
    return line if len(line) <= LONGEST else f"{line[: LONGEST - 1]}…"


def _ending(body: str, job: Job) -> Result:
    """The result of the body, or what it failed of."""
    module, _, name = body.partition(":")
    try:
        _write_to(job.folder / LOG)
        work: Body = getattr(importlib.import_module(module), name)
        return work(job)
    except Exception as error:
        traceback.print_exc()
        reason = str(error) if isinstance(error, MISTAKES) and str(error) else _unexpected(error)
    return Result("failed", in_a_line(reason), epochs=epochs_in(job.folder))


def _unexpected(error: Exception) -> str:
    """The error's kind, and the last line of what it says: TensorFlow's first ones are where in the graph it was."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[-1].strip()}" if lines else type(error).__name__


def _leave(number: int, frame: FrameType | None) -> NoReturn:
    """Ends the process with those that it started, outside of training; `pipelines.fit` has the step end first.

    An exception would be lost where Python is called by TensorFlow's C++ or by a finalizer. There is nothing to save.
    """
    own = os.getpid()
    for process in members([own])[own]:
        if process != own:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
    os.write(2, f"{signal.Signals(number).name} came; the trial can go on another time.\n".encode())
    os._exit(STOPPED)


def _watch(life: int) -> None:
    """Ask this process to end once nobody waits for it any more, as a signal would, and see to it that it does."""
    main = threading.main_thread().ident
    assert main is not None

    def wait() -> None:
        with socket.socket(fileno=life) as connection, contextlib.suppress(OSError):
            connection.recv(1)  # nothing is ever said: it returns when the other end is closed
            signal.pthread_kill(main, signal.SIGTERM)
            time.sleep(GRACE)
            os.killpg(0, signal.SIGKILL)

    threading.Thread(target=wait, daemon=True).start()


def _write_to(log: Path) -> None:
    """Have all that is printed in a file, crashes too, once no earlier process of this trial writes there."""
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    waited = 0.0
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:  # one that lost its search, and saves its state; it has so many seconds for it
            if waited > 2 * GRACE:
                raise OSError(f"Another process carries out this trial, and holds its '{log}'.") from None
            time.sleep(0.1)
            waited += 0.1
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.close(file)
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # a TextIOWrapper in a process of its own
    faulthandler.enable(all_threads=False)
    with contextlib.suppress(OSError):  # where memory runs out the system ends this process, and not the search
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")
