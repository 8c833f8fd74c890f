"""An objective: how batches of a data set become a loss, metrics and scores."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from pipelines.datasets import Part
from pipelines.feed import TARGETS, Feed, as_written, feed, key
from pipelines.objectives.losses import is_soft
from pipelines.objectives.scores import Scores

if TYPE_CHECKING:
    from pipelines.engine import Engine


@dataclass(frozen=True, kw_only=True)
class Objective:
    """What a model is trained for.

    `loss` and `metrics` are made anew for each model, in the scope of its strategy. `score` takes the model and
    the batches of a part in order, completed. `target` turns what the loader gives into (inputs, targets, weights);
    its second argument holds two random numbers, others for each batch.

    Where a loss takes more than outputs and targets, `learner` makes the model that is trained in the given one's
    stead, in the scope of its strategy: it shares its layers. `engine` takes the steps, if not the usual one. `draw`
    makes pictures of the model, as it is evaluated, in a folder, under a name that tells when; they have no part in
    what is learned. Where no loss tells how good a model is it `validates` nothing, and the last weights are the best.

    `reader` makes what is evaluated in the model's stead, where batches are not what the model itself takes. `keep`
    writes files that the trained model needs into its folder, and gives their names. `options` of the model follow from
    the objective, unless the data or the run say otherwise.
    """

    loss: Callable[[], keras.losses.Loss]
    metrics: Callable[[], list[keras.metrics.Metric]]
    score: Callable[[keras.Model, tf.data.Dataset, Part], Scores]
    target: Callable[[Any, tf.Tensor], Any] | None = None
    learner: Callable[[keras.Model], keras.Model] | None = None
    engine: type[Engine] | None = None
    draw: Callable[[keras.Model, Path, str], None] | None = None
    validates: bool = True
    reader: Callable[[keras.Model], keras.Model] | None = None
    keep: Callable[[Path], Sequence[str]] | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    @overload
    def complete(self, batches: Feed, *, seed: int, training: Literal[True]) -> Feed: ...

    @overload
    def complete(self, batches: tf.data.Dataset, *, seed: int, training: Literal[False]) -> tf.data.Dataset: ...

    def complete(self, batches: Feed | tf.data.Dataset, *, seed: int, training: bool) -> Feed | tf.data.Dataset:
        """The loader's batches as the loss takes them: of a feed in training, of a finite set in evaluation.

        What is random hangs on a batch's number, which in training goes on from epoch to epoch.
        """
        target = self.target
        if target is None:
            return batches
        if training or isinstance(batches, Feed):
            return feed(batches).map(lambda batch, number: target(batch, key(seed, TARGETS, number)))
        draws = tf.data.Dataset.random(seed=seed, rerandomize_each_iteration=False).batch(2)
        completed = tf.data.Dataset.zip(batches, draws).map(
            as_written(lambda batch, draw: target(batch, tf.cast(draw, tf.int32))), num_parallel_calls=tf.data.AUTOTUNE
        )
        return completed.prefetch(tf.data.AUTOTUNE).with_options(batches.options())


@keras.saving.register_keras_serializable("zoo")
class WeightedMetric(keras.metrics.Metric):
    """The sum of weighted values over the sum of the weights, over all batches.

    Keras' own metrics take the mean over the places of a batch first: a batch counts less the more padding it has.
    """

    def __init__(self, function: Callable[[tf.Tensor, tf.Tensor], tf.Tensor], name: str, dtype: Any = None):
        super().__init__(name=name, dtype=dtype)
        self._function = function
        self._total = self.add_variable((), initializer="zeros", name="total")
        self._count = self.add_variable((), initializer="zeros", name="count")

    def update_state(self, y_true, y_pred, sample_weight=None):
        values = ops.cast(self._function(y_true, y_pred), self.dtype)
        weights = ops.ones_like(values) if sample_weight is None else ops.cast(sample_weight, self.dtype)
        weights = ops.broadcast_to(ops.reshape(weights, _as_deep(weights, values)), ops.shape(values))
        self._total.assign_add(ops.sum(values * weights))
        self._count.assign_add(ops.sum(weights))

    def result(self):
        return ops.divide_no_nan(self._total, self._count)

    def get_config(self):
        return {**super().get_config(), "function": keras.saving.serialize_keras_object(self._function)}

    @classmethod
    def from_config(cls, config):
        """The metric that `get_config` described, of a function that is registered with Keras."""
        return cls(keras.saving.deserialize_keras_object(config.pop("function")), **config)


def _as_deep(weights: tf.Tensor, values: tf.Tensor) -> tuple:
    """The shape of the weights, with an axis of one for each that the values have besides: (B,) -> (B, 1)."""
    return (*ops.shape(weights), *(1 for _ in values.shape[len(weights.shape) :]))


def accuracy() -> list[keras.metrics.Metric]:
    """How often the largest logit is that of the right class, or, where targets hold shares, of the largest."""
    return [WeightedMetric(_right, "accuracy")]


@keras.saving.register_keras_serializable("zoo", "right_class")
def _right(labels, logits):
    if is_soft(labels, logits):
        labels = ops.argmax(labels, axis=-1)
    return ops.equal(ops.cast(ops.reshape(labels, ops.shape(logits)[:-1]), "int32"), ops.argmax(logits, axis=-1))


def answers(model: keras.Model, batches: tf.data.Dataset) -> Iterator[tuple[np.ndarray, ...]]:
    """(outputs, targets, weights) of each batch, of whatever length; of one without weights (outputs, targets)."""
    call = tf.function(lambda inputs: model(inputs, training=False), input_signature=batches.element_spec[:1])
    for inputs, *rest in batches:
        yield tuple(np.asarray(tensor) for tensor in (call(inputs), *rest))
