"""Which layer groups of a student and its teacher are compared, and how: maps, tokens and vectors with each other."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import keras
import tensorflow as tf

import zoo
from pipelines.distillation import Pairs
from pipelines.objectives import distilling
from zoo.core.naming import nearest

_TAPPED = re.compile(r"(?:[a-z]+\.)?(?:stage|block)\d+")
_MOST_PAIRS = 4

Grid = tuple[int, int] | None  # rows and columns of the places that a sequence of an image's tokens stands for


class Pair(NamedTuple):
    """Two layer groups whose outputs are compared."""

    student: str
    teacher: str
    student_grid: Grid
    teacher_grid: Grid


def choose(student: keras.Model, teacher: keras.Model, features: bool | Pairs) -> tuple[Pair, ...]:
    """The groups to compare, as given, or at like depths.

    Raises:
        ValueError: a model has no such group, or none at all.
    """
    if not features:
        return ()
    ours, theirs = taps(student), taps(teacher)
    for model, known in ((student, ours), (teacher, theirs)):
        if not known:
            raise ValueError(f"{model.name!r} has no stages or blocks whose features could be compared.")
    chosen = _at_like_depths(ours, theirs) if features is True else features
    for pair in chosen:
        for name, model, known in zip(pair, (student, teacher), (ours, theirs), strict=True):
            if name not in known:
                near = nearest(name, known)
                raise ValueError(f"{model.name!r} has no features {name!r}.{near} Known: {', '.join(known)}.")
        if set(map(_tower, ours)) == set(map(_tower, theirs)) and _tower(pair[0]) != _tower(pair[1]):
            raise ValueError(
                f"The features {pair[0]!r} and {pair[1]!r} are of different texts; compare like with like."
            )
    grids = _grid(student), _grid(teacher)
    return tuple(Pair(*pair, *grids) for pair in chosen)


def _at_like_depths(student: Iterable[str], teacher: Iterable[str]) -> Pairs:
    """Up to four pairs, or four of each tower where both models have the same; the last of both are one of them."""
    ours, theirs = list(student), list(teacher)
    towers = list(dict.fromkeys(map(_tower, ours)))
    if len(towers) > 1 and set(towers) == set(map(_tower, theirs)):
        each = [[[name for name in names if _tower(name) == tower] for names in (ours, theirs)] for tower in towers]
        return tuple(pair for names in each for pair in _at_like_depths(*names))
    count = min(len(ours), len(theirs), _MOST_PAIRS)
    ends = [[names[math.ceil(i * len(names) / count) - 1] for i in range(1, count + 1)] for names in (ours, theirs)]
    return tuple(zip(*ends, strict=True))


def _tower(group: str) -> str:
    return group.rpartition(".")[0]


def taps(model: keras.Model) -> dict[str, keras.KerasTensor]:
    """The output at the end of each stage and block, from input to output."""
    ends = {name: group[-1].output for name, group in zoo.layer_groups(model).items() if _TAPPED.fullmatch(name)}
    return {name: end for name, end in ends.items() if hasattr(end, "shape") and 2 <= len(end.shape) <= 4}


def _grid(model: keras.Model) -> Grid:
    """The places of the last feature map of the stem, which are those of an image's tokens; None without a map."""
    stem = [layer.output for layer in zoo.layer_groups(model).get("stem", ())]
    maps = [tensor.shape for tensor in stem if hasattr(tensor, "shape") and len(tensor.shape) == 4]
    return tuple(maps[-1][1:3]) if maps else None  # type: ignore[return-value]  # two sides


def distance(pair: Pair, teacher: tf.Tensor, student: tf.Tensor, inputs: Any, weights: tf.Tensor | None) -> tf.Tensor:
    """The distance of a pair's features in a batch: the mean over examples of that over places, or over tokens.

    Of maps (B, h, w, C), tokens (B, T, C) or vectors (B, C), the student's projected to the teacher's channels. Of a
    map and a smaller one the first is resized; what has places is averaged over them for what has none. Weights of
    tokens (B, T) are those of the places, unless they are of another text.
    """
    teacher, student = _as_map(teacher, pair.teacher_grid), _as_map(student, pair.student_grid)
    mask = _mask(pair, inputs) if len(student.shape) == 3 or len(teacher.shape) == 3 else None
    if len(teacher.shape) == len(student.shape) == 4 and teacher.shape[1:3] != student.shape[1:3]:
        teacher = tf.image.resize(tf.cast(teacher, tf.float32), student.shape[1:3], antialias=True)
    if len(teacher.shape) != len(student.shape):
        teacher, student = _pooled(teacher, mask), _pooled(student, mask)
    values = distilling.feature_distance(teacher, student)  # (B, places...)
    of_tokens = weights is not None and len(weights.shape) == 2
    if not (of_tokens and len(values.shape) == 2 and _tower(pair.student) != "encoder"):
        values = _pooled(values[..., tf.newaxis], mask)[..., 0]
        weights = tf.reduce_sum(tf.cast(weights, tf.float32), axis=1) if of_tokens else weights
    return distilling.Given()(values, values, weights)


def _mask(pair: Pair, inputs: Any) -> tf.Tensor | None:
    """Where there are tokens, in the text that the features are of: (B, T)."""
    if not isinstance(inputs, Mapping):
        return None
    return inputs.get("decoder_padding_mask" if _tower(pair.student) == "decoder" else "padding_mask")


def _as_map(features: tf.Tensor, grid: Grid) -> tf.Tensor:
    """The tokens of an image as a map (B, h, w, C), without those that stand for no place; others as they are."""
    if len(features.shape) != 3 or grid is None or (features.shape[1] or 0) < math.prod(grid):
        return features
    first = features.shape[1] - math.prod(grid)
    return tf.reshape(features[:, first:], (-1, *grid, features.shape[-1]))


def _pooled(features: tf.Tensor, mask: tf.Tensor | None) -> tf.Tensor:
    """The mean over places, (B, ..., C) -> (B, C); of a sequence over those that a mask (B, T) does not leave out."""
    if len(features.shape) == 3 and mask is not None:
        counts = tf.cast(mask, features.dtype)[..., tf.newaxis]
        return tf.math.divide_no_nan(tf.reduce_sum(features * counts, axis=1), tf.reduce_sum(counts, axis=1))
    places = list(range(1, len(features.shape) - 1))
    return tf.reduce_mean(features, axis=places) if places else features
