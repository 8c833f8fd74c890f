"""Runs a module of ours as a process of its own, where a crash of native code ends nothing else."""

from __future__ import annotations

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


def run(module: str, directory: Path) -> Ending:
    """Runs `python -m module directory` to its end.

    It finds the modules that this process finds. It gets no GPU: this process holds the memory of all of them.
    """
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
