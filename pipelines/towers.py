"""Groups of a model of two towers: of both the layers that are equally far from where the towers meet."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import keras

    Groups = dict[str, list[keras.layers.Layer]]

TOWERS = ("image", "text")
_MET = ("image_embedding", "text_embedding")


def together(model: keras.Model, groups: Groups) -> Groups:
    """The groups as training goes through them: side by side from the output, where an image and a text tower meet.

    The last one is "head", with the projections of both towers and what compares them; before it
    "image.neck+text.neck", "image.block11+text.block11", and so on. Of towers that are not equally deep, the first
    groups of the deeper one stand alone. The groups of any other model stay as they are.
    """
    outputs = getattr(model, "output", None)  # Keras' sequential models have none
    if not isinstance(outputs, Mapping) or not set(_MET) <= set(outputs):
        return groups
    heads = [name for name in groups if name.rpartition(".")[2] == "head"]
    sides = [[name for name in groups if name.startswith(f"{tower}.") and name not in heads] for tower in TOWERS]
    if {*heads, *sides[0], *sides[1]} != set(groups):  # a third tower, or layers that are in none
        return groups
    pairs = itertools.zip_longest(*(reversed(side) for side in sides))
    rows = [tuple(name for name in pair if name) for pair in pairs][::-1]
    joined = {"+".join(names): [layer for name in names for layer in groups[name]] for names in rows}
    return joined | ({"head": [layer for name in heads for layer in groups[name]]} if heads else {})
