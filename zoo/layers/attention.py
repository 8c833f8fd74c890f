"""Self-attention with the masks and the precision that every transformer of the zoo shares."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import keras
from keras import layers, ops


@keras.saving.register_keras_serializable("zoo")
class Attention(layers.Layer):
    """Multi-head self-attention: (B, T, D) -> (B, T, D).

    `padding_mask` is (B, T), 1 = token: nothing attends to the positions where it is 0. `causal` lets a
    position attend only to itself and to those before it. Both add `mask_value` to the scores; a
    small one such as -30 is what survives static int8 quantization. Softmax is in float32 whatever
    the precision of the model.
    """

    def __init__(
        self,
        heads: int,
        *,
        causal: bool = False,
        bias: bool = True,
        dropout: float = 0.0,
        mask_value: float = -1e9,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.heads, self.causal, self.bias = heads, causal, bias
        self.dropout_rate, self.mask_value = dropout, mask_value

    def build(self, shape: tuple[int, ...]) -> None:
        width = shape[-1]
        if width % self.heads:
            raise ValueError(f"A width of {width} does not split into {self.heads} heads. Choose heads that divide it.")
        for name in ("query", "key", "value"):
            setattr(self, name, layers.Dense(width, use_bias=self.bias, dtype=self.dtype_policy, name=name))
        self.output_projection = layers.Dense(width, dtype=self.dtype_policy, name="output")
        for projection in (self.query, self.key, self.value, self.output_projection):
            projection.build(shape)
        self.dropout = layers.Dropout(self.dropout_rate, dtype=self.dtype_policy, name="dropout")

    def call(
        self, x: keras.KerasTensor, padding_mask: keras.KerasTensor | None = None, training: bool | None = None
    ) -> keras.KerasTensor:
        query, key, value = (self._split(projection(x)) for projection in (self.query, self.key, self.value))
        scores = ops.matmul(query / math.sqrt(query.shape[-1]), ops.transpose(key, (0, 1, 3, 2)))  # (B, H, T, T)
        scores = ops.cast(scores, "float32")
        for allowed in self._allowed(ops.shape(x)[1], padding_mask):
            scores = scores + (1.0 - allowed) * self.mask_value
        shares = self.dropout(ops.cast(ops.softmax(scores), x.dtype), training=training)
        mixed = ops.transpose(ops.matmul(shares, value), (0, 2, 1, 3))  # (B, H, T, D / H) -> (B, T, H, D / H)
        return self.output_projection(ops.reshape(mixed, ops.shape(x)))

    def _split(self, x: keras.KerasTensor) -> keras.KerasTensor:
        """(B, T, D) -> (B, H, T, D / H)."""
        batch, length, width = ops.shape(x)
        return ops.transpose(ops.reshape(x, (batch, length, self.heads, width // self.heads)), (0, 2, 1, 3))

    def _allowed(self, length: Any, padding_mask: keras.KerasTensor | None) -> Iterator[keras.KerasTensor]:
        """Who may be attended to, 1 or 0, as masks that broadcast to (B, H, T, T)."""
        if self.causal:
            position = ops.arange(length)
            yield ops.cast(position[:, None] >= position[None, :], "float32")
        if padding_mask is not None:
            yield ops.cast(padding_mask, "float32")[:, None, None, :]

    def compute_output_shape(self, shape: tuple[int | None, ...], *_: Any, **__: Any) -> tuple[int | None, ...]:
        return shape

    def get_config(self) -> dict[str, Any]:
        options = {"heads": self.heads, "causal": self.causal, "bias": self.bias}
        return {**super().get_config(), **options, "dropout": self.dropout_rate, "mask_value": self.mask_value}
