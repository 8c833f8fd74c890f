"""Ranges that a search takes values from: a choice, whole numbers, numbers; and when each is asked at all."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Literal

from pipelines.data import check_choice

Sampling = Literal["linear", "log"]
When = Mapping[str, Any]  # a tuple of values for each name, once it is in a range

_MOST_POINTS = 10_000  # of a range with steps


@dataclass(frozen=True, init=False)
class Choice:
    """One of some values, of any kind that JSON has: Choice(16, 32), Choice((32, 64), (64, 128)), Choice("adam", None).

    `when` and `default` of all ranges: it is asked only where each range that `when` names has one of the values there
    (and is asked itself); the first trial has the default, which is what the run of all trials has, if the range holds
    it, and else the first of a choice and the middle of numbers.
    """

    values: tuple[Any, ...]
    when: When
    default: Any

    def __init__(self, *given: Any, values: Any = (), when: Mapping[str, Any] | None = None, default: Any = None):
        if given and values:
            raise ValueError(f"Choice{given} and values={values!r} both say what to choose from; give one of them.")
        object.__setattr__(self, "values", frozen(given or tuple(values)))
        object.__setattr__(self, "when", conditions(when))
        object.__setattr__(self, "default", frozen(default))
        if not self.values:
            raise ValueError("Choice() has nothing to choose from; give values, such as Choice(16, 32).")
        for number, value in enumerate(self.values):
            _check_plain(value)
            if any(same(value, other) for other in self.values[:number]):
                raise ValueError(f"Choice{self.values} holds {value!r} twice.")
        _check_default(self)

    def __contains__(self, value: Any) -> bool:
        return any(same(frozen(value), each) for each in self.values)

    @property
    def points(self) -> tuple[Any, ...]:
        """The values, all of them."""
        return self.values

    def at(self, share: float) -> Any:
        """The value at a place between 0, the first, and 1, the last."""
        return self.values[min(int(share * len(self.values)), len(self.values) - 1)]


@dataclass(frozen=True)
class Int:
    """A whole number from `low` to `high`, both included; `step` apart, or, with sampling="log", `step` times."""

    low: int
    high: int
    step: int | None = None
    sampling: Sampling = "linear"
    when: When = field(default_factory=dict)
    default: int | None = None

    def __post_init__(self) -> None:
        for name in ("low", "high", "default", "step"):
            value = getattr(self, name)
            if type(value) is not int and not (value is None and name in ("default", "step")):
                raise ValueError(f"Int({name}={value!r}) must be a whole number; for others, take Float.")
        _check_numbers(self)

    def __contains__(self, value: Any) -> bool:
        if type(value) is not int or not self.low <= value <= self.high:
            return False
        return value in self.points if self.points is not None else (value - self.low) % (self.step or 1) == 0

    @property
    def points(self) -> tuple[int, ...] | None:
        """The values, if they are `step` times apart; else they are too many to list, or evenly apart."""
        return _powers(self, int) if self.sampling == "log" and self.step else None

    def at(self, share: float) -> int:
        """The value at a place between 0, `low`, and 1, `high`."""
        if self.points is not None:
            return self.points[min(int(share * len(self.points)), len(self.points) - 1)]
        if self.sampling == "log":
            return min(int(self.low * ((self.high + 1) / self.low) ** share), self.high)
        step = self.step or 1
        count = (self.high - self.low) // step + 1
        return self.low + step * min(int(share * count), count - 1)


@dataclass(frozen=True)
class Float:
    """A number from `low` to `high`; any, or those `step` apart, or, with sampling="log", `step` times."""

    low: float
    high: float
    step: float | None = None
    sampling: Sampling = "linear"
    when: When = field(default_factory=dict)
    default: float | None = None

    def __post_init__(self) -> None:
        for name in ("low", "high", "default", "step"):
            value = getattr(self, name)
            if value is None and name in ("default", "step"):
                continue
            if type(value) not in (int, float) or not math.isfinite(value):
                raise ValueError(f"Float({name}={value!r}) must be a finite number.")
            object.__setattr__(self, name, float(value))
        _check_numbers(self)

    def __contains__(self, value: Any) -> bool:
        if type(value) not in (int, float):
            return False
        if self.points is None:
            return self.low <= value <= self.high
        return any(math.isclose(value, point, rel_tol=1e-9, abs_tol=1e-12) for point in self.points)

    @property
    def points(self) -> tuple[float, ...] | None:
        """The values, if there is a step between them."""
        if self.step is None:
            return None
        if self.sampling == "log":
            return _powers(self, float)
        # As fractions of what is written, since 0.3 // 0.1 is 2.
        low, step, high = (Fraction(repr(value)) for value in (self.low, self.step, self.high))
        return tuple(float(low + step * number) for number in range(int((high - low) / step) + 1))

    def at(self, share: float) -> float:
        """The value at a place between 0, `low`, and 1, `high`."""
        if self.points is not None:
            return self.points[min(int(share * len(self.points)), len(self.points) - 1)]
        if self.sampling == "log":
            return min(max(self.low * (self.high / self.low) ** share, self.low), self.high)
        return min(max(self.low + share * (self.high - self.low), self.low), self.high)


@dataclass(frozen=True, init=False)
class Cases:
    """Several ranges for one name, of which at most one is asked: what they are `when` excludes one another."""

    ranges: tuple[Choice | Int | Float, ...]

    def __init__(self, *ranges: Choice | Int | Float):
        object.__setattr__(self, "ranges", tuple(ranges))
        if not ranges or not all(isinstance(each, Choice | Int | Float) for each in ranges):
            raise ValueError(f"Cases{ranges} must hold ranges: Choice, Int or Float, each with its when={{...}}.")
        for number, one in enumerate(ranges):
            for other in ranges[:number]:
                if not _exclude(one, other):
                    raise ValueError(
                        f"Cases: {one} and {other} can be asked at once. Give both a when={{...}} with the same name "
                        "and other values."
                    )

    def __contains__(self, value: Any) -> bool:
        return any(value in each for each in self.ranges)


Single = Choice | Int | Float
Range = Single | Cases


def singles(given: Range) -> tuple[Single, ...]:
    """The cases of a range, or the range alone."""
    return given.ranges if isinstance(given, Cases) else (given,)


def frozen(value: Any) -> Any:
    """Lists as tuples, inside of objects and tuples too."""
    if isinstance(value, Mapping):
        return {name: frozen(item) for name, item in value.items()}
    return tuple(map(frozen, value)) if isinstance(value, list | tuple) else value


def same(one: Any, other: Any) -> bool:
    """Whether two values are equal, and not as True equals 1."""
    return isinstance(one, bool) == isinstance(other, bool) and one == other


def conditions(when: Mapping[str, Any] | None) -> dict[str, tuple[Any, ...]]:
    """What `when` says, with a tuple of values for each name.

    Raises:
        ValueError: it is no object, or names no value.
    """
    if not isinstance(when or {}, Mapping):
        raise ValueError(f"when={when!r} must give values by the names of ranges, such as {{'model': ('cnn', 'mlp')}}.")
    found = {
        name: frozen(values) if isinstance(values, list | tuple) else (values,) for name, values in (when or {}).items()
    }
    for name, values in found.items():
        if not values:
            raise ValueError(f"when={{{name!r}: ()}} never holds; give the values with which the range is asked.")
    return found


def _check_plain(value: Any) -> None:
    """Refuse what has no JSON form."""
    if isinstance(value, tuple):
        for item in value:
            _check_plain(item)
    elif isinstance(value, Mapping):
        for name, item in value.items():
            _check_plain(item)
            if not isinstance(name, str):
                raise ValueError(f"A choice's {value!r} has the name {name!r}, which is no text.")
    elif not (value is None or isinstance(value, str | int) or (isinstance(value, float) and math.isfinite(value))):
        raise ValueError(
            f"A choice is of texts, finite numbers, True, False, None and lists of them, not of {value!r}."
        )


def _check_default(given: Single) -> None:
    if given.default is not None and given.default not in given:
        raise ValueError(f"{type(given).__name__}(default={given.default!r}) is not in the range: {given}.")


def _check_numbers(given: Int | Float) -> None:
    """Refuse bounds, steps and defaults that do not go together; `when` gets its usual form."""
    kind = type(given).__name__
    object.__setattr__(given, "when", conditions(given.when))
    check_choice(f"{kind}(sampling)", given.sampling, Sampling)
    if given.low > given.high:
        raise ValueError(f"{kind}(low={given.low}, high={given.high}): low is over high.")
    if given.sampling == "log" and given.low <= 0:
        raise ValueError(f"{kind}(low={given.low}, sampling='log') must be over 0; below, there is no logarithm.")
    if given.step is not None and given.step <= (1 if given.sampling == "log" else 0):
        times = "over 1, since each value is step times the one before" if given.sampling == "log" else "over 0"
        raise ValueError(f"{kind}(step={given.step}, sampling={given.sampling!r}) must be {times}.")
    if given.step and (isinstance(given, Float) or given.sampling == "log"):
        linear = given.sampling == "linear"
        points = (given.high - given.low) / given.step if linear else math.log(given.high / given.low, given.step)
        if points > _MOST_POINTS:
            raise ValueError(f"{kind}(step={given.step}) makes {points:.0f} values; leave it out for all between.")
    _check_default(given)


def _powers(given: Int | Float, kind: type) -> tuple[Any, ...]:
    """low, low * step, low * step**2, ... up to high; a value that rounding errors take just over it is high."""
    step = given.step or math.inf
    count = int(math.log(given.high / given.low, step) + 1e-9) + 1
    return tuple(min(kind(given.low * step**number), given.high) for number in range(count))


def _exclude(one: Single, other: Single) -> bool:
    shared = one.when.keys() & other.when.keys()
    return any(not any(same(a, b) for a in one.when[name] for b in other.when[name]) for name in shared)
