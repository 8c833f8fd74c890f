"""The learning rate of each group over all steps of a run, as its phases and its schedule have it: a picture."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from pipelines.card import RATES
from pipelines.freezing import Groups
from pipelines.monitor import Epoch, History
from pipelines.objectives.pictures import figure, short
from pipelines.optimization import Optimization
from pipelines.optimizer import group_rates
from pipelines.run import Phase, Run
from pipelines.schedules import Plateau, schedule

_POINTS = 500  # of a phase
_WIDE = 20  # between the largest peak and the smallest: from here on the axis is logarithmic
_ROWS = 16  # of the legend


@dataclass(frozen=True, eq=False)
class Rates:
    """The rates (points,) of each group that ever learns, from the output toward the input: NaN where it is frozen.

    `steps` (points,) count from 1 over all phases; `begins` holds the first step of each phase.
    """

    steps: np.ndarray
    groups: dict[str, np.ndarray]
    begins: tuple[int, ...]

    def draw(self, path: Path) -> None:
        """A line for each group, one for those together whose rates are the same."""
        alike: dict[bytes, list[str]] = {}
        for name, values in self.groups.items():
            alike.setdefault(values.tobytes(), []).append(name)
        from matplotlib import colormaps

        colors = colormaps["viridis"](np.linspace(0, 0.9, len(alike)))
        with figure(path, panel=(8.0, 4.2)) as (axes,):
            for names, color in zip(alike.values(), colors, strict=True):
                values, marker = self.groups[names[0]], "." if len(self.steps) < 40 else None
                axes.plot(self.steps, values, color=color, linewidth=1.6, marker=marker, label=_label(names))
            for number, begin in enumerate(self.begins, start=1):
                axes.axvline(begin, color="0.7", linewidth=1, linestyle=":", zorder=0)
                above = axes.get_xaxis_transform()
                axes.text(begin, 1.01, f" {number}", fontsize=8, color="0.4", transform=above)
            peaks = [np.nanmax(values) for values in self.groups.values()]
            if max(peaks) > _WIDE * min(peaks):
                axes.set(yscale="log", ylim=(min(peaks) / 100, max(peaks) * 1.5))
                axes.yaxis.set_major_formatter("{x:g}")  # the usual one writes formulas
            axes.set(xlabel="step (dotted: where each phase begins)", ylabel="learning rate")
            axes.grid(alpha=0.25)
            axes.spines[["top", "right"]].set_visible(False)
            columns = -(-len(alike) // _ROWS)
            axes.legend(frameon=False, fontsize=8, ncols=columns, loc="upper left", bbox_to_anchor=(1.0, 1.0))


def draw(groups: Groups, run: Run, history: History, *, steps: int) -> None:
    """Write the picture of a run that is done, with `steps` an epoch, into its folder; none where no epoch is."""
    if history.epochs:
        rates(groups, run.phases, run.optimization, history.epochs, steps=steps).draw(run.out / RATES)


def rates(
    groups: Groups, phases: Sequence[Phase], optimization: Optimization, epochs: Sequence[Epoch], *, steps: int
) -> Rates:
    """The rates in the epochs that were trained, `steps` in each: what ended early or was slowed down shows."""
    places, found, begins, done = [], [], [], 0
    for number, trained in itertools.groupby(epochs, key=lambda epoch: epoch.phase):
        phase, own = phases[number - 1], list(trained)
        last = len(own) * steps - 1
        points = np.unique(np.linspace(0, last, min(last + 1, _POINTS)).round().astype(int))
        peaks = np.array([epoch.learning_rate for epoch in own]) * _factors(own, optimization)
        rate = peaks[points // steps] * _shares(phase, optimization, points, steps=phase.epochs * steps)
        found.append({n: rate * (each / phase.learning_rate) for n, each in group_rates(groups, phase).items()})
        places.append(done + points + 1)
        begins.append(done + 1)
        done += last + 1
    frozen = [np.full(len(points), np.nan) for points in places]
    learning = [name for name in list(groups)[::-1] if any(name in of_phase for of_phase in found)]
    lines = {
        name: np.concatenate([of.get(name, none) for of, none in zip(found, frozen, strict=True)]) for name in learning
    }
    return Rates(np.concatenate(places), lines, tuple(begins))


def _shares(phase: Phase, optimization: Optimization, points: np.ndarray, *, steps: int) -> np.ndarray:
    """The parts of the peak at some of the steps of a phase, counted from 0; in a graph, since schedules are slow."""
    share = schedule(1.0, phase, optimization, steps=steps)
    at_all = tf.function(lambda at: tf.map_fn(lambda step: tf.cast(share(step), tf.float32), at), autograph=False)
    return at_all(tf.constant(points, tf.float32)).numpy().astype("float64")


def _factors(epochs: Sequence[Epoch], optimization: Optimization) -> np.ndarray:
    """What a plateau multiplied the rates with in each epoch of a phase."""
    if optimization.schedule != "plateau":
        return np.ones(len(epochs))
    plateau = Plateau(keras.optimizers.SGD(), factor=optimization.factor, wait=optimization.wait)
    factors = []
    for epoch in epochs:
        factors.append(float(keras.ops.convert_to_numpy(plateau.factor)))
        plateau.record(epoch.metrics.get("val_loss", epoch.metrics["loss"]))
    return np.array(factors)


def _label(names: Sequence[str]) -> str:
    if len(names) < 3:
        return ", ".join(map(short, names))
    return f"{short(names[-1])} ... {short(names[0])} ({len(names)} groups)"
