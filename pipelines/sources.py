"""Where labelled images come from: folders, CSV and npz files, tfds, arrays. Plain data, nothing decoded."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from pipelines import audit, idx_files, image_labels, image_targets, readers, splits, tfds_sets
from pipelines.image_labels import Question
from pipelines.readers import Labelled
from pipelines.run import Images
from pipelines.tasks import UNLABELLED
from zoo.core.family import Task
from zoo.layers.scale import Scale

PARTS = ("train", "validation", "test")


@dataclass(frozen=True, eq=False)
class Examples:
    """Images that are not decoded yet, and their classes.

    `images` holds paths (str) or encoded bytes, or is (N, H, W, 1 or 3) uint8; `labels` is (N,)
    int32, indexes of the classes, or (N, classes) float32 of 0 and 1, or (N, targets) float32, numbers to predict.
    """

    images: np.ndarray
    labels: np.ndarray

    def __post_init__(self) -> None:
        object.__setattr__(self, "images", readers.objects(self.images))
        labels = np.asarray(self.labels)
        object.__setattr__(self, "labels", labels.astype(np.float32 if labels.ndim == 2 else np.int32))
        if len(self.images) != len(self.labels):
            raise ValueError(f"Examples needs a label an image, got {len(self.images)} and {len(self.labels)}.")

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indexes: Sequence[int] | np.ndarray) -> Examples:
        """Some of the examples, in the order of `indexes`."""
        return Examples(self.images[indexes], self.labels[indexes])


@dataclass(frozen=True, eq=False)
class ImageData:
    """A data set in three parts without a common example. `skipped` names the corrupt files left out.

    Of numbers to predict there are no classes, and `target` was measured on the training part.
    """

    classes: tuple[str, ...]
    train: Examples
    validation: Examples
    test: Examples
    skipped: tuple[str, ...] = ()
    task: Task = "classify"
    target: Scale | None = None


def load(images: Images, *, task: Task | None = None, seed: int) -> ImageData:
    """The examples that `images` describes, every one readable, split by class and seed.

    They are for the task that `images` asks for, unless one is given. For a task that needs no classes there may be
    any number of them, none included, and labels are 0 then.

    Raises:
        FileNotFoundError: there is no such folder or file, or a CSV names files that do not exist.
        ValueError: the source is not what its kind asks for, a file is corrupt, or the examples
            cannot be split (one class only, a class without a training example, the same image in
            two parts); or the task is none of theirs.
    """
    asked = image_labels.question(images, task)
    labelled = task not in UNLABELLED
    parts = {part: read() for part, read in _readers(images, asked, labelled).items()}
    _refuse_overlap(parts, images.source)
    parts, skipped = _readable(parts, skip=images.skip_corrupt)
    if asked is not None:
        return _answers(parts, asked, seed=seed, skipped=skipped)
    found = _divided(parts, images.split, seed=seed, source=images.source, skipped=skipped, labelled=labelled)
    return found if labelled or task is None else replace(found, task=task)


def from_arrays(
    images: np.ndarray,
    labels: Sequence[int] | Sequence[str] | np.ndarray,
    *,
    classes: Sequence[str] | None = None,
    split: tuple[float, float, float] = (0.7, 0.15, 0.15),
    seed: int = 0,
) -> ImageData:
    """The same from images in memory, (N, H, W) or (N, H, W, 1 or 3) in 0..255.

    Labels are class names, or numbers: indexes of `classes` where given.

    Raises:
        ValueError: the arrays do not fit together, the images are in 0..1, or they cannot be split.
    """
    parts = {"train": readers.arrays(images, labels, classes=classes, source="from_arrays")}
    return _divided(parts, split, seed=seed, source="from_arrays", skipped=())


def _readers(images: Images, asked: Question | None, labelled: bool) -> dict[str, Callable[[], Labelled]]:
    """How to read each part that the source has. A source without a division is all "train"."""
    given = {part: value for part in PARTS if (value := getattr(images, part)) is not None}
    if asked is not None:
        read_asked = partial(image_labels.file_parts, asked=asked)
        whole = read_asked(Path(images.source))
        return {**whole, **{part: splits.undivided("Images", part, path, read_asked) for part, path in given.items()}}
    if images.source.startswith("tfds:"):
        return tfds_sets.parts(images.source, data_dir=images.data_dir, given=given)
    read = partial(readers.file_parts, labelled=labelled)
    if images.source == "digits":
        own: dict[str, Callable[[], Labelled]] = {"train": readers.digits}
    elif images.source == "fashion_mnist":
        own = idx_files.fashion_mnist(images.data_dir)
    else:
        own = read(Path(images.source))
    return {**own, **{part: splits.undivided("Images", part, path, read) for part, path in given.items()}}


def _refuse_overlap(parts: Mapping[str, Labelled], source: str) -> None:
    seen: dict[str, str] = {}
    for part, labelled in parts.items():
        for identity in labelled.identities():
            if identity in seen:
                where = f"twice in {part}" if seen[identity] == part else f"in {seen[identity]} and in {part}"
                raise ValueError(
                    f"{source!r}: {identity!r} is {where}. An image may be used once: the test would measure "
                    "memory otherwise. Remove one of the two."
                )
            seen[identity] = part


def _readable(parts: Mapping[str, Labelled], *, skip: bool) -> tuple[dict[str, Labelled], tuple[str, ...]]:
    """The parts without their corrupt images, and the names of those."""
    corrupt: list[str] = []
    kept, gone = {}, []
    for part, labelled in parts.items():
        bad = audit.unreadable(labelled.images)
        corrupt.extend(labelled.names[index] for index in bad)
        kept[part] = labelled.take(np.delete(np.arange(len(labelled)), bad))
        gone += [part] if len(bad) and not len(kept[part]) else []
    if corrupt and not skip:
        raise ValueError(
            f"{len(corrupt)} of {sum(map(len, parts.values()))} images cannot be decoded: {_first(corrupt)}. "
            "Repair or remove them, or leave them out with --skip-corrupt (Images(skip_corrupt=True))."
        )
    if gone:
        raise ValueError(f"None of the images for {' and '.join(gone)} can be decoded: {_first(corrupt)}.")
    return kept, tuple(corrupt)


def _divided(
    parts: Mapping[str, Labelled],
    shares: tuple[float, float, float],
    *,
    seed: int,
    source: str,
    skipped: tuple[str, ...],
    labelled: bool = True,
) -> ImageData:
    """Splits off "train" what is not there yet, and turns class names into numbers."""
    whole, classes = parts["train"], parts["train"].classes
    _check_classes(parts, classes, source, labelled)
    wanted = _wanted(parts, shares)
    indexes = splits.stratified(whole.labels, whole.names, shares=wanted, seed=seed)
    done = {**parts, **_cut(whole, indexes, wanted, shares=shares, source=source)}
    _check_classes({"train": done["train"]}, classes, source, labelled)
    train, validation, test = (_numbered(done[part], classes) for part in PARTS)
    return ImageData(classes, train, validation, test, skipped)


def _answers(parts: Mapping[str, Labelled], asked: Question, *, seed: int, skipped: tuple[str, ...]) -> ImageData:
    """The same of images with several labels, or with numbers."""
    images, whole = asked.images, parts["train"]
    if asked.kind == "multi_label":
        image_targets.check_divided(whole, asked)
        image_targets.check_labels(parts, asked)
    wanted = _wanted(parts, images.split)
    indexes = image_targets.divide(parts, asked, wanted, seed=seed)
    done = {**parts, **_cut(whole, indexes, wanted, shares=images.split, source=images.source)}
    if asked.kind == "regress":
        target = image_targets.measured(done["train"].labels, asked)
        return ImageData((), *(Examples(done[p].images, done[p].labels) for p in PARTS), skipped, "regress", target)
    image_targets.check_labels(done, asked)
    examples = (Examples(done[p].images, image_targets.marks(done[p].labels, whole.classes)) for p in PARTS)
    return ImageData(whole.classes, *examples, skipped, "multi_label")


def _wanted(parts: Mapping[str, Labelled], shares: tuple[float, float, float]) -> dict[str, float]:
    """The shares of the parts that are split off "train"."""
    wanted = {part: share for part, share in zip(PARTS, shares, strict=True) if part == "train" or part not in parts}
    if not any(wanted.values()):
        wanted["train"] = 1.0  # all other parts are given, so their shares do not matter
    return wanted


def _cut(
    whole: Labelled,
    indexes: Mapping[str, np.ndarray],
    wanted: Mapping[str, float],
    *,
    shares: tuple[float, float, float],
    source: str,
) -> dict[str, Labelled]:
    """The parts that are split off."""
    cut = {part: whole.take(chosen) for part, chosen in indexes.items()}
    for part, share in wanted.items():
        if share and not len(cut[part]):
            raise ValueError(
                f"{source!r} has too few images to split: none of {len(whole)} is left for {part}. "
                f"Add images, or change Images(split={shares})."
            )
    return cut


def _check_classes(parts: Mapping[str, Labelled], classes: tuple[str, ...], source: str, labelled: bool = True) -> None:
    train = parts["train"]
    if not labelled and not classes:
        if not len(train):
            raise ValueError(f"{source!r} has no image to train on.")
        return
    known = f"It has {len(train)} images of {len(classes)} classes: {_first(classes)}"
    if labelled and len(classes) < 2:
        raise ValueError(f"{source!r} needs at least two classes to tell apart. {known}.")
    if len(train) < len(classes):
        raise ValueError(f"{source!r} has fewer images to train on than classes. {known}. Add images.")
    absent = sorted(set(classes) - set(train.labels))
    if absent:
        raise ValueError(
            f"{source!r} has no image to train on of {_first(absent)}. {known}. Add images or remove the class."
        )
    for part, labelled in parts.items():
        unknown = sorted(set(labelled.labels) - set(classes))
        if unknown:
            raise ValueError(
                f"{source!r}: {part} has classes that train does not have: {_first(unknown)}. {known}. "
                "Rename or remove them, or add images of them to train."
            )


def _numbered(labelled: Labelled, classes: tuple[str, ...]) -> Examples:
    number = {name: index for index, name in enumerate(classes)}
    if not classes:
        return Examples(labelled.images, np.zeros(len(labelled), np.int32))
    return Examples(labelled.images, np.array([number[label] for label in labelled.labels], np.int32))


def _first(names: Sequence[str], count: int = 10) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - count} more" if len(names) > count else ""
    return ", ".join(map(repr, names[:count])) + more
