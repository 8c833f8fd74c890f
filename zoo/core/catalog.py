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
from typing import TYPE_CHECKING, Literal

from zoo.core.cost import Sizes, export_sizes, macs
from zoo.core.registry import build, families, load_family
from zoo.core.skeleton import skeleton

if TYPE_CHECKING:
    import keras

    from zoo.weights.curated import Published

PATH = Path(__file__).parents[1] / "catalog.json"
LENGTH = 512  # tokens or steps that multiply-accumulates are counted for, where a model takes as many


Takes = Literal["images", "texts", "pairs", "series", "latents"]  # pairs: an image and a text

_TAKES: dict[str, Takes] = {"image": "images", "token_ids": "texts", "latent": "latents"}  # by the names of inputs


@dataclass(frozen=True)
class Entry:
    """One variant, as its family builds it for its usual task and classes.

    `parameters` counts the trainable ones, `macs` multiply-accumulates for one image or latent vector, or for one text
    or series of 512 steps (of `length`, if that is fewer), `sizes` the exports in bytes. `takes` is what the model is
    fed with.
    `size` (height, width) is in pixels; images are resized so that the share `crop` of them is that, by
    `resize` with or without their proportions. `length` is how many tokens fit at most.
    """

    name: str
    family: str
    paper: str
    tasks: tuple[str, ...]
    classes: int
    parameters: int
    macs: int
    sizes: Sizes
    takes: Takes
    length: int | None  # None: takes no texts, or texts of any length
    size: tuple[int, int] | None  # None: takes no images
    crop: float | None
    interpolation: str | None
    resize: str = "cover"
    tags: tuple[Published, ...] = ()

    @property
    def counted_length(self) -> int:
        """How many tokens or steps `macs` is for."""
        return min(LENGTH, self.length or LENGTH)

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
    takes = _takes(model)
    pixels = config.pixels if takes in ("images", "pairs") else None
    length = getattr(config, "length", None) if takes in ("texts", "pairs") else None
    return Entry(
        name=variant,
        family=family,
        paper=declared.paper,
        tasks=declared.tasks,
        classes=declared.classes,
        parameters=sum(math.prod(variable.shape) for variable in model.trainable_variables),
        macs=macs(model, length=min(LENGTH, length or LENGTH)),
        sizes=export_sizes(model),
        takes=takes,
        length=length,
        size=None if pixels is None else pixels.shape,
        crop=None if pixels is None else pixels.crop,
        interpolation=None if pixels is None else pixels.interpolation,
        resize="cover" if pixels is None else pixels.resize,
    )


def _takes(model: keras.Model) -> Takes:
    inputs = model.input if isinstance(model.input, dict) else {model.input.name: model.input}
    if {"image", "token_ids"} <= set(inputs):
        return "pairs"
    for name, takes in _TAKES.items():
        if name in inputs:
            return takes
    return "series"


def write(path: Path = PATH) -> None:
    """Describe every variant of every family in a file of one line a variant."""
    described = (describe(variant, family=family) for family in families() for variant in load_family(family).variants)
    rows = ",\n".join(json.dumps(_row(entry), ensure_ascii=False) for entry in described)
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text(f"[\n{rows}\n]\n", encoding="utf-8")
    os.replace(partial, path)


def _row(entry: Entry) -> dict[str, object]:
    row = {key: value for key, value in dataclasses.asdict(entry).items() if key != "tags"}
    return {key: value for key, value in row.items() if (key, value) != ("resize", "cover")}


if __name__ == "__main__":
    write()
