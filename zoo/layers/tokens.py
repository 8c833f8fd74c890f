"""Layers between images and token sequences: learned tokens, learned positions, one token of many."""

from __future__ import annotations

from typing import Any, Literal

import keras
from keras import layers, ops

Count = Literal["places", "tokens", "after_padding"]


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
    """Adds a learned vector to every position: (B, T, D) -> (B, T, D), T at most `length`.

    `count` says which row of the table a position gets: "places" from 0; "tokens" (RoBERTa), in which only
    tokens count and padding gets the row before the first; "after_padding" (GPT), in which the first
    token is 0 also where padding stands before it. The last two need the padding mask (B, T), 1 = token.
    `offset` rows at the start of the table are never used for tokens.
    """

    def __init__(self, length: int, *, count: Count = "places", offset: int = 0, **kwargs: Any):
        super().__init__(**kwargs)
        self.length, self.count, self.offset = length, count, offset

    def build(self, shape: tuple[int | None, ...]) -> None:
        if shape[1] is not None and shape[1] > self.length:
            raise ValueError(f"A sequence of {shape[1]} tokens is longer than the {self.length} that this model takes.")
        self.table = self.add_weight(
            name="table",
            shape=(self.offset + self.length, shape[-1]),
            initializer=keras.initializers.TruncatedNormal(stddev=0.02),
        )

    def call(self, x: keras.KerasTensor, padding_mask: keras.KerasTensor | None = None) -> keras.KerasTensor:
        if x.shape[1] is not None and x.shape[1] > self.length:
            raise ValueError(
                f"A sequence of {x.shape[1]} tokens is longer than the {self.length} that this model takes."
            )
        if self.count == "places":
            return x + ops.cast(self.table[self.offset : self.offset + ops.shape(x)[1]], x.dtype)
        return x + ops.cast(ops.take(self.table, self.rows(padding_mask), axis=0), x.dtype)

    def rows(self, padding_mask: keras.KerasTensor) -> keras.KerasTensor:
        """The table's row for each position, from the mask: (B, T) -> (B, T) int32."""
        mask = ops.cast(padding_mask, "int32")
        if self.count == "tokens":
            return ops.cumsum(mask, axis=1) * mask + self.offset - 1
        places = ops.arange(ops.shape(mask)[1], dtype="int32")[None]
        return self.offset + ops.maximum(places - ops.argmax(mask, axis=1)[:, None], 0)

    def compute_output_shape(self, shape: tuple[int | None, ...], *_: Any) -> tuple[int | None, ...]:
        return shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "length": self.length, "count": self.count, "offset": self.offset}


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


@keras.saving.register_keras_serializable("zoo")
class TokenMean(layers.Layer):
    """The mean of a sequence's tokens, by the padding mask (B, T), 1 = token: (B, T, D) -> (B, D).

    0 where there is no token, which Keras' own average makes NaN.
    """

    def call(self, x: keras.KerasTensor, padding_mask: keras.KerasTensor) -> keras.KerasTensor:
        mask = ops.cast(padding_mask, "float32")[..., None]  # bfloat16 counts to 256 only
        total = ops.sum(ops.cast(x, "float32") * mask, axis=1)
        return ops.cast(total / ops.maximum(ops.sum(mask, axis=1), 1.0), x.dtype)

    def compute_output_shape(self, shape: tuple[int | None, ...], *_: Any) -> tuple[int | None, ...]:
        return shape[0], shape[-1]
