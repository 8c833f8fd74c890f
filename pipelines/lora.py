"""Low-rank adaptation: small factors learn beside the frozen kernels of attention, and are then merged into them.

Paper: https://arxiv.org/abs/2106.09685. The factors are Keras' own; this is the only place that takes them off again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import keras
import numpy as np

from zoo.layers.attention import Attention
from zoo.layers.transformer_block import TransformerBlock

Projection = keras.layers.Dense | keras.layers.EinsumDense

_SCALE = 2.0  # what the product of the factors is multiplied by: alpha / rank
_ATTENTION = ("query", "key", "value", "output_projection")
_KERAS_ATTENTION = ("query_dense", "key_dense", "value_dense", "output_dense")
_MLP = ("mlp_up", "mlp_gate", "mlp_down")


def projections(layers: Iterable[keras.layers.Layer], *, mlp: bool = False) -> list[Projection]:
    """The dense layers of attention inside some layers, the zoo's or Keras'; with `mlp` also those after it."""
    return [
        getattr(layer, name)
        for outer in layers
        for layer in outer._flatten_layers()
        for name in _names(layer, mlp=mlp)
        if hasattr(layer, name)
    ]


def _names(layer: keras.layers.Layer, *, mlp: bool) -> tuple[str, ...]:
    if isinstance(layer, Attention):
        return _ATTENTION
    if isinstance(layer, keras.layers.MultiHeadAttention):
        return _KERAS_ATTENTION
    return _MLP if mlp and isinstance(layer, TransformerBlock) else ()


def adapt(layers: Sequence[keras.layers.Layer], *, rank: int, mlp: bool = False) -> None:
    """Give the projections factors, and let nothing else of these layers learn. What they answer stays the same.

    It takes effect at the next `compile`. Layers that have factors already keep them.
    """
    found = projections(layers, mlp=mlp)
    for layer in layers:
        layer.trainable = True  # else Keras does not look inside
    for projection in found:
        if not projection.lora_enabled:
            projection.enable_lora(rank, lora_alpha=_SCALE * rank)
    factors = {id(factor) for projection in found for factor in _factors(projection)}
    for layer in layers:
        for variable in layer.weights:
            variable.trainable = id(variable) in factors


def merge(model: keras.Model) -> None:
    """Add the factors to the kernels and take them off: the model is as plain as before, and answers as adapted."""
    for projection in _adapted(model):
        projection._kernel.assign(_merged(projection))
        projection.lora_kernel_b.assign(keras.ops.zeros_like(projection.lora_kernel_b))  # for functions traced with it
        for factor in _factors(projection):
            projection._untrack_variable(factor)
        projection.lora_kernel_a = projection.lora_kernel_b = None
        projection.lora_enabled, projection.lora_rank, projection.lora_alpha = False, None, None


def get_weights(model: keras.Model) -> list[np.ndarray]:
    """The weights of the model as they would be with its factors merged: those of a plain model."""
    adapted = {id(projection._kernel): projection for projection in _adapted(model)}
    plain = _plain(model)
    return [np.array(_merged(adapted[id(weight)]) if id(weight) in adapted else weight) for weight in plain]


def set_weights(model: keras.Model, weights: Sequence[np.ndarray]) -> None:
    """Put the weights of a plain model into one that may have factors, which add nothing to them then."""
    for weight, value in zip(_plain(model), weights, strict=True):
        weight.assign(value)
    for projection in _adapted(model):
        projection.lora_kernel_b.assign(keras.ops.zeros_like(projection.lora_kernel_b))


def _adapted(model: keras.Model) -> Iterator[Projection]:
    return (layer for layer in model._flatten_layers() if getattr(layer, "lora_enabled", False))


def _plain(model: keras.Model) -> list[keras.Variable]:
    factors = {id(factor) for projection in _adapted(model) for factor in _factors(projection)}
    return [weight for weight in model.weights if id(weight) not in factors]


def _factors(projection: Projection) -> tuple[keras.Variable, keras.Variable]:
    return projection.lora_kernel_a, projection.lora_kernel_b


def _merged(projection: Projection) -> keras.KerasTensor:
    """The kernel with its factors, in the precision that weights are kept in: Keras' own is in that of computing."""
    change = keras.ops.matmul(*(factor.value for factor in _factors(projection)))
    return projection._kernel.value + (projection.lora_alpha / projection.lora_rank) * change
