"""What autoencoders minimize, in nats for each image.

Papers: https://arxiv.org/abs/1312.6114 (ELBO), https://openreview.net/forum?id=Sy2fzU9gl (beta), 1711.00937 (VQ-VAE),
https://arxiv.org/abs/2102.12092 (logit-Laplace).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import tensorflow as tf


def bernoulli(pixels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """The negative log-likelihood of pixels in 0..1 under logits, both (B, H, W, C): (B,) nats."""
    pixels, logits = _float(pixels), _float(logits)
    return _by_image(tf.nn.sigmoid_cross_entropy_with_logits(labels=pixels, logits=logits))


def gaussian(pixels: tf.Tensor, means: tf.Tensor, *, deviation: float = 1.0) -> tf.Tensor:
    """The negative log-likelihood of pixels around means of one standard deviation, both (B, H, W, C): (B,) nats.

    Raises:
        ValueError: the deviation is not over 0.
    """
    if not deviation > 0:
        raise ValueError(f"deviation={deviation!r} must be over 0.")
    squares = tf.square((_float(pixels) - _float(means)) / deviation)
    return _by_image(0.5 * squares + math.log(deviation * math.sqrt(2 * math.pi)))


def logit_laplace(shares: tf.Tensor, statistics: tf.Tensor) -> tf.Tensor:
    """The negative log-likelihood of pixels (B, H, W, C) in 0.1..0.9 under DALL-E's decoder: (B,) nats.

    `statistics` (B, H, W, 2 * C) are the mean and then the logarithm of the spread of each pixel's logit.
    """
    shares = _float(shares)
    mean, log_spread = tf.split(_float(statistics), 2, axis=-1)
    logit = tf.math.log(shares) - tf.math.log1p(-shares)
    density = tf.abs(logit - mean) * tf.exp(-log_spread) + log_spread + math.log(2.0)
    return _by_image(density + tf.math.log(shares) + tf.math.log1p(-shares))


def normal_divergence(mean: tf.Tensor, log_variance: tf.Tensor) -> tf.Tensor:
    """The Kullback-Leibler divergence of a normal distribution from the standard one, both (B, Z): (B,) nats."""
    mean, log_variance = _float(mean), _float(log_variance)
    return 0.5 * tf.reduce_sum(tf.square(mean) + tf.exp(log_variance) - 1.0 - log_variance, axis=-1)


def codes_divergence(logits: tf.Tensor) -> tf.Tensor:
    """The divergence of codes from equally probable ones, logits (B, h, w, codes): (B,) nats."""
    logs = tf.nn.log_softmax(_float(logits))
    return _by_image(tf.exp(logs) * (logs + math.log(logits.shape[-1])))


def negative_elbo(likelihood: tf.Tensor, divergence: tf.Tensor, *, weight: tf.Tensor | float = 1.0) -> tf.Tensor:
    """The bound on the negative log-likelihood, (B,) and (B,) -> a scalar; a `weight` over 1 makes a beta-VAE."""
    return tf.reduce_mean(likelihood + weight * divergence)


def warm_up(step: tf.Tensor, *, steps: float, weight: float = 1.0) -> tf.Tensor:
    """The weight of the divergence at a step: from 0 in equal parts to `weight` after so many steps.

    Both may be shares of all steps. As many steps, as many weights.

    Raises:
        ValueError: the steps or the weight are below 0.
    """
    if steps < 0 or weight < 0:
        raise ValueError(f"steps={steps!r} and weight={weight!r} of a warm-up must be 0 or more.")
    share = tf.minimum(1.0, tf.cast(step, tf.float32) / steps) if steps else tf.constant(1.0)
    return weight * share


def quantization(
    encoded: tf.Tensor, quantized: tf.Tensor, *, commitment: float = 0.25, learned: bool | tf.Tensor = True
) -> tf.Tensor:
    """How far vectors (B, h, w, D) are from those of the codebook: (B,), means over all numbers of an image.

    One part moves the codebook (not if it is a moving average: `learned` off), one, times `commitment`, the encoder.

    Raises:
        ValueError: the commitment is below 0.
    """
    if not commitment >= 0:
        raise ValueError(f"commitment={commitment!r} must be 0 or more; the paper's is 0.25.")
    encoded, quantized = _float(encoded), _float(quantized)
    loss = commitment * _distance(encoded, tf.stop_gradient(quantized))
    return loss + _float(learned) * _distance(quantized, tf.stop_gradient(encoded)) if learned is not False else loss


def perplexity(codes: tf.Tensor, count: int) -> tf.Tensor:
    """How many codes of a codebook are in use, as a number from 1 to `count`: the exponential of their entropy."""
    shares = tf.reduce_mean(tf.one_hot(tf.reshape(codes, (-1,)), count), axis=0)
    return tf.exp(-tf.reduce_sum(tf.math.xlogy(shares, shares)))


LIKELIHOODS: dict[str, Callable[..., tf.Tensor]] = {
    "bernoulli": bernoulli,
    "gaussian": gaussian,
    "logit_laplace": logit_laplace,
}


def _distance(one: tf.Tensor, other: tf.Tensor) -> tf.Tensor:
    return tf.reduce_mean(tf.square(one - other), axis=list(range(1, len(one.shape))))


def _by_image(values: tf.Tensor) -> tf.Tensor:
    return tf.reduce_sum(tf.reshape(values, (tf.shape(values)[0], -1)), axis=1)


def _float(values: tf.Tensor) -> tf.Tensor:
    return tf.cast(values, tf.float32)
