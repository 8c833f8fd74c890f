"""Autoencoders: images from themselves, by the ELBO or the loss of a VQ-VAE; scores on images never seen."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, overload

import keras
import numpy as np
import tensorflow as tf

from pipelines.autoencoder import codes_in, codes_of, kind_of
from pipelines.autoencoding import Autoencoding
from pipelines.datasets import Dataset, Part
from pipelines.feed import Feed
from pipelines.objectives import latent_pictures
from pipelines.objectives.bound import Bound, level, settled
from pipelines.objectives.drawn import DRAWS, ELAPSED, Autoencoder, autoencoder
from pipelines.objectives.objective import Objective
from pipelines.objectives.scores import Scores, number


@dataclass(frozen=True)
class AutoencodingScores(Scores):
    """How well images come back, and in how many nats and bits they are told.

    `elbo`, `reconstruction` (a negative log-likelihood) and `divergence` are nats an image, of latents drawn once;
    a codebook's divergence is that of certain codes from equally probable ones. `bits` are the ELBO's a dimension: of
    pixels in 0..1 as chances of white, or, of densities, of 256 levels. `mse` is of pixels in 0..1, of the latents'
    means or the likeliest codes. `used` codes of `codes` occur, as many as `perplexity` if all were equally frequent.
    `bound` is the importance-weighted one of `samples` draws.
    """

    kind = "autoencoding"

    likelihood: str
    elbo: float
    reconstruction: float
    divergence: float
    bits: float
    mse: float
    codes: int = 0
    used: int | None = None
    perplexity: float | None = None
    bound: float | None = None
    samples: int = 1

    def summary(self, unit: str) -> str:
        told = f"On {self.examples:,} {unit} never trained on, "
        error = f"the mean squared error of pixels in 0..1 is {number(self.mse)}"
        if self.used is not None:
            use = f"{self.used} of {self.codes} codes are in use (perplexity {number(self.perplexity)})"
            error = f"{error}, and {use}"
        more = "" if self.bound is None else f", with {self.samples} draws **{number(self.bound)}**"
        bits = f"{number(self.bits)} bits a dimension"
        return f"{told}the ELBO is **{number(self.elbo)}** nats each ({self.likelihood}, {bits}){more}; {error}."

    def rows(self, unit: str) -> list[tuple[str, ...]]:
        parts = (("ELBO", self.elbo), ("log-likelihood", -self.reconstruction), ("divergence", self.divergence))
        return [("nats each", "mean"), *((name, number(value)) for name, value in parts)]


@dataclass(frozen=True, kw_only=True)
class Reconstruction(Objective):
    """An objective whose weights change with the share of the steps of so many epochs that is done."""

    epochs: int

    @overload
    def complete(self, batches: Feed, *, seed: int, training: Literal[True]) -> Feed: ...

    @overload
    def complete(self, batches: tf.data.Dataset, *, seed: int, training: Literal[False]) -> tf.data.Dataset: ...

    def complete(self, batches: Feed | tf.data.Dataset, *, seed: int, training: bool) -> Feed | tf.data.Dataset:
        """The loader's batches with what is drawn for them and, in training, when they come."""
        if not training and not isinstance(batches, Feed):
            return super().complete(batches, seed=seed, training=False)
        assert isinstance(batches, Feed), "training takes a feed"
        found = super().complete(batches, seed=seed, training=True)
        steps = found.steps * self.epochs

        def at(
            batch: tuple[dict[str, tf.Tensor], tf.Tensor], which: tf.Tensor
        ) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
            inputs, whole = batch
            elapsed = whole * tf.cast(which / steps, tf.float32)
            return {**inputs, ELAPSED: elapsed}, elapsed

        return found.map(at)


def reconstruct(data: Dataset, given: Autoencoding | None = None, *, epochs: int = 1) -> Objective:
    """Images (B, H, W, C) for what comes back of them; labels, if there are any, are for models that take them."""
    from pipelines.codebook_engine import CodebookEngine  # which comes after the losses, and they are beside this one

    def evaluate(model: keras.Model, batches: tf.data.Dataset, part: Part) -> AutoencodingScores:
        return score(model, batches, given)

    return Reconstruction(
        loss=lambda: Bound(given),
        metrics=lambda: [],
        score=evaluate,
        target=_drawn,
        learner=functools.partial(_learner, given=given),
        engine=CodebookEngine,
        draw=functools.partial(latent_pictures.draw, data),
        epochs=epochs,
    )


