"""Token sequences of different lengths as a data set in memory, and models small enough to train on them in seconds."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops

from pipelines.batches import shuffled
from pipelines.datasets import Vocabulary
from pipelines.feed import Feed
from zoo.core.family import Task

PAD, START, MASK, FIRST = 0, 1, 2, 3  # ids; ordinary tokens from the last on
SIZE = 20
VOCABULARY = Vocabulary(SIZE, PAD, specials=(PAD, START, MASK), mask=MASK, start=START)
CLASSES = {"classify": ("few", "many"), "tag": ("O", "B-X", "I-X")}


def rows(count: int, *, seed: int = 0) -> list[np.ndarray]:
    """Token ids that go up by one from place to place, around and around, 3 to 9 of them."""
    random = np.random.default_rng(seed)
    return [
        FIRST + (random.integers(0, SIZE - FIRST) + np.arange(random.integers(3, 10))) % (SIZE - FIRST)
        for _ in range(count)
    ]


@dataclass(frozen=True, eq=False)
class Sequences:
    """A TextDataset: what there is to learn follows from the tokens, so that a model can."""

    task: Task
    parts: dict[str, list[np.ndarray]] = field(
        default_factory=lambda: {"train": rows(64), "validation": rows(20, seed=1), "test": rows(22, seed=2)}
    )
    skipped: tuple[str, ...] = ()
    vocabulary: Vocabulary = VOCABULARY

    @property
    def classes(self) -> tuple[str, ...]:
        return CLASSES.get(self.task, ())

    def options(self) -> dict[str, Any]:
        return {"vocabulary": SIZE}

    def files(self) -> dict[str, str]:
        return {"tokenizer.json": '{"of": "tests"}\n'}

    def training_set(self, model, *, batch: int, seed: int) -> Feed:
        examples = [self.example(row) for row in self.parts["train"]]
        stacked = tf.nest.map_structure(
            lambda *rows: tf.ragged.stack(rows) if rows[0].ndim else tf.stack(rows), *examples
        )
        return shuffled(len(examples), lambda indexes: self._gathered(stacked, indexes), batch=batch, seed=seed)

    def _gathered(self, stacked: Any, indexes: tf.Tensor) -> Any:
        found = [tf.gather(rows, indexes) for rows in tf.nest.flatten(stacked)]
        padding = -1 if self.task == "answer" else 0  # of the marks, the last of the tensors
        fill = [0] * (len(found) - 1) + [padding]
        dense = [
            rows.to_tensor(default_value=tf.cast(value, rows.dtype)) if isinstance(rows, tf.RaggedTensor) else rows
            for rows, value in zip(found, fill, strict=True)
        ]
        known = [tf.ensure_shape(rows, [*indexes.shape, *rows.shape[1:]]) for rows in dense]
        return tf.nest.pack_sequence_as(stacked, known)

    def evaluation_set(self, model, part, *, batch: int, cached: bool = False) -> tf.data.Dataset:
        return self._batched(self._examples(part), batch)

    def references(self, part) -> list[list[str]]:
        return [[" ".join(map(str, row[1:3]))] for row in self.parts[part]]

    def spans(self, part, spans: np.ndarray) -> list[str]:
        return [" ".join(map(str, row[a : b + 1])) for row, (a, b) in zip(self.parts[part], spans, strict=True)]

    def _examples(self, part) -> tf.data.Dataset:
        examples = [self.example(row) for row in self.parts[part]]
        specs = tf.nest.map_structure(lambda x: tf.TensorSpec((None,) * x.ndim, x.dtype), examples[0])
        return tf.data.Dataset.from_generator(lambda: iter(examples), output_signature=specs).apply(
            tf.data.experimental.assert_cardinality(len(examples))
        )

    def _batched(self, examples: tf.data.Dataset, batch: int) -> tf.data.Dataset:
        padding = 0
        if self.task == "answer":
            padding = ({"token_ids": 0, "padding_mask": 0}, -1)
        return examples.padded_batch(batch, padding_values=_typed(padding))

    def example(self, row: np.ndarray) -> Any:
        """(inputs, target[, weights]) of a row, without padding."""
        row = row.astype("int32")
        inputs = {"token_ids": row, "padding_mask": np.ones_like(row)}
        ones = np.ones(len(row), "float32")
        if self.task == "classify":
            return inputs, np.int32(len(row) > 5)
        if self.task == "tag":  # every second token carries no tag
            return inputs, (row % 3).astype("int32"), (np.arange(len(row)) % 2 == 0).astype("float32")
        if self.task == "answer":  # the second and the third token; the first is the question
            marks = np.zeros((len(row), 2), "int32")
            marks[0], marks[1, 0], marks[2, 1] = -1, 1, 1
            return inputs, marks
        return (inputs, row, ones) if self.task == "seq2seq" else inputs


def _typed(padding: Any) -> Any:
    return None if padding == 0 else tf.nest.map_structure(lambda value: tf.constant(value, tf.int32), padding)


def padded(batch: Any, more: int) -> Any:
    """A completed batch with `more` places of padding after the last: weight 0, or for the marks of answers -1."""
    inputs, targets, *weights = batch

    def longer(tensor, value=0):
        return tf.pad(tensor, [(0, 0), (0, more), *[(0, 0)] * (tensor.ndim - 2)], constant_values=value)

    inputs = {name: longer(tensor) for name, tensor in inputs.items()}
    if targets.ndim > 1:
        targets = longer(targets, -1 if targets.ndim == 3 else 0)
    return (inputs, targets, *map(longer, weights))


def model(task: Task, *, width: int = 16) -> keras.Model:
    """Each token by itself and its place: (B, T) -> what the task gives; "classify" sums over the tokens."""
    names = ["token_ids", "padding_mask"]
    names += [f"decoder_{name}" for name in names] if task == "seq2seq" else []
    inputs = {name: keras.Input((None,), dtype="int32", name=name) for name in names}
    own = "decoder_" if task == "seq2seq" else ""
    x = layers.Embedding(SIZE, width, name="stem_tokens")(inputs[f"{own}token_ids"])
    mask = ops.expand_dims(ops.cast(inputs["padding_mask"], "float32"), -1)
    if task not in ("causal_lm", "seq2seq"):  # those next to it as well
        x = layers.Conv1D(width, 3, padding="same", name="stem_conv")(x * mask)
    places = ops.cumsum(ops.ones_like(inputs[f"{own}token_ids"]), axis=1)
    x = layers.Add(name="stem_add")([x, layers.Embedding(64, width, name="stem_places")(places)])
    x = layers.Dense(2 * width, "relu", name="block0_dense")(x)
    if task == "classify":
        x = ops.sum(x * mask, axis=1) / 5
    if task == "seq2seq":  # what is to be written begins as the encoder's text does
        first = layers.Embedding(SIZE, 2 * width, name="stem_first")(inputs["token_ids"][:, :1])
        x = layers.Add(name="block0_add")([x, first])
    outputs = {"answer": 2}.get(task, len(CLASSES.get(task, ())) or SIZE)
    return keras.Model(inputs, layers.Dense(outputs, name="head_logits", dtype="float32")(x), name="sequences")
