"""A range as an axis from 0 to 1: where a value lies on it, what is written beside it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tuning.ranges import Choice, Float, Int, Single, singles
from tuning.space import OF_HYPERBAND, Space

_WIDE = 100  # between the smallest number and the largest: from here on an axis of unknown range is logarithmic
_TICKS = 12  # at most, of choices


@dataclass(frozen=True)
class Case:
    """One of the ranges of a name: what may be drawn, and when it is asked; empty where it always is."""

    range: str
    condition: str


@dataclass(frozen=True)
class Axis:
    """One of the things that a search tries.

    `options` are those of a choice, in their order; None where it is a number from `low` to `high`.
    """

    name: str
    options: tuple[Any, ...] | None = None
    low: float = 0.0
    high: float = 1.0
    logarithmic: bool = False
    whole: bool = False
    cases: tuple[Case, ...] = ()

    @classmethod
    def of(cls, name: str, ranges: Sequence[Single], values: Sequence[Any], *, cases: Sequence[Case] = ()) -> Axis:
        """The axis of the ranges of a name, with the values of the trials on it too; without ranges, of them alone."""
        numbers = [each for each in ranges if isinstance(each, Int | Float)]
        seen = [value for value in values if _is_number(value)]
        is_number = len(numbers) == len(ranges) if ranges else len(set(seen)) > 2
        if is_number and len(seen) == len(values):
            ends = [*(end for each in numbers for end in (each.low, each.high)), *seen]
            low, high = min(ends), max(ends)
            wide = any(each.sampling == "log" for each in numbers) if numbers else high > _WIDE * low
            whole = all(isinstance(each, int) for each in ends)
            return cls(name, None, low, high, low > 0 and wide, whole, tuple(cases))
        given = [value for each in ranges for value in each.points or (each.low, each.high)]  # type: ignore[union-attr]
        known = dict.fromkeys(map(plain, (*given, *values)))
        in_order = sorted(known) if all(map(_is_number, known)) else list(known)
        return cls(name, tuple(in_order), cases=tuple(cases))

    @property
    def conditional(self) -> bool:
        """Whether there are trials without it."""
        return bool(self.cases) and all(case.condition for case in self.cases)

    @property
    def varies(self) -> bool:
        """Whether there is more than one value."""
        return self.low < self.high if self.options is None else len(self.options) > 1

    def place(self, value: Any) -> float:
        """Where a value lies between 0 and 1."""
        if self.options is not None:
            return self.options.index(plain(value)) / max(1, len(self.options) - 1)
        low, high, at = (math.log(each) if self.logarithmic else each for each in (self.low, self.high, value))
        return (at - low) / (high - low) if high > low else 0.5

    def ticks(self) -> list[tuple[float, str]]:
        """Places and what is written there."""
        if self.options is not None:
            every = max(1, math.ceil(len(self.options) / _TICKS))
            return [(self.place(each), text(each)) for each in self.options[::every]]
        if self.logarithmic:
            powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            inner = [10.0**power for power in powers]
            ends = [self.low, *(each for each in inner if self.low * 1.5 < each < self.high / 1.5), self.high]
        else:
            ends = list(np.linspace(self.low, self.high, 5))
        shown = dict.fromkeys(round(each) if self.whole else each for each in ends)
        return [(self.place(each), text(each)) for each in shown]


def axes(space: Space, trials: Iterable[Mapping[str, Any]]) -> list[Axis]:
    """An axis for each name of a space, and for each other one among the values of its trials, in this order."""
    values: dict[str, list[Any]] = {name: [] for name in space.ranges}
    for each in trials:
        for name, value in each.items():
            if not name.startswith(OF_HYPERBAND):
                values.setdefault(name, []).append(value)
    cases: dict[str, list[Case]] = {}
    for name, given, when in _asked(space):
        cases.setdefault(name, []).append(Case(_range(given), _condition(when)))
    ranges = {name: singles(given) for name, given in space.ranges.items()}
    return [Axis.of(name, ranges.get(name, ()), found, cases=cases.get(name, ())) for name, found in values.items()]


def _asked(space: Space) -> Iterator[tuple[str, Single, Mapping[str, Any]]]:
    """All ranges and when they are asked; by what they say alone, where a model of the space is no longer there."""
    try:
        yield from ((asked.name, asked.range, asked.needed) for asked in space.asked())
    except ValueError:
        yield from ((name, each, each.when) for name, given in space.ranges.items() for each in singles(given))


def _range(given: Single) -> str:
    if isinstance(given, Choice):
        return ", ".join(map(text, given.values))
    step = f", {'times' if given.sampling == 'log' else 'in steps of'} {text(given.step)}" if given.step else ""
    return f"{text(given.low)} to {text(given.high)}{', logarithmic' if given.sampling == 'log' else ''}{step}"


def _condition(when: Mapping[str, Sequence[Any]]) -> str:
    """What a range hangs on, in words; of a name with several cases a key says which one, which the values tell too."""
    found = {key.partition("#")[0]: values for key, values in when.items() if values}
    return " and ".join(f"{name} is {' or '.join(map(text, values))}" for name, values in found.items())


def short_names(names: Sequence[str]) -> dict[str, str]:
    """Each name without what stands before its last point, where none of the others is then called the same."""
    last = [name.rpartition(".")[2] for name in names]
    return {name: end if last.count(end) == 1 else name for name, end in zip(names, last, strict=True)}


def plain(value: Any) -> Any:
    """A value that can be compared and looked up: lists, as JSON has them, are tuples, and mappings are too."""
    if isinstance(value, Mapping):
        return tuple((key, plain(each)) for key, each in value.items())
    return tuple(map(plain, value)) if isinstance(value, list | tuple) else value


def text(value: Any) -> str:
    """A value as a person writes it."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.3g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{name}: {text(each)}" for name, each in value.items())
    return ", ".join(map(text, value)) if isinstance(value, list | tuple) else str(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
