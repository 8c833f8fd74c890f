"""DenseNet with bottlenecks and compression (DenseNet-BC). Paper: https://arxiv.org/abs/1608.06993."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import keras
from keras import layers

from zoo.core.family import Family, HubMatch, Pixels, Task
from zoo.layers.batch_norm import BatchNormalization
from zoo.layers.convolution import conv_bn
from zoo.layers.heads import logits
from zoo.layers.pixels import image_input
from zoo.weights import hub
from zoo.weights.curated import curated
from zoo.weights.dialect import KERAS, TORCH, Dialect, Rule


@dataclass(frozen=True)
class Config:
    """What the variants and the publishers differ in."""

    depths: tuple[int, ...]  # blocks in each stage
    growth: int = 32  # channels that a block adds; the stem has twice as many
    epsilon: float = 1e-5  # of the batch norms
    dropout: float = 0.0  # before the logits
    pixels: Pixels = Pixels()


def build(config: Config, *, task: Task, classes: int, name: str) -> keras.Model:
    """(B, H, W, 3) -> logits (B, classes), or the map (B, H/32, W/32, C) that the head would pool.

    Raises:
        ValueError: the images are too small.
    """
    _check_size(config)
    image, x = image_input(config.pixels)
    x = conv_bn(x, 2 * config.growth, 7, stride=2, name="stem_conv", epsilon=config.epsilon)
    x = layers.ZeroPadding2D(1, name="stage1_pool_pad")(x)  # zeros are right only because ReLU came before
    x = layers.MaxPooling2D(3, 2, name="stage1_pool")(x)
    for stage, depth in enumerate(config.depths, start=1):
        if stage > 1:
            x = _norm_act(x, config, name=f"stage{stage}_transition")
            x = layers.Conv2D(x.shape[-1] // 2, 1, use_bias=False, name=f"stage{stage}_transition_conv")(x)
            x = layers.AveragePooling2D(2, name=f"stage{stage}_transition_pool")(x)
        for block in range(depth):
            x = _block(x, config, name=f"stage{stage}_block{block}")
    x = _norm_act(x, config, name="neck")
    if task == "classify":
        x = layers.GlobalAveragePooling2D(name="head_pool")(x)
        if config.dropout:
            x = layers.Dropout(config.dropout, name="head_dropout")(x)
        x = logits(x, classes)
    return keras.Model(image, x, name=name)


def _block(x, config: Config, *, name: str):
    """The map and what two convolutions make of it: (B, H, W, C) -> (B, H, W, C + growth)."""
    y = _norm_act(x, config, name=name)
    y = conv_bn(y, 4 * config.growth, 1, name=f"{name}_conv1", epsilon=config.epsilon)
    y = layers.Conv2D(config.growth, 3, padding="same", use_bias=False, name=f"{name}_conv2")(y)
    return layers.Concatenate(name=f"{name}_out")([x, y])


def _norm_act(x, config: Config, *, name: str):
    x = BatchNormalization(epsilon=config.epsilon, momentum=0.9, name=f"{name}_bn")(x)
    return layers.Activation("relu", name=f"{name}_act")(x)


def _check_size(config: Config) -> None:
    """The stem and its pooling round up when they halve, every transition rounds down."""
    smallest = 4 * (2 ** (len(config.depths) - 1) - 1) + 1
    if min(config.pixels.shape) < smallest:
        raise ValueError(f"size={config.pixels.size!r} is too small: it takes {smallest} pixels a side or more.")


def _from_hub(config: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]) -> HubMatch | None:
    """The variants have the names that timm and torchvision give them."""
    published = hub.published_image_model(config)
    if published is None or published.architecture not in FAMILY.variants:
        return None
    hub.torchvision_arguments(config, known=("drop_rate", "memory_efficient"))  # these change training alone
    found = replace(FAMILY.variants[published.architecture], pixels=published.pixels)
    return published.match(published.architecture, found, head=shapes.get("classifier.weight"))


_BLOCK = r"stage(\d)_block(\d+)_(.+)"
_LAYERS = {  # of a block, at torchvision at first, and at Keras
    "bn": ("norm.1", "0_bn"),
    "conv1": ("conv.1", "1_conv"),
    "bn1": ("norm.2", "1_bn"),
    "conv2": ("conv.2", "2_conv"),
}


def _torch(*, dotted: bool) -> Dialect:
    """timm's and torchvision's names; torchvision's published files still have a dot within those of a block."""

    def block(match: re.Match[str]) -> str:
        name = _LAYERS[match[3]][0] if dotted else _LAYERS[match[3]][0].replace(".", "")
        return f"features.denseblock{match[1]}.denselayer{int(match[2]) + 1}.{name}"

    def transition(match: re.Match[str]) -> str:
        return f"features.transition{int(match[1]) - 1}.{'norm' if match[2] == 'bn' else 'conv'}"

    return Dialect(
        TORCH,
        (
            Rule("stem_conv", "features.conv0"),
            Rule("stem_bn", "features.norm0"),
            Rule(_BLOCK, block),
            Rule(r"stage(\d)_transition_(bn|conv)", transition),
            Rule("neck_bn", "features.norm5"),
            Rule("head_logits", "classifier"),
        ),
    )


def _keras_block(match: re.Match[str]) -> str:
    """Stages count from 2 there, blocks from 1."""
    return f"conv{int(match[1]) + 1}_block{int(match[2]) + 1}_{_LAYERS[match[3]][1]}"


_KERAS = Dialect(
    KERAS,
    (
        Rule("stem_(conv|bn)", r"conv1_\1"),
        Rule(_BLOCK, _keras_block),
        Rule(r"stage(\d)_transition_(bn|conv)", r"pool\1_\2"),
        Rule("neck_bn", "bn"),
        Rule("head_logits", "predictions"),
    ),
    overrides={"pixels": Pixels(), "epsilon": 1.001e-5},
)

FAMILY = Family(
    paper="https://arxiv.org/abs/1608.06993",
    build=build,
    variants={
        "densenet121": Config((6, 12, 24, 16)),
        "densenet161": Config((6, 12, 36, 24), growth=48),
        "densenet169": Config((6, 12, 32, 32)),
        "densenet201": Config((6, 12, 48, 32)),
    },
    conventions=("pixels", "epsilon"),
    dialects={"torch": _torch(dotted=False), "torch_dotted": _torch(dotted=True), "keras": _KERAS},
    pretrained=curated("densenet"),
    from_hub=_from_hub,
)
