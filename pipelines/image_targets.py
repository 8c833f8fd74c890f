"""What is learned of images with several labels or with numbers: divided into parts, and checked to teach something."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from pipelines import csv_tables, splits
from pipelines.image_labels import LABEL, Question
from pipelines.readers import Labelled
from zoo.layers.scale import Scale


def names_of_targets(asked: Question, width: int) -> tuple[str, ...]:
    """What the numbers of a regression are called."""
    if asked.images.target:
        return asked.images.target
    return (LABEL,) if width == 1 else tuple(f"{LABEL}{index}" for index in range(width))


def divide(
    parts: Mapping[str, Labelled], asked: Question, shares: Mapping[str, float], *, seed: int
) -> dict[str, np.ndarray]:
    """Indexes of the training examples for each part that is split off them."""
    whole = parts["train"]
    if asked.kind == "regress":
        return splits.stratified([""] * len(whole), whole.names, shares=shares, seed=seed)
    return splits.iterative(marks(whole.labels, whole.classes), whole.names, shares=shares, seed=seed)


def marks(labels: np.ndarray, classes: Sequence[str]) -> np.ndarray:
    """Tuples of names as (N, classes) float32 of 0 and 1."""
    place = {name: index for index, name in enumerate(classes)}
    found = np.zeros((len(labels), len(classes)), np.float32)
    for row, names in zip(found, labels, strict=True):
        row[[place[name] for name in names]] = 1
    return found


def check_divided(train: Labelled, asked: Question) -> None:
    """Refuse a mark that divides no cell: the names would be wrong, or an image has one class.

    Raises:
        ValueError: no image has two labels.
    """
    if asked.images.label_delim and max(map(len, train.labels)) < 2:
        shown = ", ".join(map(repr, train.classes[:5]))
        raise ValueError(
            f"{asked.images.source!r}: no cell of the column label is divided by "
            f"label_delim={asked.images.label_delim!r}; there are {shown}. Give the mark that divides names, or leave "
            "label_delim out where an image has one class."
        )


def check_labels(parts: Mapping[str, Labelled], asked: Question) -> None:
    """Refuse labels from which nothing can be learned.

    Raises:
        ValueError: a class that all training images have, or none; or one that training does not have.
    """
    train, source = parts["train"], asked.images.source
    found = marks(train.labels, train.classes)
    if not train.classes:
        raise ValueError(f"{source!r}: no image has a label. Fill in the column label.")
    for kind, wrong in (("no", ~found.any(axis=0)), ("every", found.all(axis=0))):
        named = [name for name, is_wrong in zip(train.classes, wrong, strict=True) if is_wrong]
        if named:
            raise ValueError(
                f"{source!r}: {kind} training image has the label {', '.join(map(repr, named[:10]))}, so there is "
                "nothing to learn of it. Leave it out, or add images of the other kind."
            )
    for part, labelled in parts.items():
        for name, own in zip(labelled.names, labelled.labels, strict=True):
            strange = sorted(set(own) - set(train.classes))
            if strange:
                raise ValueError(
                    f"{source!r}: {part} has labels that train does not have: {strange} of {name!r}. "
                    "Rename or remove them, or add images of them to train."
                )


def measured(values: np.ndarray, asked: Question) -> Scale:
    """What standardizes the targets, from the training part (N, targets).

    Raises:
        ValueError: one never varies, or varies too little for where it lies.
    """
    names, source = names_of_targets(asked, values.shape[1]), asked.images.source
    for column, name in zip(values.T, names, strict=True):
        csv_tables.check_spread(column, name, source)
    scale = Scale.measured(names, values)
    for name, mean, std in zip(names, scale.mean, scale.std, strict=True):
        if not std:
            raise ValueError(f"{source!r}: the target {name!r} is {mean:g} for every training image.")
    return scale
