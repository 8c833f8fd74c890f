"""What the config.json of a transformers model of images and texts says of its towers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from reprlib import repr as short
from typing import Any

import numpy as np

from zoo.core.family import Pixels, Resize
from zoo.weights import hub
from zoo.weights.dialect import Dialect
from zoo.weights.errors import CheckpointError
from zoo.weights.hub_text import Shapes, published_activation
from zoo.weights.layouts import Shape

Ask = Callable[[str, str, str], Shape]  # layer path, its class, its variable -> the shape that ours has; () if none

OPENAI_MEAN = (0.48145466, 0.4578275, 0.40821073)
OPENAI_STD = (0.26862954, 0.26130258, 0.27577711)


def pixels(size: int, *, resize: Resize = "cover") -> Pixels:
    """How CLIP's and BLIP's images look: by bicubic interpolation, of BLIP's all that there is to see."""
    mean, std = (tuple(255 * value for value in values) for values in (OPENAI_MEAN, OPENAI_STD))
    return Pixels(size=size, crop=1.0, interpolation="bicubic", mean=mean, std=std, resize=resize)


def part(config: Mapping[str, Any], key: str, *, defaults: Mapping[str, Any]) -> dict[str, Any]:
    """The part of config.json on one tower, "text_config" or "vision_config", or with "" all of it.

    What is absent or null is as in `defaults`, which transformers assumes. Where there is a part of the same name with
    _dict behind it, as old files have, that one counts.

    Raises:
        CheckpointError: it is no object.
    """
    found = (config.get(f"{key}_dict") or config.get(key) or {}) if key else config
    if not isinstance(found, Mapping):
        raise CheckpointError(f"config.json: {key}={short(found)} must be an object.")
    return {**defaults, **{name: value for name, value in found.items() if value is not None}}


def sizes(values: Mapping[str, Any]) -> dict[str, int]:
    """Width, depth, heads and width of the MLPs, by our names.

    Raises:
        CheckpointError: one is out of range, or the heads do not divide the width.
    """
    found = {
        "width": hub.whole(values, "hidden_size", 1, 16_384),
        "depth": hub.whole(values, "num_hidden_layers", 1, 256),
        "heads": hub.whole(values, "num_attention_heads", 1, 1_024),
        "mlp_width": hub.whole(values, "intermediate_size", 1, 65_536),
    }
    if found["width"] % found["heads"]:
        raise CheckpointError(f"config.json: hidden_size={found['width']} does not split into {found['heads']} heads.")
    return found


def image_tower(
    values: Mapping[str, Any], preprocessor: Mapping[str, Any], ask: Ask, *, resize: Resize = "cover"
) -> dict[str, Any]:
    """What config.json says of a Vision Transformer in a larger model, by our names, held against its tensors.

    `resize` is what its preprocessor does unless its file tells otherwise.

    Raises:
        CheckpointError: a value is out of range, not built here, or not borne out by the tensors.
    """
    usual = {"image_mean": OPENAI_MEAN, "image_std": OPENAI_STD, "resample": 3}
    size = hub.sides(values.get("image_size"), "image_size")
    described = {**values, "preprocessor": {**usual, **preprocessor}}
    patch = hub.sides(values.get("patch_size"), "patch_size")
    if not isinstance(patch, int):
        raise CheckpointError(f"config.json: patch_size={patch} is no square, and only squares are built here.")
    found: dict[str, Any] = {
        **sizes(values),
        "patch": patch,
        "activation": published_activation(values, "hidden_act"),
        "epsilon": hub.number(values, "layer_norm_eps", 1e-20, 0.1),
        "pixels": hub.transformers_pixels(described, size, resize=resize),
    }
    _, side, channels, width = ask("image.stem_patches", "Conv2D", "kernel") or (None,) * 4
    hub.agree("hidden_size of vision_config", found["width"], width)
    hub.agree("num_channels", found["pixels"].channels, channels)
    hub.agree("patch_size", patch, side)
    agree_blocks("vision_config", "image", found, ask)
    rows, columns = (side // patch for side in found["pixels"].shape)
    if not rows * columns:
        raise CheckpointError(f"config.json: an image of {found['pixels'].shape} pixels holds no patch of {patch}.")
    hub.agree("positions of an image", rows * columns + 1, first(ask("image.stem_positions", "", "table")))
    return found


def text_tower(values: Mapping[str, Any], ask: Ask, *, tower: str = "text") -> dict[str, Any]:
    """What config.json says of a tower of texts, by our names, held against its tensors.

    Raises:
        CheckpointError: a value is out of range, not built here, or not borne out by the tensors.
    """
    found: dict[str, Any] = {
        **sizes(values),
        "vocabulary": hub.whole(values, "vocab_size", 1, 2_000_000),
        "length": hub.whole(values, "max_position_embeddings", 1, 1_000_000),
        "activation": published_activation(values, "hidden_act"),
        "epsilon": hub.number(values, "layer_norm_eps", 1e-20, 0.1),
    }
    vocabulary, width = ask(f"{tower}.stem_tokens", "Embedding", "embeddings") or (None, None)
    hub.agree("vocab_size", found["vocabulary"], vocabulary)
    hub.agree("hidden_size of text_config", found["width"], width)
    hub.agree("max_position_embeddings", found["length"], first(ask(f"{tower}.stem_positions", "", "table")))
    agree_blocks("text_config", tower, found, ask)
    return found


def agree_blocks(part: str, tower: str, found: Mapping[str, Any], ask: Ask) -> None:
    """Refuse a depth or a width of the MLPs that the tensors do not bear out.

    Raises:
        CheckpointError: they disagree.
    """
    blocks = [ask(f"{tower}.block{block}/mlp_up", "Dense", "kernel") for block in range(found["depth"] + 1)]
    hub.agree(f"num_hidden_layers of {part}", found["depth"], sum(map(bool, blocks)))
    hub.agree(f"intermediate_size of {part}", found["mlp_width"], blocks[0][-1])


def asking(dialects: Iterable[Dialect], shapes: Shapes) -> Ask:
    """What the tensors tell, in the dialect that knows most of them."""

    def tell(dialect: Dialect, path: str, layer_class: str, variable: str) -> Shape:
        source = dialect.source(path, layer_class, variable)
        if source is None or not all(name in shapes for name in source.names):
            return ()
        try:
            return source.array([np.broadcast_to(np.float32(0), shapes[name]) for name in source.names], ()).shape
        except (ValueError, IndexError):  # no such layer has a tensor of this shape
            return ()

    def known(dialect: Dialect) -> int:
        return sum(
            bool(tell(dialect, f"{tower}.stem_positions", "", "table")) for tower in ("image", "text", "decoder")
        )

    return partial(tell, max(dialects, key=known))


def first(shape: Shape) -> int | None:
    """The first side of a shape, if it has any."""
    return next(iter(shape), None)


def saved_class(config: Mapping[str, Any]) -> str | None:
    """The name of the transformers class that a checkpoint was saved from, if config.json tells it.

    Raises:
        CheckpointError: `architectures` is no list of names.
    """
    names = config.get("architectures")
    if not names:
        return None
    if not isinstance(names, list) or not isinstance(names[0], str):
        raise CheckpointError(f"config.json: architectures={short(names)} must be a list of names.")
    return names[0]
