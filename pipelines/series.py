"""Time series as data: windows of the past and the values that followed, divided in time."""

from __future__ import annotations

import datetime
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines import csv_tables
from pipelines.csv_tables import Table
from pipelines.data import Series
from pipelines.datasets import Part
from zoo.core.family import Task
from zoo.layers.scale import Scale
from zoo.layers.series import Windows
from zoo.layers.table import numbers

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

    from pipelines.feed import Feed

_CLOCK_CHANGE = datetime.timedelta(hours=2)  # by which local times go back in autumn, and a little more

PARTS: tuple[Part, ...] = ("train", "validation", "test")


@dataclass(frozen=True, eq=False)
class SeriesData:
    """Windows in three parts, which follow one another in time.

    `columns` (T, columns) and `goals` (T, targets) hold the whole series, float32 in the units of the source. `parts`
    holds the first steps of the windows of each part, (N,): a window goes on for `windows.window` steps, and what is
    to be predicted of it for `windows.horizon` more.
    """

    windows: Windows
    columns: np.ndarray
    goals: np.ndarray
    parts: Mapping[Part, np.ndarray]
    task: Task = "forecast"
    classes: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()

    @property
    def targets(self) -> tuple[str, ...]:
        """The names of the columns to predict."""
        return self.windows.targets.names

    @property
    def scale(self) -> tuple[float, ...]:
        """The standard deviation of each on the training part."""
        return self.windows.targets.std

    def options(self) -> dict[str, Any]:
        """What the data decide about the model."""
        return {"series": self.windows}

    def past(self, part: Part) -> np.ndarray:
        """The targets' values in each window, (N, window, targets): the last of them is the naive forecast."""
        return self.goals[_steps(self.parts[part], range(self.windows.window))]

    def training_set(self, model: keras.Model, *, batch: int, seed: int) -> Feed:
        """Shuffled batches: (B, window, columns) and (B, horizon, targets), float32 in the units of the source."""
        from pipelines import batches

        return batches.shuffled(*self._examples("train"), batch=batch, seed=seed)

    def evaluation_set(self, model: keras.Model, part: Part, *, batch: int, cached: bool = False) -> tf.data.Dataset:
        """The same in order; the last batch may be smaller."""
        from pipelines import batches

        return batches.ordered(*self._examples(part), batch=batch)

    def _examples(self, part: Part) -> tuple[int, Any]:
        import tensorflow as tf

        starts = tf.constant(self.parts[part])
        columns, goals = tf.constant(self.columns), tf.constant(self.goals)
        window, end = self.windows.window, self.windows.window + self.windows.horizon

        def take(indexes: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            first = tf.gather(starts, indexes)
            seen, followed = _steps(first, range(window)), _steps(first, range(window, end))
            return tf.gather(columns, seen), tf.gather(goals, followed)

        return len(self.parts[part]), take

    def files(self) -> Mapping[str, str]:
        """Nothing: what describes the columns is in the model."""
        return {}


def load(series: Series, *, seed: int = 0) -> SeriesData:
    """The windows that `series` describes; the seed decides nothing, as time does not wait.

    The steps are cut into three stretches by `split`. A window belongs to the stretch that holds all that is to be
    predicted of it. What it sees of the past may lie in the stretch before, as it would when the forecast is made,
    but a training window ends where training does. So a change of any value after the training stretch changes
    neither a training window nor what standardizes the columns.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no CSV file with these columns, a value is missing or no number, or it is too short.
    """
    table = csv_tables.read(series.source)
    chosen = series.columns or series.target
    table.require(series.target, "Series(target=...)")
    table.require(chosen, "Series(columns=...)")
    for names in (chosen, series.target):
        if len(set(names)) != len(names):
            raise ValueError(f"Series: {', '.join(names)} names a column twice.")
    _check_order(table, {*chosen, *series.target})
    values = {name: _values(table, name) for name in dict.fromkeys((*chosen, *series.target))}
    parts = _parts(series, len(table))
    learned = slice(0, _cuts(series, len(table))[0])
    for name in values:
        csv_tables.check_spread(values[name][learned], name, series.source)
    columns, goals = (np.stack([values[name] for name in names], axis=1) for names in (chosen, series.target))
    windows = Windows(
        Scale.measured(chosen, columns[learned]),
        Scale.measured(series.target, goals[learned]),
        series.window,
        series.horizon,
    )
    for name, mean, std in zip(series.target, windows.targets.mean, windows.targets.std, strict=True):
        if not std:
            raise ValueError(
                f"{series.source!r}: {name!r} is {mean:g} in all of the {learned.stop} training steps, "
                "so there is nothing to learn of it."
            )
    return SeriesData(windows, columns.astype(np.float32), goals.astype(np.float32), parts)


def _values(table: Table, name: str) -> np.ndarray:
    """A column as numbers, (T,) float64, none of them missing."""
    found = numbers(table.column(name), name, table.where)
    absent = np.flatnonzero(np.isnan(found))
    if len(absent):
        raise ValueError(
            f"{table.where(absent[0])}: column {name!r} holds no value, as in {len(absent)} steps in all. "
            "Fill them in: what stands for a missing step depends on what was measured."
        )
    return found


def _parts(series: Series, steps: int) -> dict[Part, np.ndarray]:
    """The first steps of the windows of each part."""
    cuts = (0, *_cuts(series, steps))
    parts: dict[Part, np.ndarray] = {}
    for part, share, start, end in zip(PARTS, series.split, cuts[:-1], cuts[1:], strict=True):
        first = max(start - series.window, 0)  # so that the first value to predict is the first of the part
        last = end - series.window - series.horizon
        parts[part] = np.arange(first, last + 1, series.stride) if share else np.arange(0)
        if (share or part == "train") and not len(parts[part]):
            needed = (series.window if part == "train" else 0) + series.horizon
            raise ValueError(
                f"{series.source!r} is too short: {part} has {end - start} of its {steps} steps, and needs {needed} "
                f"for window={series.window} and horizon={series.horizon}. Add rows, take a shorter window or "
                f"horizon, or change split={series.split}."
            )
    return parts


def _cuts(series: Series, steps: int) -> tuple[int, int, int]:
    """The steps at which training, validation and test end."""
    train, validation, _ = (math.floor(share * steps + 1e-9) for share in np.cumsum(series.split))
    return train, validation, steps


def _check_order(table: Table, used: set[str]) -> None:
    """Refuse rows that are not in order of time, if another column tells it.

    Raises:
        ValueError: the newest row is first, say, or one series stands below another.
    """
    for name in table.header:
        times = [] if name in used else [_time(cell) for cell in table.column(name)]
        latest = times[0] if times else None
        for index, time in enumerate(times):
            if time is None or latest is None:
                break  # not all of it are times
            if time < latest - _CLOCK_CHANGE:
                raise ValueError(
                    f"{table.where(index)}: {name!r} goes back in time, to {table.column(name)[index]}. "
                    "The rows must be one series in order, the oldest first."
                )
            latest = max(latest, time)


def _time(cell: str) -> datetime.datetime | None:
    """A date, or a date and a time, as ISO 8601 writes them or with slashes; nothing for another text."""
    try:
        time = datetime.datetime.fromisoformat(cell.replace("/", "-"))
    except ValueError:
        return None
    return time.replace(tzinfo=datetime.UTC) if time.tzinfo is None else time


def _steps(first: Any, span: range) -> Any:
    """The steps of windows by their first ones: (N,) -> (N, len(span)); of numpy and TensorFlow alike."""
    return first[:, np.newaxis] + np.asarray(span)
