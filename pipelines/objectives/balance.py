"""A discrete VAE's codes kept in use: begun from what comes to them, and held in balance while it trains.

Left alone, most are never the likeliest. Features come after a ReLU, and Adam's steps on what they have in common lift
a code's logits everywhere at once: the few that are drawn more often are the only ones that learn.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf
from keras import layers

from zoo.layers.codebook import Came, note

_DECAY = 0.9  # of the moving average of the codes' shares
_LEAST = 0.01  # of a fair share: what is rarer is lifted no faster
_NEIGHBORS = 8  # codes as near as these are about as probable
_MARGIN = 3.0  # nats between a code and those neighbors where training begins


@keras.saving.register_keras_serializable("zoo")
class CodeBalance(layers.Layer):
    """Logits (B, h, w, codes) of a convolution of features (B, h, w, D), passed on as they are.

    After each step of a CodebookEngine that head's biases move against the logarithm of how much more, or less, than
    its fair share a code has: by `rate` times it where training begins, by nothing where it ends. That is the balance
    of mixtures of experts without a loss (https://arxiv.org/abs/2408.15664), for codes. Where training has not `begun`,
    the first step makes the codes those of vectors among the features, a code the more probable the nearer to its
    vector, as k-means begins.
    """

    def __init__(self, rate: float, **kwargs: Any):
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.rate = rate

    def build(self, logits_shape: Any, features_shape: Any, elapsed_shape: Any) -> None:
        self.codes = logits_shape[-1]
        options = {"trainable": False, "aggregation": "mean", "autocast": False, "dtype": "float32"}
        fair = keras.initializers.Constant(1.0 / self.codes)
        self.shares = self.add_weight(name="shares", shape=(self.codes,), initializer=fair, **options)
        self.begun = self.add_weight(name="begun", shape=(), initializer="zeros", **options)

    @property
    def head(self) -> layers.Conv2D:
        """The layer whose logits these are."""
        return self._inbound_nodes[0].input_tensors[0]._keras_history.operation

    @property
    def moved(self) -> list[keras.Variable]:
        """The head's weights and the moving average of the codes' shares."""
        return [self.head.kernel, self.head.bias, self.shares, self.begun]

    def call(self, logits, features, elapsed, training: bool | None = None):
        if training and self.head.trainable:
            shares = tf.reduce_sum(tf.nn.softmax(tf.cast(logits, tf.float32)), axis=(0, 1, 2))
            done = tf.reduce_sum(elapsed) * math.prod(logits.shape[1:3])
            vectors = tf.reshape(tf.cast(features, tf.float32), (-1, features.shape[-1]))
            note(Came(self, (tf.stop_gradient(shares), done), tf.stop_gradient(vectors)))
        return logits

    def settle(self, sums: Sequence[Any], places: Any, vectors: Any) -> None:
        """Balance the codes by sums of their probabilities and of the shares of steps done, over so many places.

        The vectors (codes, D) are what codes become at the beginning.
        """
        kernel, bias, average, begun = self.moved
        shares, elapsed = (each / places for each in sums)
        as_it_is = (tf.convert_to_tensor(kernel), tf.convert_to_tensor(bias))
        found = tf.cond(begun > 0, lambda: as_it_is, lambda: self._around(vectors))
        kernel.assign(found[0])
        bias.assign(found[1])
        begun.assign(1.0)
        average.assign(_DECAY * average + (1.0 - _DECAY) * shares)
        bias.assign_sub(self.rate * (1.0 - elapsed) * tf.math.log(self.codes * average + _LEAST))

    def _around(self, vectors: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Kernel (1, 1, D, codes) and bias that make a code's logit fall with the squared distance from its vector."""
        squares = tf.reduce_sum(tf.square(vectors), axis=1)
        some = vectors[:: max(1, self.codes // 256)]
        own = tf.reduce_sum(tf.square(some), axis=1, keepdims=True)
        distances = own + squares - 2.0 * tf.matmul(some, vectors, transpose_b=True)
        nearest = -tf.math.top_k(-distances, min(_NEIGHBORS + 1, self.codes))[0][:, -1]
        sharpness = _MARGIN / tf.maximum(tf.reduce_mean(nearest), keras.config.epsilon())
        return 2.0 * sharpness * tf.transpose(vectors)[None, None], -sharpness * squares

    def compute_output_spec(self, logits, *_: Any, **__: Any):
        return keras.KerasTensor(logits.shape, logits.dtype)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "rate": self.rate}
