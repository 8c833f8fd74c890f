"""What is seen and kept while a model trains: progress, history, the best weights so far."""

from __future__ import annotations

import csv
import io
import math
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import keras
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from pipelines import lora
from pipelines.files import replacing, write_text


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
    """All epochs of a fit in order, and the one whose weights were kept."""

    epochs: list[Epoch] = field(default_factory=list)
    best: Epoch | None = None

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


class Keeper(keras.callbacks.Callback):
    """Writes the history, keeps the best weights over all phases, and ends a phase that no longer improves.

    The best is the lowest validation loss, or, without a validation set, the latest epoch. With a
    folder, history.csv and best.weights.h5 in it are whole after every epoch, whatever happens next.
    """

    def __init__(self, *, patience: int, folder: Path | None):
        super().__init__()
        self.history = History()
        self._patience, self._folder = patience, folder
        self._weights: list | None = None
        self._phase, self._rate, self._waited, self._start = 0, 0.0, 0, 0.0

    def begin(self, phase: int, learning_rate: float) -> None:
        """The next epochs are of this phase."""
        self._phase, self._rate, self._waited = phase, learning_rate, 0

    def restore_best(self) -> None:
        """Put the best weights so far back into the model."""
        if self._weights is not None:
            lora.set_weights(self.model, self._weights)

    def on_epoch_begin(self, epoch, logs=None):
        self._start = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        metrics = {name: float(value) for name, value in (logs or {}).items()}
        done = Epoch(self._phase, epoch + 1, self._rate, metrics, time.perf_counter() - self._start)
        self.history.epochs.append(done)
        if not math.isfinite(metrics["loss"]):
            self.restore_best()
            raise TrainingDiverged(
                f"The loss became {metrics['loss']} in phase {self._phase}, epoch {epoch + 1}, at a peak learning rate "
                f"of {self._rate:g}. Try a tenth of it. The model holds the best weights until then."
            )
        if self._improves(done):
            self.history.best, self._waited = done, 0
            self._weights = lora.get_weights(self.model)
            if self._folder:
                with replacing(self._folder / "best.weights.h5") as path:
                    self.model.save_weights(path)
        else:
            self._waited += 1
            self.model.stop_training = self._waited >= self._patience
        if self._folder:
            write_text(self._folder / "history.csv", self.history.to_csv())

    def _improves(self, done: Epoch) -> bool:
        best = self.history.best
        if best is None or "val_loss" not in done.metrics:
            return True
        return done.metrics["val_loss"] < best.metrics["val_loss"]


class ProgressBar(keras.callbacks.Callback):
    """A bar for the running epoch, and one line for each that is done."""

    def __init__(self, *, phases: int):
        super().__init__()
        self._phases, self._title = phases, ""
        self._console = Console(file=sys.stderr, highlight=False)
        self._bar: Progress | None = None

    def begin(self, phase: int, groups: list[str]) -> None:
        """The next epochs are of this phase, which trains these groups."""
        self._title = f"phase {phase}/{self._phases}"
        self._console.print(f"[bold]{self._title}[/]: training {', '.join(groups)}")

    def close(self) -> None:
        """Take the bar away, also when training was interrupted."""
        if self._bar:
            self._bar.stop()
            self._bar = None

    def on_epoch_begin(self, epoch, logs=None):
        if self._console.is_terminal:
            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
            self._bar = Progress(*columns, console=self._console, transient=True)
            self._bar.add_task(f"epoch {epoch + 1}/{self.params['epochs']}", total=self.params.get("steps"))
            self._bar.start()

    def on_train_batch_end(self, batch, logs=None):
        if self._bar:
            self._bar.advance(self._bar.task_ids[0])

    def on_epoch_end(self, epoch, logs=None):
        self.close()
        values = "  ".join(f"{name} {float(value):.4f}" for name, value in (logs or {}).items())
        self._console.print(f"  epoch {epoch + 1}/{self.params['epochs']}  {values}")
