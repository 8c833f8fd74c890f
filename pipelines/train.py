"""The only training loop: for each phase freeze, compile and fit."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

import zoo
from pipelines import bundle, datasets, evaluate, hardware, images, objectives, optimizer
from pipelines.bundle import Bundle
from pipelines.datasets import Dataset
from pipelines.freezing import Freezer, GivenGroups, find_groups
from pipelines.monitor import History, Keeper, ProgressBar
from pipelines.objectives import Objective
from pipelines.objectives.losses import CrossEntropy
from pipelines.objectives.objective import accuracy
from pipelines.run import Images, Phase, Run, Texts
from zoo.core import registry
from zoo.core.family import CLASSED
from zoo.layers.auxiliary import without_auxiliary
from zoo.layers.pixels import PixelInput

_OPTION_OF_KIND = {Images: ("pixels",), Texts: ("vocabulary",)}  # the Config field of models that take such data


def fit(
    model: keras.Model,
    phases: Sequence[Phase],
    train: tf.data.Dataset,
    validation: tf.data.Dataset | None = None,
    *,
    groups: GivenGroups | None = None,
    loss: keras.losses.Loss | str | None = None,
    metrics: Sequence | Callable[[], Sequence] | None = None,
    patience: int = 5,
    folder: Path | None = None,
    progress: bool = True,
) -> History:
    """Train a functional model phase by phase; it ends with the best weights of all phases.

    `train` and `validation` are data sets of (inputs, targets) or (inputs, targets, weights) batches, finite, of
    your own or from pipelines. Weights are of examples (B,) or tokens (B, T); the loss is a mean over their sum, and
    metrics count by them, so that what has the weight 0 (padding) has no part in either.

    For a model of the zoo the groups follow from its layer names; for any other give them as lists of layers or
    layer names, from input to output. `loss` is sparse categorical cross-entropy on logits unless given; `metrics`
    are the accuracy unless given, and may be a function that makes them, in the scope of the model's strategy.
    Without a validation set the last weights are the best.

    For several devices or half precision, build the model inside `hardware.scope(...)`; batches then
    must divide by the number of devices. With a folder, history.csv and best.weights.h5 are written
    there after every epoch.

    Raises:
        ValueError: no training batches, groups that do not cover the model, images in 0..1.
        TrainingDiverged: the loss is no number any more.
    """
    found = find_groups(model, groups)
    steps = _count_batches(train)
    train = train.apply(tf.data.experimental.assert_cardinality(steps))
    if any(isinstance(layer, PixelInput) for layer in model.layers):
        images.check_range(train)
    metrics = metrics or (accuracy if loss is None else ("accuracy",))
    loss = loss or CrossEntropy()
    keeper = Keeper(patience=patience, folder=folder)
    bar = ProgressBar(phases=len(phases)) if progress else None
    previous = None
    try:
        with Freezer(model, found) as freezer, model.distribute_strategy.scope():
            for number, phase in enumerate(phases, start=1):
                freezer.apply(phase)
                current = optimizer.build(model, found, phase, steps=steps * phase.epochs)
                optimizer.carry_state(previous, current)
                model.compile(current, loss=loss, weighted_metrics=list(metrics() if callable(metrics) else metrics))
                keeper.begin(number, phase.learning_rate)
                if bar:
                    bar.begin(number, list(optimizer.group_rates(found, phase)))
                model.fit(
                    train,
                    epochs=phase.epochs,
                    validation_data=validation,
                    callbacks=[keeper, bar] if bar else [keeper],
                    verbose=0,
                    shuffle=False,  # the data set says in which order
                )
                previous = current
                keeper.restore_best()
    except KeyboardInterrupt:
        keeper.restore_best()
        raise
    finally:
        if bar:
            bar.close()
    return keeper.history


def train(run: Run, *, overwrite: bool = False, progress: bool = True) -> Bundle:
    """Carry out a run: load its data, build its model, fit, evaluate on the test split, save.

    The same run on the same machine gives the same weights, bit for bit. What is in `run.out`
    while it trains (run.json, history.csv, best.weights.h5) stays there if the process dies.

    Raises:
        FileExistsError: `run.out` holds something already, and `overwrite` is not set.
        ValueError, FileNotFoundError: the data or the model cannot be had as described.
    """
    bundle.check_room(run.out, overwrite=overwrite)
    keras.utils.set_random_seed(run.seed)
    tf.config.experimental.enable_op_determinism()
    data = datasets.load(run)
    task = run.task or data.task
    objective = objectives.find(task, data, loss=run.loss)
    with hardware.scope(run.hardware) as strategy:
        batch = _fitting_batch(run.batch, len(data.parts["train"]), devices=strategy.num_replicas_in_sync)
        model = create(run, data)
    training = data.training_set(model, batch=batch, seed=run.seed)
    validation = _validation(run, data, objective, model)
    bundle.prepare(run)
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
    )
    model = without_auxiliary(model)
    test = len(data.parts["test"]) > 0
    scores = evaluate.evaluate(model, data, objective, batch=run.batch, seed=run.seed) if test else None
    devices = hardware.describe(strategy, run.hardware)
    return bundle.save(model, run, data, task=task, history=history, scores=scores, devices=devices)


def create(run: Run, data: Dataset) -> keras.Model:
    """The model of a run, as its data need it.

    Raises:
        ValueError: the model is not for data of this kind, or has no such option or task.
    """
    task = run.task or data.task
    options: dict[str, Any] = {**data.options(), **run.overrides, "task": task}
    if task in CLASSED:
        options["classes"] = len(data.classes)
    if run.is_checkpoint:
        return zoo.from_checkpoint(run.model, **options)
    _check_kind(run, data)
    return zoo.create(run.model, weights=run.weights, **options)


def _check_kind(run: Run, data: Dataset) -> None:
    """Refuse a model that takes other data than the run's."""
    needed = _OPTION_OF_KIND.get(type(run.data), ()) or tuple(data.options())

    def takes(config: Any) -> bool:
        return set(needed) <= {field.name for field in dataclasses.fields(config)}

    if not takes(registry.find_family(run.model).variants[run.model]):
        able = [
            name
            for family in registry.families()
            for name, config in registry.load_family(family).variants.items()
            if takes(config)
        ]
        raise ValueError(
            f"{run.model!r} does not take {type(run.data).__name__.lower()}. Models that do: "
            f"{', '.join(able[:12])}{' and more; see zoo list' if len(able) > 12 else ''}."
        )


def _validation(run: Run, data: Dataset, objective: Objective, model: keras.Model) -> tf.data.Dataset | None:
    if not len(data.parts["validation"]):
        return None
    batches = data.evaluation_set(model, "validation", batch=run.batch, cached=True)
    return objective.complete(batches, seed=run.seed, training=False)


def _fitting_batch(batch: int, examples: int, *, devices: int) -> int:
    """The batch, or what there is to fill one, in equal parts for all devices."""
    if batch % devices:
        near = max(devices, batch // devices * devices)
        raise ValueError(f"A batch of {batch} does not divide over {devices} devices; use {near} or {near + devices}.")
    if examples < devices:
        raise ValueError(f"{examples} training examples do not fill a batch on {devices} devices; use fewer devices.")
    return min(batch, examples // devices * devices)


def _count_batches(dataset: tf.data.Dataset) -> int:
    """The batches of an epoch, counted by reading them if the data set does not know."""
    known = int(dataset.cardinality())
    if known == tf.data.INFINITE_CARDINALITY:
        raise ValueError("The training set never ends. Give it an epoch's length: dataset.take(batches).")
    count = known if known >= 0 else sum(1 for _ in dataset)
    if count == 0:
        raise ValueError("The training set has no batches.")
    return count
