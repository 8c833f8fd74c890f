"""What an autoencoder minimizes: the negative ELBO in nats an image, or the loss of a VQ-VAE, as a Keras loss."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf

from pipelines.autoencoder import Kind
from pipelines.autoencoding import Autoencoding, Likelihood
from pipelines.objectives import variational
from pipelines.objectives.drawn import ELAPSED

_USUAL: dict[Kind, Likelihood] = {"normal": "bernoulli", "codebook": "gaussian", "gumbel": "logit_laplace"}
_OF: dict[Kind, tuple[str, ...]] = {  # the options of each kind
    "normal": ("likelihood", "beta", "warm_up", "deviation", "samples"),
    "codebook": ("likelihood", "deviation", "commitment"),
    "gumbel": ("likelihood", "beta", "warm_up", "temperature", "annealing", "balance"),
}
_CALLED: dict[Kind, str] = {"normal": "a VAE", "codebook": "a VQ-VAE", "gumbel": "a discrete VAE"}
_LOW, _HIGH = 0.1, 0.9  # what DALL-E's logit-Laplace distribution takes for black and white


@dataclass(frozen=True)
class Settled:
    """The options of an autoencoder of a kind, with the usual ones in place of what was not given."""

    kind: Kind
    likelihood: Likelihood
    beta: float
    warm_up: float
    deviation: float
    commitment: float
    temperature: float
    annealing: float
    balance: float
    samples: int


def settled(kind: Kind, given: Autoencoding | None) -> Settled:
    """The options for a model of a kind.

    Raises:
        ValueError: one is not of models of that kind.
    """
    asked = given or Autoencoding()
    own = {field.name: getattr(asked, field.name) for field in dataclasses.fields(asked)}
    for field in dataclasses.fields(asked):
        value = own[field.name]
        if value != field.default and field.name not in _OF[kind]:
            raise ValueError(
                f"Autoencoding({field.name}={value!r}) says nothing to {_CALLED[kind]}, whose options are "
                f"{', '.join(_OF[kind])}."
            )
    likelihood = asked.likelihood or _USUAL[kind]
    if (likelihood == "logit_laplace") != (kind == "gumbel"):
        able = "logit_laplace" if kind == "gumbel" else "bernoulli or gaussian"
        raise ValueError(f"Autoencoding(likelihood={likelihood!r}) is not what {_CALLED[kind]} gives; it has {able}.")
    if asked.deviation is not None and likelihood != "gaussian":
        raise ValueError(
            f"Autoencoding(deviation={asked.deviation:g}) is of likelihood='gaussian', not {likelihood!r}."
        )
    usual = {
        "beta": 1.0,
        "warm_up": 0.1,
        "deviation": 0.18 if kind == "codebook" else 0.1,
        "commitment": 0.25,
        "temperature": 1 / 16,
        "annealing": 0.5,
        "balance": 1.0,
    }
    filled = {name: value if own[name] is None else own[name] for name, value in usual.items()}
    return Settled(kind=kind, likelihood=likelihood, samples=asked.samples, **filled)


def level(likelihood: Likelihood) -> float | None:
    """How far two of 256 levels of a pixel are apart where it has a density; None where it has none."""
    return {"bernoulli": None, "gaussian": 1 / 255, "logit_laplace": (_HIGH - _LOW) / 255}[likelihood]


def kind_in(outputs: Mapping[str, Any]) -> Kind:
    """The kind of the model that gives these outputs."""
    return "normal" if "mean" in outputs else "codebook" if "codes" in outputs else "gumbel"


@keras.saving.register_keras_serializable("zoo")
class Bound(keras.losses.Loss):
    """Of {"image" (B, H, W, C) in 0..255, "elapsed" (B,)} and the outputs of a model with task="reconstruct".

    With a codebook the targets say whether it is "learned" by gradient, 1 or 0.
    """

    def __init__(self, given: Autoencoding | None = None):
        super().__init__("bound")
        self.given = given or Autoencoding()

    def parts(self, image: tf.Tensor, outputs: Mapping[str, Any]) -> dict[str, tf.Tensor]:
        """What the loss is made of, by name, (B,): nats an image, and of a codebook the mean squared distance."""
        found = {"reconstruction": self.reconstruction(image, outputs)}
        if "mean" in outputs:
            found["divergence"] = variational.normal_divergence(outputs["mean"], outputs["log_variance"])
        elif "codes" in outputs:
            found["quantization"] = variational.quantization(
                outputs["encoded"], outputs["quantized"], commitment=1.0, learned=False
            )
        else:
            found["divergence"] = variational.codes_divergence(outputs["logits"])
        return found

    def reconstruction(self, image: tf.Tensor, outputs: Mapping[str, Any]) -> tf.Tensor:
        """The negative log-likelihood of images in 0..255: (B,) nats."""
        chosen, pixels = settled(kind_in(outputs), self.given), tf.cast(image, tf.float32) / 255.0
        if chosen.likelihood == "logit_laplace":
            return variational.logit_laplace(_LOW + (_HIGH - _LOW) * pixels, outputs["statistics"])
        if chosen.likelihood == "bernoulli":
            return variational.bernoulli(pixels, outputs["logits"])
        return variational.gaussian(pixels, tf.sigmoid(outputs["logits"]), deviation=chosen.deviation)

    def call(self, y_true, y_pred):
        chosen, image = settled(kind_in(y_pred), self.given), y_true["image"]
        likelihood = self.reconstruction(image, y_pred)
        if chosen.kind == "codebook":
            distance = variational.quantization(
                y_pred["encoded"], y_pred["quantized"], commitment=chosen.commitment, learned=y_true["learned"]
            )
            return likelihood / math.prod(image.shape[1:]) + distance
        divergence = self.parts(image, y_pred)["divergence"]
        weight = variational.warm_up(y_true[ELAPSED], steps=chosen.warm_up, weight=chosen.beta)
        return likelihood + weight * divergence

    def get_config(self):
        return {"given": dataclasses.asdict(self.given)}

    @classmethod
    def from_config(cls, config):
        """The loss that `get_config` described."""
        return cls(Autoencoding(**config["given"]))
