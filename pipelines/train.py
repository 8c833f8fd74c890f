"""The only training loop: for each phase freeze, compile and fit."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import keras
import tensorflow as tf

import zoo
from pipelines import bundle, evaluate, hardware, images, optimizer, sources
from pipelines.bundle import Bundle
from pipelines.freezing import Freezer, GivenGroups, find_groups
from pipelines.monitor import History, Keeper, ProgressBar
from pipelines.run import Phase, Run
from zoo.layers.auxiliary import without_auxiliary
from zoo.layers.pixels import PixelInput, pixels_of


def fit(
    model: keras.Model,
    phases: Sequence[Phase],
    train: tf.data.Dataset,
    validation: tf.data.Dataset | None = None,
    *,
    groups: GivenGroups | None = None,
    loss: keras.losses.Loss | str | None = None,
    metrics: Sequence = ("accuracy",),
    patience: int = 5,
    folder: Path | None = None,
    progress: bool = True,
) -> History:
    """Train a functional model phase by phase; it ends with the best weights of all phases.

    `train` and `validation` are data sets of (inputs, labels) batches, finite, of your own or from
    pipelines.images. For a model of the zoo the groups follow from its layer names; for any other
    give them as lists of layers or layer names, from input to output. `loss` is sparse categorical
    cross-entropy on logits unless given; without a validation set the last weights are the best.

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
    loss = loss or keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    keeper = Keeper(patience=patience, folder=folder)
    bar = ProgressBar(phases=len(phases)) if progress else None
    previous = None
    try:
        with Freezer(model, found) as freezer, model.distribute_strategy.scope():
            for number, phase in enumerate(phases, start=1):
                freezer.apply(phase)
                current = optimizer.build(model, found, phase, steps=steps * phase.epochs)
                optimizer.carry_state(previous, current)
                model.compile(current, loss=loss, metrics=list(metrics))
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
    data = sources.load(run.data, seed=run.seed)
    with hardware.scope(run.hardware) as strategy:
        batch = _fitting_batch(run.batch, len(data.train), devices=strategy.num_replicas_in_sync)
        crop = {} if run.data.crop is None else {"crop": run.data.crop}
        options = {"size": run.data.size, **crop, **run.overrides}
        model = zoo.create(run.model, weights=run.weights, classes=len(data.classes), **options)
    bundle.prepare(run)
    pixels = images.color(pixels_of(model))
    history = fit(
        model,
        run.phases,
        images.training_set(
            data.train, pixels, batch=batch, seed=run.seed, augment=run.data.augment, flip=run.data.mirrors
        ),
        images.evaluation_set(data.validation, pixels, batch=run.batch, cache_budget=None)
        if len(data.validation)
        else None,
        patience=run.patience,
        folder=run.out,
        progress=progress,
    )
    model = without_auxiliary(model)
    scores = evaluate.evaluate(model, data.test, data.classes, batch=run.batch) if len(data.test) else None
    return bundle.save(
        model, run, data, history=history, scores=scores, devices=hardware.describe(strategy, run.hardware)
    )


def _fitting_batch(batch: int, images: int, *, devices: int) -> int:
    """The batch, or what there is to fill one, in equal parts for all devices."""
    if batch % devices:
        near = max(devices, batch // devices * devices)
        raise ValueError(f"A batch of {batch} does not divide over {devices} devices; use {near} or {near + devices}.")
    if images < devices:
        raise ValueError(f"{images} training images do not fill a batch on {devices} devices; use fewer devices.")
    return min(batch, images // devices * devices)


def _count_batches(dataset: tf.data.Dataset) -> int:
    """The batches of an epoch, counted by reading them if the data set does not know."""
    known = int(dataset.cardinality())
    if known == tf.data.INFINITE_CARDINALITY:
        raise ValueError("The training set never ends. Give it an epoch's length: dataset.take(batches).")
    count = known if known >= 0 else sum(1 for _ in dataset)
    if count == 0:
        raise ValueError("The training set has no batches.")
    return count
