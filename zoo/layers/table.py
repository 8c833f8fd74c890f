"""The layer through which a model takes rows of a table: numbers, categories, and what is missing of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from zoo.core.naming import nearest

MISSING = frozenset({"", "NA", "N/A", "NaN", "nan"})  # cells that hold no value
_ONE_HOT = 32  # categories; the vectors of more are learned
_LARGEST = float(np.finfo(np.float32).max)

Where = Callable[[int], str]  # what to call a row in messages, by its place among the cells


@dataclass(frozen=True)
class Number:
    """A column of numbers: its mean and standard deviation in training, and whether any was missing there.

    A `std` of 0 says that it never varied.

    Raises:
        ValueError: a number is out of range.
    """

    name: str
    mean: float = 0.0
    std: float = 1.0
    missing: bool = False

    def __post_init__(self) -> None:
        if not (math.isfinite(self.mean) and 0 <= self.std < math.inf):
            raise ValueError(f"{self} must have a finite mean, and a finite std of at least 0.")

    @property
    def width(self) -> int:
        """How many numbers are computed with: itself, if it ever varied, and whether it is missing, if any was."""
        return int(self.std > 0) + self.missing

    def encode(self, cells: Sequence[str], where: Where) -> np.ndarray:
        """Cells as the model takes them, (N,) float32, NaN for what is missing.

        Raises:
            ValueError: a cell holds no number.
        """
        return numbers(cells, self.name, where).astype(np.float32)


@dataclass(frozen=True)
class Category:
    """A column of names: those known from training, and whether any was missing there.

    Raises:
        ValueError: there is no name, or one twice.
    """

    name: str
    vocabulary: tuple[str, ...]
    missing: bool = False

    def __post_init__(self) -> None:
        if not self.vocabulary or len(set(self.vocabulary)) != len(self.vocabulary):
            raise ValueError(f"Category({self.name!r}, vocabulary={self.vocabulary}) must hold names, each once.")

    @property
    def places(self) -> int:
        """Of the one-hot vector: a category each and, if any was missing, one for what is missing or unknown.

        0 where all rows held the same.
        """
        places = len(self.vocabulary) + self.missing
        return places if places > 1 else 0

    @property
    def learned(self) -> bool:
        """Whether a learned table, rather than the one-hot vector itself, tells the categories apart."""
        return self.places > _ONE_HOT

    @property
    def width(self) -> int:
        """How many numbers are computed with; of learned ones 1.6 n ** 0.56, fast.ai's rule of thumb."""
        return min(64, round(1.6 * self.places**0.56)) if self.learned else self.places

    def encode(self, cells: Sequence[str], where: Where) -> np.ndarray:
        """Cells as the model takes them, (N,) float32: places in the vocabulary, -1 for what is missing or unknown."""
        place = {name: index for index, name in enumerate(self.vocabulary)}
        return np.array([place.get(cell, -1) for cell in cells], np.float32)


@dataclass(frozen=True)
class Columns:
    """The columns of a table that a model predicts from, in the order of its input.

    Raises:
        ValueError: there is none, two have one name, or none of them ever varied.
    """

    columns: tuple[Number | Category, ...]

    def __post_init__(self) -> None:
        if not self.columns or len(set(self.names)) != len(self.names):
            raise ValueError(f"Columns must hold columns of different names, got {self.names}.")
        if not self.width:
            raise ValueError(f"No column of {', '.join(map(repr, self.names))} ever varied: nothing to predict from.")

    @property
    def names(self) -> tuple[str, ...]:
        """Of all columns."""
        return tuple(column.name for column in self.columns)

    @property
    def width(self) -> int:
        """How many numbers are computed with."""
        return sum(column.width for column in self.columns)

    def encode(self, rows: Sequence[Mapping[str, Any]]) -> np.ndarray:
        """Rows as the model takes them, (N, columns) float32; `rows` map names of columns to cells.

        A cell is text as in a CSV file, a number, or None where it is missing. What has another name is left out.

        Raises:
            ValueError: a row lacks a column, or holds no number where one belongs.
        """
        for index, row in enumerate(rows):
            absent = [name for name in self.names if name not in row]
            if absent:
                raise ValueError(
                    f"Row {index} has no column {absent[0]!r}.{nearest(absent[0], row)} "
                    f"It has: {', '.join(map(str, row))}. A value that is missing is ''."
                )
        cells = {name: [_text(row[name]) for row in rows] for name in self.names}
        encoded = [column.encode(cells[column.name], lambda index: f"Row {index}") for column in self.columns]
        return np.stack(encoded, axis=1)

    def unknown(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, tuple[str, ...]]:
        """The categories of `rows` that training did not have, by column; the model takes them for missing ones."""
        named = [column for column in self.columns if isinstance(column, Category)]
        cells = {column: {_text(row[column.name]) for row in rows} for column in named}
        strange = {column.name: cells[column] - {*column.vocabulary} - MISSING for column in named}
        return {name: tuple(sorted(found)) for name, found in strange.items() if found}

    @classmethod
    def from_config(cls, values: Mapping[str, Any]) -> Columns:
        """Columns from what dataclasses.asdict and JSON made of them."""
        return cls(tuple(_column(**column) for column in values["columns"]))


