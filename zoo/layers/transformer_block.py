"""The transformer block: self-attention, then two dense layers, each with a residual around it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import keras
from keras import layers

from zoo.layers.attention import Attention
from zoo.layers.regularization import StochasticDepth
from zoo.weights.dialect import Rule, third
from zoo.weights.hub_text import HUB_ACTIVATIONS as HUB_ACTIVATIONS
from zoo.weights.hub_text import Activation as Activation


@keras.saving.register_keras_serializable("zoo")
def gelu_tanh(x):
    """GELU as the first GPT computed it, by a tanh."""
    return keras.activations.gelu(x, approximate=True)


@keras.saving.register_keras_serializable("zoo")
def quick_gelu(x):
    """GELU as OpenAI's CLIP computes it, by a sigmoid."""
    return x * keras.ops.sigmoid(1.702 * x)


@keras.saving.register_keras_serializable("zoo")
def gelu(x):
    """GELU by the error function; Keras' own name for it stands for either, by an argument."""
    return keras.activations.gelu(x, approximate=False)


ACTIVATIONS = {
    "gelu": gelu,
    "gelu_tanh": gelu_tanh,
    "quick_gelu": quick_gelu,
    "relu": keras.activations.relu,
    "silu": keras.activations.silu,
}
_NORMS = {"layer": layers.LayerNormalization, "rms": layers.RMSNormalization}


