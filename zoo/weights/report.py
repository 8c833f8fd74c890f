"""Many names in few words, for error messages."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

Rows = tuple[tuple[str, ...], ...]  # the indices in each of several names that are equal but for them

_LONGEST = 100  # characters of a name: a damaged file can hold any
_NAME = re.compile(r"(?P<module>.*[/.])?(?P<leaf>[^/.]*)", re.DOTALL)


def fold(names: Iterable[str], limit: int = 6) -> str:
    """Names with their indices and leaves folded: 'stage{1..4}_block*_bn1/{gamma,beta} (32), head_logits/bias'.

    A star stands for indices that are not the same everywhere, as where stages differ in depth.
    """
    kinds: dict[tuple[tuple[str, ...], str], list[tuple[str, ...]]] = {}  # (texts between indices, leaf) -> rows
    for name in names:
        module, leaf = _split(name)
        kinds.setdefault((tuple(re.split(r"[0-9]+", module)), leaf), []).append(tuple(re.findall(r"[0-9]+", module)))
    leaves: dict[tuple[tuple[str, ...], Rows], list[str]] = {}
    for (texts, leaf), rows in kinds.items():
        leaves.setdefault((texts, tuple(rows)), []).append(leaf)
    folded = [_fold_kind(texts, rows, found) for (texts, rows), found in leaves.items()]
    rest = len(folded) - limit
    return ", ".join(folded[:limit]) + (f" and {rest} more" if rest > 0 else "")


def _split(name: str) -> tuple[str, str]:
    """'bn1/gamma' -> 'bn1/', 'gamma'; a last part with digits is no leaf."""
    match = _NAME.fullmatch(name)
    if match is None or match["module"] is None or re.search("[0-9]", match["leaf"]):
        return name, ""
    return match["module"], match["leaf"]


def _fold_kind(texts: Sequence[str], rows: Rows, leaves: Sequence[str]) -> str:
    leaf = leaves[0] if len(leaves) == 1 else f"{{{','.join(leaves)}}}"
    marks = [*_marks(sorted(set(rows))), leaf]
    whole = "".join(text + mark for text, mark in zip(texts, marks, strict=True))
    shown = whole if whole.isprintable() else ascii(whole)[1:-1]
    shown = shown if len(shown) <= _LONGEST else f"{shown[:_LONGEST]}..."
    count = len(rows) * len(leaves)
    return shown if count == 1 else f"{shown} ({count})"


def _marks(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """One mark a column of indices: the number itself, a range, or a star."""
    marks: list[str] = []
    dependent = False  # a column was shown as a range although others depend on it
    for place, column in enumerate(zip(*rows, strict=True)):
        values = sorted(set(column), key=lambda digits: (len(digits), digits))
        others = {row[:place] + row[place + 1 :] for row in rows}
        independent = len(values) * len(others) == len(rows)
        marks.append(_range(values) if independent or not dependent else "*")
        dependent = dependent or not independent
    return marks


def _range(values: Sequence[str]) -> str:
    if len(values) == 1:
        return values[0]
    gapless = len(values[-1]) < 10 and int(values[-1]) - int(values[0]) == len(values) - 1
    listed = f"{values[0]}..{values[-1]}" if gapless else ",".join(values[:8])
    return f"{{{listed}}}" if gapless or len(values) <= 8 else f"{{{listed},...}}"
