"""What generators and discriminators minimize. All losses are means over a batch, of logits (B, 1), as scalars.

Papers: https://arxiv.org/abs/1406.2661 (non-saturating), 1704.00028 (Wasserstein with gradient penalty), 1705.02894
(hinge).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import tensorflow as tf

Discriminator = Callable[[tf.Tensor], tf.Tensor]  # images, normalized -> logits (B, 1)


@dataclass(frozen=True)
class Adversarial:
    """The two losses of one game: `discriminator` of the logits of real and made images, `generator` of made ones."""

    discriminator: Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
    generator: Callable[[tf.Tensor], tf.Tensor]


def _discriminate(real: tf.Tensor, made: tf.Tensor) -> tf.Tensor:
    """Binary cross-entropy, of both halves together."""
    return tf.reduce_mean(tf.nn.softplus(-_float(real))) + tf.reduce_mean(tf.nn.softplus(_float(made)))


def _not_saturate(made: tf.Tensor) -> tf.Tensor:
    return tf.reduce_mean(tf.nn.softplus(-_float(made)))


def _criticize(real: tf.Tensor, made: tf.Tensor) -> tf.Tensor:
    """The negative estimate of the Wasserstein distance."""
    return tf.reduce_mean(_float(made)) - tf.reduce_mean(_float(real))


def _please(made: tf.Tensor) -> tf.Tensor:
    return -tf.reduce_mean(_float(made))


def _hinge(real: tf.Tensor, made: tf.Tensor) -> tf.Tensor:
    return tf.reduce_mean(tf.nn.relu(1.0 - _float(real))) + tf.reduce_mean(tf.nn.relu(1.0 + _float(made)))


GAMES = {
    "non_saturating": Adversarial(_discriminate, _not_saturate),
    "wasserstein": Adversarial(_criticize, _please),  # with gradient_penalty
    "hinge": Adversarial(_hinge, _please),
}


def adversarial(name: str) -> Adversarial:
    """The losses by name.

    Raises:
        ValueError: there are none of this name.
    """
    if name not in GAMES:
        raise ValueError(f"No adversarial objective named {name!r}. Known: {', '.join(GAMES)}.")
    return GAMES[name]


def gradient_penalty(
    discriminator: Discriminator, real: tf.Tensor, made: tf.Tensor, shares: tf.Tensor, *, weight: float = 10.0
) -> tf.Tensor:
    """How far the slope of the discriminator is from 1 between real and made images (B, H, W, C), as a scalar.

    `shares` (B,) in 0..1 say where between the two: the share of the real image. Both images must be on the scale that
    the network computes in, -1..1, not 0..255: a slope is a number for each unit.

    Raises:
        ValueError: the shapes differ, or the weight is below 0.
    """
    if not weight >= 0:
        raise ValueError(f"weight={weight!r} of the gradient penalty must be 0 or more; the paper's is 10.")
    if not real.shape.is_compatible_with(made.shape):
        raise ValueError(f"Real images {real.shape} and made ones {made.shape} must be of the same shape.")
    share = tf.reshape(_float(shares), (-1, *[1] * (len(real.shape) - 1)))
    between = share * _float(real) + (1.0 - share) * _float(made)
    with tf.GradientTape() as tape:
        tape.watch(between)
        logits = discriminator(between)
    slopes = tape.gradient(logits, between)
    squares = tf.reduce_sum(tf.square(_float(slopes)), axis=list(range(1, len(real.shape))))
    lengths = tf.sqrt(squares + 1e-12)  # whose gradient at 0 is no NaN
    return weight * tf.reduce_mean(tf.square(lengths - 1.0))


def _float(values: tf.Tensor) -> tf.Tensor:
    return tf.cast(values, tf.float32)
