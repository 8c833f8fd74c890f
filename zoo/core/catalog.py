"""What `zoo list` and `zoo show` tell of each variant, from catalog.json: Keras is not imported to read it.

After a change to a family, `python -m zoo.core.catalog` writes the file anew.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
from dataclasses import dataclass
from pathlib import Path

from zoo.core.registry import build, families, load_family

PATH = Path(__file__).parents[1] / "catalog.json"


@dataclass(frozen=True)
class Tag:
    """One published checkpoint: `create(variant, weights=name)`. `classes` is None where it has no classifier."""

    name: str
    uri: str
    licence: str
    classes: int | None


@dataclass(frozen=True)
class Entry:
    """One variant. `parameters` counts the trainable ones with the family's usual classes; `size` is in pixels."""

    name: str
    family: str
    paper: str
    tasks: tuple[str, ...]
    classes: int
    parameters: int
    size: tuple[int, int] | None  # (height, width); None: takes no images
    tags: tuple[Tag, ...]


def entries() -> tuple[Entry, ...]:
    """All variants, by family and in the order that each family declares them."""
    return tuple(
        Entry(
            **{
                **row,
                "tasks": tuple(row["tasks"]),
                "size": None if row["size"] is None else tuple(row["size"]),
                "tags": tuple(Tag(**tag) for tag in row["tags"]),
            }
        )
        for row in json.loads(PATH.read_text(encoding="utf-8"))
    )


def describe(variant: str, *, family: str) -> Entry:
    """The entry of one variant, from its family's declaration and its graph. No weights are allocated."""
    import keras

    declared = load_family(family)
    config = declared.variants[variant]
    with keras.StatelessScope(initialize_variables=False):
        model = build(declared, config, name=variant, task=None, classes=None)
    pixels = getattr(config, "pixels", None)
    return Entry(
        name=variant,
        family=family,
        paper=declared.paper,
        tasks=declared.tasks,
        classes=declared.classes,
        parameters=sum(math.prod(variable.shape) for variable in model.trainable_variables),
        size=None if pixels is None else pixels.shape,
        tags=tuple(
            Tag(tag.rpartition(".")[2], entry.uri, entry.licence, entry.classes)
            for tag, entry in declared.pretrained.items()
            if tag.rpartition(".")[0] == variant
        ),
    )


def write(path: Path = PATH) -> None:
    """Describe every variant of every family in a file of one line a variant."""
    described = (describe(variant, family=family) for family in families() for variant in load_family(family).variants)
    rows = ",\n".join(json.dumps(dataclasses.asdict(entry), ensure_ascii=False) for entry in described)
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text(f"[\n{rows}\n]\n", encoding="utf-8")
    os.replace(partial, path)


if __name__ == "__main__":
    write()
