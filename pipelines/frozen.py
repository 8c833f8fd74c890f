"""The examples of a run, in the order in which its frozen layers are to see each of them once."""

from __future__ import annotations

import functools
import hashlib
import logging
import os
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from pipelines import images, workers
from pipelines.data import Images
from pipelines.datasets import Dataset
from pipelines.datasets import Part as Name
from pipelines.features import FOLDER
from pipelines.images import ImageDataset
from pipelines.objectives import Objective
from pipelines.prefix import NotCut
from pipelines.run import Run
from pipelines.shortcut import Part, Source
from zoo.layers.pixels import pixels_of

logger = logging.getLogger("zoo")


def source(
    run: Run, data: Dataset, learner: keras.Model, objective: Objective, *, folder: Path | None
) -> Source | None:
    """The examples of a run whose frozen layers may see them once; none where they look otherwise in every epoch.

    `folder` is one that several runs share; without it what the layers answer is kept in the run's own.
    """
    why = _why_not(run, objective)
    if run.hardware.cache is False or why:
        if run.hardware.cache:
            logger.warning("The frozen layers are computed in every step: %s.", why)
        return None
    validation = _part(run, data, learner, "validation") if len(data.parts["validation"]) else None
    return Source(
        _viewed(run, data, learner) if _augmented(run) else _part(run, data, learner, "train"),
        validation,
        run.out / FOLDER if folder is None else folder,
        batch=run.batch,  # type: ignore[arg-type]  # settled
        shared=folder is not None,
        costly=isinstance(data, ImageDataset),
        always=bool(run.hardware.cache),
    )


def _why_not(run: Run, objective: Objective) -> str:
    """Why an example is not the same in every epoch, or its layers' answers are not all that is learned from."""
    if workers.joined() is not None:
        return "several machines train together"
    if run.distillation is not None:
        return "the teacher looks at the examples themselves"
    if objective.target is not None:
        return "what is to be said is made from each batch anew"
    if isinstance(run.data, Images):
        if run.data.mixup or run.data.cutmix:
            return "mixup and cutmix mix other images in every epoch"
        if _augmented(run) and not run.data.views:
            return "images are augmented anew in every epoch; augment='none' does not, and views=4 does it four times"
    return ""


def _augmented(run: Run) -> bool:
    return isinstance(run.data, Images) and run.data.augment != "none"


def _part(run: Run, data: Dataset, model: keras.Model, name: Name) -> Part:
    """The examples of a part as evaluation sees them, which is as training does without augmentation."""

    def batches(size: int) -> tf.data.Dataset:
        return data.evaluation_set(model, name, batch=size)

    count = len(data.parts[name])
    if isinstance(data, ImageDataset):
        return Part(batches, functools.cache(lambda: _of_images(data, name)), count)
    return Part(batches, functools.cache(lambda: _of_batches(batches(_READ))), count)


_READ = 1024  # examples at a time


def _viewed(run: Run, data: Dataset, model: keras.Model) -> Part:
    """The training images in all their views."""
    assert isinstance(data, ImageDataset)
    asked = data.images
    options = {"augment": asked.augment, "flip": asked.mirrors, "views": asked.views, "seed": run.seed}
    pixels = images.color(pixels_of(model))

    def identity() -> str:
        return _of_images(data, "train") + repr(options)

    def batches(size: int) -> tf.data.Dataset:
        return images.view_set(data.data.train, pixels, batch=size, **options)  # type: ignore[arg-type]  # by name

    return Part(batches, functools.cache(identity), len(data.data.train), asked.views)


def _of_images(data: ImageDataset, name: Name) -> str:
    """A hash of images and labels: of files, of their paths, sizes and times."""
    examples = data.parts[name]
    digest = hashlib.sha256(repr((examples.labels.shape, examples.labels.dtype)).encode())
    digest.update(np.ascontiguousarray(examples.labels).tobytes())
    if examples.images.dtype != object:
        digest.update(repr(examples.images.shape).encode() + np.ascontiguousarray(examples.images).tobytes())
        return digest.hexdigest()
    for image in examples.images:
        if isinstance(image, str):
            try:
                known = os.stat(image)
            except OSError as error:
                raise NotCut(f"nothing is known of the file '{image}' by which it is told from others") from error
            digest.update(repr((os.path.abspath(image), known.st_size, known.st_mtime_ns)).encode())
        else:
            digest.update(hashlib.sha256(image).digest())
    return digest.hexdigest()


def _of_batches(batches: tf.data.Dataset) -> str:
    """A hash of all that is in batches."""
    digest = hashlib.sha256()
    for batch in batches:
        for tensor in tf.nest.flatten(batch):
            values = np.ascontiguousarray(tensor.numpy())
            digest.update(repr((values.shape, values.dtype)).encode() + values.tobytes())
    return digest.hexdigest()
