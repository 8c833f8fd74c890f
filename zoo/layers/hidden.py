"""Hidden layers as textbooks build them: convolution or dense, batch norm, activation, dropout, L1 and L2."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import keras
from keras import layers

from zoo.layers.batch_norm import BatchNormalization

Activation = Literal["relu", "leaky_relu", "elu", "tanh", "sigmoid", "gelu", "silu"]


@dataclass(frozen=True, kw_only=True)
class Textbook:
    """What the plain networks let their user choose; their Configs inherit these fields.

    Activations are those of Keras: leaky_relu has the slope 0.2 below zero, elu the scale 1, and gelu is
    the exact one (by the error function, not tanh). `l1` and `l2` are the factors of the penalty on every
    kernel, the classifier's too.

    Raises:
        ValueError: a value is unknown or out of range.
    """

    activation: Activation = "relu"
    batch_norm: bool = False  # between a layer and its activation; the layer has no bias then
    dropout: float = 0.0  # after each dense layer
    l1: float = 0.0
    l2: float = 0.0

    def __post_init__(self):
        known = get_args(Activation)
        if self.activation not in known:
            raise ValueError(f"activation={self.activation!r} is unknown here. Known: {', '.join(known)}.")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout={self.dropout!r} must be at least 0 and below 1: the share that is dropped.")
        for name, factor in (("l1", self.l1), ("l2", self.l2)):
            if not 0 <= factor < math.inf:
                raise ValueError(f"{name}={factor!r} must be 0 (no penalty) or more; common are 1e-5 to 1e-2.")

    @property
    def penalty(self) -> keras.regularizers.Regularizer | None:
        """What a kernel adds to the loss in training."""
        return keras.regularizers.L1L2(self.l1, self.l2) if self.l1 or self.l2 else None


def convolution(x, filters: int, kernel: int, *, name: str, options: Textbook):
    """Convolution, batch norm, activation: (B, H, W, C) -> (B, H, W, filters)."""
    layer = layers.Conv2D(
        filters,
        kernel,
        padding="same",
        use_bias=not options.batch_norm,
        kernel_regularizer=options.penalty,
        name=f"{name}_conv",
    )
    return _activated(layer(x), name=name, options=options)


def dense(x, width: int, *, name: str, options: Textbook):
    """Dense layer, batch norm, activation, dropout: (B, D) -> (B, width)."""
    layer = layers.Dense(
        width, use_bias=not options.batch_norm, kernel_regularizer=options.penalty, name=f"{name}_dense"
    )
    x = _activated(layer(x), name=name, options=options)
    return layers.Dropout(options.dropout, name=f"{name}_dropout")(x) if options.dropout else x


def _activated(x, *, name: str, options: Textbook):
    if options.batch_norm:
        x = BatchNormalization(epsilon=1e-5, momentum=0.9, name=f"{name}_bn")(x)
    return layers.Activation(options.activation, name=f"{name}_act")(x)


def check_counts(*, widths: tuple[int, ...], **others: int) -> None:
    """Refuse sizes that no layer can have.

    Raises:
        ValueError: one of them is no whole number over 0.
    """
    if not isinstance(widths, tuple) or not all(map(_is_count, widths)):
        raise ValueError(f"widths={widths!r} must hold whole numbers over 0, one for each layer: (32, 64).")
    for name, value in others.items():
        if not _is_count(value):
            raise ValueError(f"{name}={value!r} must be a whole number over 0.")


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0
