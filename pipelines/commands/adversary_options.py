"""Options of `zoo fit` that say how a GAN's generator and discriminator play, as pipelines.adversary holds it."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from pipelines import adversary, tasks
from pipelines.adversary import Adversary


def _option(help: str, *names: str) -> Any:
    return typer.Option(*names, help=help, rich_help_panel="GANs")


Game = Annotated[str | None, _option(f"{', '.join(typing.get_args(adversary.Game))}; the variant's own if not given.")]
GradientPenalty = Annotated[
    float | None, _option("Its weight; 10 is usual, and 0, none, where a variant has batch norm or spectral norm.")
]
CriticSteps = Annotated[int | None, _option("Steps of the discriminator to one of the generator.")]
DiscriminatorRate = Annotated[float | None, _option("The discriminator's learning rate, in those of the generator.")]


def chosen(model: str, given: Mapping[str, Any], task: str | None) -> Adversary | None:
    """What a GAN plays against, with what is given; None of another model.

    Raises:
        ValueError: an option is given for another model, or out of range.
    """
    names = [field.name for field in dataclasses.fields(Adversary) if field.name in given]
    if (task or tasks.usual(model)) != "generate":
        if names:
            raise ValueError(f"--{names[0].replace('_', '-')} is for GANs, and {model!r} is none. See zoo list.")
        return None
    return dataclasses.replace(adversary.usual(model), **{name: given[name] for name in names})
