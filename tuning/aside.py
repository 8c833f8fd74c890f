"""Functions carried out in a child process, so that the search's own never computes with TensorFlow, nor crashes."""

from __future__ import annotations

import importlib
import multiprocessing
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from pipelines.child import TAIL

_KINDS: dict[str, type[Exception]] = {
    kind.__name__: kind for kind in (FileNotFoundError, FileExistsError, ValueError, ArithmeticError, OSError)
}  # what a user can cause; the first that fits is raised again here
_LOOK = 0.2  # seconds between two looks at whether the child is still wanted


class AsideFailed(OSError):
    """A child process died, or failed in a way that is no mistake of the user's."""


def call(function: Callable[..., Any], *arguments: Any, log: Path, check: Callable[[], None] = lambda: None) -> Any:
    """What a function of a module gives in a process of its own, which writes what it prints to a file.

    `check` is called a few times a second; when it raises, the process is ended.

    Raises:
        ValueError, ArithmeticError, OSError: the function did, with the same words.
        AsideFailed: it did so otherwise, or its process died.
    """
    context = multiprocessing.get_context("forkserver")
    receive, send = context.Pipe(duplex=False)
    name = f"{function.__module__}:{function.__qualname__}"
    process = context.Process(target=_carry_out, args=(send, name, arguments, str(log)), daemon=False)
    process.start()
    send.close()
    try:
        while not receive.poll(_LOOK):
            check()
        found = receive.recv()
    except EOFError:
        found = None
    except BaseException:
        process.kill()
        raise
    finally:
        receive.close()
        process.join()
    if found is None:
        raise AsideFailed(f"A child process died ({_ending(process.exitcode)}); it printed:\n{_tail(log)}")
    value, kind, message = found
    if kind is None:
        return value
    if kind not in _KINDS:
        raise AsideFailed(f"A child process failed; it printed:\n{_tail(log)}")
    raise _KINDS[kind](message)


def _carry_out(send: Connection, name: str, arguments: tuple[Any, ...], log: str) -> None:
    os.setsid()  # Ctrl-C is for the search, which says what becomes of its children
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    Path(log).parent.mkdir(parents=True, exist_ok=True)
    with open(log, "w", buffering=1, encoding="utf-8", errors="replace") as stream:
        for number in (1, 2):
            os.dup2(stream.fileno(), number)
    module, _, function = name.partition(":")
    try:
        send.send((getattr(importlib.import_module(module), function)(*arguments), None, ""))
    except Exception as error:
        traceback.print_exc()
        kind = next((name for name, each in _KINDS.items() if isinstance(error, each)), "")
        sys.stderr.flush()
        send.send((None, kind, str(error)))


def _end_with_parent() -> None:
    """Nobody waits for what a child computes once its parent was killed."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _tail(log: Path) -> str:
    try:
        return log.read_text(encoding="utf-8", errors="replace")[-TAIL:].strip() or "(nothing)"
    except OSError:
        return "(nothing)"


def _ending(code: int | None) -> str:
    if code is not None and code < 0:
        return signal.Signals(-code).name
    return f"exit code {code}"
