"""Training of any functional Keras model on any batches, phase by phase."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import keras
import tensorflow as tf

from pipelines import images, workers
from pipelines.checkpoints import Checkpoint, Checkpoints
from pipelines.feed import Feed, check_set, feed
from pipelines.freezing import GivenGroups, check_phases, find_groups
from pipelines.interruption import watched
from pipelines.keeper import Keeper
from pipelines.loop import Loop, Settings
from pipelines.monitor import History, ProgressBar, Watcher
from pipelines.objectives.losses import CrossEntropy
from pipelines.objectives.objective import accuracy
from pipelines.run import Phase
from pipelines.tensorboard import TensorBoard
from zoo.layers.pixels import PixelInput


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
        ValueError: no data sets, no training batches, groups that do not cover the model, images in 0..1.
        TrainingDiverged: the loss is no number any more.
        OutOfMemory: a step does not fit, in the smallest micro-batches either.
    """
    found = find_groups(model, groups)
    check_phases(found, phases)
    batches = feed(train)
    if validation is not None:
        check_set(validation)
    if batches.outline is None and any(isinstance(layer, PixelInput) for layer in model.layers):  # a set of one's own
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
    sides = {tensor.shape[0] for tensor in tf.nest.flatten(batches.spec)}
    return sides.pop() if len(sides) == 1 else None


def _made(metrics: Sequence | Callable[[], Sequence]) -> Callable[[], Sequence]:
    return metrics if callable(metrics) else lambda: metrics
