"""Names: those of layers say their group ('stem_*', 'stage3_*', 'block7_*', 'neck_*', 'head_*'); and misspelt ones.

A tower may stand before a group, as in 'image.block7_norm'.
"""

from __future__ import annotations

import difflib
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


def taps(
    model: keras.Model, groups: Iterable[str] | None = None, *, strides: Iterable[int] | None = None
) -> keras.Model:
    """A model with the same inputs that returns {group: output at the end of the group}.

    Feature maps are (B, H, W, C), token sequences (B, T, D). With `strides`, such as (4, 8, 16, 32), it returns
    {"stride4": map, ...} instead, for a detector or a segmenter: of all stem, stage and block groups that end in a
    map whose pixels are so many pixels of the image apart, the last. The layers are shared with `model`.

    Raises:
        ValueError: a group or a stride is not in the model; the message lists those that are.
    """
    import keras

    known = {name: layers[-1].output for name, layers in layer_groups(model).items()}
    chosen = tuple(known) if groups is None else tuple(groups)
    if strides is not None:
        if groups is not None:
            raise ValueError("taps() takes groups or strides, not both.")
        known = _levels(model)
        chosen = tuple(f"stride{stride}" for stride in strides)
    unknown = [name for name in chosen if name not in known]
    if unknown or not chosen:
        kind = "groups" if strides is None else "feature maps"
        raise ValueError(f"{model.name!r} has no {kind} {unknown}. It has: {', '.join(known) or 'none'}.")
    return keras.Model(model.input, {name: known[name] for name in chosen}, name=f"{model.name}_taps")


def _levels(model: keras.Model) -> dict[str, keras.KerasTensor]:
    """{"stride4": the last feature map of that stride at the end of a group, ...}, in order of the strides."""
    import keras

    apart: dict[int, int] = {}  # pixels of the image between those of a tensor, by the tensor's id
    for layer in model.layers:
        before = max((apart.get(id(tensor), 1) for tensor in keras.tree.flatten(layer.input)), default=1)
        step = getattr(layer, "strides", 1)
        after = before * (step if isinstance(step, int) else max(step))
        apart.update({id(tensor): after for tensor in keras.tree.flatten(layer.output)})
    ends = {name: layers[-1].output for name, layers in layer_groups(model).items()}
    maps = [end for name, end in ends.items() if len(end.shape) == 4 and not re.search(r"(^|\.)(neck|head)$", name)]
    return {f"stride{apart[id(end)]}": end for end in sorted(maps, key=lambda end: apart[id(end)])}


def nearest(name: str, known: Iterable[object]) -> str:
    """' Did you mean ...?' with the known names that are close; nothing if none is."""
    close = difflib.get_close_matches(name, list(map(str, known)), n=3)
    return f" Did you mean {' or '.join(map(repr, close))}?" if close else ""


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
