"""Trains a run's model for a few steps on batches of the sizes that come in, and says which of them fit.

    python -m pipelines.batch_trial RUN.json

It may die of a size: it is a process of its own for that. What it prints are lines of JSON after a mark: at first
what sizes have to divide by and the largest that makes sense, then an answer for each size.
"""

from __future__ import annotations

import dataclasses
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from pipelines import datasets, hardware, objectives
from pipelines.batch_size import FEWEST_STEPS, MARK
from pipelines.creation import create
from pipelines.engine import Engine
from pipelines.feed import Feed
from pipelines.freezing import Freezer, Groups, find_groups
from pipelines.loop import Settings
from pipelines.recovery import EXHAUSTED, OutOfMemory, reason
from pipelines.run import Phase, Run
from pipelines.train import fit, trained

STEPS = 3  # of a trial: the first ones take memory that the later ones take again
_RATE = 1e-12  # a trial is not to diverge
_LOOKED_AT = 100  # batches of which the longest is found


class Trial:
    """A run that is tried with batches of different sizes."""

    def __init__(self, run: Run):
        hardware.seed(run.hardware, run.seed)
        self._run, self._data = run, datasets.load(run)
        self._objective = objectives.of_run(run, self._data)
        with hardware.scope(run.hardware) as strategy:
            self.unit = strategy.num_replicas_in_sync * run.hardware.accumulate
            model = create(run, self._data, self._objective.options)
            self._model = trained(model, run, self._data, self._objective)  # a teacher too
        examples = len(self._data.parts["train"])
        self.most = max(self.unit, examples // FEWEST_STEPS // self.unit * self.unit)
        self._phase = largest_phase(self._model, find_groups(self._model), run.phases)

    def train(self, size: int) -> None:
        """A few steps with batches of a size."""
        run = self._run
        training = self._data.training_set(self._model, batch=size, seed=run.seed)
        fit(
            self._model,
            [self._phase],
            longest(self._objective.complete(training, seed=run.seed, training=True)),
            loss=self._objective.loss(),
            metrics=self._objective.metrics,
            progress=False,
            settings=Settings(
                optimization=run.optimization,
                accumulate=run.hardware.accumulate,
                divide=False,
                save_steps=STEPS + 1,
                engine=self._objective.engine or Engine,
            ),
        )


def largest_phase(model: keras.Model, groups: Groups, phases: Sequence[Phase]) -> Phase:
    """An epoch of the phase in which most numbers learn, which needs most memory; they hardly move."""
    counts = []
    with Freezer(model, groups) as freezer:
        for phase in phases:
            freezer.apply(phase)
            counts.append(sum(math.prod(variable.shape) for variable in model.trainable_variables))
    return dataclasses.replace(phases[counts.index(max(counts))], epochs=1, learning_rate=_RATE)


def longest(batches: Feed) -> Feed:
    """Few steps, on the largest of an epoch's batches where they are not of one size: of texts, the longest."""
    spec = tf.nest.flatten(batches.start(0).element_spec)
    chosen = 0
    if any(None in each.shape for each in spec):
        sizes = [_size(batch) for batch in batches.epoch().take(_LOOKED_AT)]
        chosen = sizes.index(max(sizes))
    return Feed(STEPS, lambda number: batches.start(chosen).take(1).repeat())


def _size(batch: Any) -> int:
    return sum(math.prod(tensor.shape) for tensor in tf.nest.flatten(batch))


def _say(**values: Any) -> None:
    print(MARK + json.dumps(values), flush=True)


def main() -> None:
    """Try what is asked for on standard input, until it is closed or something does not fit."""
    try:
        trial = Trial(Run.from_json(Path(sys.argv[1]).read_text(encoding="utf-8")))
    except (ValueError, OSError) as error:
        kinds = (kind for kind in (FileNotFoundError, ValueError, OSError) if isinstance(error, kind))
        return _say(error=next(kinds).__name__, message=str(error))
    _say(unit=trial.unit, most=trial.most)
    for line in sys.stdin:
        try:
            trial.train(int(line))
        except (*EXHAUSTED, OutOfMemory) as error:
            return _say(why=f"memory does not suffice. {reason(error)}".strip())
        except ValueError as error:
            return _say(error="ValueError", message=str(error))
        _say(fits=True)


if __name__ == "__main__":
    main()
