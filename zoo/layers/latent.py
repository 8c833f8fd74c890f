"""Between images and what they are drawn from: random latents, draws of codes, labels."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers, ops

from zoo.core.family import Pixels
from zoo.layers.pixels import PixelInput


@keras.saving.register_keras_serializable("zoo")
class NormalSample(layers.Layer):
    """A draw from normal distributions in training, their mean in inference: mean, log-variance (B, Z) -> (B, Z).

    Paper: https://arxiv.org/abs/1312.6114. `noise` (B, Z), if given, is drawn already, and used in inference too.
    """

    def __init__(self, *, seed: int | None = None, **kwargs: Any):
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.seed = seed
        self.generator = keras.random.SeedGenerator(seed)

    def call(self, mean, log_variance, *, noise=None, training: bool | None = None):
        if noise is None:
            if not training:
                return mean
            noise = keras.random.normal(ops.shape(mean), dtype=mean.dtype, seed=self.generator)
        return mean + ops.exp(0.5 * log_variance) * noise

    def compute_output_shape(self, shape: tuple[int | None, ...], *_: Any) -> tuple[int | None, ...]:
        return shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "seed": self.seed}


@keras.saving.register_keras_serializable("zoo")
class GumbelSample(layers.Layer):
    """One code of each place: logits (..., codes) -> shares of the codes (..., codes) that add to 1.

    In training a draw that is made soft (Gumbel-softmax, https://arxiv.org/abs/1611.01144): the lower the
    `temperature`, the nearer to a single code; a call may bring one of its own for each example, (B,). In inference the
    likeliest code, as whole numbers (...) int32. `noise` (..., codes), if given, is drawn already from the Gumbel
    distribution, and used in inference too: the code is then one that the logits make probable.
    """

    def __init__(self, temperature: float = 1.0, *, seed: int | None = None, **kwargs: Any):
        super().__init__(**{**kwargs, "dtype": "float32"})
        if not temperature > 0:
            raise ValueError(f"temperature={temperature!r} must be over 0; common are 1 down to 1/16.")
        self.temperature, self.seed = temperature, seed
        self.generator = keras.random.SeedGenerator(seed)

    def call(self, logits, *, noise=None, temperature=None, training: bool | None = None):
        if not training:
            return likeliest(logits if noise is None else logits + noise)
        if noise is None:
            noise = gumbel(keras.random.uniform(ops.shape(logits), seed=self.generator))
        if temperature is None:
            return ops.softmax((logits + noise) / self.temperature)
        return ops.softmax((logits + noise) / ops.reshape(temperature, (-1, *(1 for _ in logits.shape[1:]))))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "temperature": self.temperature, "seed": self.seed}


def gumbel(uniform):
    """Numbers of the Gumbel distribution from those that are uniform in 0..1: (...) -> (...)."""
    return -ops.log(-ops.log(ops.clip(uniform, 1e-20, 1.0 - 1e-7)))


def likeliest(logits):
    """The code with the largest logit: (..., codes) -> (...) int32. TFLite has no built-in for Keras' argmax."""
    return ops.cast(ops.top_k(logits, 1)[1], "int32")[..., 0]


def image_inputs(pixels: Pixels, labels: int, *, tower: str = "") -> tuple[dict[str, keras.KerasTensor], Any]:
    """The inputs of a network that takes images and, where there are `labels`, the label of each; and what it sees.

    That is the image normalized and, with labels, one more channel: a learned map of each label.
    """
    inputs = {"image": keras.Input((*pixels.shape, pixels.channels), name="image")}
    x = PixelInput(pixels, name=f"{tower}stem_pixels")(inputs["image"])
    if labels:
        inputs["labels"] = label_input()
        height, width, _ = x.shape[1:]
        vectors = layers.Embedding(labels, height * width, name=f"{tower}stem_labels")(inputs["labels"])
        plane = layers.Reshape((height, width, 1), name=f"{tower}stem_plane")(vectors)
        x = layers.Concatenate(name=f"{tower}stem_joined")([x, plane])
    return inputs, x


def with_labels(x, labels, classes: int, width: int, *, tower: str = ""):
    """A learned vector of each label behind a latent: (B, Z), (B,) -> (B, Z + width)."""
    vectors = layers.Embedding(classes, width, name=f"{tower}stem_labels")(labels)
    return layers.Concatenate(name=f"{tower}stem_joined")([x, vectors])


def label_input() -> keras.KerasTensor:
    """The class of each image: (B,) int32."""
    return keras.Input((), dtype="int32", name="labels")


def alone(inputs: dict[str, keras.KerasTensor]) -> Any:
    """A model's inputs by name; the only one by itself."""
    return inputs if len(inputs) > 1 else next(iter(inputs.values()))


def halved(pixels: Pixels, times: int, *, name: str) -> tuple[int, int]:
    """The sides of an image after so many halvings.

    Raises:
        ValueError: a side does not halve so often.
    """
    step = 2**times
    height, width = pixels.shape
    if height % step or width % step:
        near = [max(step, step * round(side / step)) for side in (height, width)]
        raise ValueError(
            f"{name!r} halves an image {times} times, so its sides must divide by {step}; got {height}x{width}. "
            f"Give size={near[0] if near[0] == near[1] else tuple(near)}, or fewer halvings."
        )
    return height // step, width // step
