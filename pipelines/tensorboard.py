"""A run's curves for TensorBoard: written with tf.summary, looked at with `tensorboard --logdir RUN/tensorboard`."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import keras
import tensorflow as tf

from pipelines.files import replacing
from pipelines.freezing import Groups
from pipelines.monitor import Epoch, Watcher
from pipelines.run import Phase

if TYPE_CHECKING:
    from pipelines.engine import Step

FOLDER = "tensorboard"  # in that of a run
_STEPS, _TRAIN, _VALIDATION = "steps", "train", "validation"
_QUEUE = 10_000  # events before a flush, each of which waits for the disk
_FLUSH = 5_000  # milliseconds after which they are flushed all the same
_Tensor = type(tf.make_tensor_proto(0.0))  # which would take ten times as long as to make one directly
_EVENTS = "*.tfevents.*"
_EARLIER = "events.out.tfevents.0000000000.earlier"


class TensorBoard(Watcher):
    """Writes three sets of curves, all over the number of the step in the whole fit.

    `steps`: the loss, and of each group that learns learning_rate/GROUP and gradient_norm/GROUP, at the first step and
    at every `every`-th. `train` and `validation`: epoch/loss and the other metrics after each epoch, by the same names
    in both, so that TensorBoard draws them into one picture.

    `start` is the number of steps that were done before: those of the checkpoint that a fit goes on from. What an
    earlier process wrote of later steps is taken out of its files, so that no step has two values.
    """

    def __init__(self, folder: Path, *, model: keras.Model, groups: Groups, start: int = 0, every: int = 10):
        self._folder, self._model, self._layers, self._every = folder, model, groups, every
        self._start, self._at = start, start
        self._writers: dict[str, tf.summary.SummaryWriter] = {}
        self._groups: tuple[str, ...] = ()
        self._read: Callable[[], dict[str, float]] = dict
        self._rates: dict[str, float] = {}  # of the next step
        self._rewound = False

    def begin_phase(self, number: int, phase: Phase, groups: Sequence[str]) -> None:
        self._groups = tuple(groups)
        self._read = _reader(self._model.optimizer, {name: self._layers[name] for name in groups})

    def begin_epoch(self, number: int, steps: int, done: int) -> None:
        self._rewind(epoch_is_over=done >= steps)
        self._rates = self._read()

    def after_step(self, number: int, step: Step) -> None:
        self._at = number
        if self._is_due(number):
            values = {"loss": step.loss}
            values |= {f"learning_rate/{name}": rate for name, rate in self._rates.items()}
            values |= {f"gradient_norm/{name}": norm for name, norm in zip(self._groups, step.norms, strict=True)}
            self._write(_STEPS, values, number)
        if self._is_due(number + 1):  # the optimizer tells the rate of the step to come
            self._rates = self._read()

    def after_epoch(self, epoch: Epoch) -> None:
        self._rewind(epoch_is_over=True)
        validation = {name: value for name, value in epoch.metrics.items() if name.startswith("val_")}
        training = {name: value for name, value in epoch.metrics.items() if name not in validation}
        self._write(_TRAIN, {f"epoch/{name}": value for name, value in training.items()}, self._at)
        if validation:
            named = {f"epoch/{name.removeprefix('val_')}": value for name, value in validation.items()}
            self._write(_VALIDATION, named, self._at)
        self.before_checkpoint()

    def before_checkpoint(self) -> None:
        for writer in self._writers.values():
            writer.flush()

    def go_back(self, number: int) -> None:
        self.close()
        self._start, self._at, self._rewound = number, number, False

    def close(self) -> None:
        for writer in self._writers.values():
            writer.close()
        self._writers = {}

    def _is_due(self, number: int) -> bool:
        return number == 1 or number % self._every == 0

    def _rewind(self, *, epoch_is_over: bool) -> None:
        """Before the first value: forget what was written after `start`, and of an epoch that is told of once more."""
        if self._rewound:
            return
        self._rewound = True
        for name in (_STEPS, _TRAIN, _VALIDATION):
            again = epoch_is_over and name != _STEPS
            keep_until(self._folder / name, self._start - again)

    def _write(self, name: str, values: Mapping[str, float], step: int) -> None:
        if name not in self._writers:
            path = str(self._folder / name)
            self._writers[name] = tf.summary.create_file_writer(path, max_queue=_QUEUE, flush_millis=_FLUSH)
        with self._writers[name].as_default():
            tf.summary.experimental.write_raw_pb(_summary(values), step=step)


def keep_until(folder: Path, step: int) -> None:
    """Make one file of the event files of a folder, without what was written of later steps or is half written.

    Its name comes before those of the files to come: TensorBoard reads them in the order of their names.
    """
    files = sorted(path for path in folder.glob(_EVENTS) if not path.name.startswith("."))
    version, kept = b"", {}
    for path in files:
        with contextlib.suppress(tf.errors.DataLossError):  # the last event of a process that was killed
            for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
                event = tf.compat.v1.Event.FromString(record)
                if event.WhichOneof("what") == "file_version":
                    version = version or record
                elif event.step <= step:
                    kept[event.step] = record
    if files:
        with replacing(folder / _EARLIER) as temporary, tf.io.TFRecordWriter(str(temporary)) as writer:
            for record in (version, *kept.values()):
                writer.write(record)
    for path in folder.glob(_EVENTS):  # besides those, what such a replacement left behind when it was killed
        if path.name != _EARLIER:
            path.unlink()


def _summary(values: Mapping[str, float]) -> bytes:
    """What tf.summary.scalar writes, for several values at once: each call of it would cost as much as this does."""
    pb = tf.compat.v1
    scalar = pb.SummaryMetadata(plugin_data=pb.SummaryMetadata.PluginData(plugin_name="scalars"))
    found = []
    for tag, value in values.items():
        tensor = _Tensor(dtype=tf.float32.as_datatype_enum, tensor_shape={}, float_val=[value])
        found.append(pb.Summary.Value(tag=tag, tensor=tensor, metadata=scalar))
    return pb.Summary(value=found).SerializeToString()


def _reader(
    optimizer: keras.optimizers.Optimizer, groups: Mapping[str, Sequence[keras.layers.Layer]]
) -> Callable[[], dict[str, float]]:
    """What tells the learning rate of each group for the next step; a graph, since schedules are slow without."""
    learning = {name: [v for layer in layers for v in layer.trainable_variables] for name, layers in groups.items()}
    inner = {name: optimizer_of(optimizer, variables[0]) for name, variables in learning.items() if variables}
    rates = tf.function(
        lambda: tf.stack([tf.cast(tf.convert_to_tensor(each.learning_rate), tf.float32) for each in inner.values()]),
        autograph=False,
    )
    return lambda: dict(zip(inner, rates().numpy().tolist(), strict=True))


def optimizer_of(optimizer: keras.optimizers.Optimizer, variable: keras.Variable) -> keras.optimizers.Optimizer:
    """The one that changes a variable, of those that an optimizer is made of."""
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)  # of a LossScaleOptimizer
    is_several = isinstance(optimizer, keras.optimizers.MultiOptimizer)
    return optimizer._optimizer_map(variable) if is_several else optimizer
