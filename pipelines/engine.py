"""One step of training and of evaluation, with the same numbers on any number of devices and of micro-batches.

What Keras' own loop does otherwise: it clips each replica's gradients before they are summed, cannot accumulate them
under a strategy, weighs replicas alike whatever their examples weigh, and keeps their batch statistics apart.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import keras
import tensorflow as tf

from pipelines import replicas, workers
from pipelines.clipping import Clip
from pipelines.iterated import Iterated
from pipelines.objectives.losses import WeightedMean
from pipelines.parts import after, dense, divided, of_any

if TYPE_CHECKING:
    from pipelines.ema import MovingAverage

Batch = Any  # (inputs, targets) or (inputs, targets, weights), as tf.data gives it
SUM = tf.distribute.ReduceOp.SUM
BY_WEIGHT = "mean_with_sample_weight"


class Step(NamedTuple):
    """What is known after a step of training.

    `norms` are those of the groups' gradients before clipping. A step is skipped, and its norms are 0, where half
    precision had no room for a gradient: the loss scale is halved then. Below a scale of 1 that cannot help, and the
    norms stay what they are, infinite or no numbers. `wishes` says which of those given any worker had.
    """

    loss: float
    norms: tuple[float, ...]
    skipped: bool = False
    wishes: tuple[bool, ...] = ()


class Engine:
    """The graphs of a compiled model's steps.

    `groups` names the variables whose gradients' norms are wanted together. `accumulate` divides each replica's part
    of a batch into so many micro-batches, which take their memory one after the other; their gradients are those of
    the whole batch, whatever the weights of the examples. `clip` acts on the gradient of the whole batch.

    Batch statistics are those of all replicas' examples together, of one micro-batch at a time.

    Raises:
        ValueError: the loss is a sum, or of several kinds, or of all examples together, and cannot be accumulated.
    """

    loss_falls: ClassVar[bool] = True  # so that a learning rate can be found by it
    takes_whole: ClassVar[bool] = False  # whether micro-batches are one batch to a loss that compares their examples

    def __init__(
        self,
        model: keras.Model,
        groups: Mapping[str, Sequence[keras.Variable]],
        *,
        accumulate: int = 1,
        clip: Clip | None = None,
        average: MovingAverage | None = None,
        penalty: Callable[[], tf.Tensor] | None = None,
    ):
        self._model, self._accumulate, self._clip, self._average = model, accumulate, clip, average
        self._penalty = penalty
        self._strategy = model.distribute_strategy
        self._replicas = self._strategy.num_replicas_in_sync
        self._reduction = self._reduced(accumulate)
        self._variables = list(model.trainable_variables)
        self._generators = replicas.seed_generators(model)
        place = {id(variable): index for index, variable in enumerate(self._variables)}
        self._groups = [[place[id(v)] for v in variables if id(v) in place] for variables in groups.values()]
        self._answer: Callable[..., Any] = model
        self._train = Iterated(self._train_whole)
        self._test = Iterated(self._test_whole)

    def answer_by(self, answer: Callable[..., Any]) -> None:
        """From the first step on, take the model's outputs from answer(inputs, training=...), of other inputs."""
        self._answer = answer

    def divide(self, accumulate: int) -> None:
        """From now on, divide each replica's part of a batch into so many micro-batches.

        Raises:
            ValueError: the loss cannot be accumulated.
        """
        self._reduction, self._accumulate = self._reduced(accumulate), accumulate
        self._train = Iterated(self._train_whole)

    def _reduced(self, accumulate: int) -> str:
        if accumulate > 1 and getattr(self._model, "compares", False) and not self.takes_whole:
            raise ValueError(
                f"The loss of {self._model.name!r} compares all examples of a batch: in micro-batches there would be "
                "fewer. Set accumulate=1, or take pipelines.cached_engine.CachedEngine, which sees the whole."
            )
        return _reduction(self._model, accumulate)

    def train(self, iterator: Any, *wishes: bool) -> Step:
        """Take the next batch of a distributed iterator, and a step on it; learn what other workers wish."""
        loss, norms, skipped, wished = self._train(iterator, _as_tensor(wishes))
        return Step(
            float(loss), tuple(norms.numpy().tolist()), bool(skipped), tuple(bool(wish > 0) for wish in wished.numpy())
        )

    def batches(self, batches: tf.data.Dataset) -> Any:
        """An iterator over batches, of which each replica of each worker takes its part, in order."""
        return iter(self._strategy.experimental_distribute_dataset(workers.in_shares(batches)))

    def evaluate(self, batches: tf.data.Dataset, *, between: Callable[[], None] = lambda: None) -> dict[str, float]:
        """The loss and the metrics over all batches; the last one may be smaller. After each, `between` is called."""
        self._model.reset_metrics()
        iterator = self.batches(batches)
        try:
            while True:
                self._test(iterator)
                between()
        except tf.errors.OutOfRangeError:
            return self.results()

    def results(self) -> dict[str, float]:
        """The loss and the metrics since they were reset."""
        return {name: float(value) for name, value in self._model.get_metrics_result().items()}

    def _train_whole(self, iterator: Any, wishes: tf.Tensor) -> tuple[tf.Tensor, ...]:
        with replicas.in_step(self._model, divided=self._accumulate > 1):
            found = self._strategy.run(self._train_replica, args=(iterator.get_next(), wishes))
        self._follow()
        return tuple(self._strategy.experimental_local_results(each)[0] for each in found)

    def _follow(self) -> None:
        """Let the average move after the weights."""
        if self._average is not None:
            self._average.update()

    def _train_replica(self, batch: Batch, wishes: tf.Tensor) -> tuple[tf.Tensor, ...]:
        kept = self._values_to_keep()
        gradients, whole = self._gradients(divided(batch, self._accumulate))
        context = tf.distribute.get_replica_context()
        sums = context.all_reduce(SUM, [tf.concat([[whole], wishes], axis=0), *gradients])
        norms, skipped = self._apply(sums[1:])
        for variable, value in kept:
            variable.assign(tf.where(skipped, value, tf.convert_to_tensor(variable.value)))
        return sums[0][0], norms, skipped, sums[0][1:]

    def _gradients(self, parts: Sequence[Batch]) -> tuple[list[tf.Tensor], tf.Tensor]:
        """Those of a replica's micro-batches together, scaled as the optimizer wants, and its part in the loss."""
        optimizer = self._model.optimizer
        shares, mass = self._shares(parts)
        gradients: list[tf.Tensor] = []
        whole = tf.zeros(())
        for part, share in zip(parts, shares, strict=True):
            with replicas.own_random_numbers(self._generators), tf.GradientTape() as tape:
                loss = self._loss(after(part, gradients), share, mass, training=True)
                if self._penalty is not None:
                    loss += self._penalty() / (self._replicas * len(parts))
                scaled = optimizer.scale_loss(loss)
            found = dense(tape.gradient(scaled, self._variables), self._variables)
            gradients = [a + b for a, b in zip(gradients, found, strict=True)] if gradients else found
            whole += loss
        return gradients, whole

    def _values_to_keep(self) -> list[tuple[keras.Variable, tf.Tensor]]:
        """The metrics and the statistics as they are: in a step that half precision skips they are of no numbers."""
        model = self._model
        if not isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer):
            return []
        statistics = [v for v in model.non_trainable_variables if keras.backend.is_float_dtype(v.dtype)]
        return [(v, tf.identity(v.value)) for v in (*model.metrics_variables, *statistics)]

    def _apply(self, gradients: list[tf.Tensor], chosen: Sequence[int] | None = None) -> tuple[tf.Tensor, tf.Tensor]:
        """Clip and apply the gradient of the whole batch; the norm of each group before, and whether it was skipped.

        It is that of all variables, or of those `chosen` by their numbers; the norms of others are 0.
        """
        optimizer = self._model.optimizer
        places = list(range(len(self._variables)) if chosen is None else chosen)
        scale = tf.cast(optimizer.scale_loss(1.0), tf.float32)
        squares = [2.0 * tf.nn.l2_loss(tf.cast(g, tf.float32) / scale) for g in gradients]
        of = dict(zip(places, squares, strict=True))
        grouped = [[of[place] for place in group if place in of] for group in self._groups]
        norms = [tf.sqrt(tf.reduce_sum(tf.stack(found))) if found else tf.zeros(()) for found in grouped]
        known = tf.stack(norms) if norms else tf.zeros((0,))
        skipped = tf.constant(False)
        if self._clip is not None:
            clipped = self._clip.apply(gradients, squares, scale)
        if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
            finite = tf.reduce_all([tf.reduce_all(tf.math.is_finite(gradient)) for gradient in gradients])
            skipped = tf.logical_not(finite) & (scale >= 1)
            known = tf.where(skipped, tf.zeros_like(known), known)
            if self._clip is not None:  # what was infinite is to be seen by the optimizer
                clipped[0] = tf.where(finite, clipped[0], tf.cast(float("nan"), clipped[0].dtype))
        variables = [self._variables[place] for place in places]
        optimizer.apply(gradients if self._clip is None else clipped, variables)
        return known, skipped

    def _test_whole(self, iterator: Any) -> None:
        self._strategy.run(self._test_replica, args=(iterator.get_next(),))

    def _test_replica(self, batch: Batch) -> None:
        with tf.control_dependencies(tf.nest.flatten(batch)):  # past the last batch, what hangs on shapes would count
            (share,), mass = self._shares([batch])
            self._loss(batch, share, mass, training=False)

    def _loss(self, batch: Batch, share: tf.Tensor, mass: tf.Tensor, *, training: bool) -> tf.Tensor:
        """The part that this batch has in the loss of the whole one, which weighs `mass` in the mean of the epoch."""
        model = self._model
        inputs, targets, weights = keras.utils.unpack_x_y_sample_weight(batch)
        if self._replicas == 1 and (self._accumulate == 1 or not training):
            outputs = self._answer(inputs, training=training)
        else:
            outputs = of_any(lambda some: self._answer(some, training=training), inputs)
        loss = share * model.compute_loss(inputs, targets, outputs, weights, training=training)
        parts = self._replicas * (self._accumulate if training else 1)
        model._loss_tracker.update_state(loss * parts, sample_weight=mass / parts)
        model.compute_metrics(inputs, targets, outputs, weights)
        return loss

    def _mass(self, batch: Batch) -> tf.Tensor:
        """How much a batch counts: the sum of its weights where the loss is a mean over them, else its examples."""
        inputs, _, weights = keras.utils.unpack_x_y_sample_weight(batch)
        if weights is not None and self._reduction == BY_WEIGHT:
            return tf.reduce_sum(tf.cast(weights, tf.float32))
        return tf.cast(tf.shape(keras.tree.flatten(inputs)[0])[0], tf.float32)

    def _shares(self, parts: Sequence[Batch]) -> tuple[list[tf.Tensor], tf.Tensor]:
        """What Keras' loss of each part is to be multiplied with, so that they add up; and the whole batch's mass.

        Keras divides a replica's mean by the number of replicas, WeightedMean by what weighs on all of them.
        """
        masses = tf.stack([self._mass(part) for part in parts])
        together = tf.distribute.get_replica_context().all_reduce(SUM, masses) if self._replicas > 1 else masses
        mass = tf.reduce_sum(together)
        if self._reduction == "sum" or (self._replicas == 1 and len(parts) == 1):
            return [tf.ones(())] * len(parts), mass
        weighed = isinstance(self._model.loss, WeightedMean) and len(parts[0]) == 3
        own = together if weighed else masses * self._replicas
        return tf.unstack(tf.math.divide_no_nan(own, mass), num=len(parts)), mass


@functools.cache  # making one takes as long as some twenty small ops
def _as_tensor(wishes: tuple[bool, ...]) -> tf.Tensor:
    return tf.constant(wishes, tf.float32, (len(wishes),))


def _reduction(model: keras.Model, accumulate: int) -> str:
    """How the loss of examples becomes that of a batch.

    Raises:
        ValueError: not in one way that can be accumulated.
    """
    losses = [loss for loss in keras.tree.flatten(model.loss) if loss is not None]
    found = {getattr(loss, "reduction", None) or "sum_over_batch_size" for loss in losses}
    found = {"sum_over_batch_size" if each == "mean" else each for each in found}
    if accumulate > 1 and (len(found) > 1 or found == {"sum"}):
        raise ValueError(
            f"Gradients of losses with the reduction {' and '.join(sorted(found))} cannot be accumulated: those of "
            "micro-batches add up where all losses are means of one kind. Set accumulate=1, or another reduction."
        )
    return found.pop() if len(found) == 1 else "sum_over_batch_size"
