"""Live Keras models, such as those of keras.applications, read as checkpoints."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.weights.read import Tensors

if TYPE_CHECKING:
    import keras


def from_keras(model: keras.Model) -> Tensors:
    """The weights of a live Keras model as 'layer/variable', named as if nothing had been built before it.

    Keras counts the layers without a name of their own through a whole session: 'conv2d_40'. Here
    they count from the model's first: 'conv2d', 'conv2d_1', in the order of their creation. What a
    Normalization layer has seen is no weight; `conventions` tells it.
    """
    names = _fresh_names(model)
    found: dict[str, keras.Variable] = {}
    for variable in _weights(model):
        *layers, leaf = variable.path.split("/")
        leaf = re.sub(r"^variable_\d+$", "variable", leaf)  # Keras counts variables without a name too
        found["/".join([*(names.get(layer, layer) for layer in layers), leaf])] = variable
    return Tensors({path: tuple(v.shape) for path, v in found.items()}, lambda path: np.asarray(found[path]))


def conventions(model: keras.Model) -> Mapping[str, Any]:
    """The Config fields that the model itself tells: its image size, and the `mean` and `std` that it works in.

    Those are of the Rescaling and Normalization layers that an RGB image meets first, on the scale
    0..255; a model without such layers does not tell them.
    """
    import keras

    shape = getattr(model, "input_shape", None)
    if not isinstance(shape, tuple) or len(shape) != 4 or shape[-1] != 3:
        return {}
    told: dict[str, Any] = {}
    _, height, width, channels = shape
    if height and width:
        told["size"] = height if height == width else (height, width)
    scale, offset = np.ones(channels), np.zeros(channels)  # what enters the next layer is scale * image + offset
    for layer in model.layers:
        if isinstance(layer, (keras.layers.Rescaling, keras.layers.Normalization)):
            factor, shift = _affine(layer)
            scale, offset = factor * scale, factor * offset + shift
            told |= {"mean": tuple((-offset / scale).tolist()), "std": tuple((1 / scale).tolist())}
        elif not isinstance(layer, keras.layers.InputLayer):
            break
    return told


def _affine(layer: keras.layers.Layer) -> tuple[np.ndarray, np.ndarray]:
    """What a Rescaling or Normalization layer multiplies by and then adds, for each channel or for all."""
    import keras

    if isinstance(layer, keras.layers.Rescaling):
        return np.asarray(layer.scale, "float64"), np.asarray(layer.offset, "float64")
    mean, variance = (np.asarray(value, "float64").ravel() for value in (layer.mean, layer.variance))
    deviation = np.maximum(np.sqrt(variance), keras.config.epsilon())
    return (deviation, mean) if layer.invert else (1 / deviation, -mean / deviation)


def _weights(model: keras.Model) -> Iterator[keras.Variable]:
    """The weights of a model without the statistics of its Normalization layers."""
    import keras

    layers = model._flatten_layers(include_self=True, recursive=True)
    statistics = {id(v) for layer in layers if isinstance(layer, keras.layers.Normalization) for v in layer.weights}
    return (variable for variable in model.weights if id(variable) not in statistics)


def _fresh_names(model: keras.Model) -> dict[str, str]:
    """The name that each automatically named layer would have in a session of its own."""
    counted: dict[str, list[tuple[int, str]]] = {}
    for layer in model._flatten_layers(include_self=True, recursive=True):
        kind = _snake_case(type(layer).__name__)
        match = re.fullmatch(rf"{kind}(?:_(\d+))?", layer.name)
        if match:
            counted.setdefault(kind, []).append((int(match[1] or 0), layer.name))
    return {
        name: f"{kind}_{index}" if index else kind
        for kind, numbered in counted.items()
        for index, (_, name) in enumerate(sorted(numbered))
    }


def _snake_case(name: str) -> str:
    """The name that Keras makes of a class: DepthwiseConv2D -> depthwise_conv2d."""
    return re.sub(r"(?<=.)(?=[A-Z][a-z])|(?<=[a-z])(?=[A-Z])", "_", name).lower()
