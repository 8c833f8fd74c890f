"""ResNet, wide ResNet, ResNeXt, and the "d" form with a deep stem.

Papers: https://arxiv.org/abs/1512.03385, 1605.07146, 1611.05431, 1812.01187.

Differs from the first paper: bottlenecks stride in the 3x3 convolution (v1.5); the paper strides the 1x1
convolution before it (stride_in_3x3=False, as keras.applications does).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import keras
from keras import layers

from zoo.core.family import Family, HubMatch, Pixels, Task
from zoo.layers.convolution import conv_bn
from zoo.layers.heads import logits
from zoo.layers.pixels import image_input
from zoo.layers.regularization import StochasticDepth, depth_rates
from zoo.weights import hub
from zoo.weights.curated import curated
from zoo.weights.dialect import KERAS, TORCH, Dialect, Rule, rgb_from_bgr


@dataclass(frozen=True)
class Config:
    """What the variants and the publishers differ in."""

    depths: tuple[int, ...]  # blocks in each stage
    bottleneck: bool
    width: int = 64  # channels of the first stage; each stage doubles them
    inner_ratio: int = 1  # multiplies the channels inside of bottlenecks
    groups: int = 1  # of the 3x3 convolution of bottlenecks
    stem: tuple[int, ...] = ()  # channels of 3x3 convolutions in place of the 7x7 one
    pooled_shortcut: bool = False  # a shortcut halves its map by averages, and not by the stride of its convolution
    stride_in_3x3: bool = True
    conv_bias: bool = False
    epsilon: float = 1e-5  # of the batch norms
    stochastic_depth: float = 0.0  # share of images that skip the last block; those before it grow to that from 0
    dropout: float = 0.0  # before the logits
    pixels: Pixels = Pixels()


def build(config: Config, *, task: Task, classes: int, name: str) -> keras.Model:
    """(B, H, W, 3) -> logits (B, classes), or the map (B, H/32, W/32, C) that the head would pool."""
    image, x = image_input(config.pixels)
    x = _stem(x, config)
    x = layers.ZeroPadding2D(1, name="stage1_pool_pad")(x)  # zeros are right only because ReLU came before
    x = layers.MaxPooling2D(3, 2, name="stage1_pool")(x)
    rates = iter(depth_rates(config.stochastic_depth, sum(config.depths)))
    for stage, depth in enumerate(config.depths, start=1):
        for block in range(depth):
            options = {"stride": 2 if block == 0 and stage > 1 else 1, "stochastic_depth": next(rates)}
            x = _residual(x, config, config.width * 2 ** (stage - 1), name=f"stage{stage}_block{block}", **options)
    if task == "classify":
        x = layers.GlobalAveragePooling2D(name="head_pool")(x)
        if config.dropout:
            x = layers.Dropout(config.dropout, name="head_dropout")(x)
        x = logits(x, classes)
    return keras.Model(image, x, name=name)


def _stem(x, config: Config):
    """(B, H, W, 3) -> (B, H/2, W/2, C)."""
    numerics = _numerics(config)
    if not config.stem:
        return conv_bn(x, config.width, 7, stride=2, name="stem_conv", **numerics)
    for index, filters in enumerate(config.stem, start=1):
        x = conv_bn(x, filters, 3, stride=2 if index == 1 else 1, name=f"stem_conv{index}", **numerics)
    return x


def _residual(x, config: Config, filters: int, *, stride: int, stochastic_depth: float, name: str):
    """One residual block: (B, H, W, C) -> (B, H/stride, W/stride, filters or 4 * filters)."""
    numerics = _numerics(config)
    out = filters * (4 if config.bottleneck else 1)
    shortcut = x
    if stride > 1 or x.shape[-1] != out:
        shortcut = _shortcut(x, config, out, stride=stride, name=f"{name}_shortcut")
    if config.bottleneck:
        first, second = (1, stride) if config.stride_in_3x3 else (stride, 1)
        inner = filters * config.inner_ratio
        x = conv_bn(x, inner, 1, stride=first, name=f"{name}_conv1", **numerics)
        x = conv_bn(x, inner, 3, stride=second, groups=config.groups, name=f"{name}_conv2", **numerics)
        x = conv_bn(x, out, 1, name=f"{name}_conv3", activation=None, **numerics)
    else:
        x = conv_bn(x, filters, 3, stride=stride, name=f"{name}_conv1", **numerics)
        x = conv_bn(x, out, 3, name=f"{name}_conv2", activation=None, **numerics)
    if stochastic_depth:
        x = StochasticDepth(stochastic_depth, name=f"{name}_drop")(x)
    x = layers.Add(name=f"{name}_add")([shortcut, x])
    return layers.Activation("relu", name=f"{name}_out")(x)


def _shortcut(x, config: Config, filters: int, *, stride: int, name: str):
    """What a block adds where its input has another shape: (B, H, W, C) -> (B, H/stride, W/stride, filters)."""
    if config.pooled_shortcut and stride > 1:
        # at odd sizes "same" averages the last row and column over the pixels that are there, as the publisher does
        x = layers.AveragePooling2D(2, stride, "same", name=f"{name}_pool")(x)
        stride = 1
    return conv_bn(x, filters, 1, stride=stride, name=f"{name}_conv", activation=None, **_numerics(config))


def _numerics(config: Config) -> dict[str, Any]:
    return {"bias": config.conv_bias, "epsilon": config.epsilon}


def _from_hub(config: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]) -> HubMatch | None:
    """The variants have the names that timm and torchvision give them."""
    published = hub.published_image_model(config)
    if published is None or published.architecture not in FAMILY.variants:
        return None
    hub.torchvision_arguments(config)
    found = replace(FAMILY.variants[published.architecture], pixels=published.pixels)
    return published.match(published.architecture, found, head=shapes.get("fc.weight"))


def _torch(shortcut: int) -> Dialect:
    """`shortcut` is the place of the convolution in a shortcut: 0, or 1 where a pooling stands before it."""
    block = r"stage(\d)_block(\d+)_"
    return Dialect(
        TORCH,
        (
            Rule("stem_conv", "conv1"),
            Rule("stem_bn3?", "bn1"),
            Rule(r"stem_conv(\d)", lambda match: f"conv1.{3 * int(match[1]) - 3}"),
            Rule(r"stem_bn(\d)", lambda match: f"conv1.{3 * int(match[1]) - 2}"),
            Rule(block + r"(conv|bn)(\d)", r"layer\1.\2.\3\4"),
            Rule(block + "shortcut_conv", rf"layer\1.\2.downsample.{shortcut}"),
            Rule(block + "shortcut_bn", rf"layer\1.\2.downsample.{shortcut + 1}"),
            Rule("head_logits", "fc"),
        ),
    )


_KERAS_BLOCK = r"stage(\d)_block(\d+)_"


def _keras_block(match: re.Match[str]) -> str:
    """Stages count from 2 there, blocks from 1."""
    return f"conv{int(match[1]) + 1}_block{int(match[2]) + 1}"


_KERAS = Dialect(
    KERAS,
    (
        Rule("stem_conv", "conv1_conv", rgb_from_bgr),
        Rule("stem_bn", "conv1_bn"),
        Rule(_KERAS_BLOCK + r"(conv|bn)(\d)", lambda match: f"{_keras_block(match)}_{match[4]}_{match[3]}"),
        Rule(_KERAS_BLOCK + "shortcut_(conv|bn)", lambda match: f"{_keras_block(match)}_0_{match[3]}"),
        Rule("head_logits", "predictions"),
    ),
    overrides={
        "pixels": Pixels(mean=(123.68, 116.779, 103.939), std=(1.0, 1.0, 1.0)),
        "stride_in_3x3": False,
        "conv_bias": True,
        "epsilon": 1.001e-5,
    },
)

_BLOCKS = {  # in each stage
    18: (2, 2, 2, 2),
    26: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
    200: (3, 24, 36, 3),
}
_PLAIN = {depth: Config(blocks, bottleneck=depth not in (18, 34)) for depth, blocks in _BLOCKS.items()}


def _deep(config: Config) -> Config:
    return replace(config, stem=(32, 32, 64), pooled_shortcut=True)


FAMILY = Family(
    paper="https://arxiv.org/abs/1512.03385",
    build=build,
    variants={
        **{f"resnet{depth}": config for depth, config in _PLAIN.items()},
        **{f"resnet{depth}d": _deep(config) for depth, config in _PLAIN.items()},
        "wide_resnet50_2": replace(_PLAIN[50], inner_ratio=2),
        "wide_resnet101_2": replace(_PLAIN[101], inner_ratio=2),
        "resnext50_32x4d": replace(_PLAIN[50], inner_ratio=2, groups=32),
        "resnext50d_32x4d": replace(_deep(_PLAIN[50]), inner_ratio=2, groups=32),
        "resnext101_32x4d": replace(_PLAIN[101], inner_ratio=2, groups=32),
        "resnext101_32x8d": replace(_PLAIN[101], inner_ratio=4, groups=32),
        "resnext101_64x4d": replace(_PLAIN[101], inner_ratio=4, groups=64),
    },
    conventions=("pixels", "stride_in_3x3", "conv_bias", "epsilon"),
    dialects={"torch": _torch(0), "torch_pooled": _torch(1), "keras": _KERAS},
    pretrained=curated("resnet"),
    from_hub=_from_hub,
)
