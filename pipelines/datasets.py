"""What the training loop needs to know of a loaded data set, whatever is in it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence, Sized
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

import numpy as np

from pipelines.data import Images, Pairs, Series, Tables, Texts
from pipelines.run import Run
from zoo.core.family import Task

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

    from pipelines.feed import Feed

Part = Literal["train", "validation", "test"]


class Dataset(Protocol):
    """A data set in three parts without a common example.

    Batches are (inputs, targets) or (inputs, targets, weights), as the objective of the task takes them. Inputs are
    what the model takes: a tensor, or a dict of them by the names of its inputs.
    """

    @property
    def task(self) -> Task:
        """What a model is trained for on these data, unless the run says otherwise."""

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes, in the order of the logits; empty where there are none."""

    @property
    def parts(self) -> Mapping[Part, Sized]:
        """The examples of each part; `len` is their number."""

    @property
    def skipped(self) -> tuple[str, ...]:
        """What was left out of the source because it cannot be read."""

    def options(self) -> dict[str, Any]:
        """What the data decide about the model: options of zoo.create, such as its size, vocabulary or columns."""

    def training_set(self, model: keras.Model, *, batch: int, seed: int) -> Feed:
        """Shuffled batches of one size, another order every epoch; a batch hangs on its number and the seed alone."""

    def evaluation_set(self, model: keras.Model, part: Part, *, batch: int, cached: bool = False) -> tf.data.Dataset:
        """Batches in order; the last one may be smaller. `cached` is for sets that are read every epoch."""

    def files(self) -> Mapping[str, str]:
        """What belongs to the trained model besides its weights, by file name: tokenizer.json."""


@dataclass(frozen=True)
class Vocabulary:
    """The tokens of a tokenizer, by their ids: how many there are, and which have a meaning of their own.

    `specials` are those that stand for no text, and are neither masked nor put in a mask's place. `start` is the
    first token of what a decoder writes.
    """

    size: int
    padding: int
    specials: tuple[int, ...] = ()
    mask: int | None = None
    start: int | None = None
    end: int | None = None


@runtime_checkable
class TextDataset(Dataset, Protocol):
    """Texts as token ids."""

    @property
    def vocabulary(self) -> Vocabulary:
        """The tokens."""

    def references(self, part: Part) -> Sequence[Sequence[str]]:
        """For task="answer": the answers that count as right, of each example."""

    def spans(self, part: Part, spans: np.ndarray) -> Sequence[str]:
        """For task="answer": the text from the first to the last token of (N, 2) spans, one for each example."""


@runtime_checkable
class ValueDataset(Dataset, Protocol):
    """Numbers to predict, in the units of the source."""

    @property
    def targets(self) -> tuple[str, ...]:
        """The names of the numbers."""

    @property
    def scale(self) -> tuple[float, ...]:
        """The standard deviation of each on the training split: the unit in which the loss counts errors."""


@runtime_checkable
class SeriesDataset(ValueDataset, Protocol):
    """Windows of the past, and the values that followed."""

    def past(self, part: Part) -> np.ndarray:
        """The targets' values in each window: (N, window, targets)."""


def load(run: Run, *, folder: Path | None = None) -> Dataset:
    """The data of a run, divided by its seed; with the `folder` of its bundle, the tokenizer is the bundle's.

    Raises:
        FileNotFoundError: there is no such source.
        ValueError: the source is not what its kind asks for, or does not serve the run's task, or the name of a class
            has a line break, which labels.txt, a line a class, cannot hold.
    """
    found = _load(run, folder)
    broken = [name for name in found.classes if "\n" in name or "\r" in name]
    if broken:
        raise ValueError(f"{run.data.source!r} has a class {broken[0]!r}, a name of several lines. Name it in one.")
    return found


def _load(run: Run, folder: Path | None) -> Dataset:
    match run.data:
        case Images():
            from pipelines import images

            return images.load(run.data, task=run.task, seed=run.seed)
        case Texts():
            from pipelines import distillation, texts

            data, weights = distillation.with_tokenizer(run.data, run), run.weights
            if folder is not None:
                data, weights = dataclasses.replace(data, tokenizer=str(folder / "tokenizer.json")), None
            return texts.load(data, task=run.task, model=run.model, weights=weights, seed=run.seed)
        case Tables():
            from pipelines import tables

            return tables.load(run.data, task=run.task, seed=run.seed)
        case Series():
            from pipelines import series

            if run.task not in (None, "forecast"):
                raise ValueError(f"task={run.task!r} is none of a time series; it is for forecast.")
            return series.load(run.data, seed=run.seed)
        case Pairs():
            from pipelines import pairs

            captions, weights = run.data, run.weights
            if folder is not None:
                captions, weights = dataclasses.replace(captions, tokenizer=str(folder / "tokenizer.json")), None
            return pairs.load(
                captions, task=run.task, model=run.model, weights=weights, overrides=run.overrides, seed=run.seed
            )
