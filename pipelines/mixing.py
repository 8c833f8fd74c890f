"""Mixup and CutMix: images of a batch mixed in pairs, and their targets with them.

Papers: https://arxiv.org/abs/1710.09412, https://arxiv.org/abs/1905.04899
"""

from __future__ import annotations

import tensorflow as tf

from pipelines.feed import MIXING, Feed, key


def mixed(feed: Feed, *, classes: int, mixup: float, cutmix: float, seed: int) -> Feed:
    """Batches of images (B, h, w, 3) float32 and labels (B,), mixed: the targets are (B, classes) float32.

    Labels (B, ...) float32, a mark for each class or numbers to predict, are mixed as they are.

    `mixup` and `cutmix` are the two equal parameters of the Beta distribution that a batch's share is drawn from; 0
    leaves the way out. Of two ways each batch goes one, with equal chances. An image is mixed with the one before it:
    the order is random, so that any two may meet.

    Raises:
        ValueError: a batch holds a single image.
    """
    if feed.spec[0].shape[0] == 1:
        raise ValueError(
            f"Images(mixup={mixup:g}, cutmix={cutmix:g}) mixes the images of a batch, and a batch holds one. "
            "Use batches of 2 or more, or set both to 0."
        )

    def mix(batch: tuple[tf.Tensor, tf.Tensor], number: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        images, labels = batch
        way, share_key, place = tf.unstack(tf.random.split(key(seed, MIXING, number), 3))
        cut = tf.random.stateless_uniform((), way) < 0.5 if mixup and cutmix else tf.constant(bool(cutmix))
        share = beta(tf.where(cut, float(cutmix or mixup), float(mixup or cutmix)), share_key)
        images, share = tf.cond(cut, lambda: pasted(images, share, place), lambda: (blended(images, share), share))
        targets = tf.one_hot(labels, classes) if labels.dtype.is_integer else labels
        return images, share * targets + (1 - share) * _partners(targets)

    return feed.map(mix)


def blended(images: tf.Tensor, share: tf.Tensor) -> tf.Tensor:
    """Mixup: `share` of each image and the rest of its partner, (B, h, w, 3)."""
    return share * images + (1 - share) * _partners(images)


def pasted(images: tf.Tensor, share: tf.Tensor, key: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """CutMix: a window of each partner pasted over the image, and the share of the image that is left.

    The window covers 1 - share of the area, less what lies beyond the edges, since its centre may be anywhere.
    """
    shape = tf.shape(images)[1:3]
    sides = tf.cast(shape, tf.float32)
    centre = tf.random.stateless_uniform((2,), key) * sides
    half = sides * tf.sqrt(1 - share) / 2
    low, high = tf.unstack(tf.cast(tf.clip_by_value(tf.round([centre - half, centre + half]), 0, sides), tf.int32))
    rows, columns = ((tf.range(shape[i]) >= low[i]) & (tf.range(shape[i]) < high[i]) for i in range(2))
    window = (rows[:, tf.newaxis] & columns)[..., tf.newaxis]
    covered = tf.cast(tf.reduce_prod(high - low), tf.float32) / tf.reduce_prod(sides)
    return tf.where(window, _partners(images), images), 1 - covered


def beta(concentration: tf.Tensor, key: tf.Tensor) -> tf.Tensor:
    """A number in 0..1 from Beta(a, a), float32.

    From the logarithms of two Gamma variables, G(a) = G(a + 1) U^(1/a): for a small `a` both would be 0.
    """
    keys = tf.unstack(tf.random.split(key, 2))
    gammas = tf.random.stateless_gamma((2,), keys[0], alpha=concentration + 1)
    uniforms = tf.random.stateless_uniform((2,), keys[1], minval=1e-30)
    first, second = tf.unstack(tf.math.log(gammas) + tf.math.log(uniforms) / concentration)
    return tf.sigmoid(first - second)


def _partners(values: tf.Tensor) -> tf.Tensor:
    return tf.roll(values, 1, axis=0)
