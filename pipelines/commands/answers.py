"""What `zoo predict` prints: classes of images and texts, tags of words, answers to questions."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from rich.markup import escape
from rich.table import Table

from pipelines.commands.terminal import out
from pipelines.predict import ImagePredictor, Predictor


def print_answers(
    predictor: Predictor, inputs: Sequence[str], second: Sequence[str] | None, *, top: int, cut: bool
) -> None:
    """A line for each input; `second` holds the second text, or the question, to each.

    Raises:
        FileNotFoundError: an image is not there.
        ValueError: an input is none that the model takes.
    """
    if isinstance(predictor, ImagePredictor):
        if second or cut:
            raise ValueError("--second and --cut are for texts, and this is a model of images.")
        return _print_best(predictor, "image", inputs, inputs, top=top)
    from pipelines.predict_text import TextPredictor

    assert isinstance(predictor, TextPredictor)
    if second and len(second) != len(inputs):
        raise ValueError(
            f"There are {len(inputs)} texts and {len(second)} --second; give one for each, in their order."
        )
    predictor = dataclasses.replace(predictor, cut=cut)
    texts: list[Any] = list(zip(inputs, second, strict=True)) if second else list(inputs)
    shown = [_shown(text) for text in texts]
    if predictor.task == "classify":
        return _print_best(predictor, "text", texts, shown, top=top)
    if predictor.task == "answer":
        rows = [(f"{answer} {share:.1%}",) for answer, share in predictor.answers(texts)]
        return _print("text", shown, ["answer"], rows)
    tagged = [" ".join(f"{word}/{tag or '?'}" for word, tag in words) for words in predictor.tags(texts)]
    return _print("text", shown, ["tags"], [(line,) for line in tagged])


def _print_best(predictor: Predictor, kind: str, inputs: Sequence, shown: Sequence[str], *, top: int) -> None:
    places = [f"{place}." for place in range(1, min(top, len(predictor.classes)) + 1)]
    best = predictor.best(inputs, top=top)
    _print(kind, shown, places, [[f"{name} {probability:.1%}" for name, probability in row] for row in best])


def _print(kind: str, shown: Sequence[str], columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    table = Table(kind, *columns)
    for name, cells in zip(shown, rows, strict=True):
        table.add_row(escape(name), *map(escape, cells))
    out.print(table)


def _shown(text: str | tuple[str, str]) -> str:
    first, *second = (text,) if isinstance(text, str) else text
    line = " ".join(first.split())
    line = line if len(line) <= 60 else f"{line[:57]}..."
    return " | ".join([line, *second])
