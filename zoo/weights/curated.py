"""The published checkpoints that are known by a tag, from curated.csv: one line a checkpoint.

A tag is pinned when its revision, a commit of the Hub, is known; `python -m zoo.weights.pin` asks the Hub for those
that are not.
"""

from __future__ import annotations

import csv
import dataclasses
import difflib
import functools
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from zoo.core.family import Pretrained

PATH = Path(__file__).with_name("curated.csv")
LICENCES = ("Apache-2.0", "BSD-3-Clause", "MIT")  # by their SPDX names; weights under others have no tag here


@dataclass(frozen=True)
class Published:
    """One line of curated.csv: a checkpoint, where it is, and what its publisher says of it.

    `sha256` is of the file, or of model.safetensors on the Hub. `classes` is None where it has no classifier.
    `top1` is the published accuracy on ImageNet in percent, at `top1_size` pixels.
    """

    family: str
    variant: str
    tag: str
    uri: str
    revision: str
    dialect: str
    sha256: str
    licence: str
    classes: int | None
    top1: float | None
    top1_size: int | None

    @property
    def name(self) -> str:
        """The whole name, 'resnet50.a1_in1k'."""
        return f"{self.variant}.{self.tag}"

    @property
    def address(self) -> str:
        """The URI with its revision, as `locate` takes it."""
        return f"{self.uri}@{self.revision}" if self.revision else self.uri

    @property
    def is_pinned(self) -> bool:
        """Whether it is the same file for everybody and for ever, as far as its place can promise that."""
        return bool(self.revision) or not self.uri.startswith("hf://")


@functools.cache
def published(path: Path = PATH) -> tuple[Published, ...]:
    """All lines of the table, in its order."""
    with path.open(encoding="utf-8", newline="") as stream:
        return tuple(_parsed(row) for row in csv.DictReader(stream))


def curated(family: str) -> dict[str, Pretrained]:
    """The checkpoints of a family by 'variant.tag', as in create(variant, weights=tag)."""
    return {
        line.name: Pretrained(
            line.address, line.licence, dialect=line.dialect or None, sha256=line.sha256, classes=line.classes
        )
        for line in published()
        if line.family == family
    }


def find_tag(name: str) -> Published:
    """The checkpoint of a whole name such as 'resnet50.a1_in1k'.

    Raises:
        ValueError: there is none; the message gives the tags of the variant, or the nearest names.
    """
    known = {line.name: line for line in published()}
    if name in known:
        return known[name]
    of_variant = [line.name for line in published() if line.variant in (name, name.partition(".")[0])]
    near = of_variant or difflib.get_close_matches(name, known, n=3)
    hint = f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
    raise ValueError(f"No checkpoint is known as {name!r}.{hint} A tag reads variant.tag; see: zoo show VARIANT.")


def to_csv(lines: Iterable[Published]) -> str:
    """The text of a table, as curated.csv holds it."""
    columns = [field.name for field in dataclasses.fields(Published)]
    rows = ([_text(getattr(line, column)) for column in columns] for line in lines)
    return "".join(",".join(cells) + "\n" for cells in (columns, *rows))


def _parsed(row: dict[str, str]) -> Published:
    numbers = {
        "classes": int(row["classes"]) if row["classes"] else None,
        "top1": float(row["top1"]) if row["top1"] else None,
        "top1_size": int(row["top1_size"]) if row["top1_size"] else None,
    }
    return Published(**{**row, **numbers})  # type: ignore[arg-type]  # the numbers take the place of their texts


def _text(value: str | float | None) -> str:
    return "" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
