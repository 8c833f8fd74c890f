"""CLIP: a Vision Transformer and a text transformer that meet in one space. Paper: https://arxiv.org/abs/2103.00020.

Differs from the paper: nothing in OpenAI's; LAION's (https://arxiv.org/abs/2212.07143) compute the exact GELU.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import keras
from keras import layers

from zoo import vit
from zoo.core.family import Family, HubMatch, Pixels, Task
from zoo.layers import clip_published, vit_published
from zoo.layers.contrast import EndToken, Similarity, UnitLength
from zoo.layers.heads import logits
from zoo.layers.text import text_inputs
from zoo.layers.tokens import LearnedPositions, TokenAt
from zoo.layers.transformer_block import Activation, TransformerBlock
from zoo.weights import hub_pairs
from zoo.weights.curated import curated
from zoo.weights.hub_text import Shapes, named_variant

PIXELS = hub_pairs.pixels(224)
TASKS: tuple[Task, ...] = ("contrast", "image_features", "text_features", "classify", "multi_label", "regress")
SIZES = (  # what tells a variant from the others
    *("patch", "width", "depth", "heads", "mlp_width", "text_width", "text_depth", "text_heads", "text_mlp_width"),
    *("projection", "activation", "pixels"),
)
CONVENTIONS = (
    *("pixels", "vocabulary", "length", "end"),
    *("activation", "text_activation", "epsilon", "text_epsilon"),
)


@dataclass(frozen=True)
class Config:
    """Sizes of the two towers, and what the publishers differ in."""

    patch: int  # pixels
    width: int  # of the image tower; 0: a checkpoint of the text tower alone
    depth: int  # blocks
    heads: int
    mlp_width: int
    text_width: int  # 0: a checkpoint of the image tower alone
    text_depth: int
    text_heads: int
    text_mlp_width: int
    projection: int  # width of the space that both meet in; 0: a checkpoint of one tower without its projection
    vocabulary: int = 49_408
    length: int = 77  # tokens
    end: int | None = None  # id of the token that stands for the whole text; None: the largest id in the text
    activation: Activation = "quick_gelu"
    text_activation: Activation = "quick_gelu"
    epsilon: float = 1e-5  # of the layer norms
    text_epsilon: float = 1e-5
    pixels: Pixels = PIXELS


def build(config: Config, *, task: Task, classes: int, name: str) -> keras.Model:
    """Images (N, H, W, 3) and tokens (M, T) -> what the task gives.

    contrast: {"image_embedding": (N, P), "text_embedding": (M, P), both of length 1, "logits": (N, M)};
    image_features and text_features: the one embedding of length 1, or without a projection what it would take;
    classify: logits (N, classes) of the image tower.
    """
    _check(config, task, name)
    if task == "contrast":
        (image, x), (text, y) = _image(config), _text(config)
        x, y = _embedding(x, config, tower="image"), _embedding(y, config, tower="text")
        scores = Similarity(name="head_similarity")(x, y)
        outputs = {"image_embedding": x, "text_embedding": y, "logits": scores}
        return keras.Model({"image": image, **text}, outputs, name=name)
    if task == "text_features":
        text, y = _text(config)
        return keras.Model(text, _embedding(y, config, tower="text"), name=name)
    image, x = _image(config)
    x = logits(x, classes) if task == "classify" else _embedding(x, config, tower="image")
    return keras.Model(image, x, name=name)


def _check(config: Config, task: Task, name: str) -> None:
    """Refuse a task whose tower is not there."""
    for there, other, kind in ((config.width, "text_features", "image"), (config.text_width, "image_features", "text")):
        if not there and task != other:
            raise ValueError(f"{name!r} has no {kind} tower, which task={task!r} needs. It can do task={other!r}.")
    if task == "contrast" and not config.projection:
        raise ValueError(f"{name!r}: projection=0 leaves images and texts in spaces of their own. Give their width.")


def _image(config: Config):
    """The input and the class token, normalized: (N, H, W, 3), (N, D)."""
    tower = vit.Config(
        config.patch,
        config.width,
        config.depth,
        config.heads,
        config.mlp_width,
        patch_bias=False,
        stem_norm=True,
        activation=config.activation,
        epsilon=config.epsilon,
        pixels=config.pixels,
    )
    image, x = vit.encode(tower, tower="image.")
    x = TokenAt(0, name="image.neck_token")(x)
    return image, layers.LayerNormalization(epsilon=config.epsilon, name="image.neck_norm")(x)


def _text(config: Config):
    """The inputs and the token that ends each text, normalized: (M, T), (M, D)."""
    inputs = text_inputs()
    drawn = keras.initializers.TruncatedNormal(stddev=0.02)
    embedding = layers.Embedding(config.vocabulary, config.text_width, drawn, name="text.stem_tokens")
    x = LearnedPositions(config.length, name="text.stem_positions")(embedding(inputs["token_ids"]))
    for block in range(config.text_depth):
        x = TransformerBlock(
            config.text_heads,
            config.text_mlp_width,
            causal=True,
            activation=config.text_activation,
            epsilon=config.text_epsilon,
            name=f"text.block{block}",
        )(x, padding_mask=inputs["padding_mask"])
    x = layers.LayerNormalization(epsilon=config.text_epsilon, name="text.neck_norm")(x)
    return inputs, EndToken(config.end, name="text.head_token")(x, inputs["token_ids"], inputs["padding_mask"])


def _embedding(x, config: Config, *, tower: str):
    if not config.projection:
        return x
    x = layers.Dense(config.projection, use_bias=False, name=f"{tower}.head_projection")(x)
    return UnitLength(name=f"{tower}.head_embedding")(x)


def _from_hub(config: Mapping[str, Any], shapes: Shapes) -> HubMatch | None:
    read = clip_published.read(config, shapes)
    if read is None:
        return None
    task, fields = read
    found = replace(FAMILY.variants["clip_vit_base32"], **fields)
    return HubMatch(named_variant(found, FAMILY.variants, SIZES, default="clip"), found, task)


def _sized(size: str, patch: int, text: tuple[int, int, int], **options: Any) -> Config:
    """A published one; `text` is width, blocks and heads of the text tower, and `projection` its width unless given."""
    width, depth, heads = text
    options = {"projection": width, **options}
    tower = vit_published.sized(size, patch)
    return Config(**tower, text_width=width, text_depth=depth, text_heads=heads, text_mlp_width=4 * width, **options)


_EXACT: dict[str, Any] = {"activation": "gelu", "text_activation": "gelu"}
_SMALL, _MEDIUM, _LARGE = (512, 12, 8), (768, 12, 12), (1024, 24, 16)

FAMILY = Family(
    paper="https://arxiv.org/abs/2103.00020",
    build=build,
    tasks=TASKS,
    variants={
        "clip_vit_base32": _sized("base", 32, _SMALL),
        "clip_vit_base16": _sized("base", 16, _SMALL),
        "clip_vit_large14": _sized("large", 14, _MEDIUM),
        "clip_vit_large14_336": _sized("large", 14, _MEDIUM, pixels=replace(PIXELS, size=336)),
        "clip_vit_base32_laion": _sized("base", 32, _SMALL, **_EXACT),
        "clip_vit_base16_laion": _sized("base", 16, _SMALL, **_EXACT),
        "clip_vit_large14_laion": _sized("large", 14, _MEDIUM, **_EXACT),
        "clip_vit_huge14_laion": _sized("huge", 14, _LARGE, **_EXACT),
        "clip_vit_giant14_laion": _sized("giant", 14, _LARGE, **_EXACT),
        "clip_vit_gigantic14_laion": _sized("gigantic", 14, (1280, 32, 20), **_EXACT),
    },
    conventions=CONVENTIONS,
    dialects=clip_published.DIALECTS,
    pretrained=curated("clip"),
    from_hub=_from_hub,
)
