"""Frozen layers are computed once: a phase's batches with their answers for inputs, and what answers on from there."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from pipelines import batches, features, workers
from pipelines.engine import Engine
from pipelines.features import Batch, NoRoom, Rows
from pipelines.feed import Feed, as_written
from pipelines.monitor import History
from pipelines.prefix import NotCut, NothingFrozen, Prefix, Rest, cut
from pipelines.recovery import EXHAUSTED, note
from pipelines.run import Phase

LEAST = 0.1  # of the work of a step: where less is saved, nothing is stored
ENOUGH = 2e10  # multiplications, some seconds of a processor: where fewer are saved, nothing is stored either
AT_ONCE = 64  # examples that go through the frozen layers together, whatever the batch is: answers can be shared

See = Callable[[Any], list[tf.Tensor]]


@dataclass(frozen=True, eq=False)
class Part:
    """The examples of a part of the data in order, all of one view before those of the next.

    `batches` gives (inputs, targets, ...) of so many examples at a time. `identity` is a hash of all of it.
    """

    batches: Callable[[int], tf.data.Dataset]
    identity: Callable[[], str]
    examples: int  # of one view
    views: int = 1


@dataclass(frozen=True, eq=False)
class Source:
    """The examples of a run, for frozen layers to see once.

    `folder` is where their answers are stored; of one run alone unless it is `shared`. Where inputs are `costly`, as
    images are that have to be read, they are not looked at again. `always`: also where a single run gains nothing by
    it, and with a word on why not where it cannot be.
    """

    training: Part
    validation: Part | None
    folder: Path
    batch: int  # of the validation set
    shared: bool = False
    costly: bool = False
    always: bool = False


@dataclass(frozen=True, eq=False)
class Given:
    """What a phase trains and validates on."""

    feed: Feed
    validation: tf.data.Dataset | None


def shorten(
    model: keras.Model,
    phase: Phase,
    source: Source,
    given: Given,
    engine: Engine,
    *,
    history: History,
    begun: bool = False,
    between: Callable[[], None] = lambda: None,
) -> Given:
    """The same batches, with what the model's frozen layers answer for inputs; the engine goes on from there.

    What is given comes back where that is not to be. `begun`: the phase has done steps in this way. `between` is
    called all the while.
    """
    try:
        found, rest = shortcut(model, phase, source, given, between=between)
    except NotCut as error:
        if begun:
            note(history, f"The frozen layers are computed in every step from here on: {error}.")
        elif source.always and not isinstance(error, NothingFrozen):
            note(history, f"The frozen layers are computed in every step: {error}.")
        return given
    engine.answer_by(rest)
    return found


def shortcut(
    model: keras.Model, phase: Phase, source: Source, given: Given, *, between: Callable[[], None] = lambda: None
) -> tuple[Given, Rest]:
    """What a phase trains on in place of its own batches, and what answers to that; its layers are frozen already.

    Raises:
        NotCut: there is nothing; the message says why.
    """
    feed, validation = given.feed, given.validation
    prefix = _cut(model, phase, source, feed)
    known, see = prefix.identity(), _seeing(prefix, source)
    parts = {"train": source.training} | ({"validation": source.validation} if source.validation else {})
    keys = {name: _key(known, part, source) for name, part in parts.items()}
    if not source.shared:
        features.keep_only(source.folder, keys.values())
    tokens = [len(tensor.shape) > 1 and tensor.shape[1] is None for tensor in prefix.tensors]
    found: dict[str, Rows] = {}
    for name, part in parts.items():
        extra = len(keras.tree.flatten(feed.spec[1:])) if source.costly else 0
        compute = _computing(prefix, see, part, costly=source.costly)
        every = [*tokens, *([False] * extra)]
        try:
            found[name] = features.rows(source.folder, keys[name], compute, tokens=every, between=between)
        except NoRoom as error:
            raise NotCut(str(error)) from error
    reader = _Reader(prefix, feed.spec, costly=source.costly)
    training = reader.feed(feed, found["train"], source.training)
    validated = None
    if validation is not None and source.validation is not None:
        validated = reader.ordered(validation, found["validation"], batch=source.batch)
    return Given(training, validated), prefix.rest()


def _cut(model: keras.Model, phase: Phase, source: Source, feed: Feed) -> Prefix:
    if workers.joined() is not None:
        raise NotCut("several machines train together")
    if feed.numbers is None:
        raise NotCut("the examples of a batch have no numbers")
    prefix = cut(model, least=0.0 if source.always else LEAST)
    again = phase.epochs - (not source.shared)  # others may have seen the examples before
    if not source.always and again * prefix.work * source.training.examples < ENOUGH:
        raise NotCut("what would be saved is little")
    if prefix.inputs and source.costly:
        raise NotCut("what learns looks at the images too")
    for tensor in prefix.tensors:
        if any(side is None for side in tensor.shape[2:]) or (source.costly and None in tensor.shape[1:]):
            raise NotCut(f"the frozen layers answer in a shape that is not fixed, {tensor.shape}")
    return prefix


def _key(known: str, part: Part, source: Source) -> str:
    """What the answers hang on."""
    devices = sorted(device.device_type for device in tf.config.list_logical_devices())
    about = (known, part.identity(), part.views, source.costly, AT_ONCE, tf.version.VERSION, keras.version(), devices)
    return hashlib.sha256(repr(about).encode()).hexdigest()[:32]


def _seeing(prefix: Prefix, source: Source) -> See:
    """What frozen layers answer to a batch, in inference."""

    @tf.function(input_signature=source.training.batches(AT_ONCE).element_spec[:1], autograph=False)
    def see(inputs: Any) -> list[tf.Tensor]:
        found = keras.tree.flatten(prefix.first(inputs, training=False))
        if any(getattr(tensor, "_keras_mask", None) is not None for tensor in found):
            raise NotCut("the frozen layers hand on a mask of Keras, which cannot be stored")
        return found

    return see


def _computing(prefix: Prefix, see: See, part: Part, *, costly: bool) -> Callable[[], Iterator[Batch]]:
    """A pass of all examples of a part through the frozen layers; costly ones keep their targets beside the answers."""

    def compute() -> Iterator[Batch]:
        for number, (inputs, *others) in enumerate(part.batches(AT_ONCE)):
            answers = _in_halves(see, inputs)
            if number == 0:
                _check(prefix, inputs, answers)
            if len({len(each) for each in answers} | {_examples(inputs)}) > 1:
                raise NotCut("the frozen layers do not answer example by example")
            yield [*answers, *([each.numpy() for each in tf.nest.flatten(others)] if costly else [])], _lengths(inputs)

    return compute


def _in_halves(see: See, inputs: Any) -> list[np.ndarray]:
    """The answers to a batch, in smaller ones where memory does not suffice."""
    try:
        return [tensor.numpy() for tensor in see(inputs)]
    except EXHAUSTED:
        half = _examples(inputs) // 2
        if not half:
            raise
    parts = [tf.nest.map_structure(lambda t, of=of: t[of], inputs) for of in (slice(half), slice(half, None))]
    return [np.concatenate(pair) for pair in zip(*(_in_halves(see, part) for part in parts), strict=True)]


def _check(prefix: Prefix, inputs: Any, answers: list[np.ndarray]) -> None:
    """Refuse frozen layers that answer otherwise in training, as those of one's own may."""
    some = tf.nest.map_structure(lambda tensor: tensor[:2], inputs)
    trained = keras.tree.flatten(prefix.first(some, training=True))
    for answer, other in zip(answers, trained, strict=True):
        answer, again = (np.asarray(each).astype(np.float64) for each in (answer[:2], other))
        if not np.allclose(answer, again, rtol=0.02, atol=0.02 * (np.abs(answer).max(initial=0) + 1e-6)):
            raise NotCut("the frozen layers answer otherwise in training than in inference")
    if prefix.first.losses:
        raise NotCut("the frozen layers add to the loss")


