"""Images with several labels, or with numbers to predict, from CSV and npz files: read and checked row by row."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, cast

import numpy as np

from pipelines import csv_tables, readers
from pipelines.csv_tables import Table
from pipelines.data import Images
from pipelines.readers import PART_OF, Labelled, objects, ordered
from pipelines.tasks import UNLABELLED
from zoo.core.family import Task
from zoo.layers.table import MISSING, number, numbers

LABEL = "label"
_YES = {"1", "true", "yes"}
_NO = {"0", "false", "no"}

Kind = Literal["multi_label", "regress"]


@dataclass(frozen=True)
class Question:
    """What is to be learned of the images of a run, and where it stands."""

    kind: Kind
    images: Images

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of a CSV file that hold it."""
        return self.images.target or self.images.class_columns or (LABEL,)

    @property
    def option(self) -> str:
        """What names them."""
        if self.images.target:
            return "target"
        return "class_columns" if self.images.class_columns else "label_delim"


def question(images: Images, task: Task | None) -> Question | None:
    """What is asked of the images; None where it is their class.

    Raises:
        ValueError: the run's task is not what the options of the images are for.
    """
    asked = images.asks_for
    if task not in (None, "classify", "multi_label", "regress", *UNLABELLED):
        known = ", ".join(("classify", "multi_label", "regress", *UNLABELLED))
        raise ValueError(f"task={task!r} is none of images; those are {known}.")
    if task is not None and asked != "classify" and task != asked:
        option = Question(asked, images).option
        raise ValueError(f"task={task!r}, but Images({option}={getattr(images, option)!r}) is for task={asked!r}.")
    kind = task or asked
    if kind == "classify" or kind in UNLABELLED:
        return None
    for name, able in (("balance", ()), ("cutmix", ("multi_label",))):
        if getattr(images, name) and kind not in able:
            why = "an image has one class" if name == "balance" else "images have classes: a part of one has no number"
            raise ValueError(f"Images({name}={getattr(images, name)}) is for data where {why}, not for task={kind!r}.")
    return Question(cast(Kind, kind), images)


def file_parts(path: Path, asked: Question) -> dict[str, Callable[[], Labelled]]:
    """The parts that a CSV or npz file is divided into, each with how to read it.

    Labels are tuples of names, or numbers (N, targets) float64.

    Raises:
        FileNotFoundError: there is nothing at `path`.
        ValueError: it is another kind of source, or lacks a column.
    """
    built_in = str(path) == "digits" or str(path).startswith("tfds:")
    if not path.exists() and not built_in:
        raise FileNotFoundError(f"There is no {str(path)!r} (looked in {str(Path.cwd())!r}). Give a .csv or .npz file.")
    if path.suffix.lower() == ".npz":
        return {"train": partial(_npz, path, asked)}
    if path.suffix.lower() != ".csv":
        what = "several labels" if asked.kind == "multi_label" else "numbers to predict"
        raise ValueError(
            f"{str(path)!r} cannot be trained on for task={asked.kind!r}: images with {what} come from a .csv file, "
            "whose column path names the files, or from an .npz file."
        )
    table = csv_tables.read(path)
    table.require(["path"], "its images")
    _check_columns(table, asked)
    divided = _parts_of_rows(table)
    if "train" not in divided:
        raise ValueError(f"{str(path)!r} has {len(table)} rows, none of them to train on; it has {sorted(divided)}.")
    return {part: partial(_csv_part, table.take(rows), asked) for part, rows in divided.items()}


def _check_columns(table: Table, asked: Question) -> None:
    images = asked.images
    if asked.kind == "multi_label" and asked.option == "label_delim" and not images.label_delim:
        raise ValueError(
            f"{table.source!r}: task='multi_label' needs to know how an image's labels are written: "
            "Images(label_delim='|') for several names in the cell label, or Images(class_columns=(...)) for columns "
            "of 0 and 1."
        )
    if asked.kind == "regress" and not images.target and LABEL not in table.header:
        raise ValueError(
            f"{table.source!r}: name the columns to predict, Images(target=('age',)). It has: "
            f"{', '.join(map(repr, table.header))}."
        )
    table.require(asked.columns, f"Images({asked.option}={getattr(images, asked.option)!r})")


def _parts_of_rows(table: Table) -> dict[str, np.ndarray]:
    """The rows of each part; all of them for training where there is no column split."""
    if "split" not in table.header:
        return {"train": np.arange(len(table))}
    parts: dict[str, list[int]] = {}
    for index, cell in enumerate(table.column("split")):
        if cell not in PART_OF:
            raise ValueError(f"{table.where(index)}: split is {cell!r}, which is none of {', '.join(PART_OF)}.")
        parts.setdefault(PART_OF[cell], []).append(index)
    return {part: np.array(rows) for part, rows in parts.items()}


