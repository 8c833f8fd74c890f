"""A trial as keras-tuner's HyperModel: what it builds is a run."""

from __future__ import annotations

import keras_tuner

from pipelines.run import Run
from tuning import hyperparameters
from tuning.space import Space


class RunModel(keras_tuner.HyperModel):
    """Turns the values of a trial into the run that all trials share, with these values in it."""

    def __init__(self, space: Space, base: Run):
        super().__init__(name="run", tunable=True)
        self.space = space
        self.base = base

    def build(self, hp: keras_tuner.HyperParameters) -> Run:
        """The run of a trial; ranges that `hp` does not know are declared there, with the base run's values.

        Raises:
            ValueError: no run can have these values.
        """
        hyperparameters.declare(hp, self.space, self.base)
        return self.space.run(self.base, hyperparameters.decoded(self.space, hp.values))
