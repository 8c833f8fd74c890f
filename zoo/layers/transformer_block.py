"""The transformer block: self-attention, then two dense layers, each with a residual around it."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any, Literal, NamedTuple

import keras
from keras import layers

from zoo.layers.attention import Attention
from zoo.weights.dialect import Rule, third

Activation = Literal["gelu", "gelu_tanh", "quick_gelu", "relu", "silu"]


def _quick_gelu(x):
    return x * keras.ops.sigmoid(1.702 * x)


_ACTIVATIONS = {
    "gelu": partial(keras.activations.gelu, approximate=False),
    "gelu_tanh": partial(keras.activations.gelu, approximate=True),
    "quick_gelu": _quick_gelu,
    "relu": keras.activations.relu,
    "silu": keras.activations.silu,
}
HUB_ACTIVATIONS: dict[str, Activation] = {  # by the names of a transformers config.json
    **{name: name for name in ("gelu", "quick_gelu", "relu", "silu")},
    "gelu_python": "gelu",
    **dict.fromkeys(("gelu_new", "gelu_fast", "gelu_pytorch_tanh"), "gelu_tanh"),
    "swish": "silu",
}


@keras.saving.register_keras_serializable("zoo")
class TransformerBlock(layers.Layer):
    """Attention, then `mlp_up`, activation and `mlp_down`: (B, T, D) -> (B, T, D).

    `pre_norm` normalizes what enters attention and MLP (ViT, GPT), else the sums that leave them
    (BERT). `padding_mask` is (B, T), 1 = token. The other options are those of Attention.
    """

    def __init__(
        self,
        heads,
        mlp_width,
        *,
        pre_norm=True,
        causal=False,
        activation="gelu",
        epsilon=1e-6,
        dropout=0.0,
        qkv_bias=True,
        mask_value=-1e9,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        if activation not in _ACTIVATIONS:
            raise ValueError(f"activation={activation!r} is unknown here. Known: {', '.join(_ACTIVATIONS)}.")
        self.heads, self.mlp_width, self.pre_norm, self.causal = heads, mlp_width, pre_norm, causal
        self.activation, self.epsilon, self.dropout_rate = activation, epsilon, dropout
        self.qkv_bias, self.mask_value = qkv_bias, mask_value

    def build(self, shape):
        policy = self.dtype_policy
        self.attention_norm = layers.LayerNormalization(epsilon=self.epsilon, dtype=policy, name="attention_norm")
        self.attention = Attention(
            self.heads,
            causal=self.causal,
            bias=self.qkv_bias,
            dropout=self.dropout_rate,
            mask_value=self.mask_value,
            dtype=policy,
            name="attention",
        )
        self.mlp_norm = layers.LayerNormalization(epsilon=self.epsilon, dtype=policy, name="mlp_norm")
        self.mlp_up = layers.Dense(self.mlp_width, dtype=policy, name="mlp_up")
        self.mlp_down = layers.Dense(shape[-1], dtype=policy, name="mlp_down")
        self.dropout = layers.Dropout(self.dropout_rate, dtype=policy, name="dropout")
        for layer in (self.attention_norm, self.attention, self.mlp_norm, self.mlp_up):
            layer.build(shape)
        self.mlp_down.build((*shape[:-1], self.mlp_width))

    def call(self, x, padding_mask=None, training=None):
        if self.pre_norm:
            x = x + self._attend(self.attention_norm(x), padding_mask, training)
            return x + self._mlp(self.mlp_norm(x), training)
        x = self.attention_norm(x + self._attend(x, padding_mask, training))
        return self.mlp_norm(x + self._mlp(x, training))

    def _attend(self, x, padding_mask, training):
        return self.dropout(self.attention(x, padding_mask=padding_mask, training=training), training=training)

    def _mlp(self, x, training):
        return self.dropout(self.mlp_down(_ACTIVATIONS[self.activation](self.mlp_up(x))), training=training)

    def compute_output_shape(self, shape, *_, **__):
        return shape

    def get_config(self):
        return {
            **super().get_config(),
            "heads": self.heads,
            "mlp_width": self.mlp_width,
            "pre_norm": self.pre_norm,
            "causal": self.causal,
            "activation": self.activation,
            "epsilon": self.epsilon,
            "dropout": self.dropout_rate,
            "qkv_bias": self.qkv_bias,
            "mask_value": self.mask_value,
        }


class BlockNames(NamedTuple):
    """What a publisher calls the layers of a block."""

    attention: tuple[str, ...]  # query, key and value, or the one layer that fuses the three
    output: str
    norms: tuple[str, str]  # of attention and of the MLP
    mlp: tuple[str, ...]  # up and down


def block_rules(block: str, names: BlockNames) -> Iterator[Rule]:
    r"""The rules of the TransformerBlocks block0, block1, ...; `block` is their name for one, such as r"layer.\1"."""
    pieces = (third(0), third(1), third(2)) if len(names.attention) == 1 else (None,) * 3
    projections = names.attention * (3 // len(names.attention))
    for ours, theirs, piece in zip(("query", "key", "value"), projections, pieces, strict=True):
        yield Rule(rf"block(\d+)/attention/{ours}", f"{block}.{theirs}", piece)
    layers_of_block = ("attention/output", "attention_norm", "mlp_norm", "mlp_up", "mlp_down")
    for ours, theirs in zip(layers_of_block, (names.output, *names.norms, *names.mlp), strict=True):
        yield Rule(rf"block(\d+)/{ours}", f"{block}.{theirs}")