def _column(**values: Any) -> Number | Category:
    if "vocabulary" in values:
        return Category(**{**values, "vocabulary": tuple(values["vocabulary"])})
    return Number(**values)


def numbers(cells: Sequence[str], column: str, where: Where) -> np.ndarray:
    """Cells as numbers, (N,) float64, NaN for what is missing.

    Raises:
        ValueError: a cell holds something else, or a number that float32 does not hold.
    """
    found = [number(cell) for cell in cells]
    for index, (cell, value) in enumerate(zip(cells, found, strict=True)):
        if value is None:
            raise ValueError(
                f"{where(index)}: column {column!r} holds {cell!r}, which is no number. "
                "Write 1234.5 with a point and no other marks; a cell that is empty or NA is a missing value."
            )
        if abs(value) > _LARGEST:
            raise ValueError(f"{where(index)}: column {column!r} holds {cell!r}; numbers must be finite, below 3.4e38.")
    return np.array(found, np.float64)


def number(cell: str) -> float | None:
    """The number in a cell, NaN if it is missing, or None if it holds something else."""
    if cell in MISSING:
        return math.nan
    try:
        value = float(cell) if "_" not in cell else None  # which Python takes for a thousands separator
    except ValueError:
        return None
    return None if value is None or math.isnan(value) else value


def _text(cell: Any) -> str:
    return "" if cell is None else str(cell).strip()


@keras.saving.register_keras_serializable("zoo")
class TableInput(layers.Layer):
    """Standardizes numbers, fills in what is missing, and tells categories apart: (B, columns) -> (B, width) float32.

    Numbers come as they are, NaN where missing; categories as places in their vocabulary. A missing number counts
    as the mean of training, and a column of 0 and 1 says so if any was missing there. A category is a one-hot vector
    or, of more than 32, a learned one. One that is missing or unknown has a place of its own if any was missing
    in training; else it is all zeros.
    """

    def __init__(self, columns: Columns | dict[str, Any], **kwargs: Any):
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.columns = Columns.from_config(columns) if isinstance(columns, dict) else columns

    def build(self, shape: tuple[int | None, ...]) -> None:
        if shape[-1] != len(self.columns.columns):
            raise ValueError(f"The input has {shape[-1]} columns, the table {len(self.columns.columns)}.")
        self.tables = [  # a list: a dict by numbers stops Keras' export
            self.add_weight(name=f"table{index}", shape=(column.places, column.width), initializer="uniform")
            if isinstance(column, Category) and column.learned
            else None
            for index, column in enumerate(self.columns.columns)
        ]

    def call(self, x: keras.KerasTensor) -> keras.KerasTensor:
        x = ops.cast(x, "float32")
        categories = [
            self._category(x[:, index : index + 1], column, self.tables[index])
            for index, column in enumerate(self.columns.columns)
            if isinstance(column, Category) and column.width
        ]
        return ops.concatenate([*self._numbers(x), *categories], axis=-1)

    def _numbers(self, x: keras.KerasTensor) -> list[keras.KerasTensor]:
        """The standardized numbers of those columns that ever varied, then whether they are missing where any was."""
        indexed = [(i, column) for i, column in enumerate(self.columns.columns) if isinstance(column, Number)]
        varying = [(index, column) for index, column in indexed if column.std]
        flagged = [index for index, column in indexed if column.missing]
        parts = []
        if varying:
            mean = ops.convert_to_tensor([column.mean for _, column in varying], "float32")
            std = ops.convert_to_tensor([column.std for _, column in varying], "float32")
            values = ops.take(x, [index for index, _ in varying], axis=1)
            values = ops.where(values != values, mean, values)  # only NaN differs from itself; TFLite has no isnan
            parts.append((values - mean) / std)
        if flagged:
            values = ops.take(x, flagged, axis=1)
            parts.append(ops.cast(values != values, "float32"))
        return parts

    def _category(self, place: keras.KerasTensor, column: Category, table: keras.Variable | None) -> keras.KerasTensor:
        """(B, 1) -> (B, width). Compared rather than looked up, so that no place is out of range: it equals none."""
        x = ops.cast(ops.equal(place, ops.arange(len(column.vocabulary), dtype="float32")), "float32")
        if column.missing:
            x = ops.concatenate([x, 1 - ops.sum(x, axis=-1, keepdims=True)], axis=-1)
        return x if table is None else ops.matmul(x, table)

    def compute_output_shape(self, shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return (*shape[:-1], self.columns.width)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "columns": asdict(self.columns)}


def table_input(columns: Columns) -> tuple[keras.KerasTensor, keras.KerasTensor]:
    """The model's input, (B, columns) as Columns.encode gives it, and what is computed with, (B, width)."""
    row = keras.Input((len(columns.columns),), name="row")
    return row, TableInput(columns, name="stem_table")(row)


def columns_of(model: keras.Model) -> Columns:
    """The columns of the table that a model predicts from.

    Raises:
        ValueError: the model takes no rows of a table.
    """
    for layer in model.layers:
        if isinstance(layer, TableInput):
            return layer.columns
    raise ValueError(f"{model.name!r} has no TableInput layer: it takes no rows of a table.")
