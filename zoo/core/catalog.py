"""What `zoo list` and `zoo show` tell of each variant: Keras is not imported to read it.

What a graph tells stands in catalog.json, which `python -m zoo.core.catalog` writes anew after a change to a family;
what publishers tell stands in zoo/weights/curated.csv.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.core.cost import Sizes, export_sizes, macs
from zoo.core.registry import build, families, load_family
from zoo.core.skeleton import skeleton

if TYPE_CHECKING:
    from zoo.weights.curated import Published

PATH = Path(__file__).parents[1] / "catalog.json"


@dataclass(frozen=True)
class Entry:
    """One variant, as its family builds it for its usual task and classes.

    `parameters` counts the trainable ones, `macs` multiply-accumulates for one image, `sizes` the exports in bytes.
    `size` (height, width) is in pixels; images are resized so that the share `crop` of them is that.
    """

    name: str
    family: str
    paper: str
    tasks: tuple[str, ...]
    classes: int
    parameters: int
    macs: int
    sizes: Sizes
    size: tuple[int, int] | None  # None: takes no images
    crop: float | None
    interpolation: str | None
    tags: tuple[Published, ...] = ()

    @property
    def best(self) -> Published | None:
        """The tag with the highest published accuracy, if any has one."""
        measured = [tag for tag in self.tags if tag.top1 is not None]
        return max(measured, key=lambda tag: tag.top1 or 0, default=None)


def entries() -> tuple[Entry, ...]:
    """All variants with their tags, by family and in the order that each family declares them."""
    from zoo.weights.curated import published

    return tuple(
        Entry(
            **{
                **row,
                "tasks": tuple(row["tasks"]),
                "size": None if row["size"] is None else tuple(row["size"]),
                "sizes": Sizes(**row["sizes"]),
                "tags": tuple(line for line in published() if line.variant == row["name"]),
            }
        )
        for row in json.loads(PATH.read_text(encoding="utf-8"))
    )


def describe(variant: str, *, family: str) -> Entry:
    """The entry of one variant without its tags, from its family's declaration and its graph."""
    declared = load_family(family)
    config = declared.variants[variant]
    model = skeleton(lambda: build(declared, config, name=variant, task=None, classes=None))
    pixels = getattr(config, "pixels", None)
    return Entry(
        name=variant,
        family=family,
        paper=declared.paper,
        tasks=declared.tasks,
        classes=declared.classes,
        parameters=sum(math.prod(variable.shape) for variable in model.trainable_variables),
        macs=macs(model),
        sizes=export_sizes(model),
        size=None if pixels is None else pixels.shape,
        crop=None if pixels is None else pixels.crop,
        interpolation=None if pixels is None else pixels.interpolation,
    )


def write(path: Path = PATH) -> None:
    """Describe every variant of every family in a file of one line a variant."""
    described = (describe(variant, family=family) for family in families() for variant in load_family(family).variants)
    rows = ",\n".join(json.dumps(_row(entry), ensure_ascii=False) for entry in described)
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text(f"[\n{rows}\n]\n", encoding="utf-8")
    os.replace(partial, path)


def _row(entry: Entry) -> dict[str, object]:
    return {key: value for key, value in dataclasses.asdict(entry).items() if key != "tags"}


if __name__ == "__main__":
    write()
