"""Tokens a second that a GPT-2 of 12 layers writes, with a cache and without, against transformers on the same CPU.

    python benchmarks/generate.py [--batch 1 8] [--new-tokens 256] [--rounds 5] [--against ...]
        [--torch-python PYTHON] [--kerashub-python KPYTHON]

Every contender runs in a process of its own; they take turns, round by round, so that a machine whose speed drifts
slows all of them. What is printed are medians over the rounds, and the ratio of our median to theirs. transformers
joins if PYTHON (by default this one) has torch and transformers, KerasHub if KPYTHON has keras_hub. Writing without a
cache is timed once. All weights are random, all prompts have 16 tokens, and all writing is greedy. Loading, tracing and
warming up are not timed.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass

from shared.contender import Contender, declare_torchvision, serve

OTHERS = ("transformers", "kerashub", "zoo without cache")
PROMPT = 16  # tokens
VOCABULARY = 50_257


@dataclass(frozen=True)
class Job:
    """What one contender writes, over and over."""

    library: str  # "zoo", or of OTHERS
    texts: int
    new_tokens: int


def race(contenders: Mapping[Job, Contender], rounds: int) -> dict[str, float]:
    """Let them write in turn: tokens a second, of all texts together, by library; those that cannot are left out."""
    warm_up = {"zoo without cache": 4}  # any length will do; what others trace may hang on it
    running = {
        job: one for job, one in contenders.items() if one.work(warm_up.get(job.library, job.new_tokens)) is not None
    }
    for number in range(rounds):
        for job, one in running.items():
            if number == 0 or job.library != "zoo without cache":
                seconds = one.work(job.new_tokens)
                one.seconds += [seconds] if seconds else []
    for one in contenders.values():
        one.close()
    return {
        job.library: job.texts * job.new_tokens / statistics.median(one.seconds)
        for job, one in running.items()
        if one.seconds
    }


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

    declare_torchvision()
    import transformers

    model, prompts = transformers.GPT2LMHeadModel(transformers.GPT2Config()).eval(), torch.tensor(_prompts(job))
    options = {"do_sample": False, "eos_token_id": None, "pad_token_id": 0, "attention_mask": torch.ones_like(prompts)}
    return lambda new_tokens: model.generate(prompts, max_new_tokens=new_tokens, min_new_tokens=new_tokens, **options)


def _kerashub(job: Job) -> Callable[[int], object]:
    import keras_hub
    import numpy as np

    backbone = keras_hub.models.GPT2Backbone(VOCABULARY, 12, 12, 768, 3_072)
    model = keras_hub.models.GPT2CausalLM(backbone, preprocessor=None)
    model.compile(sampler="greedy")

    def write(new_tokens: int) -> object:
        room = [(0, 0), (0, new_tokens)]
        token_ids = np.pad(_prompts(job), room).astype("int32")
        mask = np.pad(np.ones((job.texts, PROMPT), "int32"), room)
        return model.generate({"token_ids": token_ids, "padding_mask": mask}, stop_token_ids=None)

    return write


def compare(texts: int, options: argparse.Namespace) -> None:
    """Print how fast one number of texts is written at a time."""
    environment: dict[str, str | None] = {"TF_ENABLE_ONEDNN_OPTS": "1"}  # as `import pipelines` sets before Keras does
    if options.threads is not None:
        names = ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")
        environment |= dict.fromkeys(names, str(options.threads))
    contenders = {}
    for library in ("zoo", *options.against):
        job = Job(library, texts, options.new_tokens)
        python = {"transformers": options.torch_python, "kerashub": options.kerashub_python}
        contenders[job] = Contender(asdict(job), python=python.get(library, sys.executable), environment=environment)
    found = race(contenders, options.rounds)
    ours = found["zoo"]
    cells = [f"{texts:>7} {ours:>9.1f}"]
    for name in OTHERS:
        cells.append(f"{found[name]:>9.1f} ({ours / found[name]:.2f} x)" if name in found else f"{'-':>18}")
    print(" ".join(cells), flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark, or one contender of it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8], help="texts that are written at a time")
    parser.add_argument("--new-tokens", type=int, default=256, help="of each text")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--against", nargs="+", choices=OTHERS, default=OTHERS)
    parser.add_argument("--threads", type=int, help="of every library; its own choice if not given")
    parser.add_argument("--torch-python", default=sys.executable, help="a Python that has torch and transformers")
    parser.add_argument("--kerashub-python", default=sys.executable, help="a Python that has keras_hub")
    parser.add_argument("--work", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.work:
        job = Job(**json.loads(options.work))
        prepare = {"transformers": _transformers, "kerashub": _kerashub}.get(job.library, _zoo)
        serve(lambda: prepare(job))
        return
    print(f"tokens/s, GPT-2 of 12 layers, {options.new_tokens} new tokens, medians of {options.rounds} rounds")
    print(f"{'texts':>7} {'zoo':>9} " + " ".join(f"{name:>18}" for name in OTHERS))
    for texts in options.batch:
        compare(texts, options)


if __name__ == "__main__":
    main()
