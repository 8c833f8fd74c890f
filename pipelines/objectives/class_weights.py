"""How much each class counts in the loss: as given by name, or all classes together as much as each other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np

from pipelines.datasets import Dataset
from zoo.core.registry import nearest


def class_weights(
    given: Literal["balanced"] | Mapping[str, float], data: Dataset, *, name: str = "class_weights"
) -> tuple[float, ...]:
    """The weight of each class of the data, in their order.

    "balanced" is the number of training examples over that of a class and of classes: the weights of all examples add
    up to their number, and each class has the same part in that. Classes that are not named count 1. `name` is what
    messages call the weights.

    Raises:
        ValueError: the data have no such class, or do not tell the labels of their training examples.
    """
    if not data.classes:
        raise ValueError(f"{name}={given!r} is for data with classes, and these have none.")
    if given == "balanced":
        counts, _ = _counts(data, name)
        present = counts > 0
        weights = counts.sum() / (present.sum() * np.maximum(counts, 1))
        return tuple(np.where(present, weights, 1.0).tolist())
    assert isinstance(given, Mapping)
    for asked in given:
        if asked not in data.classes:
            listed = ", ".join(data.classes[:20]) + (", ..." if len(data.classes) > 20 else "")
            raise ValueError(f"{name}: there is no class {asked!r}.{nearest(asked, data.classes)} Classes: {listed}.")
    return tuple(float(given.get(each, 1.0)) for each in data.classes)


def positive_weights(given: Literal["balanced"] | Mapping[str, float], data: Dataset) -> tuple[float, ...]:
    """How much it counts that an example has a class, against that it has not, for each class of the data.

    "balanced" is the number of training examples without the class over that of those with it: both count alike then.
    Classes that are not named count 1.

    Raises:
        ValueError: as `class_weights`.
    """
    if given != "balanced":
        return class_weights(given, data, name="positive_weights")
    counts, examples = _counts(data, "positive_weights")
    return tuple(np.where(counts > 0, (examples - counts) / np.maximum(counts, 1), 1.0).tolist())


def _counts(data: Dataset, name: str) -> tuple[np.ndarray, int]:
    """How many training examples each class has, and how many there are."""
    labels = _training_labels(data)
    known = labels is not None and (labels.dtype.kind in "iub" if labels.ndim == 1 else labels.ndim == 2)
    if labels is None or not known:
        raise ValueError(
            f"{name}='balanced' counts the labels of the training examples, and these data do not tell them. "
            f"Give weights by name: {name}={{'rare': 5.0}}."
        )
    counts = np.bincount(labels, minlength=len(data.classes)) if labels.ndim == 1 else labels.sum(axis=0)
    return counts, len(labels)


def _training_labels(data: Dataset) -> np.ndarray | None:
    """Numbers of classes (N,), or marks (N, classes), of the training examples."""
    told = getattr(data, "labels", None)
    if callable(told):
        found = told("train")
    else:
        part = data.parts["train"]
        found = getattr(part, "labels", getattr(part, "targets", None))
    return None if found is None else np.asarray(found)
