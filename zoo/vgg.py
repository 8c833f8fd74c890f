"""VGG with 11 to 19 layers, with and without batch norm. Paper: https://arxiv.org/abs/1409.1556.

Differs from the paper: batch norm in the "_bn" variants, and `head`, for images whose last map is not 7x7:
torchvision averages the map to 7x7 ("pooled"), timm slides the first dense layer over it as a convolution
and averages the answers ("sliding"), keras.applications has a dense layer of the map's size ("whole"; weights
fit one image size only). At 224 pixels the three are the same.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import accumulate, count, islice
from typing import Any, Literal, get_args

import keras
from keras import layers

from zoo.core.family import Family, HubMatch, Pixels, Task
from zoo.layers.convolution import conv_bn
from zoo.layers.dense_head import dense_head, pooled_to
from zoo.layers.heads import logits
from zoo.layers.pixels import image_input
from zoo.weights import hub
from zoo.weights.curated import curated
from zoo.weights.dialect import KERAS, TORCH, Dialect, Rule, channels_last, rgb_from_bgr

Head = Literal["pooled", "sliding", "whole"]
_CELLS = 7  # the dense layers were made for a map of 7x7


@dataclass(frozen=True)
class Config:
    """What the variants and the publishers differ in."""

    depths: tuple[int, ...]  # convolutions in each stage
    batch_norm: bool = False
    width: int = 64  # channels of the first stage; doubled in each, up to eight times as many
    hidden: int = 4096  # units of both dense layers before the logits
    head: Head = "pooled"
    dropout: float = 0.5  # after each dense layer
    pixels: Pixels = Pixels()


def build(config: Config, *, task: Task, classes: int, name: str) -> keras.Model:
    """(B, H, W, 3) -> logits (B, classes), or the map (B, H/32, W/32, 512) that the head would take.

    Raises:
        ValueError: `head` is unknown, or the image is too small for the stages.
    """
    _check(config, name)
    image, x = image_input(config.pixels)
    numbers = count(1)  # convolutions are counted through the network
    for stage, depth in enumerate(config.depths, start=1):
        filters = config.width * min(2 ** (stage - 1), 8)
        for number in islice(numbers, depth):
            x = _convolution(x, filters, name=f"stage{stage}_conv{number}", batch_norm=config.batch_norm)
        x = layers.MaxPooling2D(2, name=f"stage{stage}_pool")(x)
    if task == "classify" and config.head == "sliding":
        x = _sliding_head(x, config, classes)
    elif task == "classify":
        x = pooled_to(x, _CELLS, _CELLS) if config.head == "pooled" else x
        x = dense_head(x, classes, width=config.hidden, dropout=config.dropout, dropout_first=False)
    return keras.Model(image, x, name=name)


def _check(config: Config, name: str) -> None:
    if config.head not in get_args(Head):
        raise ValueError(f"head={config.head!r} is unknown here. Known: {', '.join(get_args(Head))}.")
    smallest = 2 ** len(config.depths)
    if min(config.pixels.shape) < smallest:
        height, width = config.pixels.shape
        raise ValueError(
            f"{name!r} halves an image {len(config.depths)} times: it takes at least {smallest} pixels on each side, "
            f"got {height}x{width}."
        )


def _convolution(x, filters: int, *, name: str, batch_norm: bool):
    """3x3 convolution with a bias, and ReLU: (B, H, W, C) -> (B, H, W, filters)."""
    if batch_norm:
        return conv_bn(x, filters, 3, bias=True, name=name)
    x = layers.Conv2D(filters, 3, padding="same", name=name)(x)
    return layers.Activation("relu", name=name.replace("conv", "act"))(x)


def _sliding_head(x, config: Config, classes: int):
    """The dense layers as convolutions, their answers averaged: (B, h, w, C) -> (B, classes)."""
    _, height, width, _ = x.shape
    if min(height, width) < _CELLS:
        x = pooled_to(x, max(_CELLS, height), max(_CELLS, width))
    for index, kernel in enumerate((_CELLS, 1), start=1):
        x = layers.Conv2D(config.hidden, kernel, name=f"head_conv{index}")(x)
        x = layers.Activation("relu", name=f"head_act{index}")(x)
        if index == 1 and config.dropout:
            x = layers.Dropout(config.dropout, name="head_dropout1")(x)
    x = layers.GlobalAveragePooling2D(name="head_pool")(x)
    if config.dropout:
        x = layers.Dropout(config.dropout, name="head_dropout2")(x)
    return logits(x, classes)


def _from_hub(config: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]) -> HubMatch | None:
    """timm and torchvision have the same names for the variants, and other heads."""
    published = hub.published_image_model(config)
    if published is None or published.architecture not in FAMILY.variants:
        return None
    hub.torchvision_arguments(config, known=("dropout",))
    head: Head = "sliding" if published.library == "timm" else "pooled"
    found = replace(FAMILY.variants[published.architecture], head=head, pixels=published.pixels)
    classifier = "head.fc.weight" if head == "sliding" else "classifier.6.weight"
    return published.match(published.architecture, found, head=shapes.get(classifier))


def _features(*, batch_norm: bool) -> tuple[Rule, ...]:
    """The sequence of torchvision and timm, where every convolution, norm, ReLU and pooling counts."""
    length = 3 if batch_norm else 2

    def position(match: re.Match[str]) -> int:
        stage, number = int(match[1]), int(match[2])
        return length * (number - 1) + stage - 1  # the convolutions before it, and the poolings

    return (
        Rule(r"stage(\d)_conv(\d+)", lambda match: f"features.{position(match)}"),
        Rule(r"stage(\d)_bn(\d+)", lambda match: f"features.{position(match) + 1}"),
    )


def _torchvision(*, batch_norm: bool) -> Dialect:
    head = (
        Rule("head_dense1", "classifier.0", channels_last(_CELLS, _CELLS)),
        Rule("head_dense2", "classifier.3"),
        Rule("head_logits", "classifier.6"),
    )
    return Dialect(TORCH, (*_features(batch_norm=batch_norm), *head), overrides={"head": "pooled"})


def _timm(*, batch_norm: bool) -> Dialect:
    head = (
        Rule("head_conv1", "pre_logits.fc1"),
        Rule("head_conv2", "pre_logits.fc2"),
        Rule("head_logits", "head.fc"),
    )
    return Dialect(TORCH, (*_features(batch_norm=batch_norm), *head), overrides={"head": "sliding"})


def _keras(depths: tuple[int, ...]) -> Dialect:
    """Convolutions are counted in each block there."""
    before = (0, *accumulate(depths))
    return Dialect(
        KERAS,
        (
            Rule("stage1_conv1", "block1_conv1", rgb_from_bgr),
            Rule(
                r"stage(\d)_conv(\d+)",
                lambda match: f"block{match[1]}_conv{int(match[2]) - before[int(match[1]) - 1]}",
            ),
            Rule("head_dense1", "fc1"),
            Rule("head_dense2", "fc2"),
            Rule("head_logits", "predictions"),
        ),
        overrides={"head": "whole", "pixels": Pixels(mean=(123.68, 116.779, 103.939), std=(1.0, 1.0, 1.0))},
    )


_DEPTHS = {
    "vgg11": (1, 1, 2, 2, 2),
    "vgg13": (2, 2, 2, 2, 2),
    "vgg16": (2, 2, 3, 3, 3),
    "vgg19": (2, 2, 4, 4, 4),
}

FAMILY = Family(
    paper="https://arxiv.org/abs/1409.1556",
    build=build,
    variants={
        **{name: Config(depths) for name, depths in _DEPTHS.items()},
        **{f"{name}_bn": Config(depths, batch_norm=True) for name, depths in _DEPTHS.items()},
    },
    conventions=("pixels", "head"),
    dialects={
        "torchvision": _torchvision(batch_norm=False),
        "torchvision_bn": _torchvision(batch_norm=True),
        "timm": _timm(batch_norm=False),
        "timm_bn": _timm(batch_norm=True),
        "keras_vgg16": _keras(_DEPTHS["vgg16"]),
        "keras_vgg19": _keras(_DEPTHS["vgg19"]),
    },
    pretrained=curated("vgg"),
    from_hub=_from_hub,
)
