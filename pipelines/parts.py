"""Parts of a batch: micro-batches, one after the other, and those of devices, which may be no examples."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from pipelines import replicas


def divided(batch: Any, count: int) -> list[Any]:
    """The examples of a batch in so many parts, of one size if it can be divided so."""
    if count == 1:
        return [batch]
    flat = tf.nest.flatten(batch)
    examples = tf.shape(flat[0])[0]
    ends = [examples * part // count for part in range(count + 1)]
    sizes = tf.stack([end - start for start, end in itertools.pairwise(ends)])
    sizes = count if (flat[0].shape[0] or 1) % count == 0 else sizes  # a number keeps the static shapes
    pieces = [tf.split(tensor, sizes, num=count) for tensor in flat]
    return [tf.nest.pack_sequence_as(batch, part) for part in zip(*pieces, strict=True)]


def after(batch: Any, gradients: Sequence[tf.Tensor]) -> Any:
    """The batch once these gradients are there: so that two micro-batches never take memory at a time."""
    if not gradients:
        return batch
    with tf.control_dependencies(gradients):
        return tf.nest.map_structure(tf.identity, batch)


def dense(gradients: Sequence[Any], variables: Sequence[keras.Variable]) -> list[tf.Tensor]:
    """What a tape found for each variable, without slices, and zeros where a loss does not hang on one."""
    pairs = zip(gradients, variables, strict=True)  # TensorFlow itself makes no zeros for variables of Keras
    return [tf.zeros(v.shape, v.dtype) if g is None else tf.convert_to_tensor(g) for g, v in pairs]


def of_any(answer: Callable[[Any], Any], inputs: Any) -> Any:
    """The answers to a part of a batch, which may be no examples: oneDNN's convolutions fail on those."""
    if _has_some(inputs):
        return answer(inputs)
    examples = tf.shape(tf.nest.flatten(inputs)[0])[0]
    return tf.nest.map_structure(lambda t: t[:examples], with_one(answer, inputs))


def with_one(answer: Callable[[Any], Any], inputs: Any) -> Any:
    """What is answered to a part of a batch, or, in the place of no examples, to one of zeros, which counts nowhere."""
    if _has_some(inputs):
        return answer(inputs)
    examples = tf.shape(tf.nest.flatten(inputs)[0])[0]
    more = tf.cast(examples == 0, tf.int32)
    some = tf.nest.map_structure(lambda t: tf.pad(t, [[0, more], *[[0, 0]] * (len(t.shape) - 1)]), inputs)
    with replicas.counting(examples > 0):
        return answer(some)


def _has_some(inputs: Any) -> bool:
    """Whether the graph knows that there are examples."""
    return bool(tf.nest.flatten(inputs)[0].shape[0])
