"""How a fit goes on where a step has failed: in smaller micro-batches for want of memory, or at a lower rate."""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import keras
import numpy as np
import tensorflow as tf

from pipelines import workers
from pipelines.checkpoints import Checkpoint, Checkpoints, Remembered
from pipelines.engine import Engine, Step
from pipelines.feed import Feed
from pipelines.keeper import Keeper
from pipelines.monitor import History
from pipelines.run import Phase

if TYPE_CHECKING:
    from pipelines.loop import Position

EXHAUSTED = (tf.errors.ResourceExhaustedError, MemoryError)
DISK = "No space left on device"
BY_GRADIENT = "norm of the gradient is no number, and the loss"
_log = logging.getLogger(__name__)
_SHOWN = 160  # characters of what TensorFlow says of memory

State = Mapping[str, Any]
Variables = dict[str, keras.Variable]
Values = Callable[[], Variables]
T = TypeVar("T")


class OutOfMemory(OSError):
    """A step needs more memory than there is, however small its micro-batches."""


class RolledBack(Exception):  # no error: the loop goes on from it
    """The fit is to go on from an earlier checkpoint."""

    def __init__(self, checkpoint: Checkpoint):
        super().__init__("The fit goes on from an earlier checkpoint.")
        self.checkpoint = checkpoint


@dataclass
class Course:
    """What a fit has changed of its settings on its way. Checkpoints hold it; going back to one leaves it as it is."""

    accumulate: int = 1  # micro-batches of each replica's part of a batch
    rollbacks: int = 0  # how often it went back since its loss was no number
    rate: float = 1.0  # what the learning rates of all phases are multiplied by
    furthest: int = 0  # the step at which it diverged, the last of them
    cached: bool | None = None  # whether this phase reads what its frozen layers answer; not decided yet

    def become(self, values: State) -> None:
        """Take over what a checkpoint holds of it."""
        vars(self).update(values)

    @property
    def told(self) -> str:
        """How often the fit went back, for a message; nothing where it did not."""
        return f", after {self.rollbacks} rollback{'s' if self.rollbacks > 1 else ''}" if self.rollbacks else ""

    def slowed(self, phase: Phase) -> Phase:
        """A phase at the rate that it has by now."""
        return dataclasses.replace(phase, learning_rate=phase.learning_rate * self.rate)


class Recovery:
    """Takes the steps of a fit, and finds where it can go on from when one has failed."""

    def __init__(
        self,
        model: keras.Model,
        feed: Feed,
        states: Checkpoints | Remembered,
        course: Course,
        keeper: Keeper,
        *,
        rollbacks: int,
    ):
        self._model, self._feed, self._states = model, feed, states
        self._course, self._keeper, self._rollbacks = course, keeper, rollbacks
        self._batches: Any = None  # one iterator for all phases: a data set of one's own may draw anew for each

    def read(self, feed: Feed) -> None:
        """Take the next steps on another feed, whose batches have the same examples."""
        if feed is not self._feed:
            self._feed, self._batches = feed, None

    def step(
        self, engine: Engine, at: Position, variables: Values, save: Callable[[], None] | None, *wishes: bool
    ) -> Step:
        """The next step. If memory does not suffice it is done in more micro-batches, as are all that follow.

        `save` writes a checkpoint then; without it, or on several machines, the step fails instead.

        Raises:
            OutOfMemory: it does not fit.
        """
        while True:
            if self._batches is None:
                self._batches = engine.batches(self._feed.start(at.step))
            try:
                return engine.train(self._batches, *wishes)
            except EXHAUSTED as error:
                if DISK in str(error):  # which TensorFlow calls by the same name
                    raise OSError(f"{DISK}, which the input of step {at.step + 1} needs.") from error
                failure = error.with_traceback(None)  # which would hold what takes memory
            if save is None or workers.joined() is not None:
                raise OutOfMemory(
                    f"Memory does not suffice for step {at.step + 1}. Set a smaller batch, or more micro-batches than "
                    f"accumulate={self._course.accumulate}. {reason(failure)}"
                ) from failure
            self._divide(engine, at, variables, failure)
            save()

    def _divide(self, engine: Engine, at: Position, variables: Values, failure: BaseException) -> None:
        """Have the state before a step that failed again, since it may have changed some of it; then set more parts."""
        size = int(tf.nest.flatten(self._batch(at.step))[0].shape[0])
        examples = size // self._model.distribute_strategy.num_replicas_in_sync
        parts = more_parts(examples, self._course.accumulate, failure)
        while not self._replay(engine, at, variables, failure):
            _divide(engine, parts, failure)
            parts = more_parts(examples, parts, failure)
        _divide(engine, parts, failure)
        self._course.accumulate = parts
        note(
            self._keeper.history,
            f"Memory did not suffice for step {at.step + 1}: from there on a batch of {size} goes through in {parts} "
            f"micro-batches{' on each device' if examples < size else ''}, with the same gradient. {reason(failure)}",
        )

    def _replay(self, engine: Engine, at: Position, variables: Values, failure: BaseException) -> bool:
        """Do the steps since the latest checkpoint again, unseen; whether memory sufficed for them."""
        known = self._states.latest()
        begun = known.state["position"] if known else {}
        if known is None or (begun["phase"], begun["epoch"], begun["trained"]) != (at.phase, at.epoch, None):
            raise OutOfMemory(f"Memory did not suffice for step {at.step + 1}. {reason(failure)}") from failure
        assign(variables(), known.arrays)
        if begun["batch"] == 0:
            self._model.reset_metrics()
        self._batches = engine.batches(self._feed.start(begun["step"]))
        try:
            for _ in range(begun["step"], at.step):
                engine.train(self._batches)
        except EXHAUSTED:
            return False
        return True

    def roll_back(self, at: Position, loss: float, *, what: str = "loss") -> None:
        """Where the loss is no number: back to the beginning of the epoch, at half the rate from there on.

        To the beginning of the phase, if the weights were no numbers even there, or the fit did not get any further
        than it was when it went back before. It stays where it is if no rollback is left, or if the batch itself holds
        what is no number: a lower rate would not help.

        Raises:
            RolledBack: the fit is to go on from there.
        """
        course, failed = self._course, at.step
        if course.rollbacks >= self._rollbacks or not _is_finite(self._batch(failed - 1)):
            return
        known = self._states.newest(begins_epoch) if failed > course.furthest else None
        if known is None or not _is_finite(known.arrays):
            known = self._states.newest(begins_phase)
        if known is None or known.state["position"]["phase"] != at.phase:
            return
        course.rollbacks, course.rate = course.rollbacks + 1, course.rate / 2
        course.furthest, self._batches = max(failed, course.furthest), None
        back = known.state["position"]["step"]
        what = what if not math.isfinite(loss) else BY_GRADIENT
        note(
            self._keeper.history,
            f"The {what} became {loss:.4g} with step {failed}: back to step {back}, from there on at {course.rate:g} "
            f"of the learning rates (rollback {course.rollbacks} of {self._rollbacks}).",
        )
        raise RolledBack(known)

    def _batch(self, number: int) -> Any:
        return next(iter(self._feed.start(number)))


