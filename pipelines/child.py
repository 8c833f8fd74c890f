"""Runs a module of ours as a process of its own, where a crash of native code ends nothing else, or in this one."""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

TAIL = 1500  # characters of its output that are shown when it failed


@dataclass(frozen=True)
class Ending:
    """How a process ended, and what it printed."""

    code: int
    output: str

    def __str__(self) -> str:
        how = signal.Signals(-self.code).name if self.code < 0 else f"exit code {self.code}"
        return f"{how}; it printed:\n{self.output[-TAIL:].strip() or '(nothing)'}"


def run(module: str, directory: Path, *, apart: bool = True) -> Ending:
    """Has a module do its work in a directory: as `python -m module directory`, or here if it need not be `apart`.

    The process finds the modules that this one finds. It gets no GPU: this one holds the memory of all of them.
    """
    if not apart:
        importlib.import_module(module).run(directory)
        return Ending(0, "")
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path),
        "CUDA_VISIBLE_DEVICES": "-1",
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }
    process = subprocess.run(
        [sys.executable, "-m", module, str(directory)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    return Ending(process.returncode, process.stdout)
