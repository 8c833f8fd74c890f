"""What a fit keeps as it goes: the history, the best weights so far, and whether a phase still improves."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np

from pipelines import lora, workers
from pipelines.files import replacing, write_text
from pipelines.monitor import Epoch, History


class Keeper:
    """Keeps the best weights over all phases, and says when a phase no longer improves.

    The best is the lowest validation loss, or, without a validation set, the latest epoch. With a
    folder, history.csv, history.json and best.weights.h5 in it are whole after every epoch, whatever happens next.
    """

    def __init__(self, model: keras.Model, *, patience: int, folder: Path | None):
        self.history = History()
        self.weights: list[np.ndarray] | None = None  # the best, as those of a plain model
        self._model, self._patience, self._folder = model, patience, folder
        self._waited = 0

    @property
    def exhausted(self) -> bool:
        """Whether the phase has not improved for so long that it ends."""
        return self._waited >= self._patience

    def begin(self) -> None:
        """The next epochs are of another phase, which has its own patience."""
        self._waited = 0

    def record(self, done: Epoch) -> bool:
        """Take note of an epoch; whether it is the best so far."""
        self.history.epochs.append(done)
        better = self._improves(done)
        if better:
            self.history.best, self._waited = done, 0
            self.weights = lora.get_weights(self._model)
        else:
            self._waited += 1
        if self._folder:
            if better:
                with replacing(self._folder / "best.weights.h5") as path:
                    workers.alone(partial(self._model.save_weights, path))
            write_text(self._folder / "history.csv", self.history.to_csv())
            write_text(self._folder / "history.json", self.history.to_json())
        return better

    def restore_best(self) -> None:
        """Put the best weights so far back into the model."""
        if self.weights is not None:
            lora.set_weights(self._model, self.weights)

    def state(self) -> dict[str, Any]:
        """All but the weights, for JSON."""
        best = next((i for i, epoch in enumerate(self.history.epochs) if epoch is self.history.best), None)
        epochs = [dataclasses.asdict(epoch) for epoch in self.history.epochs]
        return {"epochs": epochs, "best": best, "waited": self._waited, "notes": list(self.history.notes)}

    def restore(self, state: Mapping[str, Any], best: Mapping[str, np.ndarray]) -> None:
        """Become what `state` was told of, with the best weights by number."""
        epochs = [Epoch(**epoch) for epoch in state["epochs"]]
        best_epoch = None if state["best"] is None else epochs[state["best"]]
        self.history = History(epochs, best_epoch, list(state.get("notes", ())))
        self.weights = [best[name] for name in sorted(best)] or None
        self._waited = state["waited"]

    def arrays(self) -> dict[str, np.ndarray]:
        """The best weights, by names in their order."""
        return {f"{place:06}": array for place, array in enumerate(self.weights or [])}

    def _improves(self, done: Epoch) -> bool:
        best = self.history.best
        if best is None or "val_loss" not in done.metrics:
            return True
        return done.metrics["val_loss"] < best.metrics["val_loss"]
