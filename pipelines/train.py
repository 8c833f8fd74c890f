"""A run from its data to its bundle, and on from where it stopped."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from pipelines import (
    batch_size,
    bundle,
    cluster,
    datasets,
    diagnosis,
    frozen,
    hardware,
    objectives,
    outcome,
    settling,
    teacher,
    workers,
)
from pipelines.bundle import Bundle
from pipelines.checkpoints import Checkpoint, Checkpoints
from pipelines.creation import create
from pipelines.datasets import Dataset
from pipelines.engine import Engine
from pipelines.feed import Feed
from pipelines.fit import fit
from pipelines.freezing import check_phases, find_groups
from pipelines.loop import Settings
from pipelines.lr_finder import Found, find_learning_rate
from pipelines.monitor import History
from pipelines.objectives import Objective
from pipelines.outcome import Fitted
from pipelines.recovery import in_more_parts
from pipelines.run import Run
from pipelines.tensorboard import FOLDER

__all__ = ["CHECKPOINTS", "advance", "advanced", "find_rate", "fit", "resume", "train"]

CHECKPOINTS = "checkpoints"  # the folder of a run's checkpoints


def train(run: Run, *, overwrite: bool = False, progress: bool = True) -> Bundle:
    """Carry out a run: load its data, build its model, fit, evaluate on the test split, save.

    The same run on the same machine gives the same weights, bit for bit, unless its Hardware(deterministic=False). What
    is in `run.out` while it trains (run.json, history.csv, best.weights.h5, checkpoints) stays there if the process
    dies, and `resume` goes on from it to the very weights that an undisturbed run ends with.

    Raises:
        FileExistsError: `run.out` holds something already, and `overwrite` is not set.
        ValueError, FileNotFoundError: the data or the model cannot be had as described.
        TrainingDiverged: the loss is no number any more.
        OutOfMemory: a step does not fit, in the smallest micro-batches either.
        Interrupted: Ctrl-C or SIGTERM came; the state is saved.
        CheckpointsError: the state cannot be written, or another process trains there; what is there is intact.
        WorkersError: the workers of a cluster cannot train together, or one of them was lost.
    """
    bundle.check_room(run.out, overwrite=overwrite)
    if cluster.is_first():  # what one tries there another would find, or take away
        bundle.check_writable(run.out)
        Checkpoints(run.out / CHECKPOINTS).check_free()
    with _fitted(run, anew=True, progress=progress) as found:
        return outcome.conclude(found)


def resume(folder: str | Path, *, progress: bool = True) -> Bundle:
    """Go on with the run in a folder from its newest checkpoint that is whole; of a finished one, its bundle.

    Raises:
        FileNotFoundError: no run began there.
        ValueError: the data or the teacher are no longer those that it began with.
        CheckpointsError: another process trains there, or all checkpoints are damaged.
        WorkersError: as `train`.
    """
    folder = Path(folder)
    if (folder / "bundle.json").is_file():
        left = (folder / CHECKPOINTS).exists() and cluster.is_first()
        return bundle.complete(folder) if left else bundle.load(folder)
    if not (folder / "run.json").is_file():
        raise FileNotFoundError(f"'{folder}' holds no run: there is no run.json. zoo fit begins runs.")
    run = dataclasses.replace(Run.from_json((folder / "run.json").read_text(encoding="utf-8")), out=folder)
    with _fitted(run, progress=progress) as found:
        return outcome.conclude(found)


def advance(run: Run, *, epochs: int | None = None, cache: Path | None = None, progress: bool = False) -> History:
    """Train a run up to so many epochs of all its phases together, or all of them, and leave it where it is then.

    It begins in `run.out`, or goes on from its newest checkpoint there; learning rates are those of the whole run. The
    test split is not looked at, and no bundle is made: `resume` does that, once it has trained what is left.
    `cache` is a folder in which runs on the same data share what their frozen layers answer.

    Raises:
        ValueError: as `train`, or there is no validation split to tell how good it is, or another run began there.
        FileExistsError: the run there has come to its end.
        CheckpointsError, TrainingDiverged, OutOfMemory, Interrupted: as `train`.
    """
    with advanced(run, epochs=epochs, cache=cache, progress=progress) as found:
        return found.history


@contextlib.contextmanager
def advanced(
    run: Run, *, epochs: int | None = None, cache: Path | None = None, progress: bool = False
) -> Iterator[Fitted]:
    """Inside, what `advance` has made of a run's model, which holds the best weights so far.

    Raises:
        ValueError, FileExistsError, CheckpointsError, TrainingDiverged, OutOfMemory, Interrupted: as `advance`.
    """
    if epochs is not None and (type(epochs) is not int or epochs < 1):
        raise ValueError(f"advance(epochs={epochs!r}) must be a whole number of at least 1, or None for all.")
    run = outcome.begun(settling.settled(run))
    with _fitted(run, until=epochs, scored=True, cache=cache, progress=progress) as found:
        yield found


@contextlib.contextmanager
def _fitted(
    run: Run,
    *,
    anew: bool = False,
    until: int | None = None,
    scored: bool = False,
    cache: Path | None = None,
    progress: bool,
) -> Iterator[Fitted]:
    """Inside, a run's model once it is trained, from its newest checkpoint on unless it is to begin `anew`.

    `scored`: only with a validation split. Nobody else trains in the run's folder meanwhile.
    """
    outcome.check_machines(run)
    hardware.begin(run.hardware)
    with workers.watched(run.out):
        run = batch_size.settled(settling.settled(run))
        found = None if anew else workers.checkpoints(run.out / CHECKPOINTS).latest()
        data = datasets.load(run, folder=run.out) if found else datasets.load(run)
        if scored:
            outcome.check_scored(run, data)
        with _carried_out(run, data, resumed=found, until=until, cache=cache, progress=progress) as done:
            yield done


@contextlib.contextmanager
def _carried_out(
    run: Run, data: Dataset, *, resumed: Checkpoint | None, until: int | None, cache: Path | None, progress: bool
) -> Iterator[Fitted]:
    hardware.seed(run.hardware, run.seed)
    outcome.agree(run, data, resumed)
    objective = objectives.of_run(run, data)
    with hardware.scope(run.hardware) as strategy:
        batch = _fitting_batch(run, len(data.parts["train"]), devices=strategy.num_replicas_in_sync)
        model = create(run, data, objective.options)
        learner = trained(model, run, data, objective)
    check_phases(find_groups(learner), run.phases)
    training = data.training_set(learner, batch=batch, seed=run.seed)
    validation = _validation(run, data, objective, learner)
    about = outcome.about(run, data, learner, resumed)
    checkpoints = workers.checkpoints(run.out / CHECKPOINTS)
    with checkpoints.lock():
        outcome.begin(run, data, anew=resumed is None)
        history = fit(
            learner,
            run.phases,
            objective.complete(training, seed=run.seed, training=True),
            validation,
            loss=objective.loss(),
            metrics=objective.metrics,
            patience=run.patience,
            folder=run.out,
            progress=progress,
            unit=run.data.unit,
            tensorboard=run.out / FOLDER,
            checkpoints=checkpoints,
            resumed=resumed,
            settings=dataclasses.replace(
                _settings(run, data, training, about, until),
                engine=objective.engine or Engine,
                draw=_drawn(run, objective, model),
                features=frozen.source(run, data, learner, objective, folder=cache),
            ),
        )
        devices = hardware.describe(strategy, run.hardware, batch=batch)
        yield Fitted(run, data, objective, model, learner, history, training.steps, devices)


def find_rate(run: Run) -> Found:
    """Peak learning rates for a run's first phase, from a short sweep on a model of its own.

    Raises:
        ValueError, FileNotFoundError: the data or the model cannot be had as described.
    """
    outcome.check_machines(run)
    hardware.begin(run.hardware)
    with workers.watched():
        run = batch_size.settled(settling.settled(run))
        return _find_rate(run, datasets.load(run))


def _find_rate(run: Run, data: Dataset) -> Found:
    outcome.agree(run, data)
    hardware.seed(run.hardware, run.seed)
    objective = objectives.of_run(run, data)
    engine = objective.engine or Engine
    if not engine.loss_falls:
        raise ValueError(
            f"No learning rate can be found for task={run.task!r}, which has no loss that falls; give one."
        )
    with hardware.scope(run.hardware) as strategy:
        batch = _fitting_batch(run, len(data.parts["train"]), devices=strategy.num_replicas_in_sync)
        model = trained(create(run, data, objective.options), run, data, objective)
    training = data.training_set(model, batch=batch, seed=run.seed)

    def sweep(accumulate: int) -> Found:  # on a copy of the model, which takes more memory than a run
        return find_learning_rate(
            model,
            objective.complete(training, seed=run.seed, training=True),
            loss=objective.loss(),
            phase=run.phases[0],
            optimization=run.optimization,
            accumulate=accumulate,
            engine=engine,
        )

    return in_more_parts(sweep, run.hardware.accumulate, examples=batch // strategy.num_replicas_in_sync)


def trained(model: keras.Model, run: Run, data: Dataset, objective: Objective) -> keras.Model:
    """What is trained in the model's stead, if not the model itself."""
    if objective.learner is None:
        return teacher.learner(model, run, data)
    if run.distillation is not None:
        raise ValueError(f"task={run.task or data.task!r} has no teacher: leave out {run.distillation.teacher!r}.")
    return objective.learner(model)


