"""A race between libraries, each in a process of its own.

They take turns, so that a machine whose speed drifts slows all of them. A benchmark calls `Contender` in the process
that prints, and `serve` in those that work.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
_libraries: list[Any] = []  # torch forgets operators when their library is collected


class Contender:
    """A process of the running benchmark that works when told to, and says how long it took.

    It is started with `--work JSON`, the job as JSON. `environment` is added to this process's; None takes a
    variable away.
    """

    def __init__(self, job: Mapping[str, Any], *, python: str, environment: Mapping[str, str | None]):
        changed = {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1", **environment}
        self.seconds: list[float] = []
        self._process = subprocess.Popen(
            [python, sys.argv[0], "--work", json.dumps(job)],
            env={name: value for name, value in {**os.environ, **changed}.items() if value is not None},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def work(self, amount: int = 1) -> float | None:
        """The seconds that so much work takes; None where the process has ended instead."""
        assert self._process.stdin and self._process.stdout
        try:
            self._process.stdin.write(f"{amount}\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            return None
        answer = self._process.stdout.readline()
        return float(answer) if answer else None

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()


def race(contenders: Mapping[str, Contender], rounds: int, amount: int = 1) -> dict[str, float]:
    """Let them work in turn: the median seconds of each for a unit of work; one that cannot run is left out."""
    running = dict(contenders)
    for number in range(rounds + 2):
        for name, contender in tuple(running.items()):
            seconds = contender.work(amount)
            if seconds is None:
                del running[name]
            elif number >= 2:  # the first two trace and warm up
                contender.seconds.append(seconds / amount)
    for contender in contenders.values():
        contender.close()
    return {name: statistics.median(contender.seconds) for name, contender in running.items()}


def serve(prepare: Callable[[], Callable[[int], object]]) -> None:
    """Be a contender: for every line that comes do so much work, and answer with the seconds."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    sys.path.insert(0, str(ROOT))
    work = prepare()
    for line in sys.stdin:
        start = time.perf_counter()
        work(int(line))
        print(time.perf_counter() - start, file=answers, flush=True)


def declare_torchvision() -> None:
    """Give torch the operators that torchvision asks for even where it does not use them; call it before the import."""
    import torch

    operators = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        operators.define(f"{name}(Tensor a, Tensor b, float c) -> Tensor")
    _libraries.append(operators)
