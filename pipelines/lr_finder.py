"""The learning rate by trial: a short training of a copy while the rate grows, and where the loss fell best."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import random
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from keras.src.backend.common import global_state
from keras.src.random.seed_generator import GLOBAL_SEED_GENERATOR

from pipelines import optimizer
from pipelines.clipping import Clip
from pipelines.engine import Engine
from pipelines.feed import Feed, example, feed
from pipelines.freezing import Freezer, GivenGroups, Groups, find_groups
from pipelines.objectives.losses import CrossEntropy
from pipelines.objectives.pictures import figure
from pipelines.optimization import USUAL, Optimization
from pipelines.run import Phase
from pipelines.taught import Taught
from pipelines.tensorboard import optimizer_of

_EVERYTHING = Phase(1, 1.0, unfreeze="all", batch_norm="train")
_DIVERGED = 4.0  # times the lowest smoothed loss so far
_SMOOTHING = 0.98  # of the moving average of the loss
_BEGINNING = 0.1  # share of the steps before which nothing is suggested: the average is of few losses
_FEWEST = 10  # losses that say anything


@dataclass(frozen=True, eq=False)
class Found:
    """What a sweep saw, and the two rates that it suggests.

    `rates`, `losses` and `smoothed` have an entry for each step that was done; those of the last steps may be no
    numbers. Rates are those of the group next to the output.

    Both lie in the longest falling subsequence of the smoothed loss. `steepest` is where the loss falls fastest there
    over the logarithm of the rate, a tenth of the sweep at a time; `valley` is the middle, in steps, and as
    a rule a far lower rate. Both are as in fastai, but for the steepest fall of all, which noise may have made. For the
    peak of a schedule with warm-up and decay take `steepest`.
    """

    rates: np.ndarray
    losses: np.ndarray
    smoothed: np.ndarray
    steepest: float
    valley: float

    def draw(self, path: Path) -> None:
        """A picture of the sweep with both suggestions, as a file of the kind that its name says."""
        with figure(path, panel=(7.5, 4.2)) as (axes,):
            axes.plot(self.rates, self.losses, color="0.8", linewidth=1, label="loss of each batch")
            axes.plot(self.rates, self.smoothed, color="tab:blue", linewidth=2, label="smoothed")
            for name, rate, color in (("steepest", self.steepest, "tab:orange"), ("valley", self.valley, "tab:green")):
                axes.axvline(rate, color=color, linewidth=1, linestyle="--", zorder=0)
                height = np.interp(rate, self.rates, self.smoothed)
                axes.plot(rate, height, "o", color=color, markersize=8, label=f"{name}: {rate:.1e}")
            begin, low = self.smoothed[0], min(np.nanmin(self.losses), np.nanmin(self.smoothed))
            high = begin + 0.4 * (begin - low) + 1e-3  # what is above has diverged
            axes.set(
                xscale="log", ylim=(low - 0.05 * (high - low), high), xlabel="learning rate", ylabel="training loss"
            )
            axes.xaxis.set_major_formatter("{x:g}")  # the usual one writes formulas
            axes.grid(alpha=0.25)
            axes.spines[["top", "right"]].set_visible(False)
            axes.legend(frameon=False, loc="lower left")


def find_learning_rate(
    model: keras.Model,
    train: tf.data.Dataset | Feed,
    *,
    loss: keras.losses.Loss | str | None = None,
    groups: GivenGroups | None = None,
    phase: Phase | None = None,
    optimization: Optimization = USUAL,
    accumulate: int = 1,
    engine: type[Engine] = Engine,
    start: float = 1e-7,
    end: float = 10.0,
    steps: int = 100,
) -> Found:
    """Train a copy of a model for some steps, from one learning rate to another in equal factors, and watch its loss.

    All layers learn as in pipelines.recipes.from_scratch, or those that `phase` unfreezes, as it says, its own rate
    aside. `loss` and `groups` are as in `pipelines.train.fit`; of `optimization` the schedule, the penalties and the
    average play no part. The sweep ends early when the smoothed loss is four times its lowest, or is no number. The
    model, its optimizer and the random numbers to come are bit for bit what they were.

    The test is from Smith, Cyclical Learning Rates for Training Neural Networks (2017). The loss is smoothed by an
    exponential moving average with a memory of 0.98, corrected for its beginning at zero; the first tenth of the
    steps suggests nothing.

    Raises:
        ValueError: the rates do not rise, there are too few steps, or the loss was no number from the beginning.
    """
    if not 0 < start < end < math.inf:
        raise ValueError(f"A sweep goes from a small rate to a larger one, not from start={start!r} to end={end!r}.")
    if steps < _FEWEST * 2:
        raise ValueError(f"steps={steps!r} are too few for a sweep; give it {_FEWEST * 2} at least, better 100.")
    phase = dataclasses.replace(phase or _EVERYTHING, learning_rate=1.0)
    rates = start * (end / start) ** (np.arange(steps) / (steps - 1))
    with _same_random_numbers(), model.distribute_strategy.scope():
        copy = keras.models.clone_model(model)
        if isinstance(model, Taught) and isinstance(copy, Taught):
            copy.learn(model.lesson)
        for own, theirs in zip(copy.variables, model.variables, strict=True):
            own.assign(theirs)  # the states of random generators among them
        groups_of_copy = _groups_of_copy(find_groups(model, groups), model, copy)
        with Freezer(copy, groups_of_copy) as freezer:
            freezer.apply(phase)
            sweep = _Sweep(copy, groups_of_copy, phase, optimization, loss or CrossEntropy(), accumulate, engine)
            losses = sweep.run(feed(train), rates)
    return found(rates[: len(losses)], losses, steps=steps)


def found(rates: np.ndarray, losses: np.ndarray, *, steps: int) -> Found:
    """The suggestions from the losses at rising rates; `steps` is how many the sweep was to have.

    Raises:
        ValueError: too few of the losses are numbers.
    """
    smoothed = smooth(losses)
    first, last = int(steps * _BEGINNING), _end(smoothed)
    if last - first < _FEWEST:
        raise ValueError(
            f"The loss was a number for {last} of {steps} steps, too few to suggest a rate. Begin with a "
            f"smaller one than {rates[0]:g} (start=), or look for what is wrong with the data."
        )
    falling = smoothed[first:last]
    begin, stop = longest_fall(falling)
    if stop - begin < 2:
        raise ValueError(
            f"The loss fell at no rate from {rates[0]:g} to {rates[-1]:g}. Begin with a smaller one (start=), or look "
            "for what is wrong with the data."
        )
    window = min(max(steps // 10, 3), stop - begin + 1)
    slopes = _slopes(falling[begin : stop + 1], window)
    return Found(
        rates, losses, smoothed,
        steepest=float(rates[first + begin + int(np.argmin(slopes)) + window // 2]),
        valley=float(rates[first + (begin + stop) // 2]),
    )  # fmt: skip


def smooth(losses: np.ndarray) -> np.ndarray:
    """The exponential moving average, divided by what the weights of the values so far add up to."""
    average, smoothed = 0.0, []
    for count, loss in enumerate(losses, start=1):
        average = _SMOOTHING * average + (1 - _SMOOTHING) * loss
        smoothed.append(average / (1 - _SMOOTHING**count))
    return np.array(smoothed)


def longest_fall(values: np.ndarray) -> tuple[int, int]:
    """The first and the last index of the longest subsequence in which every value is below the one before."""
    lengths = np.ones(len(values), int)
    before = np.arange(len(values))  # the first index of the longest one that ends here
    for index in range(1, len(values)):
        higher = np.flatnonzero(values[:index] > values[index])
        if len(higher):
            longest = higher[np.argmax(lengths[higher])]
            lengths[index], before[index] = lengths[longest] + 1, before[longest]
    last = int(np.argmax(lengths))
    return int(before[last]), last


def _slopes(values: np.ndarray, window: int) -> np.ndarray:
    """The slope of the straight line that fits best to each so many values in a row."""
    places = np.arange(window) - (window - 1) / 2
    return np.correlate(values, places / np.square(places).sum(), mode="valid")


def _end(smoothed: np.ndarray) -> int:
    """How many of the losses count: those before the smoothed one is no number."""
    wrong = np.flatnonzero(~np.isfinite(smoothed))
    return int(wrong[0]) if len(wrong) else len(smoothed)


class _Sweep:
    """A model that learns at whatever rate it is told."""

    def __init__(
        self,
        model: keras.Model,
        groups: Groups,
        phase: Phase,
        optimization: Optimization,
        loss: keras.losses.Loss | str,
        accumulate: int,
        engine: type[Engine],
    ):
        self._model, self._rate = model, tf.Variable(0.0, trainable=False)
        shares = optimizer.group_rates(groups, phase)
        built = optimizer.build(model, groups, phase, optimization, steps=1)
        learning = {name: [v for layer in groups[name] for v in layer.trainable_variables] for name in shares}
        for name, variables in learning.items():
            if variables:
                optimizer_of(built, variables[0]).learning_rate = partial(self._share_of_rate, shares[name])
        model.compile(built, loss=loss)
        self._engine = engine(model, learning, accumulate=accumulate, clip=Clip.of(optimization))

    def _share_of_rate(self, share: float) -> tf.Tensor:
        return share * self._rate

    def run(self, batches: Feed, rates: np.ndarray) -> np.ndarray:
        """The loss before each of the steps, until it has diverged."""
        data = batches.start(0)
        self._model._symbolic_build(data_batch=example(data.element_spec))
        iterator = self._engine.batches(data)
        losses: list[float] = []
        for rate in rates:
            self._rate.assign(rate)
            losses.append(self._engine.train(iterator).loss)
            smoothed = smooth(np.array(losses))
            if not smoothed[-1] <= _DIVERGED * smoothed.min():
                break
        return np.array(losses)


def _groups_of_copy(groups: Groups, model: keras.Model, copy: keras.Model) -> Groups:
    """The same groups, of the layers in the same places of a copy."""
    place = {id(layer): index for index, layer in enumerate(model._flatten_layers())}
    layers = list(copy._flatten_layers())
    return {name: [layers[place[id(layer)]] for layer in own] for name, own in groups.items()}


@contextlib.contextmanager
def _same_random_numbers() -> Iterator[None]:
    """What is drawn inside does not change what is drawn after: Python's numbers, NumPy's and Keras'."""
    of_keras = global_state.get_global_attribute(GLOBAL_SEED_GENERATOR)  # to ask Keras for it would make one
    before = random.getstate(), np.random.get_state(), None if of_keras is None else of_keras.state.numpy()
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])
        global_state.set_global_attribute(GLOBAL_SEED_GENERATOR, of_keras)
        if of_keras is not None:
            of_keras.state.assign(before[2])
