"""The two ends of a run: the place for its result is made before the first step, and filled after the last."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
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
from zoo.core.family import Task
from zoo.layers.auxiliary import without_auxiliary


@dataclass(frozen=True)
class Fitted:
    """What a fit has made of the model of a run, which holds its best weights.

    `learner` is what was trained, with `steps` an epoch: the model, or one that had a teacher beside it.
    """

    run: Run
    data: Dataset
    objective: Objective
    model: keras.Model
    learner: keras.Model
    history: History
    steps: int
    devices: str

    @property
    def task(self) -> Task:
        """What the model does."""
        return self.run.task or self.data.task


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


def begun(run: Run) -> Run:
    """A run as it began in its folder, with the batch that was found for it; itself where it has not begun.

    Raises:
        ValueError: another run began there.
        FileExistsError: the run there has come to its end, or something else lies there.
        OSError: nothing can be written there.
    """
    path = run.out / "run.json"
    if (run.out / "bundle.json").is_file():
        raise FileExistsError(f"'{run.out}' holds the result of a run that has come to its end. Choose another folder.")
    if not path.is_file():
        if cluster.is_first():
            bundle.check_room(run.out, overwrite=False)
            bundle.check_writable(run.out)
        return run
    known = Run.from_json(path.read_text(encoding="utf-8"))
    as_known = dataclasses.replace(run, out=known.out, batch=known.batch if run.batch == "auto" else run.batch)
    theirs, ours = (json.loads(each.to_json()) for each in (known, as_known))
    if other := [name for name in ours if ours[name] != theirs[name]]:
        raise ValueError(
            f"Another run began in '{run.out}': its {', '.join(other)} {'are' if len(other) > 1 else 'is'} not this "
            f"one's ({theirs[other[0]]!r}, not {ours[other[0]]!r}). Choose another folder."
        )
    return dataclasses.replace(as_known, out=run.out)


def check_scored(run: Run, data: Dataset) -> None:
    """Refuse data without a validation split, by which alone one knows how good a model is before it is tested.

    Raises:
        ValueError: there is none.
    """
    if not len(data.parts["validation"]):
        raise ValueError(
            f"{run.data.source!r} has no validation {run.data.unit}, which alone can tell how good a model is while "
            f"its test split is not looked at. Give it a share: {type(run.data).__name__}(split=(0.7, 0.15, 0.15))."
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
        other = next((name for name in ("teacher", "codebook") if known.get(name) != found.get(name)), None)
        what = f"{other} has" if other else "data have"
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


def conclude(fitted: Fitted) -> Bundle:
    """Evaluate a model on the test split and save it, on one machine; of several workers the others wait for it."""
    run, data, learner = fitted.run, fitted.data, fitted.learner

    def save() -> Bundle:
        rate_picture.draw(find_groups(learner), run, fitted.history, steps=fitted.steps)
        kept = without_auxiliary(fitted.model)
        if workers.joined() is not None:
            kept = bundle.twin(kept)  # which needs no other machine to compute
        test = len(data.parts["test"]) > 0
        if fitted.objective.draw is not None:
            fitted.objective.draw(kept, run.out, "final")
        files = fitted.objective.keep(run.out) if fitted.objective.keep else ()
        scores = evaluate.evaluate(kept, data, fitted.objective, batch=run.batch, seed=run.seed) if test else None
        return bundle.save(
            kept,
            run,
            data,
            task=fitted.task,
            history=fitted.history,
            scores=scores,
            devices=fitted.devices,
            files=files,
            teacher=teacher.report(learner, run, data, fitted.objective),
        )

    return workers.led(save, lambda: bundle.load(run.out))


def summary(data: Dataset) -> dict[str, Any]:
    """What a run's data are known by when it goes on, and on each of several machines."""
    return {"classes": list(data.classes), **{part: len(examples) for part, examples in data.parts.items()}}
