"""The layers of a model that writes token by token: each stands for one that looks at several tokens at once.

They share the weights of the layers that they stand for, and are never saved themselves.
"""

from __future__ import annotations

from typing import Any

from keras import layers, ops

from zoo.layers.image_text import OwnLogits, TextThenImagePositions
from zoo.layers.positions import RelativePositions, SinusoidPositions
from zoo.layers.tokens import LearnedPositions
from zoo.layers.transformer_block import TransformerBlock

EMPTY = -1  # the position of a place in the cache, or in a batch, that holds no token


class Visible(layers.Layer):
    """Who may be attended to, those before and oneself: 0 there and `mask_value` elsewhere, (B, 1, T, S + T)."""

    def __init__(self, mask_value: float, **kwargs: Any):
        super().__init__(**kwargs)
        self.mask_value = mask_value

    def call(self, positions, cache_positions):
        others = ops.concatenate([cache_positions, positions], axis=1)[:, None]
        visible = ops.logical_and(others > EMPTY, others <= positions[:, :, None])
        return (1.0 - ops.cast(visible, "float32"))[:, None] * self.mask_value


class BlockStep(layers.Layer):
    """TransformerBlock.step as a layer, which shares the block's weights.

    `crossed` is its context: to an argument `context` Keras would find a `context_mask` of its own where none is given.
    """

    def __init__(self, block: TransformerBlock, **kwargs: Any):
        super().__init__(dtype=block.dtype_policy, **kwargs)
        self.block = block

    def call(self, x, kept, *, bias, crossed=None, **others):
        context = {} if crossed is None else {"context": crossed}
        return self.block.step(x, *kept, bias=bias, **context, **others)


class KeysAndValues(layers.Layer):
    """What cross-attention needs of a context: (B, S, C) -> two of (B, H, S, W)."""

    def __init__(self, attention: layers.Layer, **kwargs: Any):
        super().__init__(dtype=attention.dtype_policy, **kwargs)
        self.attention = attention

    def call(self, context):
        return self.attention.keys_and_values(context)


class PositionsAt(layers.Layer):
    """The vectors of given positions added to tokens: (B, T, D), (B, T) -> (B, T, D)."""

    def __init__(self, positions: LearnedPositions | SinusoidPositions | TextThenImagePositions, **kwargs: Any):
        super().__init__(dtype=positions.dtype_policy, **kwargs)
        self.layer = positions

    def call(self, x, positions):
        places = ops.maximum(positions, 0)
        if not isinstance(self.layer, LearnedPositions):
            return x + ops.cast(self.layer.vectors(places, x.shape[-1]), x.dtype)
        return x + ops.cast(ops.take(self.layer.table, self.layer.offset + places, axis=0), x.dtype)


class BiasAt(layers.Layer):
    """The bias for the distances of tokens to those of a cache and to themselves: (1, H, T, S + T).

    A distance in a batch whose texts begin at different places is that of the places, as if all began with the first.
    """

    def __init__(self, distances: RelativePositions, **kwargs: Any):
        super().__init__(dtype=distances.dtype_policy, **kwargs)
        self.layer = distances

    def call(self, positions, cache_positions):
        places = ops.max(ops.concatenate([cache_positions, positions], axis=1), axis=0)  # of the text without padding
        return self.layer.bias(places[ops.shape(cache_positions)[1] :], places)


class OwnLogitsAt(layers.Layer):
    """Leaves those logits that can be next at given positions: (B, vocabulary), (B,) -> (B, vocabulary)."""

    def __init__(self, own: OwnLogits, **kwargs: Any):
        super().__init__(dtype=own.dtype_policy, **kwargs)
        self.layer = own

    def call(self, x, positions):
        return self.layer.at(x, positions)


class Logits(layers.Layer):
    """The logits of one token of each text from the table of token vectors: (B, D) -> (B, vocabulary).

    For several texts the table comes first in the product: the other way round it takes up to ten times as long.
    """

    def __init__(self, embedding: layers.ReversibleEmbedding, **kwargs: Any):
        super().__init__(dtype=embedding.dtype_policy, **kwargs)
        self.embedding = embedding

    def call(self, x):
        plain = self.embedding.tie_weights and not self.embedding.logit_soft_cap and not self.quantized
        if x.shape[0] in (None, 1) or not plain:
            return self.embedding(x, reverse=True)
        dtype = self.embedding.reverse_dtype or self.compute_dtype
        table = ops.cast(self.embedding.embeddings, dtype)
        return ops.transpose(ops.matmul(table, ops.transpose(ops.cast(x, dtype))))

    @property
    def quantized(self) -> bool:
        """Whether the table holds whole numbers, which the embedding knows how to read."""
        return self.embedding.dtype_policy.quantization_mode is not None
