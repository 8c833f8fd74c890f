"""Random numbers of many seeds at once: SplitMix64, whose state is a counter.

Paper: https://doi.org/10.1145/2660193.2660195 ("Fast splittable pseudorandom number generators"). TensorFlow's
stateless generators take one seed a call, and calls for each example of a batch take longer than all its numbers.
"""

from __future__ import annotations

import math

import tensorflow as tf

_STEP = 0x9E3779B97F4A7C15  # the golden ratio in 64 bits
_MIXING = ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB), (31, 1))


def splitmix(seeds: tf.Tensor, count: int) -> tf.Tensor:
    """So many words of 64 random bits for each seed: (B,) uint64 -> (B, count) uint64."""
    steps = tf.range(1, count + 1, dtype=tf.int64)
    bits = seeds[:, None] + tf.bitcast(steps, tf.uint64) * tf.constant(_STEP, tf.uint64)
    for shift, factor in _MIXING:
        bits ^= tf.bitwise.right_shift(bits, tf.constant(shift, tf.uint64))
        bits *= tf.constant(factor, tf.uint64)
    return bits


def uniform(seeds: tf.Tensor, count: int) -> tf.Tensor:
    """So many numbers strictly between 0 and 1 for each seed: (B, 2) int32 -> (B, count) float32."""
    return _flat(_halves(seeds, count), count)


def normal(seeds: tf.Tensor, count: int) -> tf.Tensor:
    """So many numbers of the standard normal distribution for each seed: (B, 2) int32 -> (B, count) float32.

    In batches of other sizes they may differ in their last bits, as logarithms and cosines do.
    """
    radius, angle = tf.unstack(_halves(seeds, count), axis=-1)  # the Box-Muller transform
    radius, angle = tf.sqrt(-2.0 * tf.math.log(radius)), 2.0 * math.pi * angle
    return _flat(tf.stack([radius * tf.cos(angle), radius * tf.sin(angle)], axis=-1), count)


def _halves(seeds: tf.Tensor, count: int) -> tf.Tensor:
    """Uniform numbers, two of each word: (B, half of count, 2)."""
    bits = tf.bitcast(splitmix(tf.bitcast(seeds, tf.uint64), math.ceil(count / 2)), tf.uint32)
    shares = tf.cast(tf.bitwise.right_shift(bits, tf.constant(9, tf.uint32)), tf.float32)
    return (shares + 0.5) * 2.0**-23  # a float32 has one bit more, which the half takes


def _flat(halves: tf.Tensor, count: int) -> tf.Tensor:
    return tf.reshape(halves, (-1, halves.shape[1] * 2))[:, :count]
