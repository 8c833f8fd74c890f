"""The learning rate of each step of a phase: warm-up, then one of Keras' schedules, and what lowers it on a plateau."""

from __future__ import annotations

import keras
import numpy as np
from keras import ops

from pipelines.optimization import Optimization
from pipelines.run import Phase

Rate = keras.optimizers.schedules.LearningRateSchedule

_FIRST = 1 / 25  # of the peak: where one_cycle begins


def schedule(rate: float, phase: Phase, optimization: Optimization, *, steps: int) -> Rate:
    """The rate at each of the `steps` of a phase, counted from 0, with a peak of `rate`."""
    warmup = min(round(phase.warmup * steps), steps - 1)
    left, end = steps - warmup, optimization.usual_end
    known = keras.optimizers.schedules
    match optimization.schedule:
        case "cosine":  # whose warm-up is Keras' own
            if warmup == 0:
                return known.CosineDecay(rate, steps, alpha=end)
            return known.CosineDecay(0.0, left, alpha=end, warmup_target=rate, warmup_steps=warmup)
        case "one_cycle":
            return WarmUp(rate, warmup, known.CosineDecay(rate, left, alpha=end), curved=True)
        case "step":
            begins = [max(1, round(share * steps)) - warmup - 0.5 for share in optimization.drops]
            rates = [rate * optimization.factor**drop for drop in range(len(begins) + 1)]
            return WarmUp(rate, warmup, known.PiecewiseConstantDecay(begins, rates))
        case "exponential":
            return WarmUp(rate, warmup, known.ExponentialDecay(rate, left, end))
        case "polynomial":
            return WarmUp(rate, warmup, known.PolynomialDecay(rate, left, rate * end, power=optimization.power))
        case "cosine_restarts":
            lengths = sum(optimization.growth**cycle for cycle in range(optimization.cycles))  # in units of the first
            again = known.CosineDecayRestarts(rate, left / lengths, t_mul=optimization.growth, alpha=end)
            return WarmUp(rate, warmup, again)
        case _:
            return WarmUp(rate, warmup)


@keras.saving.register_keras_serializable("zoo")
class WarmUp(Rate):
    """A rise to `rate` in the first `warmup` steps, then a schedule that begins there; without one the rate stays.

    The rise is linear from 0 or, `curved`, a half cosine from a 25th of the rate. `factor` multiplies it all.
    """

    def __init__(self, rate: float, warmup: int, then: Rate | None = None, *, curved: bool = False):
        super().__init__()
        self.factor: keras.Variable | float = 1.0
        self._rate, self._warmup, self._then, self._curved = rate, warmup, then, curved

    def __call__(self, step):
        step = ops.cast(step, "float32")
        part = step / max(self._warmup, 1)
        if self._curved:
            part = _FIRST + (1 - _FIRST) * (1 - ops.cos(np.pi * part)) / 2
        after = self._rate if self._then is None else self._then(ops.maximum(step - self._warmup, 0.0))
        return ops.cast(self.factor, "float32") * ops.where(step < self._warmup, self._rate * part, after)

    def get_config(self):
        """All but the factor, which is the optimizer's."""
        then = None if self._then is None else keras.saving.serialize_keras_object(self._then)
        return {"rate": self._rate, "warmup": self._warmup, "then": then, "curved": self._curved}

    @classmethod
    def from_config(cls, config):
        """The schedule that `get_config` described."""
        then = config.pop("then")
        return cls(then=None if then is None else keras.saving.deserialize_keras_object(then), **config)


class Plateau:
    """Lowers rates when the validation loss does not improve.

    All its state is in variables of an optimizer, so that it is saved and restored with the optimizer's own.
    """

    def __init__(self, optimizer: keras.optimizers.Optimizer, *, factor: float, wait: int):
        self.factor = optimizer.add_variable((), initializer="ones", name="plateau_factor")
        self._best = optimizer.add_variable((), keras.initializers.Constant(np.inf), name="plateau_best")
        self._waited = optimizer.add_variable((), dtype="int32", name="plateau_waited")
        self._times, self._wait = factor, wait

    def record(self, loss: float) -> bool:
        """Take note of an epoch's validation loss; whether the rates are lower from now on."""
        if loss < float(ops.convert_to_numpy(self._best)):
            self._best.assign(loss)
            self._waited.assign(0)
            return False
        waited = int(ops.convert_to_numpy(self._waited)) + 1
        lower = waited >= self._wait
        self._waited.assign(0 if lower else waited)
        if lower:
            self.factor.assign(float(ops.convert_to_numpy(self.factor)) * self._times)
        return lower
