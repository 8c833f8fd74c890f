"""What a search tries: ranges of the fields of a run, and how a run is made of a value of each."""

from __future__ import annotations

import functools
import itertools
import json
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pipelines.run import Run
from tuning import forms, targets
from tuning.ranges import Cases, Choice, Float, Int, Range, Single, When, frozen, same, singles
from zoo.core.naming import nearest

if TYPE_CHECKING:
    import keras_tuner

__all__ = ["Cases", "Choice", "Float", "Int", "Range", "Space"]

OF_HYPERBAND = "tuner/"  # before the names that it adds to a trial's values: on which trial it goes on, how far
_DRAWS = 20


class Asked(NamedTuple):
    """A range of one name in one case, and what it hangs on."""

    name: str
    key: str  # the name, with "#1", ... after the first of several cases
    range: Single
    needed: When  # by the keys of other ranges


@dataclass(frozen=True)
class Space:
    """Ranges by the names of what they set. A plain value is fixed, a list is a choice; see docs/tuning.md.

    Names are fields of Run ("model", "weights", "batch", "loss", "label_smoothing", ...) or of its parts
    ("data.augment", "hardware.precision", "optimization.schedule", "distillation.temperature"); "recipe", one of
    pipelines.recipes, and "recipe.learning_rate" and others of its arguments; "phases.0.epochs", or "phases.*.warmup"
    of all phases, after the recipe; and "overrides.widths" or any field of the model's Config.

    A range is asked only where it has a meaning: an argument with the recipes that take it, a field of a Config with
    the models that have it. `when={...}` of a range asks for more.

    Raises:
        ValueError: a name or a condition that cannot be; the message gives the nearest and the known ones.
    """

    ranges: Mapping[str, Any]  # Range, once it is in a space

    def __post_init__(self) -> None:
        if not isinstance(self.ranges, Mapping):
            raise ValueError(f"A space is ranges by their names, such as {{'batch': [16, 32]}}, not {self.ranges!r}.")
        for name in self.ranges:
            targets.check_name(name)
        read = {name: forms.read(name, given) for name, given in self.ranges.items()}
        object.__setattr__(self, "ranges", read)
        if any(name.startswith("recipe.") for name in read) and "recipe" not in read:
            raise ValueError("The space has arguments of a recipe, and no recipe: add 'recipe', such as 'fine_tuning'.")
        for name, given in read.items():
            for each in singles(given):
                targets.check_range(name, each)
                self._check_conditions(name, each)
            if name.startswith("recipe."):
                self._having(name)
        self._in_order()

    def __or__(self, other: Space) -> Space:
        """The ranges of both; where both have a name, those of the other."""
        return Space({**self.ranges, **other.ranges}) if isinstance(other, Space) else NotImplemented

    def check(self, base: Run) -> None:
        """Refuse a space that does not go with the run that all trials share.

        Raises:
            ValueError: a model, or a field of one or of the run's data, is not there, or no trial would make a run.
        """
        if not self.ranges:
            raise ValueError(
                "The space is empty: there is nothing to search. Give ranges, such as {'batch': [16, 32]}."
            )
        for name in self.ranges:
            targets.check_field(name, base)
            if name.startswith("overrides."):
                self._having(name, base)
        for model in self._values("model") or (base.model,):
            targets.options(model)
        problems = []
        for number in range(_DRAWS):
            try:
                self.run(base, self.draw(random.Random(number)))
            except ValueError as error:
                problems.append(str(error))
        if len(problems) == _DRAWS:
            raise ValueError(f"None of {_DRAWS} points of the space makes a run. The first: {problems[0]}")

    def run(self, base: Run, values: Mapping[str, Any]) -> Run:
        """The base run with the values of a trial in it; what is not given stays as it is.

        Raises:
            ValueError: a name is not in the space, or no run can have these values.
        """
        given = {name: frozen(value) for name, value in values.items() if not name.startswith(OF_HYPERBAND)}
        unknown = [name for name in given if name not in self.ranges]
        if unknown:
            raise ValueError(
                f"The space has no range {unknown[0]!r}.{nearest(unknown[0], self.ranges)} It has: "
                f"{', '.join(self.ranges)}."
            )
        return targets.applied(base, given)

    def draw(self, generator: random.Random) -> dict[str, Any]:
        """A random point: a value for each name that is asked there."""
        return self._point(lambda asked: asked.range.at(generator.random()))

    def defaults(self, base: Run | None = None) -> dict[str, Any]:
        """The point that the first trial has: the defaults of the ranges, or what the base run has."""
        return self._point(lambda asked: self.usual(asked, base))

    def usual(self, asked: Asked, base: Run | None) -> Any:
        """The default of a range: its own, or what the base run has, or its first value, or the middle of numbers."""
        if asked.range.default is not None:
            return asked.range.default
        now = () if base is None else targets.present(asked.name, base)
        within = [frozen(value) for value in now if frozen(value) in asked.range]
        return within[0] if within else asked.range.at(0.0 if isinstance(asked.range, Choice) else 0.5)

    def hyperparameters(self, base: Run | None = None) -> keras_tuner.HyperParameters:
        """The ranges as keras-tuner knows them, with the defaults of the base run; values go through `decode`."""
        import keras_tuner

        from tuning import hyperparameters

        found = keras_tuner.HyperParameters()
        hyperparameters.declare(found, self, base)
        return found

    def asked(self) -> tuple[Asked, ...]:
        """All ranges, case by case, each after those that it hangs on.

        Raises:
            ValueError: no model that is searched has a field of a Config that is.
        """
        return self._asked

    @functools.cached_property
    def _asked(self) -> tuple[Asked, ...]:
        found: dict[str, list[Asked]] = {}
        for name in self._in_order():
            found[name] = []
            for each in singles(self.ranges[name]):
                when = self._together(name, each)
                parents = [[case for case in found[parent] if _shared(values, case)] for parent, values in when.items()]
                for cases in itertools.product(*parents):  # once for each way in which what it hangs on can be asked
                    number = len(found[name])
                    needed = {case.key: _shared(when[case.name], case) for case in cases}
                    found[name].append(Asked(name, f"{name}#{number}" if number else name, each, needed))
        return tuple(each for cases in found.values() for each in cases)

    def to_json(self) -> str:
        """The space as JSON text."""
        return json.dumps({name: forms.written(given) for name, given in self.ranges.items()}, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Space:
        """The space that `to_json` wrote, or that was written by hand: {"batch": [16, 32], "overrides.depth": 2}.

        Raises:
            ValueError: the text is not JSON, or not a space's.
        """
        return cls(forms.from_json(text))

    @classmethod
    def from_file(cls, path: str | Path) -> Space:
        """The space in a .json, .yaml or .yml file.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it is of another kind, or not a space's.
        """
        try:
            return cls(forms.from_file(Path(path)))
        except ValueError as error:
            raise ValueError(f"'{path}': {error}") from None

    def _point(self, value: Callable[[Asked], Any]) -> dict[str, Any]:
        """A value for each range that is asked, by its name."""
        by_key: dict[str, Any] = {}
        point = {}
        for asked in self.asked():
            if holds(asked.needed, by_key):
                by_key[asked.key] = point[asked.name] = value(asked)
        return point

    def _values(self, name: str) -> tuple[Any, ...]:
        """The names in a choice, in all cases; nothing where there is none."""
        ranges = singles(self.ranges[name]) if name in self.ranges else ()
        return tuple(dict.fromkeys(str(value) for each in ranges for value in each.points or ()))

    def _check_conditions(self, name: str, given: Single) -> None:
        for parent, values in given.when.items():
            if parent not in self.ranges:
                raise ValueError(
                    f"{name!r} is asked when {parent!r} has a value, and the space has no such range."
                    f"{nearest(str(parent), self.ranges)} It has: {', '.join(self.ranges)}."
                )
            held = self.ranges[parent]
            if any(isinstance(each, Float) and each.points is None for each in singles(held)):
                raise ValueError(f"{name!r} is asked when {parent!r} has a value, which is any number; give it a step.")
            for value in values:
                if value not in held:
                    raise ValueError(f"{name!r} is asked when {parent!r} is {value!r}, which it never is: {held}.")

    def _in_order(self) -> list[str]:
        """The names, each after those that its conditions name.

        Raises:
            ValueError: conditions that go in a circle.
        """
        order: list[str] = []

        def add(name: str, after: tuple[str, ...]) -> None:
            if name in after:
                raise ValueError(f"Conditions in a circle: {' needs '.join((*after[after.index(name) :], name))}.")
            if name not in order:
                for parent in self._parents(name):
                    add(parent, (*after, name))
                order.append(name)

        for name in self.ranges:
            add(name, ())
        return order

    def _parents(self, name: str) -> Iterator[str]:
        for each in singles(self.ranges[name]):
            yield from each.when
        owner = _owner(name)
        if owner in self.ranges:
            yield owner

    def _together(self, name: str, given: Single) -> When:
        """When a range is asked, by what it says and by what has a meaning; with no values if never."""
        having = self._having(name)
        if having is None:
            return given.when
        owner = _owner(name)
        said = given.when.get(owner, having)
        return {**given.when, owner: tuple(value for value in said if any(same(value, each) for each in having))}

    def _having(self, name: str, base: Run | None = None) -> tuple[Any, ...] | None:
        """The recipes, or the models, of the space that have what a name stands for; None if that is no question.

        Raises:
            ValueError: none has.
        """
        owner, own = _owner(name), name.partition(".")[2]
        held = self.ranges.get(owner)
        if not owner or (held is None and base is None):
            return None
        known = self._values(owner) or (base.model,) if base else self._values(owner)
        if owner == "recipe":
            having = tuple(recipe for recipe in known if targets.takes(recipe, own))
            fields = targets.arguments(known)
        else:
            options = {model: targets.options(model) for model in known}
            having = tuple(model for model, fields in options.items() if fields is None or own in fields)
            fields = tuple(dict.fromkeys(field for each in options.values() for field in each or ()))
        if not having:
            raise ValueError(
                f"The space has {name!r}, and {', '.join(map(str, known))} do not have it.{nearest(own, fields)} "
                f"Known there: {', '.join(fields)}."
            )
        always = held is None or (not isinstance(held, Cases) and not held.when)
        return None if len(having) == len(known) and always else having


def holds(needed: When, values: Mapping[str, Any]) -> bool:
    """Whether what a range hangs on is there, in the values of a point by their keys."""
    return all(key in values and any(same(values[key], each) for each in wanted) for key, wanted in needed.items())


def _shared(values: tuple[Any, ...], asked: Asked) -> tuple[Any, ...]:
    return tuple(value for value in values if value in asked.range)


def _owner(name: str) -> str:
    """The range that decides whether a name has a meaning."""
    return {"recipe": "recipe", "overrides": "model"}.get(name.partition(".")[0], "") if "." in name else ""
