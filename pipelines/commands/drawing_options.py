"""Options of `zoo fit --task text_to_image`, as pipelines.drawing holds it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from pipelines.drawing import Drawing


def _option(help: str, *names: str) -> Any:
    return typer.Option(*names, help=help, rich_help_panel="Drawing after texts")


CodesFrom = Annotated[
    str | None,
    _option("Whose codes are written: a folder of zoo fit --task reconstruct (dalle), or a checkpoint of one."),
]
ImageWeight = Annotated[float | None, _option("The share of the image in the loss; 0.875 if not given.")]
CaptionDropout = Annotated[
    float | None, _option("The share of captions left out in training, for zoo sample --guidance; 0.1 if not given.")
]


def drawing(given: Mapping[str, Any]) -> Drawing | None:
    """What the options that are given say of it; None where none is.

    Raises:
        ValueError: a value is out of range, or there are options and nothing to take codes from.
    """
    known = {field.name: given[field.name] for field in dataclasses.fields(Drawing) if field.name in given}
    if known and "codes_from" not in known:
        name = next(iter(known)).replace("_", "-")
        raise ValueError(f"--{name} is for --task text_to_image, which needs --codes-from too: a trained autoencoder.")
    return Drawing(**known) if known else None
