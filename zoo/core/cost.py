"""What a model costs, counted on its graph: arithmetic, and the sizes of its exports. No weights are needed.

Multiply-accumulates are those of convolutions, dense and recurrent layers and the two products of attention, for one
image, or for one text or series of so many steps. timm's model cards leave the products of attention out: 16.9 G for
ViT-B/16, which is 17.6 G here and in torchvision.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import keras

# What a file holds besides the weights, in bytes, as measured on exports of five models of the zoo.
_TFLITE, _TFLITE_LAYER = 4_000, 150  # metadata; an operator, its tensors and their names
_INT8_CHANNEL = 24  # scale and zero point of a channel and of its bias; a dense layer has one for all
_SAVED_MODEL, _SAVED_MODEL_LAYER = 55_000, 7_300  # the traces of its signatures

_ATTENTION = "zoo>Attention"  # by its registered name: the layers stand above this module


@dataclass(frozen=True)
class Sizes:
    """About how large the exports of a model are, in bytes. TFLite files have their batch norms folded away."""

    float32: int
    float16: int
    int8: int
    saved_model: int


def macs(model: keras.Model, *, length: int = 1) -> int:
    """Multiply-accumulates for one input of the model: its own size, and `length` where it takes sequences of any."""
    return sum(_macs(layer, length) for layer in model.layers)


def export_sizes(model: keras.Model) -> Sizes:
    """About how large the files of an export are."""
    tied = [layer for layer in model.layers if _giving_logits(layer)]  # int8 files have them once for each of two uses
    tables = sum(math.prod(layer.embeddings.shape) for layer in tied)
    kernels = sum(math.prod(each.shape) for layer in model.layers for part in _parts(layer) for each in _kernels(part))
    constants = sum(_constants(layer) for layer in model.layers)
    channels = sum(_channels(layer) for layer in model.layers)
    layers = sum(1 for layer in model.layers for _ in layer._flatten_layers())  # those inside others too
    graph = _TFLITE + _TFLITE_LAYER * layers
    return Sizes(
        float32=4 * constants + graph,
        float16=2 * constants + graph,
        int8=kernels + tables + 4 * (constants - kernels) + _INT8_CHANNEL * channels + graph,
        saved_model=4 * model.count_params() + _SAVED_MODEL + _SAVED_MODEL_LAYER * layers,
    )


def _macs(layer: keras.layers.Layer, length: int) -> int:
    """Each number of a kernel is used once a position: of the output's for a convolution, else of the input's.

    A transposed convolution goes from each position of its input, too.
    """
    import keras

    total = 0
    for part in _parts(layer):
        for kernel in _kernels(part, tables=False):
            convolves = len(kernel.shape) > 2 and not isinstance(part, keras.layers.Conv2DTranspose)
            tensors = layer.output if convolves else layer.input
            total += math.prod(kernel.shape) * _positions(tensors, length)
    for part in layer._flatten_layers():
        if keras.saving.get_registered_name(type(part)) == _ATTENTION:  # also to a context as long as its input
            total += 2 * _positions(layer.input, length) ** 2 * part.query.kernel.shape[-1]
    logits = sum(_positions(node.input_tensors, length) for node in _giving_logits(layer))
    return total + logits * math.prod(layer.embeddings.shape) if logits else total


def _giving_logits(layer: keras.layers.Layer) -> list[Any]:
    """The calls of a table of token vectors in which it gives logits."""
    return [node for node in layer._inbound_nodes if node.arguments.kwargs.get("reverse")]


def _positions(tensors: Any, length: int) -> int:
    """The places of an image or steps of a sequence in one example of a tensor, or of the first of several."""
    import keras

    first = keras.tree.flatten(tensors)[0]
    return math.prod(length if side is None else side for side in first.shape[1:-1])


def _parts(layer: keras.layers.Layer) -> list[keras.layers.Layer]:
    """The layers that a layer of the graph is made of; itself, if it is of one piece."""
    return [part for part in layer._flatten_layers() if not any(part._flatten_layers(include_self=False))]


def _has_kernel(part: keras.layers.Layer) -> bool:
    return getattr(part, "kernel", None) is not None


def _kernels(part: keras.layers.Layer, *, tables: bool = True) -> list[keras.Variable]:
    """What a layer multiplies with, and with `tables` the vectors of tokens: all that becomes a byte in int8."""
    names = ("kernel", "recurrent_kernel", *(["embeddings"] if tables else []))
    return [kernel for name in names if (kernel := getattr(part, name, None)) is not None]


def _channels(layer: keras.layers.Layer) -> int:
    """The outputs of a convolution; none of one that sees a single position, which becomes a dense layer."""
    convolves = any(len(part.kernel.shape) > 3 for part in filter(_has_kernel, _parts(layer)))
    return layer.output.shape[-1] if convolves and math.prod(layer.output.shape[1:-1]) > 1 else 0


def _constants(layer: keras.layers.Layer) -> int:
    """How many numbers of a layer a TFLite file stores, after batch norms are folded into the kernels before them."""
    import keras

    parts = _parts(layer)
    total = 0
    for part in parts:
        if not isinstance(part, keras.layers.BatchNormalization):
            total += sum(math.prod(weight.shape) for weight in part.weights)
            continue
        before = [layer.input._keras_history.operation] if part is layer else parts
        convolution = next(filter(_has_kernel, before), None)
        if convolution is None:
            total += 2 * part.moving_mean.shape[0]  # a factor and a summand
        elif not convolution.use_bias:
            total += part.moving_mean.shape[0]
    own = {id(weight) for weight in layer.weights} - {id(weight) for part in parts for weight in part.weights}
    return total + sum(math.prod(weight.shape) for weight in layer.weights if id(weight) in own)
