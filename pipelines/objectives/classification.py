"""Classification: one class for each example, by cross-entropy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import keras
import numpy as np
import tensorflow as tf

from pipelines.datasets import Dataset, Part
from pipelines.objectives.losses import CrossEntropy
from pipelines.objectives.objective import Objective, accuracy
from pipelines.objectives.pictures import figure, short
from pipelines.objectives.scores import Scores


@dataclass(frozen=True)
class ClassScore:
    """Precision, recall and F1 of one class (0..1), and the number of its examples."""

    name: str
    precision: float
    recall: float
    f1: float
    examples: int

    def row(self) -> tuple[str, ...]:
        """As a line of a table."""
        return (self.name, f"{self.precision:.3f}", f"{self.recall:.3f}", f"{self.f1:.3f}", f"{self.examples}")


@dataclass(frozen=True)
class ClassificationScores(Scores):
    """Scores of a classifier. `confusion[i][j]` counts examples of class i that were taken for class j.

    `top5` is None where there are no more than five classes. For classes that are not equally many: the balanced
    accuracy is the mean recall of the classes, macro F1 their mean F1, and the AUROC the mean over classes of how often
    an example of the class has a larger probability of it than one of another. Classes without examples are left out;
    None in what was written before there were these.
    """

    kind = "classification"
    picture = "confusion.png"
    caption = "Confusion matrix"

    accuracy: float
    top5: float | None
    classes: tuple[ClassScore, ...]
    confusion: tuple[tuple[int, ...], ...]
    balanced_accuracy: float | None = None
    macro_f1: float | None = None
    auroc: float | None = None

    @property
    def images(self) -> int:
        """The examples of an image classifier."""
        return self.examples

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> Self:
        """The scores from JSON; in the first format examples were called images."""

        def renamed(old: Mapping[str, Any]) -> dict[str, Any]:
            return {"examples" if name == "images" else name: value for name, value in old.items()}

        return cls(**{**renamed(values), "classes": tuple(ClassScore(**renamed(c)) for c in values["classes"])})

    def summary(self, unit: str) -> str:
        others = (
            ("top-5 {:.2%}", self.top5),
            ("balanced {:.2%}", self.balanced_accuracy),
            ("macro F1 {:.3f}", self.macro_f1),
            ("AUROC {:.3f}", self.auroc),
        )
        known = "".join(f", {text.format(value)}" for text, value in others if value is not None)
        return f"Accuracy **{self.accuracy:.2%}**{known} on {self.examples:,} {unit} never trained on."

    def rows(self, unit: str) -> list[tuple[str, ...]]:
        return [("class", "precision", "recall", "F1", unit), *(c.row() for c in self.classes)]

    def draw(self, folder: Path, unit: str) -> None:
        title = f"{self.examples:,} test {unit}, accuracy {self.accuracy:.1%}"
        draw_confusion(self.confusion, [c.name for c in self.classes], folder / "confusion.png", title=title)


def classify(data: Dataset) -> Objective:
    """Labels (B,) and logits (B, classes)."""

    def evaluate(model: keras.Model, batches: tf.data.Dataset, part: Part) -> ClassificationScores:
        labels = [np.asarray(batch[1]) for batch in batches]
        logits = model.predict(batches.map(lambda inputs, *_: inputs), verbose=0)
        return score(np.asarray(logits, "float32"), np.concatenate(labels), data.classes)

    return Objective(loss=CrossEntropy, metrics=accuracy, score=evaluate)


def score(logits: np.ndarray, labels: np.ndarray, classes: tuple[str, ...]) -> ClassificationScores:
    """Scores from logits (N, classes) and labels (N,)."""
    predicted = logits.argmax(axis=-1)
    best = np.argsort(-logits, axis=-1, kind="stable")[:, :5]
    scores, confusion = class_scores(labels, predicted, classes)
    present = [row for row in scores if row.examples]
    said = [row for index, row in enumerate(scores) if row.examples or (predicted == index).any()]
    return ClassificationScores(
        accuracy=float((predicted == labels).mean()),
        top5=float((best == labels[:, None]).any(axis=-1).mean()) if len(classes) > 5 else None,
        examples=len(labels),
        classes=scores,
        confusion=confusion,
        balanced_accuracy=float(np.mean([row.recall for row in present])),
        macro_f1=float(np.mean([row.f1 for row in said])),
        auroc=auroc(logits, labels),
    )


def auroc(logits: np.ndarray, labels: np.ndarray) -> float | None:
    """The area under the ROC curve of each class against the others, by its probability: the mean over classes.

    Logits (N, classes), labels (N,). None where there is no class with examples of it and of others, or a logit is no
    number.
    """
    from sklearn.metrics import roc_auc_score

    if not np.isfinite(logits).all():
        return None
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    probabilities = powers / powers.sum(axis=-1, keepdims=True)
    marks = labels[:, None] == np.arange(logits.shape[-1])
    chosen = [index for index in range(logits.shape[-1]) if marks[:, index].any() and not marks[:, index].all()]
    areas = [roc_auc_score(marks[:, index], probabilities[:, index]) for index in chosen]
    return float(np.mean(areas)) if areas else None


def class_scores(
    labels: np.ndarray, predicted: np.ndarray, classes: tuple[str, ...]
) -> tuple[tuple[ClassScore, ...], tuple[tuple[int, ...], ...]]:
    """The scores of each class, and the confusion matrix, from numbers of classes (N,)."""
    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

    indices = np.arange(len(classes))
    precision, recall, f1, support = precision_recall_fscore_support(
        labels, predicted, labels=indices, average=None, zero_division=0.0
    )
    scores = tuple(
        ClassScore(name, float(p), float(r), float(f), int(n))
        for name, p, r, f, n in zip(classes, precision, recall, f1, support, strict=True)
    )
    return scores, tuple(tuple(map(int, row)) for row in confusion_matrix(labels, predicted, labels=indices))


def draw_confusion(confusion: Sequence[Sequence[int]], names: Sequence[str], path: Path, *, title: str) -> None:
    """A confusion matrix as a picture: true classes down, predicted across, each row adding up to 1."""
    counts = np.asarray(confusion)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = max(4.0, 0.45 * len(counts) + 2)
    with figure(path, panel=(side, side)) as (axes,):
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        if len(counts) <= 30:
            for (row, column), count in np.ndenumerate(counts):
                if count:
                    color = "white" if shares[row, column] > 0.5 else "black"
                    axes.text(column, row, str(count), ha="center", va="center", color=color, fontsize=9)
        if len(counts) <= 60:
            shown = [short(name) for name in names]
            axes.set_xticks(range(len(names)), shown, rotation=90 if max(map(len, names)) > 2 else 0)
            axes.set_yticks(range(len(names)), shown)
        axes.set_xlabel("predicted")
        axes.set_ylabel("true")
        axes.figure.suptitle(title)  # over all the figure: names may leave the axes little of it
