"""Multi-label classification: of each class whether an example has it, by binary cross-entropy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from pipelines.datasets import Dataset, Part
from pipelines.objectives.losses import BinaryCrossEntropy
from pipelines.objectives.objective import Objective, WeightedMetric
from pipelines.objectives.pictures import figure, short
from pipelines.objectives.scores import Scores, number

THRESHOLD = 0.5  # the probability from which an example is said to have a class
_SHOWN = 40  # classes in the picture


@dataclass(frozen=True)
class LabelScore:
    """Scores of one class (0..1), at any threshold and at 0.5, and the number of examples that have it.

    `average_precision` is None where no example has it, `auroc` also where all have.
    """

    name: str
    average_precision: float | None
    auroc: float | None
    precision: float
    recall: float
    f1: float
    examples: int


@dataclass(frozen=True)
class MultiLabelScores(Scores):
    """Scores of a classifier that says of each class whether an example has it.

    The first three are means over classes: the area under the curve of precision against recall, F1 at a probability of
    0.5, and the AUROC. `exact_match` is the share of examples with all classes right at 0.5; `jaccard` the mean share
    of the classes that are right among those that are said or true, 1 where there are none. A class that no example
    has counts in none of the means, but in F1 where it is said.
    """

    kind = "multi_label"
    picture = "labels.png"
    caption = "Average precision and F1 of each class"

    mean_average_precision: float | None
    macro_f1: float
    auroc: float | None
    exact_match: float
    jaccard: float
    classes: tuple[LabelScore, ...]

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> Self:
        return cls(**{**values, "classes": tuple(LabelScore(**row) for row in values["classes"])})

    def summary(self, unit: str) -> str:
        return (
            f"Mean average precision **{number(self.mean_average_precision)}**, macro F1 {self.macro_f1:.3f}, "
            f"AUROC {number(self.auroc)}, all classes right {self.exact_match:.2%} "
            f"on {self.examples:,} {unit} never trained on."
        )

    def rows(self, unit: str) -> list[tuple[str, ...]]:
        def shown(value: float | None) -> str:
            return "-" if value is None else f"{value:.3f}"

        header = ("class", "average precision", "AUROC", "precision", "recall", "F1", unit)
        lines = (
            (row.name, *map(shown, (row.average_precision, row.auroc, row.precision, row.recall, row.f1)))
            for row in self.classes
        )
        return [header, *((*line, str(row.examples)) for line, row in zip(lines, self.classes, strict=True))]

    def draw(self, folder: Path, unit: str) -> None:
        known = [row for row in self.classes if row.average_precision is not None]
        worst = sorted(known, key=lambda row: (row.average_precision or 0.0, row.name))[:_SHOWN]
        left = len(self.classes) - len(worst)
        with figure(folder / "labels.png", panel=(6.0, max(2.6, 0.3 * len(worst) + 1.6))) as (axes,):
            places = np.arange(len(worst))
            axes.barh(places, [row.average_precision or 0.0 for row in worst], height=0.6, label="average precision")
            rates = [row.examples / self.examples for row in worst]
            axes.vlines(rates, places - 0.4, places + 0.4, color="black", label="that of guessing")
            axes.plot([row.f1 for row in worst], places, "o", color="tab:orange", label=f"F1 at {THRESHOLD:g}")
            axes.set_yticks(places, [short(row.name) for row in worst])
            axes.set_xlim(0, 1.02)
            axes.figure.legend(loc="outside lower center", ncols=3)
            more = f" (the {len(worst)} lowest of {len(self.classes)} classes)" if left else ""
            axes.figure.suptitle(f"{self.examples:,} test {unit}{more}")


def multi_label(data: Dataset) -> Objective:
    """Marks (B, classes) of 0 and 1, and logits (B, classes)."""

    def evaluate(model: keras.Model, batches: tf.data.Dataset, part: Part) -> MultiLabelScores:
        marks = [np.asarray(batch[1]) for batch in batches]
        logits = model.predict(batches.map(lambda inputs, *_: inputs), verbose=0)
        return score(np.asarray(logits, "float32"), np.concatenate(marks), data.classes)

    return Objective(loss=BinaryCrossEntropy, metrics=lambda: metrics(len(data.classes)), score=evaluate)


def metrics(classes: int) -> list[keras.metrics.Metric]:
    """How often all classes of an example are right, and the mean F1 of the classes."""

    def exact(marks, logits):
        return ops.all(ops.equal(marks > 0.5, logits > 0), axis=-1)

    return [WeightedMetric(exact, "exact_match"), MacroF1(classes)]


class MacroF1(keras.metrics.Metric):
    """The mean over classes of F1 at a probability of 0.5; of marks and logits (B, classes).

    A class that is neither true nor said of any example has no part.
    """

    def __init__(self, classes: int):
        super().__init__(name="macro_f1")
        self._right, self._said, self._true = (
            self.add_variable((classes,), initializer="zeros", name=name) for name in ("right", "said", "true")
        )

    def update_state(self, y_true, y_pred, sample_weight=None):
        true, said = ops.cast(y_true > 0.5, self.dtype), ops.cast(y_pred > 0, self.dtype)
        weights = ops.ones_like(true[:, 0]) if sample_weight is None else ops.cast(sample_weight, self.dtype)
        for variable, values in ((self._right, true * said), (self._said, said), (self._true, true)):
            variable.assign_add(ops.sum(values * ops.reshape(weights, (-1, 1)), axis=0))

    def result(self):
        together = self._said + self._true
        f1 = ops.divide_no_nan(2 * self._right, together)
        return ops.divide_no_nan(ops.sum(f1), ops.sum(ops.cast(together > 0, self.dtype)))


def score(logits: np.ndarray, marks: np.ndarray, classes: tuple[str, ...]) -> MultiLabelScores:
    """Scores from logits (N, classes) and marks (N, classes) of 0 and 1."""
    said, true = logits > 0, marks > 0.5
    rows = tuple(_of_class(name, logits[:, k], said[:, k], true[:, k]) for k, name in enumerate(classes))
    counted = [row.f1 for k, row in enumerate(rows) if row.examples or said[:, k].any()]
    return MultiLabelScores(
        examples=len(marks),
        mean_average_precision=_mean([row.average_precision for row in rows]),
        macro_f1=_mean(counted) or 0.0,
        auroc=_mean([row.auroc for row in rows]),
        exact_match=float((said == true).all(axis=-1).mean()),
        jaccard=jaccard(said, true),
        classes=rows,
    )


def jaccard(said: np.ndarray, true: np.ndarray) -> float:
    """The mean over rows (N, classes) of what both hold among what either holds; 1 where neither holds anything."""
    both, either = (said & true).sum(axis=-1), (said | true).sum(axis=-1)
    return float(np.where(either, both / np.maximum(either, 1), 1.0).mean())


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """Probabilities from logits, each by itself."""
    powers = np.exp(-np.abs(logits))  # which no logit makes too large
    return np.where(logits >= 0, 1 / (1 + powers), powers / (1 + powers))


def _of_class(name: str, logits: np.ndarray, said: np.ndarray, true: np.ndarray) -> LabelScore:
    from sklearn.metrics import average_precision_score, roc_auc_score

    right, known = int((said & true).sum()), bool(np.isfinite(logits).all())
    return LabelScore(
        name,
        average_precision=float(average_precision_score(true, logits)) if known and true.any() else None,
        auroc=float(roc_auc_score(true, logits)) if known and true.any() and not true.all() else None,
        precision=right / max(int(said.sum()), 1),
        recall=right / max(int(true.sum()), 1),
        f1=2 * right / max(int(said.sum() + true.sum()), 1),
        examples=int(true.sum()),
    )


def _mean(values: list[float | None] | list[float]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
