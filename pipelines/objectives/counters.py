"""Random numbers of many seeds at once: Threefry-2x32 with 20 rounds.

Paper: https://doi.org/10.1145/2063384.2063405 ("Parallel random numbers: as easy as 1, 2, 3"). TensorFlow's stateless
generators take one seed a call, and calls for each example of a batch take longer than all its numbers.
"""

from __future__ import annotations

import math

import tensorflow as tf

_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_PARITY = 0x1BD11BDA
_ROUNDS = 5  # of four


def threefry(keys: tf.Tensor, counters: tf.Tensor) -> tf.Tensor:
    """Bits for keys and counters, uint32 with a last axis of 2 each, the others broadcast: (..., 2) uint32."""
    words = [*tf.unstack(keys, axis=-1)]
    words.append(words[0] ^ words[1] ^ tf.constant(_PARITY, tf.uint32))
    left, right = (counter + word for counter, word in zip(tf.unstack(counters, axis=-1), words, strict=False))
    for number in range(_ROUNDS):
        for rotation in _ROTATIONS[number % 2]:
            left += right
            right = _rotated(right, rotation) ^ left
        left += words[(number + 1) % 3]
        right += words[(number + 2) % 3] + tf.constant(number + 1, tf.uint32)
    return tf.stack([left, right], axis=-1)


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
    """Uniform numbers, two of each counter: (B, half of count, 2)."""
    first = tf.range(math.ceil(count / 2), dtype=tf.int32)
    counters = tf.bitcast(tf.stack([first, tf.zeros_like(first)], axis=-1), tf.uint32)
    bits = threefry(tf.bitcast(seeds, tf.uint32)[:, None], counters)
    shares = tf.cast(tf.bitwise.right_shift(bits, tf.constant(9, tf.uint32)), tf.float32)
    return (shares + 0.5) * 2.0**-23  # a float32 has one bit more, which the half takes


def _flat(halves: tf.Tensor, count: int) -> tf.Tensor:
    return tf.reshape(halves, (-1, halves.shape[1] * 2))[:, :count]


def _rotated(words: tf.Tensor, by: int) -> tf.Tensor:
    left, right = tf.constant(by, tf.uint32), tf.constant(32 - by, tf.uint32)
    return tf.bitwise.left_shift(words, left) | tf.bitwise.right_shift(words, right)
