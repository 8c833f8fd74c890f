"""An autoencoder as it learns: its model with latents that are drawn from outside, and its parts by themselves."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Literal

import keras
import tensorflow as tf
from keras import layers

from pipelines.objectives.objective import WeightedMetric
from zoo.layers.latent import GumbelSample, NormalSample, VectorQuantizer, alone, gumbel

Kind = Literal["normal", "codebook", "gumbel"]
DRAWS, ELAPSED = "draws", "elapsed"  # inputs of a learner: two numbers an example, and the share of steps done
_SAMPLERS: dict[type[layers.Layer], Kind] = {
    NormalSample: "normal",
    VectorQuantizer: "codebook",
    GumbelSample: "gumbel",
}


def sampler(model: keras.Model) -> layers.Layer:
    """The layer between encoder and decoder.

    Raises:
        ValueError: there is none, so the model is no autoencoder.
    """
    for layer in model.layers:
        if type(layer) in _SAMPLERS:
            return layer
    raise ValueError(f"{model.name!r} has no latent or codes in it. Build it with task='reconstruct'.")


def kind_of(model: keras.Model) -> Kind:
    """What is between encoder and decoder: normal distributions, a codebook, or draws of codes.

    Raises:
        ValueError: the model is no autoencoder.
    """
    return _SAMPLERS[type(sampler(model))]


def encoder_of(model: keras.Model) -> keras.Model:
    """The part from images on: to {"mean", "log_variance"} (B, Z), or to codes (B, h, w). It shares the layers.

    Raises:
        ValueError: the model is no autoencoder.
    """
    layer = sampler(model)
    if isinstance(layer, NormalSample):
        found: Any = {name: model.output[name] for name in ("mean", "log_variance")}
    else:
        found = model.output["codes"] if isinstance(layer, VectorQuantizer) else layer.output
    return keras.Model(model.input, found, name=f"{model.name}_encoder")


def decoder_of(model: keras.Model) -> keras.Model:
    """The part to the image (B, H, W, C) in 0..255: from latents (B, Z), with labels a dict of both, or from codes.

    Raises:
        ValueError: the model is no autoencoder.
    """
    layer = sampler(model)
    given, name = _inputs_like(model), f"{model.name}_decoder"
    if isinstance(layer, NormalSample):
        inputs = {"latent": keras.Input(layer.output.shape[1:], name="latent")}
        between: Any = inputs["latent"]
    else:
        grid = layer.output["passed"].shape[1:-1] if isinstance(layer, VectorQuantizer) else layer.output.shape[1:]
        inputs = {"codes": keras.Input(grid, dtype="int32", name="codes")}
        between = inputs["codes"]
    if isinstance(layer, VectorQuantizer):
        vectors = layer(inputs["codes"], reverse=True)
        between = {"codes": inputs["codes"], "quantized": vectors, "passed": vectors}

    def call(each: layers.Layer, *args: Any, **kwargs: Any) -> Any:
        return between if each is layer else each(*args, **kwargs)

    inputs |= {key: tensor for key, tensor in given.items() if key == "labels"}
    return keras.Model(alone(inputs), _again(model, given, call)["image"], name=name)


def _inputs_like(model: keras.Model) -> dict[str, keras.KerasTensor]:
    """Fresh inputs as those of a model, by name."""
    given = model.input if isinstance(model.input, Mapping) else {"image": model.input}
    return {name: keras.Input(tensor.shape[1:], dtype=tensor.dtype, name=name) for name, tensor in given.items()}


def _again(model: keras.Model, inputs: dict[str, keras.KerasTensor], call: Callable[..., Any]) -> Any:
    """The outputs of a model's graph on other inputs, each of its layers called by call(layer, ...)."""
    taken = inputs if isinstance(model.input, Mapping) else inputs["image"]
    return model._run_through_graph(taken, operation_fn=lambda each: each, call_fn=call)


@keras.saving.register_keras_serializable("zoo")
class DrawnNoise(layers.Layer):
    """Noise of a shape for each example from its own two whole numbers: (B, 2) int32 -> (B, *shape) float32.

    So the noise of an example is the same in whatever part of a batch, and on whatever device it is computed.
    """

    def __init__(self, shape: tuple[int, ...], distribution: Literal["normal", "gumbel"], **kwargs: Any):
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.shape, self.distribution = tuple(shape), distribution

    def call(self, draws):
        def one(draw: tf.Tensor) -> tf.Tensor:
            if self.distribution == "normal":
                return tf.random.stateless_normal(self.shape, draw)
            return tf.random.stateless_uniform(self.shape, draw)

        found = tf.map_fn(one, tf.cast(draws, tf.int32), fn_output_signature=tf.TensorSpec(self.shape, tf.float32))
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


def parts_of(kind: Kind) -> tuple[str, ...]:
    """The names of the parts of the loss."""
    return ("reconstruction", "quantization") if kind == "codebook" else ("reconstruction", "divergence")


def codes_of(model: keras.Model) -> int:
    """The codes of a model's codebook; 0 where it has none."""
    layer = sampler(model)
    if isinstance(layer, VectorQuantizer):
        return layer.codes
    return model.output["logits"].shape[-1] if isinstance(layer, GumbelSample) else 0


def codes_in(outputs: Mapping[str, Any]) -> tf.Tensor:
    """The codes (B, h, w) of what a model with a codebook answers, those of a discrete VAE the likeliest."""
    return outputs["codes"] if "codes" in outputs else tf.argmax(outputs["logits"], axis=-1, output_type=tf.int32)


def autoencoder(model: keras.Model, *, temperature: float, annealing: float) -> Autoencoder:
    """A model to train in the given one's stead, of whose layers it is made; latents hang on its inputs alone.

    Raises:
        ValueError: the model is no autoencoder.
    """
    layer = sampler(model)
    own = _inputs_like(model)
    draws, elapsed = keras.Input((2,), dtype="int32", name=DRAWS), keras.Input((), name=ELAPSED)
    options: dict[str, Any] = {}
    if isinstance(layer, NormalSample):
        options["noise"] = DrawnNoise(layer.output.shape[1:], "normal", name="neck_noise")(draws)
    elif isinstance(layer, GumbelSample):
        shape = model.output["logits"].shape[1:]
        options["noise"] = DrawnNoise(shape, "gumbel", name="neck_noise")(draws)
        falling = FallingTemperature(layer.temperature, temperature, annealing, name="neck_temperature")
        options["temperature"] = falling(elapsed)

    def call(each: layers.Layer, *args: Any, **kwargs: Any) -> Any:
        return each(*args, **kwargs, **(options if each is layer else {}))

    outputs = _again(model, own, call)
    return Autoencoder({**own, DRAWS: draws, ELAPSED: elapsed}, outputs, name=model.name)


def _given(_, values):
    return values