def _csv_part(table: Table, asked: Question) -> Labelled:
    cells = table.column("path")
    root = Path(table.source).parent
    absent = [index for index, cell in enumerate(cells) if not cell or not (root / cell).is_file()]
    if absent and not cells[absent[0]]:
        raise ValueError(f"{table.where(absent[0])}: the column path is empty.")
    if absent:
        raise FileNotFoundError(
            f"{table.where(absent[0])} names the file {cells[absent[0]]!r}, which does not exist, as {len(absent)} "
            "rows in all do. Paths are taken relative to the CSV's own folder."
        )
    files = objects(str(root / cell) for cell in cells)
    if asked.kind == "regress":
        return Labelled(files, _numbers(table, asked.columns), tuple(cells), ())
    if asked.images.class_columns:
        return Labelled(files, _marked(table, asked.columns), tuple(cells), asked.columns)
    sets = [_names(cell, str(asked.images.label_delim), table.where(i)) for i, cell in enumerate(table.column(LABEL))]
    return Labelled(files, objects(sets), tuple(cells), ordered(name for names in sets for name in names))


def _numbers(table: Table, columns: Sequence[str]) -> np.ndarray:
    """The numbers of the columns, (N, columns) float64."""
    found = [numbers(table.present(column), column, table.where) for column in columns]
    return np.stack(found, axis=1)


def _marked(table: Table, columns: Sequence[str]) -> np.ndarray:
    """For each row the columns that say yes, as tuples."""
    sets: list[list[str]] = [[] for _ in range(len(table))]
    for column in columns:
        for index, cell in enumerate(table.column(column)):
            value = number(cell) if cell not in MISSING else None
            said = {0.0: "0", 1.0: "1"}.get(value, cell.lower()) if value is not None else cell.lower()
            if said not in _YES | _NO:
                raise ValueError(
                    f"{table.where(index)}: column {column!r} holds {cell!r}; a column of Images(class_columns=...) "
                    "holds 1 where an image has the label, and 0 where not."
                )
            if said in _YES:
                sets[index].append(column)
    return objects(tuple(names) for names in sets)


def _names(cell: str, divider: str, where: str) -> tuple[str, ...]:
    """The names in a cell; none in an empty one."""
    if not cell:
        return ()
    names = tuple(name.strip() for name in (cell.split() if divider == " " else cell.split(divider)))
    wrong = next((name for name in names if not name or name in MISSING or names.count(name) > 1), None)
    if wrong is not None:
        fault = "twice" if names.count(wrong) > 1 and wrong else "as a name"
        raise ValueError(
            f"{where}: the labels {cell!r}, divided by {divider!r}, hold {wrong!r} {fault}. "
            "Names differ from one another; the cell of an image without labels is empty."
        )
    return names


def _npz(path: Path, asked: Question) -> Labelled:
    values = readers.npz_arrays(path)
    images, names = readers.image_arrays(values["images"], source=str(path))
    labels = values["labels"]
    if len(labels) != len(images) or labels.ndim > 2 or labels.dtype.kind not in "buif":
        raise ValueError(
            f"{str(path)!r}: {len(images)} images, but labels of {labels.dtype} {labels.shape}; task={asked.kind!r} "
            "takes numbers, a row of them an image."
        )
    rows = labels.reshape(len(labels), -1)
    bad = np.flatnonzero(~np.isfinite(rows.astype(np.float64)).all(axis=1))
    if len(bad):
        raise ValueError(f"{str(path)!r}: labels of image {bad[0]} are {rows[bad[0]]}; they must be finite numbers.")
    if asked.kind == "regress":
        width = len(asked.images.target) or rows.shape[1]
        if width != rows.shape[1]:
            raise ValueError(f"{str(path)!r} has {rows.shape[1]} numbers an image; Images(target=...) names {width}.")
        return Labelled(images, rows.astype(np.float64), names, ())
    return Labelled(images, *_marked_rows(rows, values.get("classes"), asked, str(path), names))


def _marked_rows(
    rows: np.ndarray, classes: np.ndarray | None, asked: Question, source: str, names: tuple[str, ...]
) -> tuple[np.ndarray, tuple[str, ...], tuple[str, ...]]:
    """For each row of 0 and 1 the names of its classes, the names of the images, and those of the classes."""
    given = asked.images.class_columns or (range(rows.shape[1]) if classes is None else classes.tolist())
    known = tuple(map(str, given))
    odd = np.flatnonzero(((rows != 0) & (rows != 1)).any(axis=1))
    if len(known) != rows.shape[1] or len(set(known)) < len(known) or len(odd):
        at = f" Those of image {odd[0]} are {rows[odd[0]]}." if len(odd) else ""
        raise ValueError(
            f"{source!r}: labels of task='multi_label' are 0 and 1, (N, classes); got {rows.shape} for "
            f"{len(known)} classes {known[:10]}.{at}"
        )
    return objects(tuple(known[i] for i in np.flatnonzero(row)) for row in rows), names, known
