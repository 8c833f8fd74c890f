"""What is asked for on the command line, as a plan."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pipelines.commands import data_options, training_options
from pipelines.commands.training import phases_of, usual_weights
from pipelines.data import AnyData, Images, Series, Tables, Texts
from pipelines.run import Run
from tuning import spaces
from tuning.plan import AUTO, Objective, Plan
from tuning.space import Space
from zoo.core.naming import nearest

SPACES: Mapping[str, tuple[type[AnyData], Callable[..., Space]]] = {
    "transfer_images": (Images, spaces.transfer_images),
    "from_scratch_images": (Images, spaces.from_scratch_images),
    "mobile": (Images, spaces.mobile),
    "transfer_text": (Texts, spaces.transfer_text),
    "tables": (Tables, spaces.tables),
    "series": (Series, spaces.series),
}
_FILES = (".json", ".yaml", ".yml")
_OF_SEARCH = (
    "space", "oracle", "trials", "objectives", "seed", "max_epochs", "factor", "quantize", "budget", "parallel",
    "memory", "trial_time", "output", "overwrite", "run_file", "epochs",
)  # fmt: skip


def plan(given: Mapping[str, Any], *, out: Path) -> Plan:
    """The plan that the options say that are given.

    Raises:
        ValueError: an option makes no sense, or two say the same.
        FileNotFoundError: there is no such file of a space, or of a run.
    """
    run, space = _from_file(given) if "run_file" in given else _from_options(given)
    objectives = tuple(map(Objective.of, given.get("objectives", ()))) or (AUTO,)
    named = {name: given[name] for name in ("trials", "seed", "max_epochs", "factor", "quantize") if name in given}
    oracle = given.get("oracle", "pareto" if len(objectives) > 1 else "bayesian")
    return Plan(dataclasses.replace(run, out=out), space, objectives, oracle, **named)


def _from_file(given: Mapping[str, Any]) -> tuple[Run, Space]:
    """The run of a run.json, and a space around it.

    Raises:
        ValueError: other options say what the run says.
    """
    if other := [name for name in given if name not in _OF_SEARCH]:
        raise ValueError(f"--run says all that trials share, and --{other[0].replace('_', '-')} too. Leave one out.")
    run = Run.from_json(given["run_file"].read_text(encoding="utf-8"))
    run = dataclasses.replace(run, seed=given.get("seed", run.seed))
    return run, _space(given, type(run.data), run.model, pretrained=run.weights is not None or run.is_checkpoint)


def _from_options(given: Mapping[str, Any]) -> tuple[Run, Space]:
    data, model = data_options.data(given, command="tune"), given.get("model")
    space = _space(given, type(data), model, pretrained=_is_pretrained(given, model))
    if model is None:
        model = _first(space)
    pretrained = _is_pretrained(given, model)
    weights = given.get("weights", usual_weights(model))
    recipe = training_options.recipe(given.get("recipe"), pretrained=pretrained, taught=False)
    run = Run(
        model,
        data,
        phases_of(recipe, given.get("epochs"), None),
        Path(),
        weights=None if weights == "none" else weights,
        **training_options.run_options(given),
    )
    return run, space


def _is_pretrained(given: Mapping[str, Any], model: str | None) -> bool:
    if given.get("weights") == "none":
        return False
    return "weights" in given or model is None or "/" in model or usual_weights(model) is not None


def _space(given: Mapping[str, Any], kind: type[AnyData], model: str | None, *, pretrained: bool) -> Space:
    """The space that is named, or the usual one of such data."""
    name = given.get("space") or _usual(kind, pretrained=pretrained)
    if name.endswith(_FILES):
        return _completed(Space.from_file(name), given, model)
    if name not in SPACES:
        raise ValueError(
            f"No space {name!r}.{nearest(name, SPACES)} Spaces: {', '.join(SPACES)}, or a file of one: mine.yaml."
        )
    takes, make = SPACES[name]
    if takes is not kind:
        able = ", ".join(each for each, (data, _) in SPACES.items() if data is kind)
        raise ValueError(f"The space {name!r} is for {takes.__name__.lower()}; for {kind.__name__.lower()}: {able}.")
    options: dict[str, Any] = {"models": (model,)} if model else {}
    if "epochs" in given:
        options["epochs"] = given["epochs"]
    return make(**options)


def _usual(kind: type[AnyData], *, pretrained: bool) -> str:
    if kind is Images:
        return "transfer_images" if pretrained else "from_scratch_images"
    return next(name for name, (data, _) in SPACES.items() if data is kind)


def _completed(space: Space, given: Mapping[str, Any], model: str | None) -> Space:
    """A space of the user's own, with what is given beside it."""
    if model is not None and "model" in space.ranges:
        raise ValueError(f"The model is given as {model!r}, and searched by {given['space']}. Leave one out.")
    if model is None and "model" not in space.ranges:
        raise ValueError(
            f"There is no model: name one, zoo tune MODEL ..., or have a range 'model' in {given['space']}."
        )
    if "epochs" not in given or "recipe" not in space.ranges:
        return space
    if "recipe.epochs" in space.ranges:
        raise ValueError(f"--epochs is searched by {given['space']}. Leave one out.")
    return space | Space({"recipe": space.ranges["recipe"], "recipe.epochs": given["epochs"]})


def _first(space: Space) -> str:
    """The first model of a space."""
    found = space.hyperparameters()
    return found.values["model"]
