"""What `zoo predict` prints: classes of images and texts, tags of words, answers to questions."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from rich.markup import escape
from rich.table import Table

from pipelines.commands.terminal import out
from pipelines.predict import ImagePredictor, Predictor

THRESHOLD = 0.5  # the probability from which a label of several is named


def print_answers(
    predictor: Predictor,
    inputs: Sequence[str],
    second: Sequence[str] | None,
    *,
    top: int,
    cut: bool,
    threshold: float | None = None,
) -> None:
    """A line for each input; `second` holds the second text, or the question, to each.

    Raises:
        FileNotFoundError: an image is not there.
        ValueError: an input is none that the model takes, or an option is of another kind of model.
    """
    if threshold is not None and getattr(predictor, "task", None) != "multi_label":
        raise ValueError("--threshold is for models of images with several labels, and this is none.")
    if isinstance(predictor, ImagePredictor):
        if second or cut:
            raise ValueError("--second and --cut are for texts, and this is a model of images.")
        return _print_images(predictor, inputs, top=top, threshold=THRESHOLD if threshold is None else threshold)
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


def _print_images(predictor: ImagePredictor, inputs: Sequence[str], *, top: int, threshold: float) -> None:
    if predictor.task == "regress":
        rows = [[f"{value:.4g}" for value in row] for row in predictor.values(inputs)]
        return _print("image", inputs, predictor.targets, rows)
    if predictor.task != "multi_label":
        return _print_best(predictor, "image", inputs, inputs, top=top)
    labels = predictor.labels(inputs, threshold=threshold)
    named = [", ".join(f"{name} {share:.1%}" for name, share in row) or "none" for row in labels]
    _print("image", inputs, [f"labels of {threshold:.0%} or more"], [(line,) for line in named])


def _print_best(predictor: Predictor, kind: str, inputs: Sequence, shown: Sequence[str], *, top: int) -> None:
    print_ranked(kind, shown, predictor.best(inputs, top=top))


def print_ranked(kind: str, shown: Sequence[str], best: Sequence[Sequence[tuple[str, float]]]) -> None:
    """The most probable classes of each input, best first."""
    places = [f"{place}." for place in range(1, max(map(len, best), default=0) + 1)]
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
