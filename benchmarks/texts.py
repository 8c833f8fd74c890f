"""Texts a second of one fine-tuning step of BERTs, against plain Keras and transformers on the same CPU.

    python benchmarks/texts.py [MODEL ...] [--batch 16] [--length 128] [--rounds 7] [--torch-python PYTHON]

Ours is the step that `zoo fit` takes. "keras" is the same network of the zoo, compiled with Keras' AdamW. transformers'
model of the same sizes is trained by torch's AdamW, and joins if PYTHON (by default this one) has torch and
transformers. All clip the gradient of the whole to 1, drop 10 % and begin with random weights. Every contender runs in
a process of its own; they take turns, round by round, so that a machine whose speed drifts slows all of them. Printed
are medians over the rounds, and the ratio of our median to theirs.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from shared.contender import Contender, declare_torchvision, race, serve

CLASSES, RATE, DECAY, VOCABULARY = 2, 2e-5, 0.01, 30_522
SIZES = {  # depth, width, heads, width of the MLP
    "minilm": (6, 384, 12, 1536),
    "distilled": (6, 768, 12, 3072),
    "bert_base": (12, 768, 12, 3072),
}
OTHERS = ("keras", "transformers")


@dataclass(frozen=True)
class Job:
    """What one contender trains, over and over."""

    library: str  # "zoo", or of OTHERS
    model: str
    batch: int
    length: int  # tokens, none of them padding


def _batch(job: Job) -> tuple[Any, Any]:
    import numpy as np

    random = np.random.default_rng(0)
    tokens = random.integers(1000, VOCABULARY, (job.batch, job.length)).astype("int32")
    return tokens, random.integers(0, CLASSES, job.batch).astype("int32")


def _network(job: Job) -> tuple[Any, Any]:
    """The zoo's network, and its batch without an end."""
    import numpy as np
    import tensorflow as tf

    import zoo

    depth, width, heads, mlp_width = SIZES[job.model]
    sizes = {"depth": depth, "width": width, "heads": heads, "mlp_width": mlp_width, "dropout": 0.1}
    model = zoo.create("bert_base", task="classify", classes=CLASSES, **sizes)
    tokens, labels = _batch(job)
    inputs = {"token_ids": tokens, "segment_ids": np.zeros_like(tokens), "padding_mask": np.ones_like(tokens)}
    return model, tf.data.Dataset.from_tensors((inputs, labels)).cache().repeat()


def _zoo(job: Job) -> Callable[[int], object]:
    from shared.ours import engine

    from pipelines.objectives.losses import CrossEntropy
    from pipelines.run import Optimization, Phase

    model, data = _network(job)
    phase = Phase(1, RATE, unfreeze="all", warmup=0.0)
    chosen = Optimization("adamw", weight_decay=DECAY, clip=1.0)
    trained = engine(model, phase, chosen, loss=CrossEntropy(), spec=data.element_spec)
    batches = trained.batches(data)
    return lambda steps: [trained.train(batches) for _ in range(steps)]


def _keras(job: Job) -> Callable[[int], object]:
    import keras

    model, data = _network(job)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.AdamW(RATE, weight_decay=DECAY, global_clipnorm=1.0), loss)
    model.make_train_function()
    batches = iter(data)
    return lambda steps: [model.train_function(batches) for _ in range(steps)]


def _transformers(job: Job) -> Callable[[int], object]:
    import torch

    declare_torchvision()
    from transformers import BertConfig, BertForSequenceClassification

    depth, width, heads, mlp_width = SIZES[job.model]
    sizes = {"num_hidden_layers": depth, "hidden_size": width, "num_attention_heads": heads}
    model = BertForSequenceClassification(BertConfig(**sizes, intermediate_size=mlp_width, num_labels=CLASSES)).train()
    tokens, labels = (torch.from_numpy(each).long() for each in _batch(job))
    optimizer = torch.optim.AdamW(model.parameters(), RATE, weight_decay=DECAY)

    def train(steps: int) -> None:
        for _ in range(steps):
            optimizer.zero_grad()
            loss = model(input_ids=tokens, attention_mask=torch.ones_like(tokens), labels=labels).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            loss.item()

    return train


def compare(model: str, options: argparse.Namespace) -> None:
    """Print one line of the table; a contender that cannot run is left out."""
    contenders = {
        library: Contender(
            asdict(Job(library, model, options.batch, options.length)),
            python=options.torch_python if library == "transformers" else sys.executable,
            environment={"TF_ENABLE_ONEDNN_OPTS": "1"},
        )
        for library in ("zoo", *OTHERS)
    }
    medians = race(contenders, options.rounds, amount=2)
    cells = [f"{model:12} {options.batch / medians['zoo']:7.1f}"]
    for library in OTHERS:
        theirs = medians.get(library)
        cells.append(f"{options.batch / theirs:7.1f} ({theirs / medians['zoo']:4.2f} x)" if theirs else f"{'-':>16}")
    print("   ".join(cells), flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark, or one contender of it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("models", nargs="*", metavar="MODEL", help=f"of {', '.join(SIZES)}; all if none is given")
    parser.add_argument("--batch", type=int, default=16, help="texts a step")
    parser.add_argument("--length", type=int, default=128, help="tokens of each")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--torch-python", default=sys.executable, help="a Python that has torch and transformers")
    parser.add_argument("--work", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.work:
        job = Job(**json.loads(options.work))
        prepare = {"zoo": _zoo, "keras": _keras, "transformers": _transformers}[job.library]
        return serve(lambda: prepare(job))
    unknown = [name for name in options.models if name not in SIZES]
    if unknown:
        parser.error(f"no {unknown[0]!r} here; there are {', '.join(SIZES)}")
    print(f"texts/s, batches of {options.batch} with {options.length} tokens, medians of {options.rounds} rounds of 2")
    print(f"{'':12} {'zoo':>7}   {'keras':>16}   {'transformers':>16}")
    for model in options.models or SIZES:
        compare(model, options)


if __name__ == "__main__":
    main()
