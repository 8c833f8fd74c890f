"""Layer names are the layer groups: 'stem_*', 'stage3_*', 'block7_*', 'neck_*', 'head_*', with an optional tower."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import keras

GRAMMAR = re.compile(r"(?:(?P<tower>[a-z]+)\.)?(?P<group>stem|stage\d+|block\d+|neck|head)(?:_.+)?")


def layer_groups(model: keras.Model) -> dict[str, list[keras.layers.Layer]]:
    """The layers of each group that has weights, from input to output.

    A group is what comes before the first underscore of a layer's name: 'stem', 'stage3', 'block7',
    'neck', 'head', with its tower if there is one: 'image.block7'.

    Raises:
        ValueError: a layer's name is outside the grammar, so the model is not one of the zoo's.
    """
    groups: dict[str, list[keras.layers.Layer]] = {}
    for layer in model.layers:
        if not _is_input(layer):
            groups.setdefault(_group(layer.name, model.name), []).append(layer)
    return {name: layers for name, layers in groups.items() if any(layer.weights for layer in layers)}


def taps(model: keras.Model, groups: Iterable[str] | None = None) -> keras.Model:
    """A model with the same inputs that returns {group: output at the end of the group}.

    Feature maps are (B, H, W, C), token sequences (B, T, D). The layers are shared with `model`.

    Raises:
        ValueError: a group is not in the model; the message lists those that are.
    """
    import keras

    known = layer_groups(model)
    chosen = tuple(known) if groups is None else tuple(groups)
    unknown = [name for name in chosen if name not in known]
    if unknown or not chosen:
        raise ValueError(f"{model.name!r} has no groups {unknown}. It has: {', '.join(known)}.")
    outputs = {name: known[name][-1].output for name in chosen}
    return keras.Model(model.input, outputs, name=f"{model.name}_taps")


def _group(name: str, model: str) -> str:
    match = GRAMMAR.fullmatch(name)
    if not match:
        raise ValueError(
            f"Layer {name!r} of {model!r} is outside the naming grammar of the zoo "
            "([tower.]stem|stage<N>|block<N>|neck|head[_rest]). For models that do not follow it, "
            "give the groups as lists of layers: fit(..., groups=[[...], [...]])."
        )
    return ".".join(filter(None, match.group("tower", "group")))


def _is_input(layer: keras.layers.Layer) -> bool:
    import keras

    return isinstance(layer, keras.layers.InputLayer)
