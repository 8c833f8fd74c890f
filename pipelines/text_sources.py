"""Where texts come from: files, folders, tfds. Rows of plain text in three parts without a common text."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from pipelines import splits, text_labels, text_sets, tfds_sets
from pipelines.data import Texts
from pipelines.text_files import Table, file_parts, some
from zoo.core.family import Task

PARTS = ("train", "validation", "test")
LABELLED: tuple[Task, ...] = ("classify", "tag", "answer", "seq2seq")
UNLABELLED: tuple[Task, ...] = ("masked_lm", "causal_lm")


@dataclass(frozen=True, eq=False)
class Rows:
    """Texts, the second ones beside them, and their labels.

    A label is a class (classify), a tuple of tags (tag), a tuple of accepted answers (answer) or a text (seq2seq).
    `places` says of each row where it stands, as messages name it.
    """

    source: str
    texts: Sequence[str]
    seconds: Sequence[str] | None
    labels: Sequence[Any] | None
    places: Sequence[str]

    def __len__(self) -> int:
        return len(self.texts)

    def take(self, indexes: Sequence[int] | np.ndarray) -> Rows:
        """Some of the rows, in the order of `indexes`."""

        def chosen(values: Sequence | None) -> Any:
            return None if values is None else [values[index] for index in indexes]

        return Rows(self.source, *map(chosen, (self.texts, self.seconds, self.labels, self.places)))

    def identities(self) -> list[tuple[str, ...]]:
        """What tells whether two rows are the same one: their texts, white space aside."""
        columns = [self.texts] if self.seconds is None else [self.texts, self.seconds]
        return [tuple(" ".join(text.split()) for text in texts) for texts in zip(*columns, strict=True)]


@dataclass(frozen=True, eq=False)
class TextParts:
    """The rows of each part and the classes. `skipped` names what a published set has in two parts."""

    classes: tuple[str, ...]
    rows: Mapping[str, Rows]
    skipped: tuple[str, ...] = ()


def load(texts: Texts, *, task: Task, seed: int) -> TextParts:
    """The rows that `texts` describes, all checked, split by class and seed.

    Equal texts of one source stay in one part. Parts that are given must have no text in common; of published sets
    (tfds), which cannot be mended, the copies are left out of the part to train on.

    Raises:
        FileNotFoundError: there is no such folder, file or tfds set.
        ValueError: the source is not what its kind asks for, a row is bad, or the rows cannot be split.
    """
    if task not in (*LABELLED, *UNLABELLED):
        raise ValueError(f"Texts have no task {task!r}. They can do: {', '.join((*LABELLED, *UNLABELLED))}.")
    if task in LABELLED and texts.label_column is None:
        raise ValueError(f"Texts(label_column=None): task={task!r} needs a column to learn from.")
    if task == "answer" and texts.second_column is None:
        raise ValueError("Texts(second_column=None): task='answer' needs the column of the questions.")
    if task in UNLABELLED and texts.second_column is not None:
        raise ValueError(f"Texts(second_column={texts.second_column!r}): language models ({task}) read one text a row.")
    label = texts.label_column if task in LABELLED else None
    parts = {part: _rows(read(), texts, label, task) for part, read in _readers(texts, label).items()}
    parts, skipped = _without_common(parts, mend=texts.source.startswith("tfds:"))
    classes = text_labels.classes(parts["train"].labels or (), task)
    text_labels.check_classes({part: (rows.labels, rows.places) for part, rows in parts.items()}, classes, task)
    return TextParts(classes, _divided(parts, texts, task, seed=seed), skipped)


def _readers(texts: Texts, label: str | None) -> dict[str, Callable[[], Table]]:
    """How to read each part that the source has. A source without a division is all "train"."""
    given = {part: value for part in PARTS if (value := getattr(texts, part)) is not None}
    columns = tuple(name for name in (texts.text_column, texts.second_column, label) if name is not None)
    if texts.source.startswith("tfds:"):
        read = partial(tfds_sets.read_columns, columns=columns)
        return tfds_sets.parts(texts.source, data_dir=texts.data_dir, given=given, read=read)
    parts_of = partial(file_parts, text=texts.text_column, label=label)
    readers: dict[str, Callable[[], Table]]
    if texts.source == text_sets.NAME:
        readers = {"train": partial(text_sets.sklearn_docs, text=texts.text_column, label=label or "label")}
    else:
        readers = parts_of(Path(texts.source))
    readers |= {part: splits.undivided("Texts", part, path, parts_of) for part, path in given.items()}
    if "train" not in readers:
        raise ValueError(f"{texts.source!r} has nothing to train on; it has {', '.join(readers)}.")
    return readers


def _rows(table: Table, texts: Texts, label: str | None, task: Task) -> Rows:
    """The columns of a table that are asked for, every cell checked."""
    first = _texts(table, texts.text_column, task)
    second = None if texts.second_column is None else _texts(table, texts.second_column, task)
    labels = None if label is None else text_labels.read(table, label, first, task)
    return Rows(table.source, first, second, labels, table.places)


def _texts(table: Table, column: str, task: Task) -> list[str]:
    cells = table.cells(column)
    if task == "tag":  # words may come one by one
        cells = [" ".join(cell) if text_labels.is_list(cell) else cell for cell in cells]
    wrong = [place for cell, place in zip(cells, table.places, strict=True) if not isinstance(cell, str)]
    if wrong:
        raise ValueError(f"{table.source!r}: column {column!r} holds no text in {len(wrong)} rows: {some(wrong)}.")
    empty = [place for cell, place in zip(cells, table.places, strict=True) if not cell.strip()]
    if empty:
        raise ValueError(
            f"{table.source!r}: the text in column {column!r} is empty in {len(empty)} of {len(table)} rows: "
            f"{some(empty)}. Fill in the text or remove the rows."
        )
    return cells


def _without_common(parts: Mapping[str, Rows], *, mend: bool) -> tuple[dict[str, Rows], tuple[str, ...]]:
    """The parts, none with a text of another.

    Raises:
        ValueError: a text is in two parts, and it is not to be mended.
    """
    seen: dict[tuple[str, ...], tuple[str, str]] = {}
    kept, skipped = {}, []
    for part in ("test", "validation", "train"):  # training can best do without a text
        if part not in parts:
            continue
        rows, fresh = parts[part], []
        identities = rows.identities()
        for index, (identity, place) in enumerate(zip(identities, rows.places, strict=True)):
            if identity not in seen:
                fresh.append(index)
            elif mend:
                skipped.append(f"{place} (it is in {seen[identity][0]} too)")
            else:
                other, where = seen[identity]
                raise ValueError(
                    f"{rows.source!r}: the text of {place} ({part}) is also {where} ({other}): {identity[0][:60]!r}. "
                    "The test would measure memory. Remove one of the two."
                )
        seen |= {identity: (part, place) for identity, place in zip(identities, rows.places, strict=True)}
        kept[part] = rows if len(fresh) == len(rows) else rows.take(fresh)
    return kept, tuple(skipped)


def _divided(parts: Mapping[str, Rows], texts: Texts, task: Task, *, seed: int) -> dict[str, Rows]:
    """Splits off "train" what is not there yet."""
    whole = parts["train"]
    wanted = {
        part: share for part, share in zip(PARTS, texts.split, strict=True) if part == "train" or part not in parts
    }
    if not any(wanted.values()):
        wanted["train"] = 1.0  # all other parts are given, so their shares do not matter
    # Equal texts go where the first of them goes; of a text with several questions, all do.
    keys = [identity[0] for identity in whole.identities()] if task == "answer" else whole.identities()
    groups: dict[Any, list[int]] = {}
    for index, key in enumerate(keys):
        groups.setdefault(key, []).append(index)
    members = list(groups.values())
    labels = [whole.labels[group[0]] if task == "classify" and whole.labels else "" for group in members]
    cut = splits.stratified(
        labels, ["\n".join(key) if isinstance(key, tuple) else key for key in groups], shares=wanted, seed=seed
    )
    rows = {part: whole.take(sorted(i for group in found for i in members[group])) for part, found in cut.items()}
    for part, share in wanted.items():
        if share and not len(rows[part]):
            raise ValueError(
                f"{texts.source!r} has too few texts to split: none of {len(whole)} ({len(members)} different) is left "
                f"for {part}. Add texts, or change Texts(split={texts.split})."
            )
    return {part: {**parts, **rows}[part] for part in PARTS}
