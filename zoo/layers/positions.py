"""Positions that need no table of a fixed length: sinusoids added to tokens, and a bias for the distance of two."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import layers, ops

_PERIOD = 10_000  # of the slowest sinusoid, in units of 2 pi tokens


@keras.saving.register_keras_serializable("zoo")
class SinusoidPositions(layers.Layer):
    """Adds sines and cosines of the position, in turn and ever slower: (B, T, D) -> (B, T, D), any T.

    With the padding mask (B, T), 1 = token, the first token is at 0 also where padding stands before it.
    """

    def call(self, x: keras.KerasTensor, padding_mask: keras.KerasTensor | None = None) -> keras.KerasTensor:
        places = ops.arange(ops.shape(x)[1], dtype="int32")
        added = self.vectors(places, x.shape[-1])[None]  # (1, T, D)
        if padding_mask is not None:
            first = ops.argmax(ops.cast(padding_mask, "int32"), axis=1)[:, None]
            added = ops.take(added[0], ops.maximum(places[None] - ops.cast(first, "int32"), 0), axis=0)
        return x + ops.cast(added, x.dtype)

    def vectors(self, places: keras.KerasTensor, width: int) -> keras.KerasTensor:
        """What is added at each place: (...) whole numbers -> (..., width) float32."""
        speeds = (_PERIOD ** (-np.arange(0, width, 2) / width)).astype("float32")
        angles = ops.cast(places, "float32")[..., None] * speeds
        pairs = ops.stack([ops.sin(angles), ops.cos(angles)], axis=-1)  # (..., D / 2, 2)
        return ops.reshape(pairs, (*ops.shape(places), 2 * len(speeds)))[..., :width]

    def compute_output_shape(self, shape: tuple[int | None, ...], *_: Any) -> tuple[int | None, ...]:
        return shape


@keras.saving.register_keras_serializable("zoo")
class RelativePositions(layers.Layer):
    """A learned bias for each head and each distance of two tokens: (B, T, D) -> (1, heads, T, T), for attention.

    Near distances have a bucket each, farther ones share buckets ever wider, and all from `distance` tokens on are in
    one. `bidirectional` halves the `buckets` between tokens before and after; else those after count as distance 0.
    """

    def __init__(
        self, heads: int, *, buckets: int = 32, distance: int = 128, bidirectional: bool = True, **kwargs: Any
    ):
        super().__init__(**kwargs)
        self.heads, self.buckets, self.distance, self.bidirectional = heads, buckets, distance, bidirectional
        self.side = buckets // 2 if bidirectional else buckets  # buckets for one direction
        if self.side < 2 or distance <= self.side // 2:
            raise ValueError(
                f"{buckets} buckets for a distance of {distance} tokens: at least {4 if bidirectional else 2} are "
                f"needed, and a distance over {self.side // 2}, half of the buckets of one direction."
            )

    def build(self, shape: tuple[int | None, ...]) -> None:
        self.table = self.add_weight(
            name="table",
            shape=(self.buckets, self.heads),
            initializer=keras.initializers.TruncatedNormal(stddev=0.02),
        )

    def call(self, x: keras.KerasTensor) -> keras.KerasTensor:
        places = ops.arange(ops.shape(x)[1], dtype="int32")
        return self.bias(places, places)

    def bias(self, queries: keras.KerasTensor, keys: keras.KerasTensor) -> keras.KerasTensor:
        """What to add to the scores, from the places of queries (T,) and keys (S,): (1, heads, T, S)."""
        ahead = keys[None, :] - queries[:, None]
        away = ops.minimum(ops.abs(ahead if self.bidirectional else ops.minimum(ahead, 0)), self.distance)
        bucket = ops.take(self.bucket_of_distance(), away)
        if self.bidirectional:
            bucket = bucket + self.side * ops.cast(ahead > 0, "int32")
        return ops.transpose(ops.take(self.table, bucket, axis=0), (2, 0, 1))[None]  # from (T, S, heads)

    def bucket_of_distance(self) -> np.ndarray:
        """The bucket of each distance in one direction: (distance + 1,) int32.

        In float32, as the publishers compute it: elsewhere a distance on the edge of two buckets can be in the other.
        """
        exact = self.side // 2
        far = np.arange(exact, self.distance + 1, dtype="float32")
        growth = np.log(far / np.float32(exact)) / np.float32(np.log(self.distance / exact)) * (self.side - exact)
        shared = np.minimum(exact + growth.astype("int32"), self.side - 1)
        return np.concatenate([np.arange(exact), shared]).astype("int32")

    def compute_output_shape(self, shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return 1, self.heads, shape[1], shape[1]

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "heads": self.heads,
            "buckets": self.buckets,
            "distance": self.distance,
            "bidirectional": self.bidirectional,
        }
