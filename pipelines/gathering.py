"""How a worker waits for the others: not for ever, and not on a port that another program has."""

from __future__ import annotations

import atexit
import contextlib
import errno
import faulthandler
import os
import socket
import subprocess
import sys
from collections.abc import Iterator

from pipelines.cluster import Cluster

LEAVING = 10  # seconds from a program's last line to the end of its process, once a worker is lost
PATIENCE = 600  # seconds for all workers to come, unless ZOO_WORKERS_WAIT says another number
_WATCH = """
import os, signal, sys, time
parent, seconds, told = int(sys.argv[1]), float(sys.argv[2]), sys.argv[3]
def interrupted(*_):
    print("error: Interrupted.", file=sys.stderr, flush=True)
    os.kill(parent, signal.SIGTERM)
    sys.exit()
signal.signal(signal.SIGINT, interrupted)
end = time.monotonic() + seconds
while os.getppid() == parent:
    if time.monotonic() > end:
        print(told, file=sys.stderr, flush=True)
        os.kill(parent, signal.SIGKILL)
        break
    time.sleep(0.2)
"""  # ends the process that began it; Ctrl-C in a terminal comes to both

_held: list[BaseException] = []  # so that nothing of them is freed before the end


class WorkersError(OSError):
    """Workers cannot train together here."""


def check_port(found: Cluster) -> None:
    """Refuse a port that another program listens on, which TensorFlow would say in many lines."""
    port = int(found.workers[found.index].rpartition(":")[2])
    family = socket.AF_INET6 if socket.has_ipv6 else socket.AF_INET
    try:
        with socket.socket(family) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(("", port))
    except OSError as error:
        if error.errno not in (errno.EADDRINUSE, errno.EACCES):
            return  # let TensorFlow try
        raise WorkersError(
            f"Worker {found.index} cannot listen on port {port} of this machine: {os.strerror(error.errno)}. Another "
            "worker or program may have it; is --index the right one?"
        ) from error


def end_in_time(error: BaseException) -> None:
    """Have this process end soon after the program's last line, with exit code 1 if it has to be ended.

    TensorFlow may wait for a lost worker for ever when what an `error` holds is freed, with Python's lock held.
    """
    nowhere = open(os.devnull, "w")  # noqa: SIM115  # what stops the process writes to it when it does
    atexit.register(faulthandler.dump_traceback_later, LEAVING, exit=True, file=nowhere)
    _held.append(error)


@contextlib.contextmanager
def patience(found: Cluster) -> Iterator[None]:
    """Inside, this process is ended after so long.

    TensorFlow itself waits for the others for ever, in C++ and with Python's lock held: no thread and no signal
    handler of this process can end it.
    """
    seconds = float(os.environ.get("ZOO_WORKERS_WAIT", PATIENCE))
    told = f"error: Worker {found.index}: not all of {', '.join(found.workers)} came in {seconds:g} s."
    command = [sys.executable, "-I", "-c", _WATCH, str(os.getpid()), str(seconds), told]
    watch = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        yield
    finally:
        watch.kill()
        watch.wait()
