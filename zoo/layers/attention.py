"""Attention with the masks and the precision that every transformer of the zoo shares."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import keras
from keras import layers, ops


@keras.saving.register_keras_serializable("zoo")
class Attention(layers.Layer):
    """Multi-head attention: (B, T, D) -> (B, T, D), to itself or to a context (B, S, C).

    `padding_mask` is (B, S), 1 = token: nothing attends to the positions where it is 0. `causal` lets a
    position attend only to itself and to those before it. Both add `mask_value` to the scores; a
    small one such as -30 is what survives static int8 quantization. `position_bias`, which broadcasts to
    (B, H, T, S), is added to the scores too. Softmax is in float32 whatever the precision of the model.

    `head_width` is D / H unless given. `bias` is that of query, key and value. Unless `scaled` is off (T5), scores
    are divided by the square root of the head width.
    """

    def __init__(
        self,
        heads: int,
        *,
        head_width: int | None = None,
        causal: bool = False,
        bias: bool = True,
        output_bias: bool = True,
        scaled: bool = True,
        dropout: float = 0.0,
        mask_value: float = -1e9,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.heads, self.head_width, self.causal = heads, head_width, causal
        self.bias, self.output_bias, self.scaled = bias, output_bias, scaled
        self.dropout_rate, self.mask_value = dropout, mask_value

    def build(self, x_shape: tuple[int, ...], context_shape: tuple[int, ...] | None = None) -> None:
        width = x_shape[-1]
        if self.head_width is None and width % self.heads:
            raise ValueError(f"A width of {width} does not split into {self.heads} heads. Choose heads that divide it.")
        inner = self.heads * (self.head_width or width // self.heads)
        # Unscaled scores are about as large at first if queries are smaller, as T5's authors draw them.
        smaller = 1.0 if self.scaled else self.heads / inner
        for name, scale in (("query", smaller), ("key", 1.0), ("value", 1.0)):
            drawn = keras.initializers.VarianceScaling(scale, mode="fan_avg", distribution="uniform")
            options = {"use_bias": self.bias, "kernel_initializer": drawn, "dtype": self.dtype_policy}
            setattr(self, name, layers.Dense(inner, name=name, **options))
        self.output_projection = layers.Dense(width, use_bias=self.output_bias, dtype=self.dtype_policy, name="output")
        self.query.build(x_shape)
        self.key.build(context_shape or x_shape)
        self.value.build(context_shape or x_shape)
        self.output_projection.build((*x_shape[:-1], inner))
        self.dropout = layers.Dropout(self.dropout_rate, dtype=self.dtype_policy, name="dropout")

    def call(
        self,
        x: keras.KerasTensor,
        context: keras.KerasTensor | None = None,
        *,
        padding_mask: keras.KerasTensor | None = None,
        position_bias: keras.KerasTensor | None = None,
        training: bool | None = None,
    ) -> keras.KerasTensor:
        key, value = self.keys_and_values(x if context is None else context)
        shares = self.shares(x, key, padding_mask=padding_mask, position_bias=position_bias)
        return self.mix(self.dropout(ops.cast(shares, value.dtype), training=training), value)

    def keys_and_values(self, context: keras.KerasTensor) -> tuple[keras.KerasTensor, keras.KerasTensor]:
        """What is attended to: (B, S, C) -> two of (B, H, S, D / H)."""
        return self._split(self.key(context)), self._split(self.value(context))

    def shares(
        self,
        x: keras.KerasTensor,
        key: keras.KerasTensor,
        *,
        padding_mask: keras.KerasTensor | None = None,
        position_bias: keras.KerasTensor | None = None,
    ) -> keras.KerasTensor:
        """How much of its attention each place of x (B, T, D) gives to each key: (B, H, T, S) float32, adding to 1."""
        scores = self._scores(self._query(x), key)
        if position_bias is not None:
            scores = scores + ops.cast(position_bias, "float32")
        for allowed in self._allowed(ops.shape(x)[1], padding_mask):
            scores = scores + (1.0 - allowed) * self.mask_value
        return ops.softmax(scores)

    def mix(self, shares: keras.KerasTensor, value: keras.KerasTensor) -> keras.KerasTensor:
        """The values in these shares, projected: (B, H, T, S), (B, H, S, D / H) -> (B, T, D)."""
        return self._project(ops.matmul(shares, value))

    def step(
        self, x: keras.KerasTensor, key: keras.KerasTensor, value: keras.KerasTensor, *, bias: keras.KerasTensor
    ) -> tuple[keras.KerasTensor, keras.KerasTensor, keras.KerasTensor]:
        """Attention of tokens that follow those of a cache to both: (B, T, D) -> (B, T, D).

        `key` and `value` are those of the cache, (B, H, S, D / H); those of the new tokens, (B, H, T, D / H), are
        returned too. `bias`, which broadcasts to (B, H, T, S + T), is added to the scores and says who may be
        attended to. Nothing is joined with the cache, so that it need not be copied.
        """
        new_key, new_value = self.keys_and_values(x)
        query, alone = self._query(x), x.shape[1] == 1
        if alone:  # products of a number each, for which a matrix product takes long
            own = ops.cast(ops.sum(query * new_key, axis=-1, keepdims=True), "float32")
        else:
            own = self._scores(query, new_key)
        scores = ops.concatenate([self._scores(query, key), own], axis=-1)
        shares = ops.cast(ops.softmax(scores + ops.cast(bias, "float32")), new_value.dtype)
        cached = ops.shape(key)[2]
        before, own = shares[..., :cached], shares[..., cached:]
        mixed = ops.matmul(before, value) + (own * new_value if alone else ops.matmul(own, new_value))
        return self._project(mixed), new_key, new_value

    def _query(self, x: keras.KerasTensor) -> keras.KerasTensor:
        """What asks: (B, T, D) -> (B, H, T, D / H)."""
        query = self._split(self.query(x))
        return query / math.sqrt(query.shape[-1]) if self.scaled else query

    def _scores(self, query: keras.KerasTensor, key: keras.KerasTensor) -> keras.KerasTensor:
        """How well each key answers each query: (B, H, T, D / H), (B, H, S, D / H) -> (B, H, T, S) float32."""
        return ops.cast(ops.matmul(query, ops.transpose(key, (0, 1, 3, 2))), "float32")

    def _project(self, mixed: keras.KerasTensor) -> keras.KerasTensor:
        """The heads side by side, projected: (B, H, T, D / H) -> (B, T, D)."""
        batch, heads, length, width = ops.shape(mixed)
        tokens_first = mixed if mixed.shape[2] == 1 else ops.transpose(mixed, (0, 2, 1, 3))
        return self.output_projection(ops.reshape(tokens_first, (batch, length, heads * width)))

    def _split(self, x: keras.KerasTensor) -> keras.KerasTensor:
        """(B, T, H * W) -> (B, H, T, W)."""
        batch, length, width = ops.shape(x)
        if x.shape[1] == 1:  # one token: nothing to transpose
            return ops.reshape(x, (batch, self.heads, 1, width // self.heads))
        return ops.transpose(ops.reshape(x, (batch, length, self.heads, width // self.heads)), (0, 2, 1, 3))

    def _allowed(self, length: Any, padding_mask: keras.KerasTensor | None) -> Iterator[keras.KerasTensor]:
        """Who may be attended to, 1 or 0, as masks that broadcast to (B, H, T, S)."""
        if self.causal:
            position = ops.arange(length)
            yield ops.cast(position[:, None] >= position[None, :], "float32")
        if padding_mask is not None:
            yield ops.cast(padding_mask, "float32")[:, None, None, :]

    def compute_output_shape(self, shape: tuple[int | None, ...], *_: Any, **__: Any) -> tuple[int | None, ...]:
        return shape

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "heads": self.heads,
            "head_width": self.head_width,
            "causal": self.causal,
            "bias": self.bias,
            "output_bias": self.output_bias,
            "scaled": self.scaled,
            "dropout": self.dropout_rate,
            "mask_value": self.mask_value,
        }
