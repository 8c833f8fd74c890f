"""What training takes its batches from: they are numbered over all epochs, and can be had from any number on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

ORDER, TARGETS, MIXING, VIEWS = range(4)  # what chance decides, each for itself

as_written = tf.autograph.experimental.do_not_convert  # of functions for tf.data: AutoGraph takes seconds to read ours

Plan = Callable[[tf.Tensor], Any]  # the key of an epoch -> tensors, whose first axis is its steps


@dataclass(frozen=True)
class Feed:
    """Endless batches, `steps` of them an epoch, all of one size.

    `start(number)` gives those from a number on, counted from 0. What a batch holds hangs on its number and on the
    run's seed alone: a run that goes on in the middle of an epoch sees what it would have seen. `numbers` gives in the
    same way the numbers (B,) of the examples in each batch, where they are known. `outline` gives a set of such batches
    that is never read, for their shapes, where a start takes long.
    """

    steps: int
    start: Callable[[int], tf.data.Dataset]
    numbers: Callable[[int], tf.data.Dataset] | None = None
    outline: Callable[[], tf.data.Dataset] | None = None

    @property
    def spec(self) -> Any:
        """The shapes and types of a batch."""
        return (self.outline() if self.outline else self.start(0)).element_spec

    def epoch(self, number: int = 0) -> tf.data.Dataset:
        """The batches of one epoch, counted from 0."""
        return self.start(number * self.steps).take(self.steps)

    def map(self, function: Callable[[Any, tf.Tensor], Any]) -> Feed:
        """Batches made by function(batch, number), in order, the next ones while the model works.

        AutoGraph does not read the function: what hangs on a tensor is said by tf.where or tf.cond.
        """

        def made(batches: tf.data.Dataset, number: int) -> tf.data.Dataset:
            numbered = tf.data.Dataset.zip(batches, tf.data.Dataset.counter(number))
            found = numbered.map(as_written(function), num_parallel_calls=tf.data.AUTOTUNE)
            return found.prefetch(tf.data.AUTOTUNE).with_options(batches.options())

        outline = self.outline
        return Feed(
            self.steps,
            lambda number: made(self.start(number), number),
            self.numbers,
            None if outline is None else lambda: made(outline(), 0),
        )


def feed(batches: tf.data.Dataset | Feed) -> Feed:
    """A finite data set as a feed: it is read anew for each epoch, and from its beginning to go on in the middle.

    Raises:
        ValueError: it is none, has no batches, or never ends.
    """
    if isinstance(batches, Feed):
        return batches
    check_set(batches)
    steps = _count(batches)
    known = batches.apply(tf.data.experimental.assert_cardinality(steps))
    return Feed(steps, lambda number: known.repeat().skip(number))


def check_set(batches: object) -> None:
    """Refuse what is no data set.

    Raises:
        ValueError: it is arrays, or something else.
    """
    if not isinstance(batches, tf.data.Dataset):
        raise ValueError(
            f"fit takes tf.data sets, not a {type(batches).__name__}: "
            "tf.data.Dataset.from_tensor_slices((inputs, targets)).batch(32), for one."
        )


def planned(plan: Plan, *, steps: int, seed: int) -> Feed:
    """A feed of what `plan` says of each epoch, step by step: the numbers of the examples of each batch, say.

    A later start skips by number: nothing is computed of the steps before, but the plan of their epoch.
    """

    def start(number: int) -> tf.data.Dataset:
        first, done = divmod(number, steps)

        def steps_of(epoch: tf.Tensor) -> tf.data.Dataset:
            left = tf.where(epoch == first, done, 0)
            whole = plan(key(seed, ORDER, epoch))
            return tf.data.Dataset.from_tensor_slices(tf.nest.map_structure(lambda tensor: tensor[left:], whole))

        endless = tf.data.Dataset.range(first, tf.int64.max).flat_map(as_written(steps_of))
        return endless.apply(tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY))

    return Feed(steps, start)


def key(seed: int, *numbers: int | tf.Tensor) -> tf.Tensor:
    """The seed of a stateless random operation, two int64: another for each seed and each row of numbers."""
    found = tf.constant([seed, 0], tf.int64)
    for number in numbers:
        found = tf.random.fold_in(found, tf.cast(number, tf.int64))
    return found


def example(spec: Any) -> Any:
    """Tensors of the shapes of a batch, from which Keras builds its metrics; as many examples where that is free."""
    known = {side for each in tf.nest.flatten(spec) for side in each.shape[:1] if side is not None}
    examples = known.pop() if len(known) == 1 else 1

    def zeros(each: tf.TensorSpec) -> tf.Tensor:
        sides = [2 if side is None else side for side in each.shape]  # 1 has Keras warn of softmax over it
        return tf.zeros([examples, *sides[1:]] if sides and each.shape[0] is None else sides, each.dtype)

    return tf.nest.map_structure(zeros, spec)


def _count(dataset: tf.data.Dataset) -> int:
    """The batches of an epoch, counted by reading them if the data set does not know."""
    known = int(dataset.cardinality())
    if known == tf.data.INFINITE_CARDINALITY:
        raise ValueError("The training set never ends. Give it an epoch's length: dataset.take(batches).")
    count = known if known >= 0 else sum(1 for _ in dataset)
    if count == 0:
        raise ValueError("The training set has no batches.")
    return count
