"""What is seen while a model trains: its history and a progress bar."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import math
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from pipelines.run import Phase

if TYPE_CHECKING:
    from pipelines.engine import Step


class TrainingDiverged(ArithmeticError):
    """The loss is no number any more. The best weights until then are in the model."""


@dataclass(frozen=True)
class Epoch:
    """One epoch as it went; phases and epochs count from 1, epochs anew in each phase."""

    phase: int
    epoch: int
    learning_rate: float  # the phase's peak
    metrics: Mapping[str, float]  # loss, accuracy; val_loss, val_accuracy where there is a validation set
    seconds: float


@dataclass
class History:
    """All epochs of a fit in order, the one whose weights were kept, and what went otherwise than asked."""

    epochs: list[Epoch] = field(default_factory=list)
    best: Epoch | None = None
    notes: list[str] = field(default_factory=list)

    def to_csv(self) -> str:
        """A table with a line for each epoch."""
        names = list(dict.fromkeys(name for epoch in self.epochs for name in epoch.metrics))
        text = io.StringIO()
        table = csv.writer(text, lineterminator="\n")
        table.writerow(["phase", "epoch", "learning_rate", *names, "seconds", "best"])
        for e in self.epochs:
            values = [f"{e.metrics[name]:.6g}" if name in e.metrics else "" for name in names]
            kept = int(e is self.best)
            table.writerow([e.phase, e.epoch, f"{e.learning_rate:.6g}", *values, f"{e.seconds:.2f}", kept])
        return text.getvalue()

    def to_json(self) -> str:
        """The epochs with all digits, and the index of the best; null for what is no finite number."""
        best = next((index for index, epoch in enumerate(self.epochs) if epoch is self.best), None)
        values = {"epochs": [dataclasses.asdict(epoch) for epoch in self.epochs], "best": best, "notes": self.notes}
        return json.dumps(_finite(values), indent=2, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> History:
        """The history that `to_json` wrote.

        Raises:
            ValueError: the text is not such a history.
        """
        try:
            values = json.loads(text)
            epochs = [Epoch(**{**epoch, "metrics": _numbers(epoch["metrics"])}) for epoch in values["epochs"]]
            best = None if values["best"] is None else epochs[values["best"]]
            return cls(epochs, best, list(values.get("notes", ())))
        except (KeyError, TypeError, AttributeError, IndexError, json.JSONDecodeError) as error:
            raise ValueError(f"This is not a history's JSON: {error!r}.") from None


def _finite(value: Any) -> Any:
    """A value as JSON can hold it: what is no finite number becomes None."""
    if isinstance(value, Mapping):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _numbers(metrics: Mapping[str, float | None]) -> dict[str, float]:
    return {name: math.nan if value is None else value for name, value in metrics.items()}


class Watcher:
    """Is told how a fit goes; does nothing with it. Numbers count from 1 but for `done`."""

    def begin_phase(self, number: int, phase: Phase, groups: Sequence[str]) -> None:
        """The next epochs are of this phase, which trains these groups, from the output toward the input."""

    def begin_epoch(self, number: int, steps: int, done: int) -> None:
        """An epoch of this phase begins, `done` of its steps are done already."""

    def after_step(self, number: int, step: Step) -> None:
        """A step is done, the `number`-th of the fit."""

    def after_epoch(self, epoch: Epoch) -> None:
        """An epoch is done, validation included."""

    def go_back(self, number: int) -> None:
        """So many steps of the fit are done; those that were told of after them are done again, otherwise."""

    def before_checkpoint(self) -> None:
        """A checkpoint is about to be written: what was told so far has to be on the disk."""

    def close(self) -> None:
        """The fit has come to its end, good or bad."""


class ProgressBar(Watcher):
    """A bar for the running epoch with its speed and the time that it has to go, and one line for each that is done.

    `batch` is the number of examples in a step, called `unit`; without it, or for a batch of unknown size, steps are
    counted. Where standard error is no terminal there are only the lines.
    """

    def __init__(self, *, phases: int, batch: int | None = None, unit: str = "examples"):
        self._phases, self._title, self._epochs = phases, "", 0
        self._batch, self._unit = (1, "steps") if batch is None else (batch, unit)
        self._console = Console(file=sys.stderr, highlight=False)
        self._bar: Progress | None = None
        self._clock = _Clock()

    def begin_phase(self, number: int, phase: Phase, groups: Sequence[str]) -> None:
        self._title, self._epochs = f"phase {number}/{self._phases}", phase.epochs
        self._console.print(f"[bold]{self._title}[/]: training {', '.join(groups)}")
        self._clock = _Clock()

    def begin_epoch(self, number: int, steps: int, done: int) -> None:
        self._clock.begin()
        if self._console.is_terminal:
            speed = _Speed(self._clock, self._batch, self._unit)
            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), speed)
            left = TimeRemainingColumn(compact=True)
            self._bar = Progress(*columns, left, console=self._console, transient=True, refresh_per_second=2)
            self._bar.add_task(f"epoch {number}/{self._epochs}", total=steps, completed=done)
            self._bar.start()

    def after_step(self, number: int, step: Step) -> None:
        self._clock.tick()
        if self._bar:
            self._bar.advance(self._bar.task_ids[0])

    def after_epoch(self, epoch: Epoch) -> None:
        self.close()
        parts = [f"{name} {value:.4f}" for name, value in epoch.metrics.items()]
        if speed := self._clock.speed:
            parts.append(_rate(speed * self._batch, self._unit))
        self._clock.end()
        self._console.print(f"  epoch {epoch.epoch}/{self._epochs}  {'  '.join(parts)}", soft_wrap=True)

    def go_back(self, number: int) -> None:
        self.close()  # the bar of an epoch that does not come to its end

    def close(self) -> None:
        if self._bar:
            self._bar.stop()
            self._bar = None


class _Clock:
    """Steps a second in this epoch. The first step of a phase builds a graph and does not count, if there are others.

    Nor does what comes between two epochs: validation, checkpoints.
    """

    def __init__(self) -> None:
        self._fresh = True  # the graph of this phase is not built
        self.end()

    def begin(self) -> None:
        self._begun, self._first, self._last, self._steps = time.perf_counter(), 0.0, 0.0, 0

    def tick(self) -> None:
        self._last = time.perf_counter()
        self._steps += 1
        if self._fresh:
            self._first, self._fresh = self._last, False

    def end(self) -> None:
        """The epoch is over; the next one may have no steps."""
        self._begun, self._first, self._last, self._steps = 0.0, 0.0, 0.0, 0

    @property
    def speed(self) -> float | None:
        if not self._steps:
            return None
        built = self._first > 0 and self._steps > 1
        steps, since = (self._steps - 1, self._first) if built else (self._steps, self._begun)
        return steps / max(self._last - since, 1e-9)


class _Speed(ProgressColumn):
    """The speed of the running epoch."""

    def __init__(self, clock: _Clock, batch: int, unit: str):
        super().__init__()
        self._clock, self._batch, self._unit = clock, batch, unit

    def render(self, task: Task) -> Text:
        speed = self._clock.speed
        return Text("" if speed is None else _rate(speed * self._batch, self._unit))


def _rate(value: float, unit: str) -> str:
    """'1,234 images/s'; with a digit more where it is slow."""
    return f"{value:,.0f} {unit}/s" if value >= 10 else f"{value:.2g} {unit}/s"