def _divide(engine: Engine, parts: int, failure: BaseException) -> None:
    try:
        engine.divide(parts)
    except ValueError as error:
        raise OutOfMemory(f"A batch does not fit into memory. {error} {reason(failure)}") from failure


def begins_epoch(state: State) -> bool:
    """Whether a checkpoint was written between two epochs."""
    at = state["position"]
    return at["batch"] == 0 and at["trained"] is None


def begins_phase(state: State) -> bool:
    """Whether a checkpoint was written as a phase began."""
    return begins_epoch(state) and state["position"]["epoch"] == 0


def note(history: History, text: str) -> None:
    """Say something of a fit on standard error, and in its history."""
    history.notes.append(text)
    _log.warning("%s", text)


def more_parts(examples: int, parts: int, failure: BaseException) -> int:
    """Twice the parts of a batch, or up to twice as many again where those divide its examples.

    Raises:
        OutOfMemory: the parts are of one example already.
    """
    if parts >= examples:
        raise OutOfMemory(
            "A micro-batch of a single example does not fit into memory. Take a smaller model, image size or length, "
            f"freeze more of it, or set precision='bfloat16'. {reason(failure)}"
        ) from failure
    least = min(2 * parts, examples)
    divisors = (count for count in range(least, min(4 * parts, examples + 1)) if examples % count == 0)
    return next(divisors, least)


def reason(failure: BaseException) -> str:
    """What TensorFlow says of its memory, in a line."""
    lines = str(getattr(failure, "message", failure)).splitlines()
    found = next((line.partition("OOM")[2] for line in lines if "OOM" in line), "")
    return f"TensorFlow said: OOM{found[:_SHOWN]}" if found else ""


def in_smaller_batches(work: Callable[[int], T], batch: int) -> T:
    """What some work on batches without learning gives; in half as large ones as often as memory does not suffice.

    Raises:
        OutOfMemory: batches of one example do not fit either.
    """
    while True:
        try:
            return work(batch)
        except EXHAUSTED as error:
            if batch == 1:
                raise OutOfMemory(f"A batch of a single example does not fit into memory. {reason(error)}") from error
        batch = -(-batch // 2)


def in_more_parts(work: Callable[[int], T], parts: int, *, examples: int) -> T:
    """What some work that learns gives, begun anew in more micro-batches as often as memory does not suffice.

    `parts` are the micro-batches of each replica's `examples` at first. On several machines it fails instead.

    Raises:
        OutOfMemory: micro-batches of one example do not fit either.
    """
    while True:
        try:
            return work(parts)
        except EXHAUSTED as error:
            if workers.joined() is not None:
                raise OutOfMemory(
                    f"Memory does not suffice for the batch: set a smaller one. {reason(error)}"
                ) from error
            parts = more_parts(examples, parts, error)


def evaluate(engine: Engine, batches: tf.data.Dataset, *, between: Callable[[], None]) -> dict[str, float]:
    """The loss and the metrics over all batches, in smaller ones where memory does not suffice."""
    try:
        return engine.evaluate(batches, between=between)
    except EXHAUSTED:
        if workers.joined() is not None:
            raise
        half = -(-int(tf.nest.flatten(next(iter(batches)))[0].shape[0]) // 2)
    return in_smaller_batches(lambda size: engine.evaluate(batches.rebatch(size), between=between), half)


def _is_finite(batch: Any) -> bool:
    """Whether all floats in a batch, or among arrays by name, are numbers; V is bfloat16 as NumPy sees it."""
    arrays = (np.asarray(tensor) for tensor in tf.nest.flatten(batch))
    return all(np.isfinite(array.astype(np.float64)).all() for array in arrays if array.dtype.kind in "fV")


def assign(variables: Variables, arrays: dict[str, np.ndarray]) -> None:
    """Put arrays into the variables of the same names.

    Raises:
        ValueError: they are not of the same model, optimizer and metrics.
    """
    other = sorted(set(arrays) ^ set(variables))
    if other:
        raise ValueError(
            f"The checkpoint is of another run: {len(other)} of its variables differ, such as {other[0]!r}."
        )
    for name, variable in variables.items():
        variable.assign(arrays[name])
