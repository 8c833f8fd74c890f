"""Several workers on this machine, each a process of its own, as a user starts them."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
TWO_DEVICES = """
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from pipelines.cli import main
main()
"""  # the command zoo on two logical devices
ZOO = ("-m", "pipelines.cli")


def addresses(count: int = 2) -> str:
    """So many addresses of this machine that nobody listens on, as --workers takes them."""
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    found = ",".join(f"127.0.0.1:{each.getsockname()[1]}" for each in sockets)
    for each in sockets:
        each.close()
    return found


class Command:
    """A Python program that runs in a folder; what it says goes to files in it."""

    def __init__(self, folder: Path, name: str, *arguments: object, program: tuple[str, ...] = ZOO, **environment: str):
        self._paths = [folder / f"{name}.out", folder / f"{name}.err"]
        surroundings = {**os.environ, "TF_CONFIG": "", "PYTHONPATH": str(ROOT), "COLUMNS": "160", **environment}
        with self._paths[0].open("w") as out, self._paths[1].open("w") as err:
            self.process = subprocess.Popen(
                [sys.executable, *program, *map(str, arguments)], cwd=folder, env=surroundings, stdout=out, stderr=err
            )

    def end(self, code: int = 0, *, seconds: float = 300) -> str:
        """Wait for its end; its standard output, or standard error where the code is not 0."""
        try:
            found = self.process.wait(seconds)
        finally:
            self.process.kill()
            self.process.wait()
        out, err = (path.read_text() for path in self._paths)
        assert found == code, f"{found}\n{out}\n{err[-5000:]}"
        assert "Traceback" not in err
        return " ".join((err if code else out).split())


def start_two(folder: Path, *arguments: object) -> list[Command]:
    """The command zoo as two workers."""
    both = addresses()
    return [
        Command(folder, f"worker{index}", *arguments, "--workers", both, "--index", index) for index in range(2)
    ]  # fmt: skip


def end_all(commands: list[Command], code: int = 0) -> list[str]:
    """What each has said at its end; if one fails, none is left."""
    try:
        return [each.end(code) for each in commands]
    finally:
        for each in commands:
            each.process.kill()
            each.process.wait()


def wait_for(condition, *, seconds: float, what: str) -> None:
    begun = time.monotonic()
    while not condition():
        assert time.monotonic() - begun < seconds, what
        time.sleep(0.02)