@keras.saving.register_keras_serializable("zoo")
class TransformerBlock(layers.Layer):
    """Attention, then `mlp_up`, activation and `mlp_down`: (B, T, D) -> (B, T, D).

    `pre_norm` normalizes what enters attention and MLP (ViT, GPT), else the sums that leave them
    (BERT). With `cross`, attention to a context (B, S, C) comes between the two. `gated` multiplies the
    activation with another projection, `mlp_gate` (T5 1.1). `norm` is "layer" or "rms"; `bias` is that of
    all dense layers, `qkv_bias` that of query, key and value where it differs. `mlp_dropout` is that of what
    `mlp_down` takes, `stochastic_depth` the share of examples that skip attention, and of those that skip the
    MLP, in training. `padding_mask` is (B, T) and `context_mask` (B, S), 1 = token. The other options are those
    of Attention.
    """

    def __init__(
        self,
        heads,
        mlp_width,
        *,
        pre_norm=True,
        causal=False,
        cross=False,
        gated=False,
        norm="layer",
        activation="gelu",
        epsilon=1e-6,
        dropout=0.0,
        mlp_dropout=0.0,
        bias=True,
        qkv_bias=None,
        head_width=None,
        scaled=True,
        mask_value=-1e9,
        stochastic_depth=0.0,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        if activation not in ACTIVATIONS:
            raise ValueError(f"activation={activation!r} is unknown here. Known: {', '.join(ACTIVATIONS)}.")
        if norm not in _NORMS:
            raise ValueError(f"norm={norm!r} is unknown here. Known: {', '.join(_NORMS)}.")
        self.heads, self.mlp_width, self.pre_norm, self.causal = heads, mlp_width, pre_norm, causal
        self.cross, self.gated, self.norm = cross, gated, norm
        self.activation, self.epsilon, self.dropout_rate = activation, epsilon, dropout
        self.mlp_dropout_rate, self.bias, self.qkv_bias = mlp_dropout, bias, qkv_bias
        self.head_width, self.scaled, self.mask_value = head_width, scaled, mask_value
        self.stochastic_depth = stochastic_depth

    def build(self, x_shape, context_shape=None):
        self.attention_norm = self._norm("attention_norm", x_shape)
        self.attention = self._attention("attention", causal=self.causal)
        self.attention.build(x_shape)
        if self.cross:
            self.cross_attention_norm = self._norm("cross_attention_norm", x_shape)
            self.cross_attention = self._attention("cross_attention", causal=False)
            self.cross_attention.build(x_shape, context_shape)
        self.mlp_norm = self._norm("mlp_norm", x_shape)
        if self.gated:
            self.mlp_gate = self._dense("mlp_gate", self.mlp_width, x_shape)
        self.mlp_up = self._dense("mlp_up", self.mlp_width, x_shape)
        self.mlp_down = self._dense("mlp_down", x_shape[-1], (*x_shape[:-1], self.mlp_width))
        self.dropout = layers.Dropout(self.dropout_rate, dtype=self.dtype_policy, name="dropout")
        self.mlp_dropout = layers.Dropout(self.mlp_dropout_rate, dtype=self.dtype_policy, name="mlp_dropout")
        if self.stochastic_depth:
            self.skipped = StochasticDepth(self.stochastic_depth, dtype=self.dtype_policy, name="skipped")
            self.skipped.build(x_shape)

    def _norm(self, name, shape):
        norm = _NORMS[self.norm](epsilon=self.epsilon, dtype=self.dtype_policy, name=name)
        norm.build(shape)
        return norm

    def _dense(self, name, width, shape):
        dense = layers.Dense(width, use_bias=self.bias, dtype=self.dtype_policy, name=name)
        dense.build(shape)
        return dense

    def _attention(self, name, *, causal):
        return Attention(
            self.heads,
            head_width=self.head_width,
            causal=causal,
            bias=self.bias if self.qkv_bias is None else self.qkv_bias,
            output_bias=self.bias,
            scaled=self.scaled,
            dropout=self.dropout_rate,
            mask_value=self.mask_value,
            dtype=self.dtype_policy,
            name=name,
        )

    def call(self, x, context=None, *, padding_mask=None, context_mask=None, position_bias=None, training=None):
        def attend(x):
            return self.attention(x, padding_mask=padding_mask, position_bias=position_bias, training=training)

        def attend_to_context(x):
            return self.cross_attention(x, context, padding_mask=context_mask, training=training)

        def transform(x):
            return self.mlp(x, training=training)

        x = self._residual(x, attend, self.attention_norm, training)
        if self.cross:
            x = self._residual(x, attend_to_context, self.cross_attention_norm, training)
        return self._residual(x, transform, self.mlp_norm, training)

    def mlp(self, x, *, training=None):
        """The two dense layers, with the activation or the gate between them."""
        activated = ACTIVATIONS[self.activation](self.mlp_up(x))
        gated = activated * self.mlp_gate(x) if self.gated else activated
        return self.mlp_down(self.mlp_dropout(gated, training=training))

    def attention_shares(self, x, context=None, *, padding_mask=None, context_mask=None, position_bias=None):
        """Who attends to whom in `call`, without dropout: {"self": (B, H, T, T)}, if any also "cross": (B, H, T, S)."""
        shares = {}

        def attend(name, attention, x, context, **added):
            key, value = attention.keys_and_values(context)
            shares[name] = attention.shares(x, key, **added)
            return attention.mix(keras.ops.cast(shares[name], value.dtype), value)

        def attend_to_itself(x):
            return attend("self", self.attention, x, x, padding_mask=padding_mask, position_bias=position_bias)

        def attend_to_context(x):
            return attend("cross", self.cross_attention, x, context, padding_mask=context_mask)

        x = keras.ops.cast(x, self.compute_dtype)
        x = self._residual(x, attend_to_itself, self.attention_norm, False)
        if self.cross:
            self._residual(x, attend_to_context, self.cross_attention_norm, False)
        return shares

    @property
    def kept(self) -> dict[str, tuple[int, int]]:
        """What `step` takes of the tokens before, in this order, each (B, heads, S, width): {name: (heads, width)}."""
        width = self.attention.value.units // self.heads
        return {"key": (self.heads, width), "value": (self.heads, width)}

    def step(self, x, key, value, *, bias, context=None, context_mask=None):
        """`call` without dropout for tokens that follow those of a cache; see Attention.step for all but the context.

        `context` is the keys and values of the cross-attention, which do not change from step to step. Returns the
        tokens and their keys and values.
        """
        new = []

        def attend(x):
            attended, *found = self.attention.step(x, key, value, bias=bias)
            new.extend(found)
            return attended

        def attend_to_context(x):
            keys, values = context
            shares = self.cross_attention.shares(x, keys, padding_mask=context_mask)
            return self.cross_attention.mix(keras.ops.cast(shares, values.dtype), values)

        x = self._residual(x, attend, self.attention_norm, False)
        if self.cross:
            x = self._residual(x, attend_to_context, self.cross_attention_norm, False)
        return self._residual(x, self.mlp, self.mlp_norm, False), *new

    def _residual(self, x, function, norm, training):
        branch = self.dropout(function(norm(x) if self.pre_norm else x), training=training)
        x = x + (self.skipped(branch, training=training) if self.stochastic_depth else branch)
        return x if self.pre_norm else norm(x)

    def compute_output_shape(self, shape, *_, **__):
        return shape

    def get_config(self):
        return {
            **super().get_config(),
            "heads": self.heads,
            "mlp_width": self.mlp_width,
            "pre_norm": self.pre_norm,
            "causal": self.causal,
            "cross": self.cross,
            "gated": self.gated,
            "norm": self.norm,
            "activation": self.activation,
            "epsilon": self.epsilon,
            "dropout": self.dropout_rate,
            "mlp_dropout": self.mlp_dropout_rate,
            "bias": self.bias,
            "qkv_bias": self.qkv_bias,
            "head_width": self.head_width,
            "scaled": self.scaled,
            "mask_value": self.mask_value,
            "stochastic_depth": self.stochastic_depth,
        }


class BlockNames(NamedTuple):
    """What a publisher calls the layers of a block."""

    attention: tuple[str, ...]  # query, key and value, or the one layer that fuses the three
    output: str
    norms: tuple[str, str]  # of attention and of the MLP
    mlp: tuple[str, ...]  # up and down, and the gate where there is one
    cross_attention: tuple[str, ...] = ()  # as `attention`, then its output and its norm; nothing without a context


def block_rules(block: str, names: BlockNames, *, tower: str = "") -> Iterator[Rule]:
    r"""The rules of the TransformerBlocks block0, block1, ...; `block` is their name for one, such as r"layer.\1".

    `tower` stands before our names: "encoder." for encoder.block0, encoder.block1, ...
    """
    ours = rf"{re.escape(tower)}block(\d+)"
    yield from _attention_rules(f"{ours}/attention", block, (*names.attention, names.output, names.norms[0]))
    if names.cross_attention:
        yield from _attention_rules(f"{ours}/cross_attention", block, names.cross_attention)
    layers_of_mlp = ("mlp_norm", "mlp_up", "mlp_down", "mlp_gate")
    for layer, theirs in zip(layers_of_mlp, (names.norms[1], *names.mlp), strict=False):
        yield Rule(f"{ours}/{layer}", f"{block}.{theirs}")


def _attention_rules(ours: str, block: str, names: tuple[str, ...]) -> Iterator[Rule]:
    *projections, output, norm = names
    pieces = (third(0), third(1), third(2)) if len(projections) == 1 else (None,) * 3
    theirs = projections * (3 // len(projections))
    for layer, module, piece in zip(("query", "key", "value"), theirs, pieces, strict=True):
        yield Rule(f"{ours}/{layer}", f"{block}.{module}", piece)
    yield Rule(f"{ours}/output", f"{block}.{output}")
    yield Rule(f"{ours}_norm", f"{block}.{norm}")
