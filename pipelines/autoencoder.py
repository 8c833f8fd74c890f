"""The parts of an autoencoder by themselves: its encoder, its decoder, and what is between them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from zoo.layers.codebook import VectorQuantizer
from zoo.layers.latent import GumbelSample, NormalSample, alone

Kind = Literal["normal", "codebook", "gumbel"]
_BATCH = 64  # examples at a time where it does not matter
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
    given, name = inputs_like(model), f"{model.name}_decoder"
    if isinstance(layer, NormalSample):
        inputs = {"latent": keras.Input(layer.output.shape[1:], name="latent")}
        between: Any = inputs["latent"]
    else:
        grid = model.output["codes"].shape[1:] if isinstance(layer, VectorQuantizer) else layer.output.shape[1:]
        inputs = {"codes": keras.Input(grid, dtype="int32", name="codes")}
        between = inputs["codes"]
    if isinstance(layer, VectorQuantizer):
        vectors = layer(inputs["codes"], reverse=True)
        between = {"codes": inputs["codes"], "quantized": vectors, "passed": vectors}

    def call(each: layers.Layer, *args: Any, **kwargs: Any) -> Any:
        return between if each is layer else each(*args, **kwargs)

    inputs |= {key: tensor for key, tensor in given.items() if key == "labels"}
    return keras.Model(alone(inputs), again(model, given, call)["image"], name=name)


def answers(model: keras.Model, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What a model answers to arrays by name, of which it may take a part; a single answer is that of "codes"."""
    found: dict[str, list[np.ndarray]] = {}
    for start in range(0, len(inputs["image"]), _BATCH):
        some = {name: array[start : start + _BATCH] for name, array in inputs.items()}
        taken: Any = {name: some[name] for name in model.input} if isinstance(model.input, Mapping) else some["image"]
        answer = model(taken, training=False)
        for name, values in (answer if isinstance(answer, Mapping) else {"codes": answer}).items():
            found.setdefault(name, []).append(keras.ops.convert_to_numpy(values))
    return {name: np.concatenate(values) for name, values in found.items()}


def inputs_like(model: keras.Model) -> dict[str, keras.KerasTensor]:
    """Fresh inputs as those of a model, by name."""
    given = model.input if isinstance(model.input, Mapping) else {"image": model.input}
    return {name: keras.Input(tensor.shape[1:], dtype=tensor.dtype, name=name) for name, tensor in given.items()}


def again(model: keras.Model, inputs: dict[str, keras.KerasTensor], call: Callable[..., Any]) -> Any:
    """The outputs of a model's graph on other inputs, each of its layers called by call(layer, ...)."""
    taken = inputs if isinstance(model.input, Mapping) else inputs["image"]
    return model._run_through_graph(taken, operation_fn=lambda each: each, call_fn=call)


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
