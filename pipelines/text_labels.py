"""What the label column of a text set holds, by task: classes, tags, answers, texts to write."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pipelines.readers import ordered
from pipelines.text_files import Table, some
from zoo.core.family import Task

Labels = Sequence[Any] | None


def is_list(cell: Any) -> bool:
    """Whether a cell holds several texts."""
    return isinstance(cell, list) and all(isinstance(part, str) for part in cell)


def read(table: Table, column: str, texts: Sequence[str], task: Task) -> list[Any]:
    """The labels in a column, in the form that `text_sources.Rows` has them.

    Raises:
        ValueError: a cell is missing or empty, or does not fit its text; the message names the row.
    """
    kinds: dict[str, Callable[[Any, str], Any]] = {
        "classify": _class,
        "tag": _tags,
        "answer": _answers,
        "seq2seq": _text,
    }
    read_one = kinds[task]
    labels = []
    for cell, text, place in zip(table.cells(column), texts, table.places, strict=True):
        try:
            labels.append(read_one(cell, text))
        except ValueError as error:
            raise ValueError(f"{table.source!r}, {place}: column {column!r} {error}") from None
    return labels


def classes(labels: Sequence[Any], task: Task) -> tuple[str, ...]:
    """The names of the classes in order, numbers by value; empty for tasks without classes."""
    if task == "classify":
        return ordered(labels)
    if task == "tag":
        return ordered(tag for tags in labels for tag in tags)
    return ()


def check_classes(parts: Mapping[str, tuple[Labels, Sequence[str]]], known: tuple[str, ...], task: Task) -> None:
    """Refuse classes that cannot be learned.

    Raises:
        ValueError: there are fewer than two, or another part has some that train does not have.
    """
    if task not in ("classify", "tag"):
        return
    kind = "tags" if task == "tag" else "classes"
    if len(known) < 2:
        raise ValueError(f"There must be at least two {kind} to tell apart; the texts to train on have: {some(known)}.")
    for part, (labels, places) in parts.items():
        for label, place in zip(labels or (), places, strict=bool(labels)):
            for name in label if task == "tag" else (label,):
                if name not in known:
                    raise ValueError(
                        f"{place} ({part}) has the label {name!r}, which no text to train on has. "
                        f"Known {kind}: {some(known, 20)}. Rename it, or add such texts to train."
                    )


def _class(cell: Any, _text: str) -> str:
    if not isinstance(cell, str):
        raise ValueError(f"must hold one class, it holds {str(cell)[:80]!r}.")
    if not cell.strip():
        raise ValueError("is empty; it must hold the class of the text.")
    return cell.strip()


def _tags(cell: Any, text: str) -> tuple[str, ...]:
    tags = tuple(cell) if is_list(cell) else tuple(cell.split()) if isinstance(cell, str) else None
    words = text.split()
    if tags is None or len(tags) != len(words):
        found = f"{len(tags)} tags" if tags is not None else "something else"
        raise ValueError(
            f"must hold a tag for each of the {len(words)} words that white space separates, it holds {found}: "
            f"{str(cell)[:80]!r} for {text[:80]!r}."
        )
    return tags


def _answers(cell: Any, text: str) -> tuple[str, ...]:
    answers = tuple(cell) if is_list(cell) else (cell,) if isinstance(cell, str) else ()
    if not answers or not all(answer.strip() for answer in answers):
        raise ValueError("is empty; it must hold the answer.")
    answers = tuple(answer.strip() for answer in answers)
    if answers[0] not in text:
        raise ValueError(f"must hold a part of the text, as it is written there; {answers[0][:80]!r} is none.")
    return answers


def _text(cell: Any, _text: str) -> str:
    if not isinstance(cell, str) or not cell.strip():
        raise ValueError(f"must hold the text to write, it holds {str(cell)[:80]!r}.")
    return cell
