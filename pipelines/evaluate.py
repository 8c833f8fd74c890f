"""How good a classifier is on images it has never seen."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np

from pipelines import images
from pipelines.files import replacing
from pipelines.sources import Examples
from zoo.layers.pixels import pixels_of


@dataclass(frozen=True)
class ClassScore:
    """Precision, recall and F1 of one class (0..1), and the number of its images."""

    name: str
    precision: float
    recall: float
    f1: float
    images: int


@dataclass(frozen=True)
class Scores:
    """Scores on a split. `confusion[i][j]` counts images of class i that were taken for class j.

    `top5` is None where there are no more than five classes.
    """

    accuracy: float
    top5: float | None
    images: int
    classes: tuple[ClassScore, ...]
    confusion: tuple[tuple[int, ...], ...]

    def to_json(self) -> str:
        """The scores as JSON text."""
        return json.dumps(dataclasses.asdict(self), indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Scores:
        """The scores that `to_json` wrote."""
        values = json.loads(text)
        values["classes"] = tuple(ClassScore(**c) for c in values["classes"])
        values["confusion"] = tuple(map(tuple, values["confusion"]))
        return cls(**values)


def evaluate(model: keras.Model, examples: Examples, classes: tuple[str, ...], *, batch: int = 32) -> Scores:
    """Scores of a model with logits (B, classes) on examples, through the model's own preprocessing."""
    logits = model.predict(images.evaluation_set(examples, pixels_of(model), batch=batch), verbose=0)
    return score(np.asarray(logits, "float32"), np.asarray(examples.labels), classes)


def score(logits: np.ndarray, labels: np.ndarray, classes: tuple[str, ...]) -> Scores:
    """Scores from logits (N, classes) and labels (N,)."""
    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

    indices = np.arange(len(classes))
    predicted = logits.argmax(axis=-1)
    precision, recall, f1, support = precision_recall_fscore_support(
        labels, predicted, labels=indices, average=None, zero_division=0.0
    )
    best = np.argsort(-logits, axis=-1, kind="stable")[:, :5]
    return Scores(
        accuracy=float((predicted == labels).mean()),
        top5=float((best == labels[:, None]).any(axis=-1).mean()) if len(classes) > 5 else None,
        images=len(labels),
        classes=tuple(
            ClassScore(name, float(p), float(r), float(f), int(n))
            for name, p, r, f, n in zip(classes, precision, recall, f1, support, strict=True)
        ),
        confusion=tuple(tuple(map(int, row)) for row in confusion_matrix(labels, predicted, labels=indices)),
    )


def draw_confusion(scores: Scores, path: Path) -> None:
    """The confusion matrix as a picture: true classes down, predicted across, each row adding up to 1."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    counts = np.asarray(scores.confusion)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    names, side = [c.name for c in scores.classes], max(4.0, 0.45 * len(counts) + 2)
    figure, axes = pyplot.subplots(figsize=(side, side), layout="constrained")
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    if len(counts) <= 30:
        for (row, column), count in np.ndenumerate(counts):
            if count:
                color = "white" if shares[row, column] > 0.5 else "black"
                axes.text(column, row, str(count), ha="center", va="center", color=color, fontsize=9)
    if len(counts) <= 60:
        axes.set_xticks(range(len(names)), names, rotation=90 if max(map(len, names)) > 2 else 0)
        axes.set_yticks(range(len(names)), names)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    axes.set_title(f"{scores.images:,} test images, accuracy {scores.accuracy:.1%}")
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=120)
    pyplot.close(figure)
