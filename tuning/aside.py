"""Functions carried out in a child process, so that the search's own never computes with TensorFlow, nor crashes."""

from __future__ import annotations

import importlib
import json
import os
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipelines.child import TAIL
from tuning.forks import ForkServer

_MISTAKES: dict[str, type[Exception]] = {
    kind.__name__: kind for kind in (FileNotFoundError, FileExistsError, ValueError, ArithmeticError, OSError)
}  # what a user can cause; the first that fits is raised again here
_PIECE = 1 << 16


class AsideFailed(OSError):
    """A child process died, or failed in a way that is no mistake of the user's."""


def call(server: ForkServer, function: Callable[..., Any], *arguments: Any, log: Path) -> Any:
    """What a function of a module gives in a process of its own, which writes what it prints to a file.

    Its arguments and what it gives are such as JSON holds.

    Raises:
        ValueError, ArithmeticError, OSError: the function did, with the same words.
        AsideFailed: it did so otherwise, or its process died.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    asked = {"module": function.__module__, "function": function.__name__, "arguments": arguments}
    ours, theirs = socket.socketpair()
    with theirs:
        told = json.dumps({**asked, "log": str(log), "directory": os.getcwd()})
        process = server.fork("tuning.aside:main", told, theirs.fileno())
    try:
        with ours:
            said = _hear(ours)
    except BaseException:
        os.kill(process, signal.SIGKILL)
        raise
    code = server.code(process)
    if not said:
        how = signal.Signals(-code).name if code is not None and code < 0 else f"exit code {code}"
        raise AsideFailed(f"A child process died ({how}); it printed:\n{_tail(log)}")
    found = json.loads(said)
    if "value" in found:
        return found["value"]
    if found["error"] not in _MISTAKES:
        raise AsideFailed(f"A child process failed; it printed:\n{_tail(log)}")
    raise _MISTAKES[found["error"]](found["text"])


def _hear(connection: socket.socket) -> bytes:
    said = b""
    while piece := connection.recv(_PIECE):
        said += piece
    return said


def main(argument: str, file: int) -> int:
    """In the child: call the function, and tell what it gives through the socket of that number."""
    asked = json.loads(argument)
    os.setsid()
    os.chdir(asked["directory"])
    log = os.open(asked["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    for number in (1, 2):
        os.dup2(log, number)
    with socket.socket(fileno=file) as connection:
        threading.Thread(target=_end_with, args=[connection], daemon=True).start()
        try:
            function = getattr(importlib.import_module(asked["module"]), asked["function"])
            found = {"value": function(*asked["arguments"])}
        except Exception as error:
            traceback.print_exc()
            sys.stderr.flush()
            kind = next((name for name, each in _MISTAKES.items() if isinstance(error, each)), "")
            found = {"error": kind, "text": str(error)}
        connection.sendall(json.dumps(found).encode())
        os._exit(0)  # before the thread takes the end of the connection for that of whoever waits


def _end_with(connection: socket.socket) -> None:
    """Nobody needs what this process computes once the one that waits for it is gone."""
    connection.recv(1)  # nothing is ever said: it returns when the other end is closed
    os._exit(1)


def _tail(log: Path) -> str:
    try:
        return log.read_text(encoding="utf-8", errors="replace")[-TAIL:].strip() or "(nothing)"
    except OSError:
        return "(nothing)"
