"""tf.data batches of texts of like length: planned from their lengths, gathered and padded."""

from __future__ import annotations

from collections.abc import Callable, Collection

import numpy as np
import tensorflow as tf

from pipelines.batches import batch_size, finished, gathered, uniform
from pipelines.feed import Feed, as_written
from pipelines.text_encoding import Examples, Ragged
from zoo.core.family import Task

_WINDOW = 50  # batches that are sorted by length together: more is less padding, and less of a shuffle
_STEPS = (*range(8, 64, 8), *range(64, 128, 16), *range(128, 256, 32))  # tokens; then steps of 64


def training_batches(
    examples: Examples, task: Task, inputs: Collection[str], *, batch: int, seed: int, padding: int, length: int
) -> Feed:
    """Batches of one size, in each texts of like length; every epoch another order and other batches.

    Each epoch leaves out what does not fill a batch, other examples every time.
    """
    size = batch_size(len(examples.kept), batch)
    steps = len(examples.kept) // size
    kept = tf.constant(examples.kept, tf.int64)
    lengths = tf.constant(examples.encoded.tokens.lengths[examples.kept], tf.int64)
    longest = int(examples.encoded.tokens.lengths[examples.kept].max())
    choose = uniform(len(examples.kept), size)

    def plan(key: tf.Tensor) -> tf.Tensor:
        keys = tf.unstack(tf.random.split(key, 2))
        order = tf.reshape(choose(keys[0]), [-1])
        window = tf.range(steps * size, dtype=tf.int64) // (size * _WINDOW)
        rank = tf.argsort(window * (1 + longest) + tf.gather(lengths, order), stable=True)
        rows = tf.reshape(tf.gather(kept, tf.gather(order, rank)), (steps, size))
        return tf.random.experimental.stateless_shuffle(rows, seed=keys[1])

    gather = gatherer(examples, task, inputs, padding=padding, length=length)
    return gathered(plan, gather, steps=steps, seed=seed)


def evaluation_batches(
    examples: Examples, task: Task, inputs: Collection[str], *, batch: int, padding: int, length: int
) -> tf.data.Dataset:
    """All examples in their order; the last batch may be smaller."""
    gather = gatherer(examples, task, inputs, padding=padding, length=length)
    rows = tf.data.Dataset.range(len(examples)).batch(batch)
    return finished(rows.map(as_written(gather), num_parallel_calls=tf.data.AUTOTUNE))


def boundaries(length: int) -> np.ndarray:
    """The lengths that batches are padded to, in tokens, ascending; the last one is `length`."""
    steps = [*_STEPS, *range(256, length, 64)]
    return np.array([*(step for step in steps if step < length), length], np.int64)


def gatherer(
    examples: Examples, task: Task, inputs: Collection[str], *, padding: int, length: int
) -> Callable[[tf.Tensor], object]:
    """The function (B,) indexes -> a batch in the form of pipelines.datasets."""
    encoded, widths = examples.encoded, tf.constant(boundaries(length))
    tokens, targets = _ragged(encoded.tokens), {name: _ragged(rows) for name, rows in examples.targets.items()}
    segments = None if encoded.segments is None else _ragged(encoded.segments)
    labels = None if examples.labels is None else tf.constant(examples.labels)

    def padded(rows: tf.RaggedTensor, indexes: tf.Tensor, fill: int) -> tf.Tensor:
        found = tf.gather(rows, indexes).to_tensor(default_value=fill)
        longest = tf.shape(found, tf.int64)[1]
        missing = widths[tf.searchsorted(widths, [longest])[0]] - longest
        found = tf.pad(found, [[0, 0], [0, missing], *([[0, 0]] * (found.shape.rank - 2))], constant_values=fill)
        return tf.ensure_shape(found, [*indexes.shape, None, *rows.shape[2:]])

    def gather(indexes: tf.Tensor) -> object:
        ids = padded(tokens, indexes, padding)
        lengths = tf.gather(tokens.row_lengths(), indexes)
        made = {"token_ids": ids, "padding_mask": tf.sequence_mask(lengths, tf.shape(ids)[1], dtype=tf.int32)}
        if "segment_ids" in inputs:
            made["segment_ids"] = tf.zeros_like(ids) if segments is None else padded(segments, indexes, 0)
        if task == "classify":
            return made, tf.gather(labels, indexes)
        if task == "tag":
            tags = padded(targets["tags"], indexes, -1)
            return made, tf.maximum(tags, 0), tf.cast(tags >= 0, tf.float32)
        if task == "answer":
            return made, padded(targets["span"], indexes, -1)
        if task == "seq2seq":
            written = padded(targets["written"], indexes, -1)
            return made, tf.maximum(written, 0), tf.cast(written >= 0, tf.float32)
        return made

    return gather


def _ragged(rows: Ragged) -> tf.RaggedTensor:
    return tf.RaggedTensor.from_row_splits(tf.constant(rows.values), tf.constant(rows.starts), validate=False)
