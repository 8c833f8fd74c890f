"""Gradient clipping on the gradient of the whole batch, after the replicas' parts are summed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import tensorflow as tf

from pipelines.data import check_choice
from pipelines.optimization import ClipBy, Optimization


@dataclass(frozen=True)
class Clip:
    """A limit for gradients: of the norm of all of them together, of each variable's norm, or of each number.

    Raises:
        ValueError: the limit is not over 0.
    """

    limit: float
    by: ClipBy = "global_norm"

    def __post_init__(self) -> None:
        check_choice("Clip(by)", self.by, ClipBy)
        if not 0 < self.limit < math.inf:
            raise ValueError(f"Clip(limit={self.limit}) must be a number over 0.")

    @classmethod
    def of(cls, optimization: Optimization) -> Clip | None:
        """The limit that is asked for; None where there is none."""
        return None if optimization.clip is None else cls(optimization.clip, optimization.clip_by)

    def apply(self, gradients: Sequence[tf.Tensor], squares: Sequence[tf.Tensor], scale: tf.Tensor) -> list[tf.Tensor]:
        """Gradients `scale` times too large, clipped as if they were not; `squares` are the squared norms then."""
        if self.by == "value":
            top = scale * self.limit
            return [tf.clip_by_value(g, tf.cast(-top, g.dtype), tf.cast(top, g.dtype)) for g in gradients]
        if self.by == "global_norm":
            # tf.add_n adds in whatever order its inputs' memory becomes free: to other last bits on another machine
            squares = [tf.reduce_sum(tf.stack(list(squares)))] * len(gradients)
        factors = [self.limit / tf.maximum(tf.sqrt(square), self.limit) for square in squares]
        return [g * tf.cast(factor, g.dtype) for g, factor in zip(gradients, factors, strict=True)]
