"""What is known of a trial: the values it was given, how it ended, and what it scored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

Status = Literal["running", "completed", "failed"]
FOLDER = "trials"  # of a search's folder: a run's folder for each trial, by its id


@dataclass(frozen=True)
class Result:
    """How a trial ended.

    `scores` are the metrics of the epoch whose weights were kept (loss, accuracy, val_loss, val_accuracy, ...), and,
    where they were measured, `latency` (milliseconds) and `size` (bytes) of the TFLite file.
    """

    status: Literal["completed", "failed"]
    reason: str = ""  # of a failure, in a line: what went wrong, with the values
    scores: Mapping[str, float] = field(default_factory=dict)
    epochs: int = 0  # trained in all
    seconds: float = 0.0
    memory: int = 0  # bytes, at the most


@dataclass(frozen=True)
class Trial:
    """One point of the space, and what became of it; `result` is None while it runs or waits to go on."""

    id: str  # "0007": the name of its folder, in the order in which trials began
    values: Mapping[str, Any]  # those that are active, by the names of the space's ranges
    result: Result | None = None

    @property
    def status(self) -> Status:
        """Whether it has ended, and how."""
        return "running" if self.result is None else self.result.status

    def folder(self, search: Path) -> Path:
        """Its run's folder: run.json, history.json, checkpoints, log.txt."""
        return search / FOLDER / self.id
