"""Vision Transformer, DeiT and CLIP's image tower. Papers: https://arxiv.org/abs/2010.11929, 2012.12877, 2103.00020.

Differs from the papers: no hidden layer in the head, and no dropout inside the blocks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import keras
from keras import layers

from zoo.core.family import Family, HubMatch, Pixels, Task
from zoo.layers import vit_published
from zoo.layers.heads import logits
from zoo.layers.pixels import image_input
from zoo.layers.regularization import depth_rates
from zoo.layers.tokens import ClassToken, LearnedPositions, TokenAt
from zoo.layers.transformer_block import Activation, TransformerBlock
from zoo.weights.curated import curated

HALF = Pixels(crop=0.9, interpolation="bicubic", mean=(127.5,) * 3, std=(127.5,) * 3)
IMAGENET = Pixels(crop=0.9, interpolation="bicubic")
OPENAI = Pixels(
    crop=0.9,
    interpolation="bicubic",
    mean=(122.7709383, 116.7460125, 104.09373615),
    std=(68.5005327, 66.6321579, 70.32316305),
)


@dataclass(frozen=True)
class Config:
    """Sizes, and what the publishers differ in."""

    patch: int  # pixels
    width: int
    depth: int  # blocks
    heads: int
    mlp_width: int
    distilled: bool = False  # a second token, which learned from a teacher
    teacher_head: bool = True  # on the second token a second classifier, averaged with the first
    patch_bias: bool = True
    stem_norm: bool = False  # a layer norm before the first block, as in CLIP
    pooler: int = 0  # units of a tanh layer on the class token of task="features"; 0 for none
    qkv_bias: bool = True
    activation: Activation = "gelu"
    epsilon: float = 1e-6  # of the layer norms
    stochastic_depth: float = 0.0  # share of images that skip the last block; those before it grow to that from 0
    dropout: float = 0.0  # before the logits
    pixels: Pixels = HALF


def build(config: Config, *, task: Task, classes: int, name: str) -> keras.Model:
    """(B, H, W, 3) -> logits (B, classes), or tokens (B, T, D), and with a pooler a dict of tokens and pooled."""
    image, x = encode(config)
    x = layers.LayerNormalization(epsilon=config.epsilon, name="neck_norm")(x)
    if task == "classify":
        x = _classify(x, config, classes)
    elif config.pooler:
        pooled = layers.Dense(config.pooler, "tanh", name="head_pooler")(TokenAt(0, name="head_token")(x))
        x = {"tokens": x, "pooled": pooled}
    return keras.Model(image, x, name=name)


def encode(config: Config, *, tower: str = "") -> tuple[keras.KerasTensor, keras.KerasTensor]:
    """The input (B, H, W, 3) and the tokens (B, T, D) that leave the last block, the class token first.

    `tower` stands before the names of all layers: "image." in models that take texts too.
    """
    patches = _patches(config)
    image, x = image_input(config.pixels, tower=tower)
    cut = layers.Conv2D(
        config.width, config.patch, config.patch, use_bias=config.patch_bias, name=f"{tower}stem_patches"
    )
    x = layers.Reshape((patches, config.width), name=f"{tower}stem_tokens")(cut(x))
    if config.distilled:
        x = ClassToken(name=f"{tower}stem_distillation_token")(x)
    x = ClassToken(name=f"{tower}stem_class_token")(x)
    x = LearnedPositions(x.shape[1], name=f"{tower}stem_positions")(x)
    if config.stem_norm:
        x = layers.LayerNormalization(epsilon=config.epsilon, name=f"{tower}stem_norm")(x)
    for block, rate in enumerate(depth_rates(config.stochastic_depth, config.depth)):
        x = TransformerBlock(
            config.heads,
            config.mlp_width,
            activation=config.activation,
            epsilon=config.epsilon,
            qkv_bias=config.qkv_bias,
            stochastic_depth=rate,
            name=f"{tower}block{block}",
        )(x)
    return image, x


def _classify(x, config: Config, classes: int):
    """The class token's logits; for distilled models the mean with the distillation token's."""
    first = TokenAt(0, name="head_token")(x)
    if config.dropout:
        first = layers.Dropout(config.dropout, name="head_dropout")(first)
    if not (config.distilled and config.teacher_head):
        return logits(first, classes)
    second = TokenAt(1, name="head_token_distilled")(x)
    if config.dropout:
        second = layers.Dropout(config.dropout, name="head_dropout_distilled")(second)
    second = layers.Dense(classes, dtype="float32", name="head_logits_distilled")(second)
    return layers.Average(dtype="float32", name="head_mean")([logits(first, classes), second])


def _patches(config: Config) -> int:
    height, width = config.pixels.shape
    patches = (height // config.patch) * (width // config.patch)
    if not patches:
        raise ValueError(
            f"Images of {height} x {width} pixels hold no patch of {config.patch}. "
            f"Give a size of at least {config.patch}."
        )
    return patches


def _from_hub(config: Mapping[str, Any], shapes: vit_published.Shapes) -> HubMatch | None:
    found = vit_published.read(config, shapes)
    return found and HubMatch(found.variant, Config(**found.fields), found.task, found.classes)


def _sized(size: str, patch: int, **options: Any) -> Config:
    return Config(**vit_published.sized(size, patch), **options)


_PATCHES = {"tiny": (16,), "small": (8, 16, 32), "base": (8, 16, 32), "large": (14, 16, 32)}
_DEIT = ("tiny", "small", "base")
_CLIP = {"base": (16, 32), "large": (14,)}

FAMILY = Family(
    paper="https://arxiv.org/abs/2010.11929",
    build=build,
    variants={
        **{f"vit_{size}{patch}": _sized(size, patch) for size, patches in _PATCHES.items() for patch in patches},
        **{
            f"vit_{size}{patch}_clip": _sized(size, patch, pixels=OPENAI, **vit_published.CLIP)
            for size, patches in _CLIP.items()
            for patch in patches
        },
        **{f"deit_{size}16": _sized(size, 16, pixels=IMAGENET) for size in _DEIT},
        **{f"deit_{size}16_distilled": _sized(size, 16, distilled=True, pixels=IMAGENET) for size in _DEIT},
    },
    conventions=(
        "pixels",
        "teacher_head",
        "patch_bias",
        "stem_norm",
        "pooler",
        "qkv_bias",
        "activation",
        "epsilon",
    ),
    dialects=vit_published.DIALECTS,
    pretrained=curated("vit"),
    from_hub=_from_hub,
)
