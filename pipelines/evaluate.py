"""How good a model is on examples it has never seen."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import keras

from pipelines import datasets, objectives
from pipelines.datasets import Dataset, Part
from pipelines.objectives import Objective, Scores
from pipelines.recovery import in_smaller_batches

if TYPE_CHECKING:
    from pipelines.bundle import Bundle


def evaluate(
    model: keras.Model,
    data: Dataset,
    objective: Objective | None = None,
    *,
    part: Part = "test",
    batch: int = 32,
    seed: int = 0,
) -> Scores:
    """Scores of a model on a part of its data, through the model's own preprocessing.

    The objective is that of the data's task unless given. `seed` decides which tokens a masked language model has to
    guess. Where memory does not suffice for a `batch`, smaller ones are taken.

    Raises:
        ValueError: the part is empty.
        OutOfMemory: not even one example fits.
    """
    if not len(data.parts[part]):
        raise ValueError(f"There are no {part} examples to score; choose another part, or another split of the data.")
    asked = objective or objectives.find(data.task, data)
    model = asked.reader(model) if asked.reader else model

    def score(size: int) -> Scores:
        batches = data.evaluation_set(model, part, batch=size)
        return asked.score(model, asked.complete(batches, seed=seed, training=False), part)

    return in_smaller_batches(score, batch)


def evaluate_bundle(bundle: Bundle) -> Scores:
    """The scores of a trained model on the test part of its run, again from its files.

    Raises:
        FileNotFoundError: the data have moved.
        ValueError: the data are no longer those that it was trained on, or it had no test part.
    """
    run = dataclasses.replace(bundle.run, task=bundle.task)
    if run.drawing is not None:
        run = dataclasses.replace(run, drawing=run.drawing.of_bundle(bundle.path))
    data = datasets.load(run, folder=bundle.path)
    if data.classes != bundle.classes:
        raise ValueError(
            f"'{bundle.path}' was trained on the classes {', '.join(bundle.classes)}; "
            f"'{run.data.source}' now holds {', '.join(data.classes)}."
        )
    if not len(data.parts["test"]):
        raise ValueError(f"'{bundle.path}' was trained without a test split, so there is nothing to score.")
    objective = objectives.of_run(run, data)
    return evaluate(bundle.load_model(), data, objective, batch=run.batch, seed=run.seed)
