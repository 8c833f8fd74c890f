"""Training: of any model on any batches, and of a run from its data to its bundle."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import keras
import tensorflow as tf

from pipelines import bundle, cluster, datasets, diagnosis, hardware, images, objectives, outcome, workers
from pipelines.bundle import Bundle
from pipelines.checkpoints import Checkpoint, Checkpoints
from pipelines.creation import create
from pipelines.datasets import Dataset
from pipelines.feed import Feed, feed
from pipelines.freezing import GivenGroups, check_phases, find_groups
from pipelines.interruption import watched
from pipelines.keeper import Keeper
from pipelines.loop import Loop, Settings
from pipelines.lr_finder import Found, find_learning_rate
from pipelines.monitor import History, ProgressBar, Watcher
from pipelines.objectives import Objective
from pipelines.objectives.losses import CrossEntropy
from pipelines.objectives.objective import accuracy
from pipelines.run import Phase, Run
from pipelines.tensorboard import FOLDER, TensorBoard
from zoo.layers.pixels import PixelInput

CHECKPOINTS = "checkpoints"  # the folder of a run's checkpoints


def fit(
    model: keras.Model,
    phases: Sequence[Phase],
    train: tf.data.Dataset | Feed,
    validation: tf.data.Dataset | None = None,
    *,
    groups: GivenGroups | None = None,
    loss: keras.losses.Loss | str | None = None,
    metrics: Sequence | Callable[[], Sequence] | None = None,
    patience: int = 5,
    folder: Path | None = None,
    progress: bool = True,
    unit: str = "examples",
    tensorboard: Path | None = None,
    settings: Settings | None = None,
    checkpoints: Checkpoints | None = None,
    resumed: Checkpoint | None = None,
) -> History:
    """Train a functional model phase by phase; it ends with the best weights of all phases.

    `train` and `validation` are data sets of (inputs, targets) or (inputs, targets, weights) batches, finite, of
    your own or from pipelines. Weights are of examples (B,) or tokens (B, T); the loss is a mean over their sum, and
    metrics count by them, so that what has the weight 0 (padding) has no part in either.

    For a model of the zoo the groups follow from its layer names; for any other give them as lists of layers or
    layer names, from input to output. `loss` is sparse categorical cross-entropy on logits unless given; `metrics`
    are the accuracy unless given, and may be a function that makes them, in the scope of the model's strategy.
    Without a validation set the last weights are the best.

    With `checkpoints` the fit writes down where it is, as `settings` say how often; `resumed` is the one to go on from,
    with the same model, phases and data. `tensorboard` is a folder for curves; `unit` what the progress bar counts.

    For several devices or half precision, build the model inside `hardware.scope(...)`; batches then
    must divide by the number of devices. With a folder, history.csv and best.weights.h5 are written
    there after every epoch. Of several workers the first alone writes and shows what goes on.

    Raises:
        ValueError: no training batches, groups that do not cover the model, images in 0..1.
        TrainingDiverged: the loss is no number any more.
    """
    found = find_groups(model, groups)
    check_phases(found, phases)
    batches = feed(train)
    if any(isinstance(layer, PixelInput) for layer in model.layers):
        images.check_range(batches.epoch())
    shown = workers.is_chief()
    keeper = Keeper(model, patience=patience, folder=folder if shown else None)
    watchers: list[Watcher] = []
    if progress and shown:
        watchers.append(ProgressBar(phases=len(phases), batch=_batch_size(batches), unit=unit))
    if tensorboard is not None and shown:
        start = resumed.state["position"]["step"] if resumed else 0
        watchers.append(TensorBoard(tensorboard, model=model, groups=found, start=start))
    with watched() as interruption:
        loop = Loop(
            model,
            found,
            phases,
            batches,
            validation,
            loss=loss or CrossEntropy(),
            metrics=_made(metrics or (accuracy if loss is None else ("accuracy",))),
            keeper=keeper,
            settings=settings or Settings(),
            checkpoints=checkpoints,
            watchers=watchers,
            interruption=interruption,
        )
        try:
            loop.run(resumed)
        except KeyboardInterrupt:
            keeper.restore_best()
            raise
        finally:
            for watcher in watchers:
                watcher.close()
    return keeper.history


def _batch_size(batches: Feed) -> int | None:
    """The examples of a batch, if all are of one size."""
    sides = {tensor.shape[0] for tensor in tf.nest.flatten(batches.start(0).element_spec)}
    return sides.pop() if len(sides) == 1 else None


def _made(metrics: Sequence | Callable[[], Sequence]) -> Callable[[], Sequence]:
    return metrics if callable(metrics) else lambda: metrics


def train(run: Run, *, overwrite: bool = False, progress: bool = True) -> Bundle:
    """Carry out a run: load its data, build its model, fit, evaluate on the test split, save.

    The same run on the same machine gives the same weights, bit for bit. What is in `run.out` while it trains
    (run.json, history.csv, best.weights.h5, checkpoints) stays there if the process dies, and `resume` goes on from
    it to the very weights that an undisturbed run ends with.

    Raises:
        FileExistsError: `run.out` holds something already, and `overwrite` is not set.
        ValueError, FileNotFoundError: the data or the model cannot be had as described.
        Interrupted: Ctrl-C or SIGTERM came; the state is saved.
        CheckpointsError: the state cannot be written; what was written before is intact.
        WorkersError: the workers of a cluster cannot train together, or one of them was lost.
    """
    bundle.check_room(run.out, overwrite=overwrite)
    hardware.begin(run.hardware)
    with workers.watched(run.out):
        return _carry_out(run, datasets.load(run), progress=progress)


def resume(folder: str | Path, *, progress: bool = True) -> Bundle:
    """Go on with the run in a folder from its newest checkpoint that is whole; of a finished one, its bundle.

    Raises:
        FileNotFoundError: no run began there.
        ValueError: the data are no longer those that it began with.
        CheckpointsError: another process trains there, or all checkpoints are damaged.
        WorkersError: the workers of a cluster cannot train together, or one of them was lost.
    """
    folder = Path(folder)
    if (folder / "bundle.json").is_file():
        left = (folder / CHECKPOINTS).exists() and cluster.is_first()
        return bundle.complete(folder) if left else bundle.load(folder)
    if not (folder / "run.json").is_file():
        raise FileNotFoundError(f"'{folder}' holds no run: there is no run.json. zoo fit begins runs.")
    run = dataclasses.replace(Run.from_json((folder / "run.json").read_text(encoding="utf-8")), out=folder)
    hardware.begin(run.hardware)
    with workers.watched(folder):
        found = workers.checkpoints(folder / CHECKPOINTS).latest()
        if found is None:
            return _carry_out(run, datasets.load(run), progress=progress)
        data = datasets.load(run, folder=folder)
        if found.state["data"] != outcome.summary(data):
            raise ValueError(f"The data of '{folder}' have changed since the run began. Begin it anew: zoo fit --run.")
        return _carry_out(run, data, resumed=found, progress=progress)


def _carry_out(run: Run, data: Dataset, *, resumed: Checkpoint | None = None, progress: bool) -> Bundle:
    keras.utils.set_random_seed(run.seed)
    tf.config.experimental.enable_op_determinism()
    outcome.agree(run, data, resumed)
    objective = objectives.of_run(run, data)
    with hardware.scope(run.hardware) as strategy:
        batch = _fitting_batch(run, len(data.parts["train"]), devices=strategy.num_replicas_in_sync)
        model = create(run, data)
    check_phases(find_groups(model), run.phases)
    training = data.training_set(model, batch=batch, seed=run.seed)
    validation = _validation(run, data, objective, model)
    outcome.begin(run, data, anew=resumed is None)
    checkpoints = workers.checkpoints(run.out / CHECKPOINTS)
    with checkpoints.lock():
        outcome.sweep(run)
        history = fit(
            model,
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
            settings=_settings(run, data, training),
        )
        devices = hardware.describe(strategy, run.hardware, batch=batch)
        return outcome.conclude(model, run, data, objective, history=history, devices=devices)


def find_rate(run: Run) -> Found:
    """Peak learning rates for a run's first phase, from a short sweep on a model of its own.

    Raises:
        ValueError, FileNotFoundError: the data or the model cannot be had as described.
    """
    hardware.begin(run.hardware)
    with workers.watched():
        return _find_rate(run, datasets.load(run))


def _find_rate(run: Run, data: Dataset) -> Found:
    outcome.agree(run, data)
    keras.utils.set_random_seed(run.seed)
    objective = objectives.of_run(run, data)
    with hardware.scope(run.hardware) as strategy:
        batch = _fitting_batch(run, len(data.parts["train"]), devices=strategy.num_replicas_in_sync)
        model = create(run, data)
    training = data.training_set(model, batch=batch, seed=run.seed)
    return find_learning_rate(
        model,
        objective.complete(training, seed=run.seed, training=True),
        loss=objective.loss(),
        phase=run.phases[0],
        optimization=run.optimization,
        accumulate=run.hardware.accumulate,
    )


def _settings(run: Run, data: Dataset, training: Feed) -> Settings:
    return Settings(
        optimization=run.optimization,
        accumulate=run.hardware.accumulate,
        save_steps=run.save_steps,
        about=outcome.summary(data),
        names=lambda number: _names(data, training, number),
    )


def _names(data: Dataset, training: Feed, number: int) -> Sequence[str]:
    """What the examples of a batch are called."""
    found = diagnosis.examples(training, number)
    return () if found is None else diagnosis.names_of(data, "train", found)


def _validation(run: Run, data: Dataset, objective: Objective, model: keras.Model) -> tf.data.Dataset | None:
    if not len(data.parts["validation"]):
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