def score(model: keras.Model, batches: tf.data.Dataset, given: Autoencoding | None = None) -> AutoencodingScores:
    """Scores of a model with task="reconstruct" on batches of an objective."""
    options, loss, codes = settled(kind_of(model), given), Bound(given), codes_of(model)
    drawn = _learner(model, given)
    takes = list(model.input) if isinstance(model.input, Mapping) else None

    @tf.function(reduce_retracing=True)
    def look(inputs: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        found = dict(loss.parts(inputs["image"], drawn(inputs, training=False)))
        plain = model({name: inputs[name] for name in takes} if takes else inputs["image"], training=False)
        found["squares"] = tf.reduce_mean(tf.square((plain["image"] - inputs["image"]) / 255), axis=(1, 2, 3))
        return {**found, **({"codes": codes_in(plain)} if codes else {})}

    told: dict[str, list[np.ndarray]] = {}
    for inputs, _ in batches:
        values = {name: np.asarray(value) for name, value in look(inputs).items()}
        if codes:
            values["codes"] = np.bincount(values["codes"].ravel(), minlength=codes)[None]
        if options.samples > 1:
            values["bound"] = importance(drawn, inputs, loss, samples=options.samples)
        for name, value in values.items():
            told.setdefault(name, []).append(value.astype("float64"))
    found = {name: np.concatenate(values) for name, values in told.items()}
    if options.kind == "codebook":
        found["divergence"] = np.array([math.prod(model.output["codes"].shape[1:]) * math.log(codes)])
    means = {name: float(values.mean()) for name, values in found.items() if name != "codes"}
    elbo, unit = -(means["reconstruction"] + means["divergence"]), level(options.likelihood)
    use = _use(found["codes"].sum(axis=0)) if codes else {}
    bits = -elbo / math.prod(model.output["image"].shape[1:]) / math.log(2) - (math.log2(unit) if unit else 0.0)
    return AutoencodingScores(
        examples=len(found["squares"]),
        likelihood=options.likelihood,
        elbo=elbo,
        reconstruction=means["reconstruction"],
        divergence=means["divergence"],
        bits=bits,
        mse=means["squares"],
        codes=codes,
        bound=means.get("bound"),
        samples=options.samples,
        **use,
    )


def _use(counts: np.ndarray) -> dict[str, Any]:
    """How many codes occur, and how many equally frequent ones would say as much."""
    shares = counts[counts > 0] / counts.sum()
    return {"used": len(shares), "perplexity": float(np.exp(-(shares * np.log(shares)).sum()))}


def importance(model: Autoencoder, inputs: Mapping[str, tf.Tensor], loss: Bound, *, samples: int) -> np.ndarray:
    """The importance-weighted bound on log p(image) of a VAE, (B,) nats; paper: https://arxiv.org/abs/1509.00519.

    With one of the `samples` it is the ELBO, and it rises toward the log-likelihood with more of them.
    """
    weigh = _weigher(model, loss)
    logs = []
    for which in range(samples):
        draws = tf.stack([inputs[DRAWS][:, 0], inputs[DRAWS][:, 1] + which], axis=1)
        logs.append(np.asarray(weigh({**inputs, DRAWS: draws}), "float64"))
    largest = np.max(logs, axis=0)
    return largest + np.log(np.mean(np.exp(np.stack(logs) - largest), axis=0))


@functools.lru_cache(maxsize=1)  # of all batches of a set
def _weigher(model: Autoencoder, loss: Bound) -> Callable[[dict[str, tf.Tensor]], tf.Tensor]:
    """The logarithms of the weights of one draw for each image, (B,)."""
    noise_of = model.get_layer("neck_noise")

    @tf.function(reduce_retracing=True)
    def weigh(inputs: dict[str, tf.Tensor]) -> tf.Tensor:
        outputs, noise = model(inputs, training=False), noise_of(inputs[DRAWS])
        deviation = tf.exp(0.5 * outputs["log_variance"])
        latent = outputs["mean"] + deviation * noise
        prior_to_posterior = 0.5 * tf.square(noise) + tf.math.log(deviation) - 0.5 * tf.square(latent)
        return tf.reduce_sum(prior_to_posterior, axis=-1) - loss.reconstruction(inputs["image"], outputs)

    return weigh


def _drawn(batch: Any, draw: tf.Tensor) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
    """A loader's batch, with two random numbers for each example."""
    image, *labels = batch if isinstance(batch, tuple) else (batch,)
    count = image.shape[0] or tf.shape(image)[0]
    draws = tf.random.stateless_uniform((count, 2), draw, minval=None, maxval=None, dtype=tf.int32)
    whole = tf.ones((count,))
    inputs = {"image": image, DRAWS: draws, ELAPSED: whole}
    return ({**inputs, "labels": labels[0]} if labels else inputs), whole


def _learner(model: keras.Model, given: Autoencoding | None) -> Autoencoder:
    options = settled(kind_of(model), given)
    return autoencoder(model, temperature=options.temperature, annealing=options.annealing, balance=options.balance)
