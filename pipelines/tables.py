"""Tables as data: which columns are numbers and which categories, what standardizes them, and the rows of each part."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from pipelines import csv_tables, splits
from pipelines.csv_tables import Table
from pipelines.data import Tables
from pipelines.datasets import Part
from pipelines.readers import ordered
from pipelines.table_target import Target
from zoo.core.family import Task
from zoo.core.naming import nearest
from zoo.layers.scale import Scale
from zoo.layers.table import MISSING, Category, Columns, Number, columns_of, number, numbers

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

    from pipelines.feed import Feed

PARTS: tuple[Part, ...] = ("train", "validation", "test")
SETS = {"iris": "load_iris", "wine": "load_wine", "breast_cancer": "load_breast_cancer", "diabetes": "load_diabetes"}

_SLIPS = 0.1  # share of cells without a number up to which a column is taken for one of numbers, with mistakes

logger = logging.getLogger("zoo")


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows of a table and what is to be predicted of them: classes (N,) int32 or numbers (N, 1) float32."""

    table: Table
    targets: np.ndarray

    def __len__(self) -> int:
        return len(self.table)


@dataclass(frozen=True, eq=False)
class TableData:
    """Rows in three parts; `columns`, and `target` where it is a number, were measured on the training part alone."""

    task: Task
    classes: tuple[str, ...]
    columns: Columns
    target: Scale | None
    parts: Mapping[Part, Rows]
    skipped: tuple[str, ...] = ()

    @property
    def targets(self) -> tuple[str, ...]:
        """The name of the number to predict; none where the task is to classify."""
        return () if self.target is None else self.target.names

    @property
    def scale(self) -> tuple[float, ...]:
        """Its standard deviation on the training part."""
        return () if self.target is None else self.target.std

    def options(self) -> dict[str, Any]:
        """What the data decide about the model."""
        return {"columns": self.columns, **({} if self.target is None else {"target": self.target})}

    def training_set(self, model: keras.Model, *, batch: int, seed: int) -> Feed:
        """Shuffled batches as the model takes them: (B, columns) float32 and the targets."""
        from pipelines import batches

        return batches.shuffled(*self._examples(model, "train"), batch=batch, seed=seed)

    def evaluation_set(self, model: keras.Model, part: Part, *, batch: int, cached: bool = False) -> tf.data.Dataset:
        """The same in order; the last batch may be smaller."""
        from pipelines import batches

        return batches.ordered(*self._examples(model, part), batch=batch)

    def _examples(self, model: keras.Model, part: Part) -> tuple[int, Any]:
        """Encoded as the model's own columns say, since it may have been trained before the source changed."""
        import tensorflow as tf

        rows = self.parts[part]
        inputs, targets = tf.constant(encode(rows.table, columns_of(model))), tf.constant(rows.targets)
        return len(rows), lambda indexes: (tf.gather(inputs, indexes), tf.gather(targets, indexes))

    def files(self) -> Mapping[str, str]:
        """Nothing: what describes the columns is in the model."""
        return {}


def load(tables: Tables, *, task: Task | None = None, seed: int) -> TableData:
    """The rows that `tables` describes, divided by class and seed, and what their columns are.

    What is to be predicted are classes if it is text, or two different whole numbers, or at most 20 with 5 rows each or
    more on average; `task` says otherwise. Rows whose target is missing are refused.

    A column with a few cells that are no numbers is refused rather than taken for categories: they are more often
    mistakes. Rows that are the same in two parts are kept, since two plants may well have the same measures; how many
    there are is logged. So are the categories that training does not have, and the columns that say nothing.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the source is not what its kind asks for, or does not serve the task.
    """
    given = {"train": tables.train or tables.source, "validation": tables.validation, "test": tables.test}
    whole = {part: _open(source) for part, source in given.items() if source}
    names = _features(whole, tables)
    target = Target.of(whole["train"], tables.target, task)
    for table in whole.values():
        target.values(table)  # so that the first row that is wrong is named, whatever its part
    divided = _divided(whole, names, target, tables, seed=seed)
    columns = Columns(tuple(_column(name, whole["train"], divided["train"], tables) for name in names))
    parts = {part: Rows(table, target.values(table)) for part, table in divided.items()}
    for table in divided.values():
        encode(table, columns)  # so that what cannot be read is known now
    scale = None if target.classes else _scale(parts["train"], tables)
    _report(divided, columns, tables)
    return TableData(target.task, target.classes, columns, scale, cast(Mapping[Part, Rows], parts))


def encode(table: Table, columns: Columns) -> np.ndarray:
    """Rows as a model takes them: (N, columns) float32.

    Raises:
        ValueError: a column is not there, or holds something else than numbers.
    """
    table.require(columns.names, "the model's columns")
    return np.stack([column.encode(table.column(column.name), table.where) for column in columns.columns], axis=1)


def _open(source: str) -> Table:
    if source in SETS:
        return _built_in(source)
    try:
        return csv_tables.read(source)
    except FileNotFoundError as error:
        near = nearest(source, SETS)
        raise FileNotFoundError(f"{error} Or one of scikit-learn's tables: {', '.join(SETS)}.{near}") from None


