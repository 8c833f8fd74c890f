"""How far an exported model's answers are from those of the Keras model, and how far they may be."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

Format = Literal["saved_model", "float32", "float16", "dynamic", "int8"]


@dataclass(frozen=True)
class Limit:
    """How far one format may be from Keras.

    `difference` is the largest difference of logits as a share of the standard deviation of Keras'
    logits; `noise` the root mean square difference as a share of how much they vary from image to
    image, which is 1 for a model that answers every image alike. `agreement` is the share of images with the same best
    class; an image does not count against it where Keras' own margin between the two classes is within
    `difference`. `accuracy_drop` is a share of the images. One image alone never breaks the
    last two of a format that rounds (`difference` not given), however few there are.
    """

    agreement: float
    difference: float | None = None
    noise: float | None = None
    accuracy_drop: float | None = None


@dataclass(frozen=True)
class Tolerance:
    """The limits of all formats. The numbers in brackets were measured on MobileNetV2.

    exact: SavedModel and float32 TFLite of a float32 model, which differ by rounding (3e-6).
    reduced: the same of a model that computes in bfloat16 or float16. Files compute in float32, so
    they differ from such a model by its own rounding, not by theirs.
    float16: weights rounded to 11 bits (9e-4).
    quantized: dynamic and int8; differences of single logits are normal (3e-2 to 1), so these are
    held to their noise (1e-2 to 2e-1) and their answers.
    """

    exact: Limit = Limit(agreement=1.0, difference=1e-3)
    reduced: Limit = Limit(agreement=0.98, difference=0.2)
    float16: Limit = Limit(agreement=0.99, difference=0.03)
    quantized: Limit = Limit(agreement=0.9, noise=0.5, accuracy_drop=0.03)

    def limit(self, form: Format, *, reduced: bool) -> Limit:
        """The limit of a format, for a Keras model that computes in float32 or in `reduced` precision."""
        if form in ("dynamic", "int8"):
            return self.quantized
        if reduced:
            return self.reduced
        return self.float16 if form == "float16" else self.exact


@dataclass(frozen=True)
class Agreement:
    """What a comparison measured; the fields are explained in `Limit`.

    `logit_difference` is the largest in the logits' own unit. The accuracies are None without labels.
    """

    images: int
    logit_difference: float
    difference: float
    noise: float
    agreement: float
    accuracy: float | None
    keras_accuracy: float | None

    def problems(self, limit: Limit) -> list[str]:
        """What breaks the limit, with numbers; empty if nothing does."""
        if not math.isfinite(self.noise):
            return ["the logits are not all finite numbers"]
        one_image = 1 / self.images if limit.difference is None else 0.0
        found = []
        if limit.difference is not None and self.difference > limit.difference:
            found.append(
                f"a logit differs by {self.logit_difference:.3g}, which is {self.difference:.3g} of the logits' "
                f"standard deviation (at most {limit.difference:g})"
            )
        if limit.noise is not None and self.noise > limit.noise:
            found.append(
                f"the logits' average difference is {self.noise:.3g} of how they vary from image to image "
                f"(at most {limit.noise:g})"
            )
        if self.agreement < min(limit.agreement, 1 - one_image) - 1e-9:
            found.append(
                f"the best class is the same on {self.agreement:.1%} of the images (at least {limit.agreement:.0%})"
            )
        if limit.accuracy_drop is not None and self.accuracy is not None and self.keras_accuracy is not None:
            drop = self.keras_accuracy - self.accuracy
            if drop > max(limit.accuracy_drop, one_image) + 1e-9:
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
    best, keras_best = logits.argmax(-1), keras_logits.argmax(-1)
    rows = np.arange(len(logits))
    margin = keras_logits[rows, keras_best] - keras_logits[rows, best]
    same = margin <= (limit.difference or 0.0) * spread
    return Agreement(
        images=len(logits),
        logit_difference=float(errors.max()),
        difference=float(errors.max()) / spread,
        noise=noise / variation,
        agreement=float(np.mean(same)),
        accuracy=accuracy(logits, labels),
        keras_accuracy=accuracy(keras_logits, labels),
    )


def accuracy(logits: np.ndarray, labels: np.ndarray | None) -> float | None:
    """The share of images whose best class is their label; None without labels."""
    return None if labels is None else float(np.mean(logits.argmax(-1) == labels))
