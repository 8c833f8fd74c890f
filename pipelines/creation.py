"""The model of a run, from what it says of the model and what its data ask for."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import keras

import zoo
from pipelines.datasets import Dataset
from pipelines.run import Images, Pairs, Run, Texts
from zoo.core import registry
from zoo.core.family import CLASSED, Family

# The Config fields of models that take such data.
_OPTION_OF_KIND = {Images: ("pixels",), Texts: ("vocabulary",), Pairs: ("pixels", ("vocabulary", "words"))}


def create(run: Run, data: Dataset, more: Mapping[str, Any] | None = None) -> keras.Model:
    """The model of a run, as its data need it, with `more` options, unless data, run or checkpoint say otherwise.

    Raises:
        ValueError: the model is not for data of this kind, or has no such option or task.
    """
    task = run.task or data.task
    own: Mapping[str, Any] = {} if run.is_checkpoint or run.weights else more or {}
    options: dict[str, Any] = {**own, **_options(run, data), "task": task}
    if task in CLASSED:
        options["classes"] = len(data.classes)
    if run.is_checkpoint:
        return zoo.from_checkpoint(run.model, **options)
    _check_kind(run, data)
    return zoo.create(run.model, weights=run.weights, **options)


def configuration(run: Run, data: Dataset) -> tuple[Family, Any]:
    """The family of a run's model, and its Config as the data need it.

    Raises:
        ValueError: as `create`.
    """
    if not run.is_checkpoint:
        family = registry.find_family(run.model)
        return family, registry.configure(family.variants[run.model], **_options(run, data))
    from zoo.weights.load import described

    family, match, _ = described(run.model)
    return family, registry.configure(match.config, **_options(run, data))


def _options(run: Run, data: Dataset) -> dict[str, Any]:
    """Fields of the model's Config that the data decide, and those of the run.

    Raises:
        ValueError: the model makes images of labels, and the data have none.
    """
    options = {**data.options(), **run.overrides}
    if run.is_checkpoint or (run.task or data.task) in CLASSED:
        return options
    config = registry.find_family(run.model).variants.get(run.model)
    if getattr(config, "labels", 0) and "labels" not in options:
        if not data.classes:
            raise ValueError(
                f"{run.model!r} makes images of classes, and {run.data.source!r} has none. Put the images of each "
                "class into a sub-folder, or train a model without labels, such as gan_dcgan."
            )
        options["labels"] = len(data.classes)
    return options


def _check_kind(run: Run, data: Dataset) -> None:
    """Refuse a model that takes other data than the run's."""
    needed = _OPTION_OF_KIND.get(type(run.data), ()) or tuple(data.options())

    def takes(config: Any) -> bool:
        fields = {field.name for field in dataclasses.fields(config)}
        if isinstance(run.data, Texts) and "pixels" in fields:  # it takes images too
            return False
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
