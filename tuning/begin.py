"""What is asked for on the command line, as a plan."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipelines.commands import data_options, training_options
from pipelines.commands.usual import phases_of, usual_weights
from pipelines.data import AnyData, Images, Pairs, Series, Tables, Texts
from pipelines.run import Run
from tuning import spaces
from tuning.plan import AUTO, Objective, Plan
from tuning.ranges import singles
from tuning.space import Space

_FILES = (".json", ".yaml", ".yml")
_FOR: Mapping[str, type[AnyData]] = {
    "transfer_images": Images, "from_scratch_images": Images, "mobile": Images,
    "transfer_text": Texts, "from_scratch_text": Texts,
    "transfer_pairs": Pairs, "from_scratch_pairs": Pairs,
    "tables": Tables, "series": Series,
}  # fmt: skip
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
    return run, _around(run, given)


def _from_options(given: Mapping[str, Any]) -> tuple[Run, Space]:
    data, model = data_options.data(given, command="tune"), given.get("model")
    if model is not None:
        run = _run(given, data, model)
        return run, _around(run, given)
    name = given.get("space") or _usual(data, pretrained=isinstance(data, Images))
    if name.endswith(_FILES):
        space = _own(name, given)
        if "model" not in space.ranges:
            raise ValueError(f"There is no model: zoo tune MODEL ..., or a range 'model' in {name}.")
    else:
        _check_kind(name, data)
        space = spaces.find(name)(epochs=given.get("epochs"))
    run = _run(given, data, str(singles(space.ranges["model"])[0].at(0.0)))
    return run, spaces.suited(space, run) if name in spaces.SPACES else space


def _run(given: Mapping[str, Any], data: AnyData, model: str) -> Run:
    """What all trials share of a model on data, as zoo fit has it where nothing else is asked."""
    weights = given.get("weights", usual_weights(model))
    weights = None if weights == "none" else weights
    pretrained = bool(weights or "/" in model)
    phases = phases_of(
        training_options.recipe(given.get("recipe"), pretrained=pretrained, taught=False), given.get("epochs"), None
    )
    shared = {name: value for name, value in given.items() if name == "seed" or name not in _OF_SEARCH}
    return Run(model, data, phases, Path(), weights=weights, **training_options.run_options(shared))


def _around(run: Run, given: Mapping[str, Any]) -> Space:
    """The space that is asked for, or the usual one, with the model of a run."""
    name = given.get("space") or _usual(run.data, pretrained=run.weights is not None or run.is_checkpoint)
    if not name.endswith(_FILES):
        _check_kind(name, run.data)
        return spaces.of_run(name, run, epochs=given.get("epochs"))
    space = _own(name, given)
    if "model" in space.ranges:
        raise ValueError(f"The model is {run.model!r}, and {name} has a range 'model'. Leave one out.")
    return space


def _usual(data: AnyData, *, pretrained: bool) -> str:
    """The ready-made space for data of a kind."""
    names = {
        Images: ("from_scratch_images", "transfer_images"),
        Texts: ("from_scratch_text", "transfer_text"),
        Pairs: ("from_scratch_pairs", "transfer_pairs"),
        Tables: ("tables", "tables"),
        Series: ("series", "series"),
    }
    return names[type(data)][pretrained]


def _check_kind(name: str, data: AnyData) -> None:
    """Refuse a ready-made space for other data.

    Raises:
        ValueError: it is, or there is none of this name.
    """
    spaces.find(name)
    if not isinstance(data, _FOR[name]):
        able = ", ".join(each for each, kind in _FOR.items() if isinstance(data, kind))
        raise ValueError(
            f"The space {name!r} is for {_FOR[name].__name__.lower()}. For {type(data).__name__.lower()}: {able}."
        )


def _own(name: str, given: Mapping[str, Any]) -> Space:
    """The space in a file of the user's, whose recipes have the epochs that are given.

    Raises:
        ValueError: the epochs are searched.
    """
    space = Space.from_file(name)
    if "epochs" not in given or "recipe" not in space.ranges:
        return space
    if "recipe.epochs" in space.ranges:
        raise ValueError(f"--epochs is given, and {name} has a range 'recipe.epochs'. Leave one out.")
    return Space({**space.ranges, "recipe.epochs": given["epochs"]})