def _built_in(name: str) -> Table:
    """A table of scikit-learn, in the units that it was measured in, with the names of its classes."""
    from sklearn import datasets

    options = {"scaled": False} if name == "diabetes" else {}
    found = getattr(datasets, SETS[name])(**options)
    classes = found.get("target_names")
    targets = [str(float(value)) if classes is None else str(classes[value]) for value in found.target]
    rows = [[*map(str, map(float, row)), target] for row, target in zip(found.data, targets, strict=True)]
    return Table(name, (*map(str, found.feature_names), "target"), rows, range(2, len(rows) + 2))


def _features(whole: Mapping[str, Table], tables: Tables) -> tuple[str, ...]:
    """The columns to predict from."""
    train = whole["train"]
    train.require([tables.target], "Tables(target=...)")
    train.require(tables.categorical, "Tables(categorical=...)")
    train.require(tables.ignore, "Tables(ignore=...)")
    names = tuple(name for name in train.header if name != tables.target and name not in tables.ignore)
    if not names:
        raise ValueError(f"{train.source!r} has no column to predict {tables.target!r} from.")
    for table in whole.values():
        table.require([*names, tables.target], f"{train.source!r}")
    return names


def _divided(
    whole: Mapping[str, Table], names: Sequence[str], target: Target, tables: Tables, *, seed: int
) -> dict[str, Table]:
    """Splits off from the training table what is not given."""
    shares: dict[str, float] = {
        part: share for part, share in zip(PARTS, tables.split, strict=True) if part == "train" or part not in whole
    }
    if not any(shares.values()):
        shares["train"] = 1.0  # all other parts are given, so their shares do not matter
    train = whole["train"]
    labels = target.names(train)
    indexes = splits.stratified(labels, _identities(train, [*names, target.name]), shares=shares, seed=seed)
    for part, share in shares.items():
        if share and not len(indexes[part]):
            raise ValueError(
                f"{train.source!r} has too few rows to split: none of {len(train)} is left for {part}. "
                f"Add rows, or change Tables(split={tables.split})."
            )
    return {**whole, **{part: train.take(found) for part, found in indexes.items()}}


def _identities(table: Table, names: Sequence[str]) -> list[str]:
    """What to call each row whatever the order of the rows: its cells, and which of its equals it is."""
    seen: Counter[str] = Counter()
    found = []
    for cells in zip(*map(table.column, names), strict=True):
        text = "\x1f".join(cells)
        found.append(f"{text}\x1f{seen[text]}")
        seen[text] += 1
    return found


def _column(name: str, whole: Table, train: Table, tables: Tables) -> Number | Category:
    """A column: its kind from all rows of the source, what is measured from those of the training part."""
    present = [cell for cell in train.column(name) if cell not in MISSING]
    missing = len(present) < len(train)
    if not present:
        raise ValueError(
            f"{whole.source!r}: column {name!r} holds no value in the {len(train)} training rows. "
            f"Leave it out: Tables(ignore=({name!r},))."
        )
    if name in tables.categorical or _is_named(name, whole):
        return Category(name, ordered(present), missing)
    values = numbers(present, name, train.where)
    csv_tables.check_spread(values, name, whole.source)
    scale = Scale.measured([name], values[:, np.newaxis])
    return Number(name, scale.mean[0], scale.std[0], missing)


def _is_named(name: str, table: Table) -> bool:
    """Whether a column holds names rather than numbers.

    Raises:
        ValueError: it holds numbers but for a few cells.
    """
    cells = table.column(name)
    names = [index for index, cell in enumerate(cells) if number(cell) is None]
    others = sum(cell not in MISSING for cell in cells) - len(names)
    if names and len(names) <= _SLIPS * others:
        raise ValueError(
            f"{table.where(names[0])}: column {name!r} holds {cells[names[0]]!r}, which is no number, and neither are "
            f"{len(names)} of its {len(names) + others} values. Correct them (1234.5, or nothing where a value is "
            f"missing), or say that they are names: Tables(categorical=({name!r},))."
        )
    return bool(names)


def _scale(rows: Rows, tables: Tables) -> Scale:
    """The target's own, from the training part."""
    csv_tables.check_spread(rows.targets, tables.target, rows.table.source)
    scale = Scale.measured([tables.target], rows.targets)
    if not scale.std[0]:
        raise ValueError(
            f"{rows.table.source!r}: the target {tables.target!r} is {scale.mean[0]:g} in every training row."
        )
    return scale


def _report(divided: Mapping[str, Table], columns: Columns, tables: Tables) -> None:
    """Logs what a careful user would want to know, once."""
    train = divided["train"]
    still = [column.name for column in columns.columns if not column.width]
    if still:
        logger.warning("%r: the same in every training row, so left out: %s.", tables.source, ", ".join(still))
    for column in columns.columns:
        if isinstance(column, Category) and column.learned and len(column.vocabulary) > len(train) / 2:
            logger.warning("%r: column %r has a value of its own in nearly every row.", tables.source, column.name)
    used = [*columns.names, tables.target]
    known = set(zip(*map(train.column, used), strict=True))
    for part in ("validation", "test"):
        table = divided[part]
        again = sum(row in known for row in zip(*map(table.column, used), strict=True))
        if again:
            logger.warning("%r: %d of %d rows of %s are in train too.", tables.source, again, len(table), part)
        cells = [dict(zip(table.header, row, strict=True)) for row in table.rows]
        for name, strange in columns.unknown(cells).items():
            some = ", ".join(map(repr, strange[:5])) + (f" and {len(strange) - 5} more" if len(strange) > 5 else "")
            logger.warning("%r: %s has values of %r that train does not have: %s.", tables.source, part, name, some)
