"""The two ends of a run: the place for its result is made before the first step, and filled after the last."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import keras

from pipelines import bundle, evaluate, workers
from pipelines.bundle import Bundle
from pipelines.checkpoints import Checkpoint
from pipelines.datasets import Dataset
from pipelines.files import remove_partial
from pipelines.monitor import History
from pipelines.objectives import Objective
from pipelines.run import Run
from zoo.layers.auxiliary import without_auxiliary


def agree(run: Run, data: Dataset, resumed: Checkpoint | None = None) -> None:
    """Refuse to go on where several workers are not about the same thing, before they compute anything together.

    Raises:
        ValueError: they have other runs, data or checkpoints.
    """
    same = dataclasses.replace(run, out=Path())  # which each may call by a name of its own
    workers.check_same(same.to_json(), "what they train")
    workers.check_same(json.dumps(summary(data)), "their data")
    workers.check_same(resumed.state["position"]["step"] if resumed else 0, "the step that they go on from")


def begin(run: Run, data: Dataset, *, anew: bool) -> None:
    """Make the place for the result, or find it where the run goes on.

    Raises:
        ValueError: not all workers see it.
    """
    if anew and workers.is_chief():
        bundle.prepare(run, data)
    workers.check_shared(run.out / "run.json")


def sweep(run: Run) -> None:
    """Remove what processes that died while they trained here have left; only who has the lock may."""
    if workers.is_chief():
        remove_partial(run.out)


def conclude(
    model: keras.Model, run: Run, data: Dataset, objective: Objective, *, history: History, devices: str
) -> Bundle:
    """Evaluate on the test split and save, on one machine; of several workers the others wait for it."""
    return workers.led(
        lambda: _save(model, run, data, objective, history=history, devices=devices),
        lambda: bundle.load(run.out),
    )


def summary(data: Dataset) -> dict[str, Any]:
    """What a run's data are known by when it goes on, and on each of several machines."""
    return {"classes": list(data.classes), **{part: len(examples) for part, examples in data.parts.items()}}


def _save(
    model: keras.Model, run: Run, data: Dataset, objective: Objective, *, history: History, devices: str
) -> Bundle:
    model = without_auxiliary(model)
    if workers.joined() is not None:
        model = bundle.twin(model)  # which needs no other machine to compute
    test = len(data.parts["test"]) > 0
    scores = evaluate.evaluate(model, data, objective, batch=run.batch, seed=run.seed) if test else None
    task = run.task or data.task
    return bundle.save(model, run, data, task=task, history=history, scores=scores, devices=devices)
