"""The two ends of a run: the place for its result is made before the first step, and filled after the last."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import keras

from pipelines import bundle, cluster, evaluate, rate_picture, teacher, workers
from pipelines.bundle import Bundle
from pipelines.checkpoints import Checkpoint
from pipelines.datasets import Dataset
from pipelines.files import remove_partial
from pipelines.freezing import find_groups
from pipelines.monitor import History
from pipelines.objectives import Objective
from pipelines.run import Run
from zoo.layers.auxiliary import without_auxiliary


def check_machines(run: Run) -> None:
    """Refuse a run for several machines that asks for what one alone can do, before any waits for another.

    Raises:
        ValueError: it does.
    """
    known = cluster.cluster()
    if known is None or run.hardware.strategy not in ("auto", "multi_worker"):
        return
    alone = {"batch": run.batch == "auto", "rollbacks": run.rollbacks, "distillation": run.distillation}
    for name, asked in alone.items():
        if asked:
            raise ValueError(
                f"Run({name}={getattr(run, name)!r}) is for one machine, and {len(known.workers)} are to train "
                f"together. {'Set a number' if name == 'batch' else 'Leave it out'}, or train on one."
            )


def agree(run: Run, data: Dataset, resumed: Checkpoint | None = None) -> None:
    """Refuse to go on where several workers are not about the same thing, before they compute anything together.

    Raises:
        ValueError: they have other runs, data or checkpoints.
    """
    same = dataclasses.replace(run, out=Path())  # which each may call by a name of its own
    workers.check_same(same.to_json(), "what they train")
    workers.check_same(json.dumps(summary(data)), "their data")
    workers.check_same(resumed.state["position"]["step"] if resumed else 0, "the step that they go on from")


def about(run: Run, data: Dataset, learner: keras.Model, resumed: Checkpoint | None) -> dict[str, Any]:
    """What a run's data and teacher are known by, for its checkpoints.

    Raises:
        ValueError: they are not those that it began with.
    """
    found = summary(data) | teacher.identity(learner)
    known = found if resumed is None else resumed.state["data"]
    if known != found:
        what = "teacher has" if known.get("teacher") != found.get("teacher") else "data have"
        raise ValueError(f"The {what} changed since the run in '{run.out}' began. Begin it anew: zoo fit --run.")
    return found


def begin(run: Run, data: Dataset, *, anew: bool) -> None:
    """Make the place for the result, or find it where the run goes on, and sweep it; the chief has the lock on it.

    Raises:
        ValueError: not all workers see it.
    """
    if workers.is_chief():
        if anew:
            bundle.prepare(run, data)
        remove_partial(run.out)  # what processes that died while they trained here have left
    workers.check_shared(run.out / "run.json")


def conclude(
    model: keras.Model,
    learner: keras.Model,
    run: Run,
    data: Dataset,
    objective: Objective,
    *,
    history: History,
    steps: int,
    devices: str,
) -> Bundle:
    """Evaluate a model on the test split and save it, on one machine; of several workers the others wait for it.

    `learner` is what was trained, with `steps` an epoch: the model, or one that had a teacher beside it.
    """

    def save() -> Bundle:
        rate_picture.draw(find_groups(learner), run, history, steps=steps)
        kept = without_auxiliary(model)
        if workers.joined() is not None:
            kept = bundle.twin(kept)  # which needs no other machine to compute
        test = len(data.parts["test"]) > 0
        return bundle.save(
            kept,
            run,
            data,
            task=run.task or data.task,
            history=history,
            scores=evaluate.evaluate(kept, data, objective, batch=run.batch, seed=run.seed) if test else None,
            devices=devices,
            teacher=teacher.report(learner, run, data, objective),
        )

    return workers.led(save, lambda: bundle.load(run.out))


def summary(data: Dataset) -> dict[str, Any]:
    """What a run's data are known by when it goes on, and on each of several machines."""
    return {"classes": list(data.classes), **{part: len(examples) for part, examples in data.parts.items()}}
