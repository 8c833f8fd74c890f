"""Spaces in keras-tuner's words, and values from there.

keras-tuner's choices are of one kind of value, its Float with a step misses points (0.1, 0.2 and no 0.3 up to 0.3),
and its values reach one over the range. So all that has points is a choice of codes there: numbers in order, or texts.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import keras_tuner
from keras_tuner.engine import hyperparameters as kinds
from keras_tuner.engine.hyperparameters import HyperParameter
from keras_tuner.src.engine.conditions import Parent

from pipelines.run import Run
from tuning.ranges import Choice, Int, Single, frozen, same
from tuning.space import OF_HYPERBAND, Asked, Space, holds


def declare(found: keras_tuner.HyperParameters, space: Space, base: Run | None = None) -> None:
    """Tell keras-tuner of all ranges of a space; those that it knows stay."""
    asked = space.asked()
    ranges = {each.key: each.range for each in asked}
    for each in asked:
        # Not by conditional_scope, in which one range can hang on another one, but not on two.
        needed = [
            Parent(parent, [encode(ranges[parent], value) for value in values])
            for parent, values in each.needed.items()
        ]
        found.merge([_hyperparameter(each, space.usual(each, base), needed)], overwrite=False)


def encode(given: Single, value: Any) -> Any:
    """A value of a range as keras-tuner has it: a number or a text.

    Raises:
        ValueError: it is not in the range.
    """
    if value not in given:
        raise ValueError(f"{value!r} is not in {given}.")
    if given.points is None:
        return value
    return next(code for code, point in _codes(given) if _matches(point, frozen(value)))


def decoded(space: Space, codes: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a trial by their names, from keras-tuner's; what Hyperband adds stays as it is."""
    by_key: dict[str, Any] = {}
    found = {}
    for each in space.asked():
        if each.key in codes and holds(each.needed, by_key):
            by_key[each.key] = found[each.name] = _decode(each.range, codes[each.key])
    return found | {name: value for name, value in codes.items() if name.startswith(OF_HYPERBAND)}


def encoded(space: Space, values: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a trial as keras-tuner has them.

    Raises:
        ValueError: they are no point of the space: one is missing, too much or out of its range.
    """
    by_key: dict[str, Any] = {}
    found = {name: value for name, value in values.items() if name.startswith(OF_HYPERBAND)}
    left = {name: frozen(value) for name, value in values.items() if name not in found}
    for each in space.asked():
        if holds(each.needed, by_key):
            if each.name not in left:
                raise ValueError(f"{each.name!r} has no value in {dict(values)}.")
            by_key[each.key] = left.pop(each.name)
            found[each.key] = encode(each.range, by_key[each.key])
    if left:
        raise ValueError(f"{next(iter(left))!r} is not asked with the other values of {dict(values)}.")
    return found


def bounded(space: Space, codes: Mapping[str, Any]) -> dict[str, Any]:
    """Codes of which none is over its range, as keras-tuner's can be by one or by a rounding error; plain numbers."""
    ranges = {each.key: each.range for each in space.asked()}
    return {
        key: _bounded(ranges[key], code) if key in ranges and ranges[key].points is None else code
        for key, code in codes.items()
    }


def _decode(given: Single, code: Any) -> Any:
    if given.points is None:
        return _bounded(given, code)
    return next(point for known, point in _codes(given) if known == code)


def _bounded(given: Single, code: Any) -> Any:
    if isinstance(given, Choice):
        return code
    inside = min(max(code, given.low), given.high)
    return int(inside) if isinstance(given, Int) else float(inside)


def _hyperparameter(asked: Asked, default: Any, needed: list[Parent]) -> HyperParameter:
    given, name = asked.range, asked.key
    if given.points is None:
        kind = kinds.Int if isinstance(given, Int) else kinds.Float
        return kind(
            name, given.low, given.high, step=given.step, sampling=given.sampling, default=default, conditions=needed
        )
    codes = [code for code, _ in _codes(given)]
    if len(codes) == 1:
        return kinds.Fixed(name, codes[0], conditions=needed)
    return kinds.Choice(name, codes, default=encode(given, default), conditions=needed)


def _codes(given: Single) -> list[tuple[Any, Any]]:
    """Each point of a range behind what stands for it."""
    points = given.points or ()
    kinds = {type(point) for point in points}
    if kinds <= {int, float}:
        return [(float(point) if float in kinds else point, point) for point in sorted(points)]
    if kinds == {str}:
        return [(point, point) for point in points]
    return [(json.dumps(point), point) for point in points]


def _matches(point: Any, value: Any) -> bool:
    if isinstance(point, float) and isinstance(value, float | int) and not isinstance(value, bool):
        return abs(point - value) <= max(1e-12, 1e-9 * abs(point))
    return same(point, value)
