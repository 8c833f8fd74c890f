"""The model of a run, from what it says of the model and what its data ask for."""

from __future__ import annotations

import dataclasses
from typing import Any

import keras

import zoo
from pipelines.datasets import Dataset
from pipelines.run import Images, Pairs, Run, Texts
from zoo.core import registry
from zoo.core.family import CLASSED

# The Config fields of models that take such data.
_OPTION_OF_KIND = {Images: ("pixels",), Texts: ("vocabulary",), Pairs: ("pixels", ("vocabulary", "words"))}


def create(run: Run, data: Dataset) -> keras.Model:
    """The model of a run, as its data need it.

    Raises:
        ValueError: the model is not for data of this kind, or has no such option or task.
    """
    task = run.task or data.task
    options: dict[str, Any] = {**data.options(), **run.overrides, "task": task}
    if task in CLASSED:
        options["classes"] = len(data.classes)
    if run.is_checkpoint:
        return zoo.from_checkpoint(run.model, **options)
    _check_kind(run, data)
    return zoo.create(run.model, weights=run.weights, **options)


def _check_kind(run: Run, data: Dataset) -> None:
    """Refuse a model that takes other data than the run's."""
    needed = _OPTION_OF_KIND.get(type(run.data), ()) or tuple(data.options())

    def takes(config: Any) -> bool:
        fields = {field.name for field in dataclasses.fields(config)}
        return all(fields & set(name if isinstance(name, tuple) else (name,)) for name in needed)

    if not takes(registry.find_family(run.model).variants[run.model]):
        able = [
            name
            for family in registry.families()
            for name, config in registry.load_family(family).variants.items()
            if takes(config)
        ]
        raise ValueError(
            f"{run.model!r} does not take {type(run.data).__name__.lower()}. Models that do: "
            f"{', '.join(able[:12])}{' and more; see zoo list' if len(able) > 12 else ''}."
        )
