"""The blocks of mobile networks, with and without expansion, and how publishers scale them in width and depth."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from keras import layers

from zoo.layers.convolution import conv_bn
from zoo.layers.regularization import StochasticDepth

Kind = Literal["separable", "inverted", "fused", "convolution"]
Scaling = Literal["ratio", "nearest", "uniform", "keras"]


@dataclass(frozen=True)
class Squeeze:
    """Squeeze and excitation: what it is a quarter as wide as, and what follows its two convolutions."""

    of: Literal["input", "expanded"]  # the channels that come into the block, or those expanded, rounded to eights
    activation: str
    gate: str


@dataclass(frozen=True)
class Stage:
    """Blocks of one resolution; only the first of them strides.

    "separable" is a depthwise and a 1x1 convolution, both activated (MobileNet V1). "inverted" expands,
    convolves depthwise and projects to a linear bottleneck, with a residual (V2). "fused" expands with the
    convolution itself (EfficientNet V2). "convolution" is a single one, with a residual where that fits.
    """

    kind: Kind
    blocks: tuple[tuple[int, float, int], ...]  # (how many, expansion of the channels that come in, channels)
    stride: int = 1
    kernel: int = 3
    squeeze: Squeeze | None = None
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


def scaled_blocks(
    stages: Sequence[Stage], stem: tuple[int, int], *, width: float, depth: float, fixed_ends: bool, scaling: Scaling
) -> Iterator[Block]:
    """Every block of a network, scaled in width and depth.

    `stem` holds the channels of the first convolution at width 1 and as they are. `fixed_ends` spares the
    first and the last stage the scaling of their depth. `scaling` is the publisher's arithmetic: "ratio"
    expands scaled channels, "nearest" too but rounds them down as readily as up, "uniform" scales every
    published number; in that and in "keras" a single convolution widens the scaled channels.
    """
    published, channels = stem  # what comes in, at width 1 and scaled
    for number, stage in enumerate(stages, start=1):
        fixed = fixed_ends and number in (1, len(stages))
        for index, (expansion, filters) in enumerate(stage.rows(1.0 if fixed else depth)):
            scaled = eights(filters * width, nearest=scaling == "nearest")
            expanded = eights(channels * expansion)
            if scaling == "uniform":
                expanded = eights(round(published * expansion) * width)
            if scaling in ("uniform", "keras") and stage.kind == "convolution":
                scaled = expanded = eights(channels * expansion)
            yield Block(
                name=f"stage{number}_block{index}",
                stage=stage,
                stride=stage.stride if index == 0 else 1,
                expanded=None if expansion == 1 and stage.kind != "fused" else expanded,
                filters=scaled,
            )
            published, channels = filters, scaled


def inverted_residual(x, block: Block, *, stochastic_depth: float = 0.0, **numerics: Any):
    """One block of any kind: (B, H, W, C) -> (B, H/stride, W/stride, filters).

    The convolutions of a block are numbered in order: name_expand_conv1, name_depthwise_conv2,
    name_project_conv3. `stochastic_depth` is the share of images whose residual branch is dropped in
    training. `numerics` are the padding and epsilon of `conv_bn`.
    """
    stage, name, shortcut = block.stage, block.name, x
    options = {**numerics, "activation": stage.activation}
    if stage.kind == "convolution":
        x = conv_bn(x, block.filters, stage.kernel, stride=block.stride, name=f"{name}_conv", **options)
    elif stage.kind == "fused":
        fused = f"{name}_fused_expand_conv1"
        x = conv_bn(x, block.expanded, stage.kernel, stride=block.stride, name=fused, **options)
        x = conv_bn(x, block.filters, 1, name=f"{name}_fused_project_conv2", **{**options, "activation": None})
    else:
        x = _depthwise_separable(x, block, options)
    if stage.kind == "separable" or block.stride > 1 or shortcut.shape[-1] != block.filters:
        return x
    if stochastic_depth:
        x = StochasticDepth(stochastic_depth, name=f"{name}_drop")(x)
    return layers.Add(name=f"{name}_add")([shortcut, x])


def _depthwise_separable(x, block: Block, options: dict[str, Any]):
    """Expansion if there is one, depthwise convolution, squeeze and excitation if there is one, projection."""
    stage, name, position = block.stage, block.name, 1
    quarter = x.shape[-1] // 4 if stage.squeeze and stage.squeeze.of == "input" else None
    if block.expanded:
        x = conv_bn(x, block.expanded, 1, name=f"{name}_expand_conv{position}", **options)
        position += 1
    depthwise = f"{name}_depthwise_conv{position}"
    x = conv_bn(x, x.shape[-1], stage.kernel, stride=block.stride, depthwise=True, name=depthwise, **options)
    if stage.squeeze:
        after = {"activation": stage.squeeze.activation, "gate": stage.squeeze.gate}
        x = squeeze_excite(x, quarter, name=f"{name}_squeeze", **after)
    last = {**options, "activation": None} if stage.kind == "inverted" else options
    return conv_bn(x, block.filters, 1, name=f"{name}_project_conv{position + 1}", **last)


def squeeze_excite(x, squeezed: int | None = None, *, name: str, activation: str = "relu", gate: str = "hard_sigmoid"):
    """Channels weighted by what the whole map holds: (B, H, W, C) -> (B, H, W, C).

    `squeezed` are the channels between the two convolutions: a quarter of C, rounded to eights, unless given.
    """
    channels = x.shape[-1]
    y = layers.GlobalAveragePooling2D(keepdims=True, name=f"{name}_pool")(x)
    y = layers.Conv2D(squeezed or eights(channels // 4), 1, activation=activation, name=f"{name}_reduce")(y)
    y = layers.Conv2D(channels, 1, activation=gate, name=f"{name}_expand")(y)
    return layers.Multiply(name=f"{name}_scale")([x, y])


def eights(channels: float, *, nearest: bool = False) -> int:
    """The nearest multiple of 8, that is not more than a tenth below unless any `nearest` will do."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels and not nearest else rounded
