"""What text models take and give: token ids with their masks, and logits over the vocabulary."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers


def text_inputs(*, segments: bool = False, prefix: str = "") -> dict[str, keras.KerasTensor]:
    """The inputs of a text model by name, all (B, T) int32.

    `token_ids`; `padding_mask`, 1 = token and 0 = padding; with `segments` also `segment_ids`, the number of the text
    that a token belongs to, 0 or 1. `prefix` stands before each name: "decoder_" in encoder-decoder models.
    """
    names = ("token_ids", "padding_mask", *(["segment_ids"] if segments else []))
    return {prefix + name: keras.Input((None,), dtype="int32", name=prefix + name) for name in names}


@keras.saving.register_keras_serializable("zoo")
class Bias(layers.Layer):
    """Adds a learned number to every channel: (..., C) -> (..., C)."""

    def build(self, shape: tuple[int | None, ...]) -> None:
        self.bias = self.add_weight(name="bias", shape=(shape[-1],), initializer="zeros")

    def call(self, x: keras.KerasTensor) -> keras.KerasTensor:
        return x + self.bias

    def compute_output_shape(self, shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return shape


def token_embedding(vocabulary: int, width: int, *, name: str = "stem_tokens") -> layers.ReversibleEmbedding:
    """The table of token vectors. Called with reverse=True it gives logits over the vocabulary from the same table.

    (B, T) -> (B, T, D), in reverse (B, T, D) -> (B, T, vocabulary) float32.
    """
    options: dict[str, Any] = {"embeddings_initializer": keras.initializers.TruncatedNormal(stddev=0.02)}
    return layers.ReversibleEmbedding(vocabulary, width, reverse_dtype="float32", name=name, **options)
