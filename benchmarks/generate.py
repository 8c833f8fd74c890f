"""Tokens a second that a GPT-2 of 12 layers writes, with a cache and without, against transformers on the same CPU.

    python benchmarks/generate.py [--batch 1 8] [--new-tokens 256] [--rounds 5] [--torch-python PYTHON]

Every contender runs in a process of its own; they take turns, round by round, so that a machine whose speed drifts
slows all of them. What is printed are medians over the rounds, and the ratio of our median to theirs. transformers
joins if PYTHON (by default this one) has torch and transformers. Writing without a cache is timed once. All weights
are random, all prompts have 16 tokens, and all writing is greedy. Loading, tracing and warming up are not timed.

KerasHub, which cannot be installed beside this version of Keras, is quoted: 43 tokens a second alone and 104 in
batches of 8 on two threads of a machine like that of the README's numbers.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
PROMPT = 16  # tokens
VOCABULARY = 50_257
KERAS_HUB = {1: 43, 8: 104}  # tokens a second, by the number of texts


@dataclass(frozen=True)
class Job:
    """What one contender writes, over and over."""

    library: str  # "zoo", "zoo without cache" or "transformers"
    texts: int
    new_tokens: int


class Contender:
    """A process that writes when told to, and says how long it took."""

    def __init__(self, job: Job, *, python: str, threads: int | None):
        quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}
        environment = {**os.environ, **quiet, "TF_ENABLE_ONEDNN_OPTS": "1"}  # as `import pipelines` before Keras does
        if threads is not None:
            names = ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")
            environment |= dict.fromkeys(names, str(threads))
        self.job = job
        self.seconds: list[float] = []
        self._process = subprocess.Popen(
            [python, __file__, "--work", json.dumps(asdict(job))],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def write(self, new_tokens: int) -> float | None:
        """The seconds that so many tokens take; None where the process has ended instead."""
        assert self._process.stdin and self._process.stdout
        try:
            self._process.stdin.write(f"{new_tokens}\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            return None
        answer = self._process.stdout.readline()
        return float(answer) if answer else None

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()

    @property
    def speed(self) -> float:
        """Tokens a second, of all texts together: the median of the rounds."""
        return self.job.texts * self.job.new_tokens / statistics.median(self.seconds)


def race(contenders: Sequence[Contender], rounds: int) -> list[Contender]:
    """Let them write in turn; those that could."""
    running = [one for one in contenders if one.write(4) is not None]  # which traces and warms up
    for number in range(rounds):
        for one in running:
            if number == 0 or one.job.library != "zoo without cache":
                seconds = one.write(one.job.new_tokens)
                one.seconds += [seconds] if seconds else []
    for one in contenders:
        one.close()
    return [one for one in running if one.seconds]


def work(job: Job) -> None:
    """Be a contender: for every line that comes write so many tokens, and answer with the seconds."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    write = _transformers(job) if job.library == "transformers" else _zoo(job)
    for line in sys.stdin:
        start = time.perf_counter()
        write(int(line))
        print(time.perf_counter() - start, file=answers, flush=True)


def _prompts(job: Job):
    import numpy as np

    return np.random.default_rng(0).integers(0, VOCABULARY, (job.texts, PROMPT))


def _zoo(job: Job) -> Callable[[int], object]:
    import keras

    from pipelines.generate import generate
    from zoo import create

    keras.utils.set_random_seed(0)
    model, prompts = create("gpt2"), _prompts(job).tolist()
    cached = job.library == "zoo"
    return lambda new_tokens: generate(model, prompts, new_tokens=new_tokens, cached=cached)


def _transformers(job: Job) -> Callable[[int], object]:
    import torch

    operators = torch.library.Library("torchvision", "DEF")  # what torchvision asks for even where it does not use it
    for name in ("nms", "qnms"):
        operators.define(f"{name}(Tensor a, Tensor b, float c) -> Tensor")
    import transformers

    model, prompts = transformers.GPT2LMHeadModel(transformers.GPT2Config()).eval(), torch.tensor(_prompts(job))
    options = {"do_sample": False, "eos_token_id": None, "pad_token_id": 0, "attention_mask": torch.ones_like(prompts)}
    return lambda new_tokens: model.generate(prompts, max_new_tokens=new_tokens, min_new_tokens=new_tokens, **options)


def compare(texts: int, options: argparse.Namespace) -> None:
    """Print how fast one number of texts is written at a time."""
    libraries = ("zoo", "transformers", "zoo without cache")
    pythons = {"transformers": options.torch_python}
    contenders = [
        Contender(
            Job(library, texts, options.new_tokens),
            python=pythons.get(library, sys.executable),
            threads=options.threads,
        )
        for library in libraries
    ]
    found = {one.job.library: one.speed for one in race(contenders, options.rounds)}
    ours = found["zoo"]
    cells = [f"{texts:>7} {ours:>9.1f}"]
    for name in libraries[1:]:
        cells.append(f"{found[name]:>9.1f} ({ours / found[name]:.2f} x)" if name in found else f"{'-':>18}")
    quoted = KERAS_HUB.get(texts)
    cells.append(f"{quoted:>9} ({ours / quoted:.2f} x)" if quoted else "")
    print(" ".join(cells), flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark, or one contender of it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8], help="texts that are written at a time")
    parser.add_argument("--new-tokens", type=int, default=256, help="of each text")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, help="of every library; its own choice if not given")
    parser.add_argument("--torch-python", default=sys.executable, help="a Python that has torch and transformers")
    parser.add_argument("--work", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.work:
        sys.path.insert(0, str(ROOT))
        work(Job(**json.loads(options.work)))
        return
    print(f"tokens/s, GPT-2 of 12 layers, {options.new_tokens} new tokens, medians of {options.rounds} rounds")
    print(f"{'texts':>7} {'zoo':>9} {'transformers':>18} {'without cache':>18} {'KerasHub, quoted':>18}")
    for texts in options.batch:
        compare(texts, options)


if __name__ == "__main__":
    main()
