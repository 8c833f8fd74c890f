"""Layers between images and token sequences: learned tokens, learned positions, one token of many."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers, ops


@keras.saving.register_keras_serializable("zoo")
class ClassToken(layers.Layer):
    """Puts one learned token before a sequence: (B, T, D) -> (B, T + 1, D)."""

    def build(self, shape: tuple[int | None, ...]) -> None:
        self.token = self.add_weight(name="token", shape=(1, 1, shape[-1]), initializer="zeros")

    def call(self, x: keras.KerasTensor) -> keras.KerasTensor:
        token = ops.broadcast_to(ops.cast(self.token, x.dtype), (ops.shape(x)[0], 1, x.shape[-1]))
        return ops.concatenate([token, x], axis=1)

    def compute_output_shape(self, shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        batch, length, width = shape
        return batch, None if length is None else length + 1, width


@keras.saving.register_keras_serializable("zoo")
class LearnedPositions(layers.Layer):
    """Adds a learned vector to every position: (B, T, D) -> (B, T, D), T at most `length`."""

    def __init__(self, length: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.length = length

    def build(self, shape: tuple[int | None, ...]) -> None:
        self.table = self.add_weight(
            name="table",
            shape=(self.length, shape[-1]),
            initializer=keras.initializers.TruncatedNormal(stddev=0.02),
        )

    def call(self, x: keras.KerasTensor) -> keras.KerasTensor:
        return x + ops.cast(self.table[: ops.shape(x)[1]], x.dtype)

    def compute_output_shape(self, shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "length": self.length}


@keras.saving.register_keras_serializable("zoo")
class TokenAt(layers.Layer):
    """One token of a sequence: (B, T, D) -> (B, D)."""

    def __init__(self, index: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.index = index

    def call(self, x: keras.KerasTensor) -> keras.KerasTensor:
        return x[:, self.index]

    def compute_output_shape(self, shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return shape[0], shape[-1]

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "index": self.index}
