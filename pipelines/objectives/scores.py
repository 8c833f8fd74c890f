"""What all scores have in common: JSON, a sentence, a table and pictures."""

from __future__ import annotations

import dataclasses
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self


@dataclass(frozen=True)
class Scores(ABC):
    """How good a model is on examples it has never seen. `kind` is what JSON calls the class."""

    kind: ClassVar[str]
    picture: ClassVar[str | None] = None  # the file that `draw` writes
    caption: ClassVar[str] = ""  # of the picture

    examples: int

    def to_json(self) -> str:
        """The scores as JSON text."""
        return json.dumps({"kind": self.kind, **dataclasses.asdict(self)}, indent=2) + "\n"

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> Self:
        """The scores from what `to_json` wrote, without the kind; lists are tuples."""
        return cls(**values)

    @abstractmethod
    def summary(self, unit: str) -> str:
        """The most important numbers in a sentence; the first of them is **bold**. `unit` names the examples."""

    def rows(self, unit: str) -> list[tuple[str, ...]]:
        """A table, its header first; empty if the summary says it all."""
        return []

    def draw(self, folder: Path, unit: str) -> None:
        """Write `picture` into a folder, where there is one."""
        assert self.picture is None, "a class that names a picture draws it"

    def section(self, unit: str) -> str:
        """All of it as Markdown."""
        table = self.rows(unit)
        parts = [self.summary(unit)]
        if table:
            lines = [table[0], ("---",) * len(table[0]), *table[1:]]
            parts.append("\n".join(f"| {' | '.join(_escaped(line))} |" for line in lines))
        if self.picture:
            parts.append(f"![{self.caption}]({self.picture})")
        return "\n\n".join(parts) + "\n"


def _escaped(cells: Sequence[str]) -> list[str]:
    return [cell.replace("|", "\\|").replace("\n", " ") for cell in cells]


def number(value: float | None) -> str:
    """Four digits of a number of any size; a dash where there is none."""
    return "-" if value is None else f"{value:.4g}"
