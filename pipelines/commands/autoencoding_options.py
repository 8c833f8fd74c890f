"""Options of `zoo fit` that say what an autoencoder is trained for, as pipelines.autoencoding holds it."""

from __future__ import annotations

import typing
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from pipelines import autoencoding
from pipelines.autoencoding import Autoencoding

_FIELDS = {  # of Autoencoding, by option
    "likelihood": "likelihood",
    "beta": "beta",
    "beta_warmup": "warm_up",
    "deviation": "deviation",
    "commitment": "commitment",
    "code_temperature": "temperature",
    "code_balance": "balance",
    "bound_samples": "samples",
}


def _option(help: str, *names: str) -> Any:
    return typer.Option(*names, help=help, rich_help_panel="Autoencoders")


Likelihood = Annotated[
    str | None, _option(f"{', '.join(typing.get_args(autoencoding.Likelihood))}; the model's own if not given.")
]
Beta = Annotated[float | None, _option("Of the divergence in the loss; 1 if not given.")]
BetaWarmup = Annotated[float | None, _option("Share of all steps in which --beta rises from 0; 0.1 if not given.")]
Deviation = Annotated[float | None, _option("Of the gaussian likelihood, of pixels in 0..1; 0.1 if not given.")]
Commitment = Annotated[float | None, _option("Of a VQ-VAE's encoder to its codes; 0.25 if not given.")]
CodeTemperature = Annotated[
    float | None, _option("To which that of a discrete VAE's draws falls; 0.0625 if not given.")
]
CodeBalance = Annotated[
    float | None, _option("How fast a discrete VAE's codes are brought into equal use; 1 if not given, 0: not at all.")
]
BoundSamples = Annotated[int | None, _option("Draws of the test's importance-weighted bound; 1 if not given: none.")]


def chosen(given: Mapping[str, Any]) -> Autoencoding | None:
    """What the options that are given ask for; None where none is.

    Raises:
        ValueError: a value is out of range.
    """
    values = {field: given[option] for option, field in _FIELDS.items() if option in given}
    return Autoencoding(**values) if values else None