def _drawn(run: Run, objective: Objective, model: keras.Model) -> Callable[[str], None] | None:
    """What makes the pictures of an epoch, on one machine."""
    draw = objective.draw
    if draw is None or not workers.is_chief():
        return None
    return lambda name: workers.alone(lambda: draw(model, run.out, name))


def _settings(run: Run, data: Dataset, training: Feed, about: Mapping[str, Any], until: int | None) -> Settings:
    return Settings(
        optimization=run.optimization,
        accumulate=run.hardware.accumulate,
        save_steps=run.save_steps,
        rollbacks=run.rollbacks,
        about=about,
        until=until,
        names=lambda number: _names(data, training, number),
    )


def _names(data: Dataset, training: Feed, number: int) -> Sequence[str]:
    """What the examples of a batch are called."""
    found = diagnosis.examples(training, number)
    return () if found is None else diagnosis.names_of(data, "train", found)


def _validation(run: Run, data: Dataset, objective: Objective, model: keras.Model) -> tf.data.Dataset | None:
    if not len(data.parts["validation"]) or not objective.validates:
        return None
    batches = data.evaluation_set(model, "validation", batch=run.batch, cached=True)
    return objective.complete(batches, seed=run.seed, training=False)


def _fitting_batch(run: Run, examples: int, *, devices: int) -> int:
    """The batch, or what there is to fill one, in equal parts for all devices and their micro-batches."""
    parts = devices * run.hardware.accumulate
    if run.batch % parts:
        near = max(parts, run.batch // parts * parts)
        pieces = f"{devices} devices" + (
            f" and {run.hardware.accumulate} micro-batches each" if parts > devices else ""
        )
        raise ValueError(f"A batch of {run.batch} does not divide over {pieces}; use {near} or {near + parts}.")
    if examples < parts:
        raise ValueError(f"{examples} training examples do not fill a batch of {parts} parts; use fewer devices.")
    return min(run.batch, examples // parts * parts)
