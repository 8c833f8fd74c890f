"""What an autoencoder is trained for besides giving back its images. As data."""

from __future__ import annotations

import dataclasses
import math
import typing
from dataclasses import dataclass
from typing import Literal

Likelihood = Literal["bernoulli", "gaussian", "logit_laplace"]
LARGEST_SAMPLES = 10_000


@dataclass(frozen=True)
class Autoencoding:
    """How an autoencoder learns. What is None is as usual for the kind of its model.

    A VAE and a discrete VAE minimize, in nats an image,

        -log p(image | latent) + beta * min(1, elapsed / warm_up) * KL(q(latent | image) || p(latent))

    where `elapsed` is the share of the run's steps that are done; validation and test count all of beta. A beta over 1
    is a beta-VAE. The latent of an example is drawn by the run's seed and the number of its batch.

    likelihood: "bernoulli", the usual one of a VAE, takes a pixel in 0..1 for the probability of white; "gaussian", the
    usual one with a codebook, has one `deviation` in those units (0.1; with a codebook 0.18, which weighs errors about
    as the variance of natural images does); "logit_laplace" is that of DALL-E's discrete VAE.

    A discrete VAE draws codes that are the less mixed, the lower the temperature, which falls along a cosine from that
    of its model (1) to `temperature` over the first `annealing` of the steps, as in DALL-E's paper. Its codes are kept
    in use by `balance`, see pipelines.objectives.balance: the logit of a code that is e times as frequent as it should
    be falls by so much a step, first, and ever less.

    A VQ-VAE has no divergence to weigh: it minimizes -log p(image | codes) / numbers of an image, plus the mean squared
    distance of its vectors from their codes, `commitment` times for the encoder (and once for the codebook, where that
    learns by gradient).

    With `samples` over 1 the test gives the importance-weighted bound of so many draws (arXiv 1509.00519), too.
    """

    likelihood: Likelihood | None = None  # bernoulli; with a codebook gaussian; of a discrete VAE logit_laplace
    beta: float | None = None  # 1
    warm_up: float | None = None  # 0.1; 0: none
    deviation: float | None = None
    commitment: float | None = None  # 0.25
    temperature: float | None = None  # 1 / 16
    annealing: float | None = None  # 0.5
    balance: float | None = None  # 1; 0: none
    samples: int = 1

    def summary(self) -> str:
        """What was asked for, in a phrase for reports."""
        given = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        asked = [f"{name} {value}" for name, value in given.items() if value not in (None, 1)]
        return ", ".join(asked) or "as usual"

    def __post_init__(self) -> None:
        if self.likelihood is not None and self.likelihood not in typing.get_args(Likelihood):
            known = ", ".join(typing.get_args(Likelihood))
            raise ValueError(f"Autoencoding(likelihood={self.likelihood!r}) is none of {known}.")
        fine = {
            "beta": lambda value: 0 <= value < math.inf,
            "warm_up": lambda value: 0 <= value <= 1,
            "deviation": lambda value: 0 < value < math.inf,
            "commitment": lambda value: 0 <= value < math.inf,
            "temperature": lambda value: 0 < value < math.inf,
            "annealing": lambda value: 0 <= value <= 1,
            "balance": lambda value: 0 <= value < math.inf,
        }
        wanted = {"warm_up": "a share of the steps, 0 to 1", "annealing": "a share of the steps, 0 to 1"}
        positive = {"deviation": "a number over 0", "temperature": "a number over 0, such as 0.0625"}
        for name, holds in fine.items():
            value = getattr(self, name)
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int | float) or not holds(value):
                want = {**wanted, **positive}.get(name, "a number of at least 0")
                raise ValueError(f"Autoencoding({name}={value!r}) must be {want}.")
        if type(self.samples) is not int or not 1 <= self.samples <= LARGEST_SAMPLES:
            raise ValueError(
                f"Autoencoding(samples={self.samples!r}) must be a whole number from 1 to {LARGEST_SAMPLES}."
            )
