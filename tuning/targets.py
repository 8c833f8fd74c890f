"""What names of ranges stand for: fields of a run and of its parts, a recipe and its arguments, a model's Config."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import re
import typing
from collections.abc import Iterable, Mapping
from typing import Any

from pipelines.recipes import RECIPES
from pipelines.run import AnyData, Distillation, Hardware, Optimization, Phase, Run
from tuning.ranges import Single
from zoo.core import registry
from zoo.core.naming import nearest

_OWN = (
    "model", "weights", "loss", "batch", "patience", "rollbacks", "label_smoothing", "class_weights", "focus",
    "positive_weights",
)  # fmt: skip
_PARTS: Mapping[str, tuple[type, ...]] = {
    "data": typing.get_args(AnyData),
    "hardware": (Hardware,),
    "optimization": (Optimization,),
    "distillation": (Distillation,),
}
_SCORED_ON_OTHERS = "then trials would be scored on other examples"
_ALIKE = {  # what all trials share, and why
    "seed": "all trials have the run's, so that they train and are scored on the same splits",
    "task": "scores of different tasks cannot be compared",
    "out": "each trial has a folder of its own",
    "save_steps": "it changes nothing of what is learned",
    **{f"data.{name}": _SCORED_ON_OTHERS for name in ("source", "train", "validation", "test", "split", "data_dir")},
    **{f"data.{name}": _SCORED_ON_OTHERS for name in ("stride", "horizon", "skip_corrupt")},
    **{
        f"data.{name}": "then trials would predict different things"
        for name in ("target", "label_delim", "class_columns", "label_column", "text_column", "second_column")
    },
}
_PHASE = re.compile(r"phases\.(?P<index>\d+|\*)\.(?P<field>\w+)")


def check_name(name: object) -> None:
    """Refuse a name that stands for nothing in any run.

    Raises:
        ValueError: the message gives the nearest names, and the known ones.
    """
    if not isinstance(name, str):
        raise ValueError(f"A range's name is a text such as 'batch', not {name!r}.")
    if name in _ALIKE:
        raise ValueError(f"{name!r} cannot be searched: {_ALIKE[name]}.")
    if re.fullmatch(r"overrides\.\w+", name):
        return  # the model says which there are
    if name not in _known() and not ((found := _PHASE.fullmatch(name)) and found["field"] in _fields(Phase)):
        raise ValueError(
            f"No run has a field {name!r} to search.{nearest(name, (*_known(), 'phases.0.epochs'))} There are: "
            f"{', '.join(_OWN)}, recipe, recipe.<{', '.join(sorted(arguments(RECIPES)))}>, "
            "phases.<0, 1, ... or *>.<field>, data.<field>, hardware.<field>, optimization.<field>, "
            "distillation.<field>, overrides.<field of the model's Config>."
        )


def check_range(name: str, given: Single) -> None:
    """Refuse models and recipes that are no names.

    Raises:
        ValueError: a model is no text, or there is no such recipe.
    """
    for value in (given.points or (given,)) if name in ("model", "recipe") else ():
        if not isinstance(value, str):
            raise ValueError(f"The space's {name!r} holds {value!r}, which is no name of a {name}.")
        if name == "recipe" and value not in RECIPES:
            raise ValueError(f"No recipe {value!r}.{nearest(value, RECIPES)} Recipes: {', '.join(RECIPES)}.")


def check_field(name: str, base: Run) -> None:
    """Refuse a name that stands for nothing in this run.

    Raises:
        ValueError: its data have no such field, or nobody teaches its model.
    """
    part = name.partition(".")[0]
    if part not in _PARTS:
        return
    held = getattr(base, part)
    if held is None:
        raise ValueError(f"The space has {name!r}, and the run has no {part} to change.")
    known = _searched(part, (type(held),))
    if name not in known:
        kind = type(held).__name__
        raise ValueError(
            f"The space has {name!r}; {kind} have no such field.{nearest(name, known)} They have: {', '.join(known)}."
        )


def takes(recipe: Any, argument: str) -> bool:
    """Whether a recipe of this name has an argument."""
    return argument in _parameters(recipe)


def arguments(recipes: Iterable[Any]) -> tuple[str, ...]:
    """The arguments of recipes, each once."""
    return tuple(dict.fromkeys(name for recipe in recipes for name in _parameters(recipe)))


@functools.cache
def options(model: str) -> tuple[str, ...] | None:
    """The fields of a variant's Config, and of its Pixels; None of a checkpoint, whose Config says more than its name.

    Raises:
        ValueError: there is no such variant.
    """
    config = _config(model)
    if config is None:
        return None
    pixels = _fields(type(config.pixels)) if hasattr(config, "pixels") else ()
    return (*_fields(type(config)), *pixels)


def present(name: str, base: Run) -> tuple[Any, ...]:
    """What a run has where a range of this name would change it, the likeliest first; nothing where nobody knows."""
    part, _, own = name.partition(".")
    if name in _OWN:
        return (getattr(base, name),)
    if part in _PARTS:
        held = getattr(base, part)
        return (getattr(held, own),) if own in _fields(type(held)) else ()
    if name == "recipe":
        return next(((recipe,) for recipe, phases in RECIPES.items() if phases() == base.phases), ())
    if part == "recipe":
        defaults = (_parameters(recipe).get(own) for recipe in (*present("recipe", base), *RECIPES))
        return tuple(each.default for each in defaults if each is not None)
    if found := _PHASE.fullmatch(name):
        index = 0 if found["index"] == "*" else int(found["index"])
        return (getattr(base.phases[index], found["field"]),) if index < len(base.phases) else ()
    if own in base.overrides:
        return (base.overrides[own],)
    config = _config(base.model)
    held = config if hasattr(config, own) else getattr(config, "pixels", None)
    return (getattr(held, own),) if hasattr(held, own) else ()


def applied(base: Run, values: Mapping[str, Any]) -> Run:
    """The run with other values by the names of what they set.

    Raises:
        ValueError: a value is out of range, or two do not go together.
    """
    changes: dict[str, Any] = {name: value for name, value in values.items() if name in _OWN}
    try:
        for part in _PARTS:
            if given := _under(part, values):
                if getattr(base, part) is None:
                    raise ValueError(f"The run has no {part} to change.")
                changes[part] = dataclasses.replace(getattr(base, part), **given)
        changes["overrides"] = {**base.overrides, **_under("overrides", values)}
        changes["phases"] = _phases(base, values)
        return dataclasses.replace(base, **changes)
    except (TypeError, KeyError, AttributeError) as error:
        said = ", ".join(f"{name}={value!r}" for name, value in values.items())
        raise ValueError(f"No run can have {said}: {error}.") from None


def _phases(base: Run, values: Mapping[str, Any]) -> tuple[Phase, ...]:
    phases = base.phases
    if "recipe" in values:
        if values["recipe"] not in RECIPES:
            raise ValueError(f"No recipe {values['recipe']!r}. Recipes: {', '.join(RECIPES)}.")
        phases = RECIPES[values["recipe"]](**_under("recipe", values))
    elif given := _under("recipe", values):
        raise ValueError(f"recipe.{next(iter(given))} is given without a recipe.")
    for name, value in values.items():
        found = _PHASE.fullmatch(name)
        if found is None:
            continue
        chosen = range(len(phases)) if found["index"] == "*" else (int(found["index"]),)
        if chosen[0] >= len(phases):
            raise ValueError(f"{name}={value!r}, but there are {len(phases)} phases here, the first of them 0.")
        phases = tuple(
            dataclasses.replace(phase, **{found["field"]: value}) if index in chosen else phase
            for index, phase in enumerate(phases)
        )
    return phases


def _under(part: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """The values of names that begin with a part's, without it."""
    return {name.removeprefix(f"{part}."): value for name, value in values.items() if name.startswith(f"{part}.")}


@functools.cache
def _known() -> tuple[str, ...]:
    """All names but those of phases, which are counted, and of overrides, which are the model's."""
    return (
        *_OWN,
        "recipe",
        *(f"recipe.{name}" for name in sorted(arguments(RECIPES))),
        *(name for part, kinds in _PARTS.items() for name in _searched(part, kinds)),
    )


def _searched(part: str, kinds: Iterable[type]) -> list[str]:
    """The names of the fields of a part that a space may hold."""
    names = dict.fromkeys(f"{part}.{name}" for kind in kinds for name in _fields(kind))
    return [name for name in names if name not in _ALIKE]


def _fields(kind: type) -> tuple[str, ...]:
    return tuple(field.name for field in dataclasses.fields(kind)) if dataclasses.is_dataclass(kind) else ()


def _parameters(recipe: Any) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(RECIPES[recipe]).parameters if recipe in RECIPES else {}


def _config(model: str) -> Any:
    """The Config of a variant; None of a checkpoint."""
    if "/" in model:
        return None
    return registry.find_family(model).variants[model]
