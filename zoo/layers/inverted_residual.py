"""Depthwise-separable blocks with and without expansion, their scaling, and their names at timm and torchvision."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from keras import layers

from zoo.layers.convolution import conv_bn
from zoo.weights.dialect import Rule


@dataclass(frozen=True)
class Stage:
    """Blocks of one resolution; only the first of them strides.

    "separable" is a depthwise and a 1x1 convolution, both activated (MobileNet V1). "inverted" expands,
    convolves depthwise and projects to a linear bottleneck, with a residual (V2). "convolution" is 1x1.
    """

    kind: Literal["separable", "inverted", "convolution"]
    blocks: tuple[tuple[int, float, int], ...]  # (how many, expansion of the channels that come in, channels)
    stride: int = 1
    kernel: int = 3
    squeeze: bool = False  # squeeze and excitation
    activation: str = "relu6"

    def rows(self, depth: float) -> Iterator[tuple[float, int]]:
        """(expansion, channels) of each block; `depth` multiplies the last kind of block first."""
        published = sum(count for count, _, _ in self.blocks)
        scaled = math.ceil(published * depth)
        counts = []
        for count, _, _ in reversed(self.blocks):
            counts.append(max(1, round(count / published * scaled)))
            published, scaled = published - count, scaled - counts[-1]
        for count, (_, expansion, filters) in zip(reversed(counts), self.blocks, strict=True):
            yield from [(expansion, filters)] * count


@dataclass(frozen=True)
class Block:
    """One block of a network with its numbers worked out."""

    name: str
    stage: Stage
    stride: int
    expanded: int | None  # channels between expansion and projection; None where there is no expansion
    filters: int


def inverted_residual(x, block: Block, **numerics: Any):
    """One block of any kind: (B, H, W, C) -> (B, H/stride, W/stride, filters).

    The convolutions of a block are numbered in order: name_expand_conv1, name_depthwise_conv2,
    name_project_conv3. `numerics` are the padding and epsilon of `conv_bn`.
    """
    stage, name, shortcut = block.stage, block.name, x
    options = {**numerics, "activation": stage.activation}
    if stage.kind == "convolution":
        return conv_bn(x, block.filters, 1, stride=block.stride, name=f"{name}_conv", **options)
    position = 1
    if block.expanded:
        x = conv_bn(x, block.expanded, 1, name=f"{name}_expand_conv{position}", **options)
        position += 1
    depthwise = f"{name}_depthwise_conv{position}"
    x = conv_bn(x, x.shape[-1], stage.kernel, stride=block.stride, depthwise=True, name=depthwise, **options)
    if stage.squeeze:
        x = squeeze_excite(x, name=f"{name}_squeeze")
    if stage.kind == "inverted":
        options["activation"] = None
    x = conv_bn(x, block.filters, 1, name=f"{name}_project_conv{position + 1}", **options)
    if stage.kind == "inverted" and block.stride == 1 and shortcut.shape[-1] == block.filters:
        x = layers.Add(name=f"{name}_add")([shortcut, x])
    return x


def squeeze_excite(x, *, name: str):
    """Channels weighted by what the whole map holds: (B, H, W, C) -> (B, H, W, C)."""
    channels = x.shape[-1]
    y = layers.GlobalAveragePooling2D(keepdims=True, name=f"{name}_pool")(x)
    y = layers.Conv2D(eights(channels // 4), 1, activation="relu", name=f"{name}_reduce")(y)
    y = layers.Conv2D(channels, 1, activation="hard_sigmoid", name=f"{name}_expand")(y)
    return layers.Multiply(name=f"{name}_scale")([x, y])


def eights(channels: float) -> int:
    """The nearest multiple of 8 that is not more than a tenth below."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded


def timm_rules() -> Iterator[Rule]:
    """The rules of timm's blocks: stages count from 0 there, and norms are numbered as our convolutions are."""
    names = {
        "conv": "conv",
        "bn": "bn1",
        "expand_conv1": "conv_pw",
        r"depthwise_conv\d": "conv_dw",
        "project_conv2": "conv_pw",
        "project_conv3": "conv_pwl",
        r"(?:expand|depthwise|project)_bn(\d)": r"bn\3",
        "squeeze_(reduce|expand)": r"se.conv_\3",
    }
    for ours, theirs in names.items():
        yield Rule(
            rf"stage(\d+)_block(\d+)_{ours}",
            lambda match, theirs=theirs: f"blocks.{int(match[1]) - 1}.{match[2]}.{match.expand(theirs)}",
        )


def torchvision_rules(block: Block, module: str, *, inner: Literal["conv", "block"]) -> Iterator[Rule]:
    """The rules of one of torchvision's blocks, which counts its layers from 0 in a sequence called `inner`."""
    if block.stage.kind == "convolution":
        yield from (Rule(f"{block.name}_conv", f"{module}.0"), Rule(f"{block.name}_bn", f"{module}.1"))
        return
    parts = {"expand": block.expanded, "depthwise": True, "squeeze": block.stage.squeeze, "project": True}
    for position, part in enumerate(name for name, present in parts.items() if present):
        conv, bn = f"{module}.{inner}.{position}.0", f"{module}.{inner}.{position}.1"
        if part == "project" and inner == "conv":  # V2 does not nest its linear convolution
            conv, bn = f"{module}.conv.{position}", f"{module}.conv.{position + 1}"
        if part == "squeeze":
            yield Rule(f"{block.name}_squeeze_reduce", f"{module}.{inner}.{position}.fc1")
            yield Rule(f"{block.name}_squeeze_expand", f"{module}.{inner}.{position}.fc2")
        else:
            yield Rule(rf"{block.name}_{part}_conv\d", conv)
            yield Rule(rf"{block.name}_{part}_bn\d", bn)
