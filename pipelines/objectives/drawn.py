"""An autoencoder as it learns: its model with latents that are drawn from outside."""

from __future__ import annotations

import math
from typing import Any, Literal

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from pipelines.autoencoder import again, codes_in, codes_of, inputs_like, kind_of, parts_of, sampler
from pipelines.objectives import counters
from pipelines.objectives.balance import CodeBalance
from pipelines.objectives.objective import WeightedMetric
from zoo.layers.codebook import VectorQuantizer
from zoo.layers.latent import GumbelSample, NormalSample, gumbel

DRAWS, ELAPSED = "draws", "elapsed"  # inputs of a learner: two numbers an example, and the share of steps done


@keras.saving.register_keras_serializable("zoo")
class DrawnNoise(layers.Layer):
    """Noise of a shape for each example from its own two whole numbers: (B, 2) int32 -> (B, *shape) float32.

    So the noise of an example is the same in whatever part of a batch, and on whatever device it is computed.
    """

    def __init__(self, shape: tuple[int, ...], distribution: Literal["normal", "gumbel"], **kwargs: Any):
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.shape, self.distribution = tuple(shape), distribution

    def call(self, draws):
        draw = counters.normal if self.distribution == "normal" else counters.uniform
        found = tf.reshape(draw(tf.cast(draws, tf.int32), math.prod(self.shape)), (-1, *self.shape))
        return found if self.distribution == "normal" else gumbel(found)

    def compute_output_spec(self, draws):
        return keras.KerasTensor((draws.shape[0], *self.shape), "float32")

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "shape": self.shape, "distribution": self.distribution}


@keras.saving.register_keras_serializable("zoo")
class FallingTemperature(layers.Layer):
    """The temperature at a share of the run's steps: (B,) -> (B,), along half a cosine from `start` to `end`."""

    def __init__(self, start: float, end: float, share: float, **kwargs: Any):
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.start, self.end, self.share = start, end, share

    def call(self, elapsed):
        done = tf.minimum(1.0, elapsed / self.share) if self.share else tf.ones_like(elapsed)
        return self.end + 0.5 * (self.start - self.end) * (1.0 + tf.cos(math.pi * done))

    def compute_output_spec(self, elapsed):
        return keras.KerasTensor(elapsed.shape, "float32")

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "start": self.start, "end": self.end, "share": self.share}


@keras.saving.register_keras_serializable("zoo")
class CodeUse(keras.metrics.Metric):
    """How many codes of a codebook are in use, over all batches: the exponential of the entropy of their shares."""

    def __init__(self, codes: int, name: str = "perplexity", dtype: Any = None):
        super().__init__(name=name, dtype=dtype)
        self._codes = codes
        self._counts = self.add_variable((codes,), initializer="zeros", name="counts")

    def update_state(self, codes, sample_weight=None):
        flat = tf.reshape(tf.cast(codes, tf.int32), (-1,))
        self._counts.assign_add(tf.math.bincount(flat, minlength=self._codes, maxlength=self._codes, dtype=tf.float32))

    def result(self):
        shares = tf.math.divide_no_nan(tf.convert_to_tensor(self._counts), tf.reduce_sum(self._counts))
        return tf.exp(-tf.reduce_sum(tf.math.xlogy(shares, shares)))

    def get_config(self):
        return {**super().get_config(), "codes": self._codes}


@keras.saving.register_keras_serializable("zoo")
class Autoencoder(keras.Model):
    """A functional model of {"image", "labels", "draws", "elapsed"}, which minimizes a pipelines.objectives Bound.

    Its targets are the shares of the run's steps that are done (B,), with which the loss weighs its parts.
    """

    def __init__(self, inputs: Any, outputs: Any, **kwargs: Any):
        super().__init__(inputs, outputs, **kwargs)
        codes = codes_of(self)
        self._parts = {name: WeightedMetric(_given, name) for name in parts_of(kind_of(self))}
        self._use = CodeUse(codes) if codes else None

    def call(self, inputs, training=None, mask=None, **kwargs):
        """What the model answers to those of the inputs that it takes."""
        return super().call({name: inputs[name] for name in self.input}, training=training, mask=mask, **kwargs)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """The loss of a batch."""
        layer = sampler(self)
        learned = isinstance(layer, VectorQuantizer) and not layer.decay
        return self.loss({"image": x["image"], ELAPSED: y, "learned": float(learned)}, y_pred, sample_weight)

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        """The parts of the loss, and how much of a codebook is used."""
        for name, values in self.loss.parts(x["image"], y_pred).items():
            self._parts[name].update_state(None, values, sample_weight)
        if self._use is not None:
            self._use.update_state(codes_in(y_pred))
        return super().compute_metrics(x, x["image"], y_pred["image"], sample_weight)


def autoencoder(model: keras.Model, *, temperature: float, annealing: float, balance: float) -> Autoencoder:
    """A model to train in the given one's stead, of whose layers it is made; latents hang on its inputs alone.

    The options are those of Autoencoding, for a discrete VAE.

    Raises:
        ValueError: the model is no autoencoder.
    """
    layer = sampler(model)
    own = inputs_like(model)
    draws, elapsed = keras.Input((2,), dtype="int32", name=DRAWS), keras.Input((), name=ELAPSED)
    options: dict[str, Any] = {}
    head = even = None
    if isinstance(layer, NormalSample):
        options["noise"] = DrawnNoise(layer.output.shape[1:], "normal", name="neck_noise")(draws)
    elif isinstance(layer, GumbelSample):
        shape = model.output["logits"].shape[1:]
        options["noise"] = DrawnNoise(shape, "gumbel", name="neck_noise")(draws)
        falling = FallingTemperature(layer.temperature, temperature, annealing, name="neck_temperature")
        options["temperature"] = falling(elapsed)
        if balance:
            head, even = model.output["logits"]._keras_history.operation, CodeBalance(balance, name="neck_balance")

    def call(each: layers.Layer, *args: Any, **kwargs: Any) -> Any:
        found = each(*args, **kwargs, **(options if each is layer else {}))
        return even(found, args[0], elapsed) if even is not None and each is head else found

    outputs = again(model, own, call)
    made = Autoencoder({**own, DRAWS: draws, ELAPSED: elapsed}, outputs, name=model.name)
    if head is not None and even is not None:
        even.begun.assign(float(np.any(head.bias)))  # biases begin as zeros
    return made


def _given(_, values):
    return values
