"""A process that has imported what its children need and forks them, so that each begins in milliseconds, not seconds.

    python -m tuning.forks SOCKET MODULE...

It computes nothing itself: TensorFlow survives a fork as long as it has only been imported. multiprocessing's
fork server would do, but it imports the user's script anew in every child, and takes all children for dead
once it has died itself.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import traceback
from typing import IO, NoReturn

_LENGTH = 1 << 16  # bytes of a request, at the most
_SAID = 500  # characters of what it printed before it died


class ForkServer:
    """Children that call a function by name; if the server dies, the next child begins with a new one.

    It is started at once, and imports its modules while this process goes on.
    """

    def __init__(self, *modules: str):
        self._modules = modules
        self._log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  # open as long as there is a server
        self._codes: dict[int, int] = {}  # of children that have ended
        self._begin()

    def fork(self, function: str, argument: str, file: int) -> int:
        """The id of a new process that calls function(argument, file), "module:name", and ends with what it returns.

        `file` is the number of an open file, which has a number of its own there.

        Raises:
            OSError: no server can be started.
        """
        for _ in range(2):
            with contextlib.suppress(OSError):
                request = json.dumps({"function": function, "argument": argument}) + "\n"
                socket.send_fds(self._socket, [request.encode()], [file])
                while self._hear(None):
                    if self._forked:
                        self._children.add(self._forked[0])
                        return self._forked.pop()
            self.close()
            self._begin()
        raise OSError(f"The process that starts trials ended before it could start one. {self._said()}")

    def code(self, process: int, *, seconds: float = 5.0) -> int | None:
        """How a child that has ended did, as subprocess has it; None where the server died before it."""
        with contextlib.suppress(OSError):
            while process in self._children and process not in self._codes and self._hear(seconds):
                pass
        self._children.discard(process)
        return self._codes.pop(process, None)

    def close(self) -> None:
        """End the server. Its children live on."""
        self._socket.close()
        self._process.kill()  # it may import for seconds yet
        self._process.wait()

    def _begin(self) -> None:
        self._forked: list[int] = []
        self._children: set[int] = set()  # of this server
        self._unread = b""
        self._socket, theirs = socket.socketpair()
        with theirs:
            environment = {
                **os.environ,
                "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path),
                "TF_CPP_MIN_LOG_LEVEL": os.environ.get("TF_CPP_MIN_LOG_LEVEL", "3"),
            }
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tuning.forks", str(theirs.fileno()), *self._modules],
                env=environment, stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log,
                pass_fds=[theirs.fileno()], start_new_session=True,
            )  # fmt: skip

    def _hear(self, seconds: float | None) -> bool:
        """Take note of what the server says next; whether it did."""
        if not select.select([self._socket], [], [], seconds)[0]:
            return False
        found = self._socket.recv(_LENGTH)
        *lines, self._unread = (self._unread + found).split(b"\n")
        for line in lines:
            said = json.loads(line)
            if "forked" in said:
                self._forked.append(said["forked"])
            else:
                self._codes[said["ended"]] = said["code"]
        return bool(found)

    def _said(self) -> str:
        """The last line that it printed."""
        self._log.seek(0)
        lines = self._log.read().decode(errors="replace").strip().splitlines()
        return lines[-1][-_SAID:] if lines else ""


def serve(connection: socket.socket) -> None:
    """Fork as often as is asked for, and say how each child has ended, until whoever asks is gone."""
    awake, wake = os.pipe()
    for end in (awake, wake):
        os.set_blocking(end, False)
    signal.set_wakeup_fd(wake)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    while True:
        ready = select.select([connection.fileno(), awake], [], [])[0]
        if awake in ready:
            os.read(awake, _LENGTH)
            _tell_who_ended(connection)
        if connection.fileno() in ready:
            request, files, *_ = socket.recv_fds(connection, _LENGTH, 1)
            if not request:
                return
            process = os.fork()
            if process == 0:
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                for each in (connection.detach(), awake, wake):
                    os.close(each)
                _become(json.loads(request), files[0])
            os.close(files[0])
            connection.sendall(json.dumps({"forked": process}).encode() + b"\n")


def _tell_who_ended(connection: socket.socket) -> None:
    with contextlib.suppress(ChildProcessError):
        while (found := os.waitpid(-1, os.WNOHANG))[0]:
            code = os.waitstatus_to_exitcode(found[1])
            connection.sendall(json.dumps({"ended": found[0], "code": code}).encode() + b"\n")


def _become(request: dict[str, str], file: int) -> NoReturn:
    """Be the child that was asked for, to its end."""
    code = 1
    try:
        os.set_inheritable(file, False)
        module, _, name = request["function"].partition(":")
        code = getattr(importlib.import_module(module), name)(request["argument"], file)
    except BaseException:
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        os._exit(code)  # neither the server's loop nor what it does at its end


def main() -> None:
    """Import, then serve."""
    connection = socket.socket(fileno=int(sys.argv[1]))
    os.set_inheritable(connection.fileno(), False)
    for name in sys.argv[2:]:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # a child's rounds of garbage collection need not copy what all share
    with contextlib.suppress(BrokenPipeError):
        serve(connection)


if __name__ == "__main__":
    main()
