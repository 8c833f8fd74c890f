"""The column of a table that is to be predicted: names of classes, or numbers."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

import numpy as np

from pipelines.csv_tables import Table
from zoo.core.family import Task
from zoo.layers.table import number, numbers

_MOST_CLASSES = 20  # different whole numbers in a target that is taken for classes
_ROWS_A_CLASS = 5


@dataclass(frozen=True)
class Target:
    """The column to predict: names of classes, or numbers."""

    name: str
    task: Task
    classes: tuple[str, ...] = ()
    whole: bool = False  # whether the classes are whole numbers, however they are written

    @classmethod
    def of(cls, table: Table, name: str, task: Task | None) -> Target:
        cells = table.present(name)
        values = [number(cell) for cell in cells]
        whole = all(value is not None and value.is_integer() for value in values)
        few = len(set(values)) <= max(2, min(_MOST_CLASSES, len(cells) / _ROWS_A_CLASS))
        chosen = task or ("classify" if (whole and few) or None in values else "regress")
        if chosen == "regress":
            return cls(name, "regress")
        if chosen != "classify":
            raise ValueError(f"task={chosen!r} is none of a table; those are classify and regress.")
        found = {_class_name(cell, whole) for cell in cells}
        if len(found) < 2 or len(found) > len(cells) / 2:
            raise ValueError(
                f"{table.source!r}: target {name!r} has {len(found)} classes in {len(cells)} rows. "
                "It must have two or more, and two rows of each; for numbers to predict say task='regress'."
            )
        return cls(name, "classify", tuple(sorted(found, key=int if whole else str)), whole)

    def names(self, table: Table) -> list[str]:
        """The class of each row; '' if the target is a number."""
        return [_class_name(cell, self.whole) if self.classes else "" for cell in table.present(self.name)]

    def values(self, table: Table) -> np.ndarray:
        """The targets as the model gives them: (N,) int32, or (N, 1) float32."""
        if not self.classes:
            return numbers(table.present(self.name), self.name, table.where).astype(np.float32)[:, np.newaxis]
        place = {name: index for index, name in enumerate(self.classes)}
        for index, name in enumerate(self.names(table)):
            if name not in place:
                raise ValueError(
                    f"{table.where(index)}: class {name!r} is none of the training rows. "
                    f"They have: {', '.join(map(repr, self.classes))}."
                )
        return np.array([place[name] for name in self.names(table)], np.int32)


def _class_name(cell: str, whole: bool) -> str:
    """A whole number without the point and the sign that it may be written with; other cells as they are."""
    value = number(cell) if whole else None
    return str(int(Decimal(cell))) if value is not None and value.is_integer() else cell
