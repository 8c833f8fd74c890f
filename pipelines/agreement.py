"""How far an exported model's answers are from those of the Keras model, and how far they may be."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from zoo.core.family import Task

Format = Literal["saved_model", "float32", "float16", "dynamic", "int8"]
FORMATS: tuple[Format, ...] = get_args(Format)
# Tasks whose answers are numbers in which no largest one is the answer.
VALUES: tuple[Task, ...] = ("features", "regress", "forecast", "generate", "reconstruct", "encode", "decode")
IN_UNITS: tuple[Task, ...] = ("regress", "forecast")  # numbers whose columns have each a unit of their own


@dataclass(frozen=True)
class Limit:
    """How far one format may be from Keras.

    `difference` is the largest difference of logits as a share of the standard deviation of Keras'
    logits; `noise` the root mean square difference as a share of how much they vary from image to
    image, which is 1 for a model that answers every image alike. `agreement` is the share of images with the same best
    class; an image does not count against it where Keras' own margin between the two classes is within
    `difference`. `accuracy_drop` is a share of the images. One image alone never breaks the
    last two of a format that rounds (`difference` not given), however few there are.

    Where a model answers for every token, tokens take the place of images; where it answers with values, these take
    the place of logits, and there is no `agreement`. Where an image has several labels, it is the share that the labels
    which both name have in all that either names: what both leave out, most of it without question, does not count.
    """

    agreement: float | None = None
    difference: float | None = None
    noise: float | None = None
    accuracy_drop: float | None = None


@dataclass(frozen=True)
class Tolerance:
    """The limits of all formats. The numbers in brackets are those of the bundled ImageNet MobileNetV2.

    exact: SavedModel and float32 TFLite, which differ by the order of additions (1e-5).
    float16: weights rounded to 11 bits (7e-2).
    quantized: dynamic and int8. Single logits differ much, so these are held to their noise (0.07 and
    0.36) and their answers. A model that wavers between 1,000 classes may well not pass as int8.
    quantized_values: dynamic and int8 of a model that answers with values, which no margin between classes forgives.
    reduced: a Keras model that computes in bfloat16 or float16 against its files, which do not. They are
    held to the other limits against the same model in float32; this is for what Keras itself
    rounds (noise 0.09 in bfloat16, 0.009 in float16).
    """

    exact: Limit = Limit(agreement=1.0, difference=1e-3)
    float16: Limit = Limit(agreement=0.99, difference=0.2)
    quantized: Limit = Limit(agreement=0.9, noise=0.5, accuracy_drop=0.03)
    quantized_values: Limit = Limit(noise=0.25)
    reduced: Limit = Limit(agreement=0.95, noise=0.3, accuracy_drop=0.03)

    def limit(self, form: Format, task: Task = "classify") -> Limit:
        """The limit of a format against Keras in float32."""
        if form in ("dynamic", "int8"):
            return self.quantized_values if task in VALUES else self.quantized
        return self.float16 if form == "float16" else self.exact


@dataclass(frozen=True)
class Agreement:
    """What a comparison measured; the fields are explained in `Limit`.

    `count` of `unit` were compared. `logit_difference` is the largest in the logits' own unit. The agreement is None
    for values, the accuracies without labels.
    """

    count: int
    logit_difference: float
    difference: float
    noise: float
    agreement: float | None
    accuracy: float | None
    keras_accuracy: float | None
    unit: str = "images"
    number: str = "logit"
    several: bool = False  # labels an image

    def problems(self, limit: Limit) -> list[str]:
        """What breaks the limit, with numbers; empty if nothing does."""
        if not math.isfinite(self.noise):
            return [f"the {self.number}s are not all finite numbers"]
        one = 1 / self.count if limit.difference is None else 0.0
        found = []
        if limit.difference is not None and self.difference > limit.difference:
            found.append(
                f"a {self.number} differs by {self.logit_difference:.3g}, which is {self.difference:.3g} of the "
                f"{self.number}s' standard deviation (at most {limit.difference:g})"
            )
        if limit.noise is not None and self.noise > limit.noise:
            found.append(
                f"the {self.number}s' average difference is {self.noise:.3g} of how they vary from one of the "
                f"{self.unit} to another (at most {limit.noise:g})"
            )
        least = -math.inf if limit.agreement is None else min(limit.agreement, 1 - one) - 1e-9
        if self.agreement is not None and self.agreement < least:
            same = f"the best class is the same on {self.agreement:.1%} of the {self.unit}"
            if self.several:
                same = f"both name {self.agreement:.1%} of the labels that either names"
            found.append(f"{same} (at least {limit.agreement:.0%})")
        if limit.accuracy_drop is not None and self.accuracy is not None and self.keras_accuracy is not None:
            drop = self.keras_accuracy - self.accuracy
            if drop > max(limit.accuracy_drop, one) + 1e-9:
                found.append(
                    f"accuracy falls from {self.keras_accuracy:.2%} to {self.accuracy:.2%} "
                    f"(by at most {limit.accuracy_drop:.1%})"
                )
        return found


def compare(logits: np.ndarray, keras_logits: np.ndarray, *, labels: np.ndarray | None, limit: Limit) -> Agreement:
    """Measures logits (N, classes) against those of Keras on the same images.

    Raises:
        ValueError: the shapes differ.
    """
    if logits.shape != keras_logits.shape:
        raise ValueError(f"Logits of shape {logits.shape} do not compare with Keras' of shape {keras_logits.shape}.")
    spread = float(keras_logits.std()) or 1.0
    # Images that are nearly alike say little about the noise: no finer measure than a tenth of the spread.
    variation = max(float((keras_logits - keras_logits.mean(0)).std()), 0.1 * spread)
    with np.errstate(invalid="ignore", over="ignore"):
        errors = np.abs(logits.astype(np.float64) - keras_logits)
        noise = float(np.sqrt(np.mean(errors**2)))
    return Agreement(
        count=len(logits),
        logit_difference=float(errors.max()),
        difference=float(errors.max()) / spread,
        noise=noise / variation,
        agreement=same_best(logits, keras_logits, (limit.difference or 0.0) * spread),
        accuracy=accuracy(logits, labels),
        keras_accuracy=accuracy(keras_logits, labels),
    )


def accuracy(logits: np.ndarray, labels: np.ndarray | None) -> float | None:
    """The share of images whose best class is their label; None without labels. Labels below 0 do not count."""
    if labels is None or not (labels >= 0).any():
        return None
    return float(np.mean((logits.argmax(-1) == labels)[labels >= 0]))


def same_best(logits: np.ndarray, keras_logits: np.ndarray, tolerated: float) -> float:
    """The share of rows (N, classes) with the same best class, or one that Keras rates lower by what is tolerated."""
    best, keras_best = logits.argmax(-1), keras_logits.argmax(-1)
    rows = np.arange(len(logits))
    return float(np.mean(keras_logits[rows, keras_best] - keras_logits[rows, best] <= tolerated))


def same_labels(logits: np.ndarray, keras_logits: np.ndarray, tolerated: float) -> float:
    """Of the labels of rows (N, classes) that either names, twice the share that both name: 1 if they are the same.

    What Keras itself leaves open, by a logit within what is tolerated of 0, counts as the same.
    """
    keras_said = keras_logits > 0
    said = np.where(np.abs(keras_logits) <= tolerated, keras_said, logits > 0)
    named = int(said.sum() + keras_said.sum())
    return 2 * int((said & keras_said).sum()) / named if named else 1.0


def worst(agreements: Iterable[Agreement]) -> Agreement:
    """One for all outputs of a model: the largest difference and noise, the smallest agreement."""
    found = list(agreements)
    return dataclasses.replace(
        found[0],
        logit_difference=max(one.logit_difference for one in found),
        difference=max(one.difference for one in found),
        noise=max(one.noise for one in found),
        agreement=min((one.agreement for one in found if one.agreement is not None), default=None),
    )