class _Reader:
    """Makes batches whose inputs are stored answers, and inputs that the rest needs besides."""

    def __init__(self, prefix: Prefix, spec: Any, *, costly: bool):
        self._prefix, self._costly = prefix, costly
        self._targets = spec[1:]

    def feed(self, feed: Feed, rows: Rows, part: Part) -> Feed:
        """The same batches in the same order; their views in turn, epoch by epoch."""
        assert feed.numbers is not None
        numbers, steps = feed.numbers, feed.steps

        def rows_of(number: int) -> tf.data.Dataset:
            counted = tf.data.Dataset.zip(numbers(number), tf.data.Dataset.counter(number))
            return counted.map(as_written(lambda found, at: found + (at // steps) % part.views * part.examples))

        def start(number: int) -> tf.data.Dataset:
            return self._made(None if self._costly else feed.start(number), rows_of(number), rows)

        return Feed(steps, start, numbers)

    def ordered(self, validation: tf.data.Dataset, rows: Rows, *, batch: int) -> tf.data.Dataset:
        """The same batches of a part in order."""
        return self._made(None if self._costly else validation, tf.data.Dataset.range(rows.count).batch(batch), rows)

    def _made(self, given: tf.data.Dataset | None, numbers: tf.data.Dataset, rows: Rows) -> tf.data.Dataset:
        if given is None:
            made = numbers.map(as_written(lambda found: self._stored(rows, found)), num_parallel_calls=tf.data.AUTOTUNE)
        else:
            made = tf.data.Dataset.zip(given, numbers).map(
                as_written(lambda batch, found: self._beside(rows, batch, found)), num_parallel_calls=tf.data.AUTOTUNE
            )
        return batches.finished(made)

    def _stored(self, rows: Rows, numbers: tf.Tensor) -> Any:
        found, count = rows.take(numbers), len(self._prefix.tensors)
        return tuple(found[:count]), *tf.nest.pack_sequence_as(self._targets, found[count:])

    def _beside(self, rows: Rows, batch: Any, numbers: tf.Tensor) -> Any:
        inputs, *others = batch
        named = inputs if isinstance(inputs, Mapping) else dict.fromkeys(self._prefix.inputs, inputs)
        first = tf.nest.flatten(inputs)[0]
        length = tf.shape(first)[1] if first.shape.rank > 1 else 0
        return (*rows.take(numbers, length), *(named[name] for name in self._prefix.inputs)), *others


def _examples(inputs: Any) -> int:
    return int(tf.nest.flatten(inputs)[0].shape[0])


def _lengths(inputs: Any) -> np.ndarray:
    """Of texts the tokens of each; of other inputs all that their second axis has, or 0."""
    if isinstance(inputs, Mapping) and "padding_mask" in inputs:
        mask = inputs["padding_mask"].numpy()
        return np.where(mask.any(axis=1), mask.shape[1] - mask[:, ::-1].argmax(axis=1), 0).astype(np.int64)
    first = tf.nest.flatten(inputs)[0]
    return np.full(first.shape[0], first.shape[1] if len(first.shape) > 1 else 0, np.int64)
