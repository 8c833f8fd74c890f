"""What GoogLeNet and Inception v3 are made of, as data, as layers, and by its names at torchvision and timm."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import keras
from keras import layers, ops

from zoo.layers.convolution import ConvNorm, Padding, conv_bn
from zoo.layers.dense_head import pooled_to
from zoo.weights.dialect import Rule


class Unit(NamedTuple):
    """A convolution, its batch norm and a ReLU."""

    filters: int
    kernel: int | tuple[int, int] = 1  # one side of a square, or (height, width)
    stride: int = 1
    padded: bool = True  # with kernel // 2 zeros on each side; else the map shrinks


@dataclass(frozen=True)
class Branch:
    """One way through a block: pooling if any, the units one after the other, then those of the fork side by side."""

    name: str
    units: tuple[Unit, ...] = ()
    fork: tuple[Unit, ...] = ()
    pool: Literal["max", "average"] | None = None  # 3x3, padded where the stride is 1; average: before one 1x1 unit
    stride: int = 1  # of the pooling

    def convolutions(self, block: str) -> Iterator[tuple[str, Unit]]:
        """The name of each convolution with its unit: 'conv' if it is the only one, else 'conv1', 'conv2', 'conv3a'."""
        alone = len(self.units) + len(self.fork) == 1
        for number, unit in enumerate(self.units, start=1):
            yield f"{block}_{self.name}_conv{'' if alone else number}", unit
        for letter, unit in zip("ab", self.fork, strict=False):
            yield f"{block}_{self.name}_conv{len(self.units) + 1}{letter}", unit


Block = tuple[Branch, ...]
AuxiliaryKind = Literal["dense", "convolution"]


def inception_block(x, block: Block, *, name: str, count_padding: bool, **numerics: Any):
    """The outputs of all branches, one after the other in the channels: (B, H, W, C) -> (B, H', W', sum of theirs).

    `count_padding` is whether average pooling divides by 9 at the edges too, where zeros are among the 9.
    `numerics` are the options of `convolution`.
    """
    ends = []
    for branch in block:
        y = x
        convolutions = tuple(branch.convolutions(name))
        if branch.pool == "average":
            ((path, unit),) = convolutions
            ends.append(PooledConvNorm(unit.filters, 1, count_padding=count_padding, name=path, **numerics)(x))
            continue
        if branch.pool:
            padding = "same" if branch.stride == 1 else "valid"
            y = layers.MaxPooling2D(3, branch.stride, padding, name=f"{name}_{branch.name}_max")(y)
        for path, unit in convolutions[: len(branch.units)]:
            y = convolution(y, unit, name=path, **numerics)
        forked = [convolution(y, unit, name=path, **numerics) for path, unit in convolutions[len(branch.units) :]]
        ends += forked or [y]
    return layers.Concatenate(name=f"{name}_out")(ends)


@keras.saving.register_keras_serializable("zoo")
class PooledConvNorm(ConvNorm):
    """3x3 average pooling, 1x1 convolution, batch norm, activation: (B, H, W, C) -> (B, H, W, filters).

    Pooling and a 1x1 convolution are linear and may change places: it pools the convolution's few channels. With
    `count_padding` it divides by 9 at the edges too, where zeros are among the 9.
    """

    def __init__(self, filters: int, kernel: int = 1, *, name: str, count_padding: bool, **kwargs: Any):
        super().__init__(filters, kernel, name=name, **kwargs)
        if self.options["kernel"] != (1, 1) or self.options["stride"] != 1 or self.options["bias"]:
            raise ValueError(f"PooledConvNorm({name!r}) is for 1x1 kernels of stride 1 without bias.")
        self.options["count_padding"] = count_padding

    def _between(self, x):
        if not self.options["count_padding"]:
            return ops.average_pool(x, 3, 1, "same")
        return ops.average_pool(ops.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0))), 3, 1, "valid")


def convolution(x, unit: Unit, *, name: str, **numerics: Any):
    """Convolution, batch norm, ReLU: (B, H, W, C) -> (B, H', W', filters). `numerics` are options of `conv_bn`."""
    padding: Padding = "symmetric" if unit.padded else "valid"
    return conv_bn(x, unit.filters, unit.kernel, stride=unit.stride, padding=padding, name=name, **numerics)


def convolutions(x, units: Sequence[Unit], *, name: str, **numerics: Any):
    """Units one after the other, called name_conv1, name_conv2 and so on."""
    for number, unit in enumerate(units, start=1):
        x = convolution(x, unit, name=f"{name}_conv{number}", **numerics)
    return x


def max_pool(x, side: int, *, hanging: bool, name: str):
    """Max pooling of stride 2 over what is not negative: (B, H, W, C) -> (B, H', W', C).

    With `hanging`, the last windows may hang over the edge (torch's ceil_mode).
    """
    over = tuple((side - length) % 2 if hanging else 0 for length in x.shape[1:3])
    if over in ((0, 1), (1, 0)):  # "same" would also shift the windows along the other axis
        x = layers.ZeroPadding2D(((0, over[0]), (0, over[1])), name=f"{name}_pad")(x)
        over = (0, 0)
    return layers.MaxPooling2D(side, 2, "same" if all(over) else "valid", name=name)(x)


def auxiliary_logits(x, classes: int, *, kind: AuxiliaryKind, name: str, **numerics: Any):
    """Class logits in float32 from a map within a network: (B, H, W, C) -> (B, classes).

    "dense" is v1's, for maps of any size; "convolution" is v3's, for maps of 17 pixels a side or more.
    """
    if kind == "dense":
        x = pooled_to(x, 4, 4, name=f"head_{name}_pool")
        x = convolutions(x, (Unit(128),), name=f"head_{name}", **numerics)
        x = layers.Flatten(name=f"head_{name}_flatten")(x)
        x = layers.Dense(1024, activation="relu", name=f"head_{name}_dense")(x)
        x = layers.Dropout(0.7, name=f"head_{name}_dropout")(x)
    else:
        x = layers.AveragePooling2D(5, 3, name=f"head_{name}_pool")(x)
        x = convolutions(x, (Unit(128), Unit(768, 5, padded=False)), name=f"head_{name}", **numerics)
        x = layers.GlobalAveragePooling2D(name=f"head_{name}_average")(x)
    return layers.Dense(classes, dtype="float32", name=f"head_logits_{name}")(x)


def googlenet(first: int, before3: int, after3: int, before5: int, after5: int, pool: int) -> Block:
    """The block of v1, by the channels of its convolutions, with kernels of 3 where the paper has 5, as torchvision."""
    return (
        Branch("1x1", (Unit(first),)),
        Branch("3x3", (Unit(before3), Unit(after3, 3))),
        Branch("5x5", (Unit(before5), Unit(after5, 3))),
        Branch("pool", (Unit(pool),), pool="max"),
    )


def square(pool: int) -> Block:
    """v3's block for large maps, of square kernels; `pool` are the channels of the pooling branch."""
    return (
        Branch("1x1", (Unit(64),)),
        Branch("5x5", (Unit(48), Unit(64, 5))),
        Branch("3x3dbl", (Unit(64), Unit(96, 3), Unit(96, 3))),
        Branch("pool", (Unit(pool),), pool="average"),
    )


def factorized(width: int) -> Block:
    """v3's block for middle maps, whose 7x7 kernels are a row and a column; `width` are the channels between them."""
    row, column = Unit(width, (1, 7)), Unit(width, (7, 1))
    return (
        Branch("1x1", (Unit(192),)),
        Branch("7x7", (Unit(width), row, Unit(192, (7, 1)))),
        Branch("7x7dbl", (Unit(width), column, row, column, Unit(192, (1, 7)))),
        Branch("pool", (Unit(192),), pool="average"),
    )


# v3's blocks that halve the map, and its last, which forks
HALVING_SQUARE: Block = (
    Branch("3x3", (Unit(384, 3, 2, padded=False),)),
    Branch("3x3dbl", (Unit(64), Unit(96, 3), Unit(96, 3, 2, padded=False))),
    Branch("pool", pool="max", stride=2),
)
HALVING_FACTORIZED: Block = (
    Branch("3x3", (Unit(192), Unit(320, 3, 2, padded=False))),
    Branch("7x7x3", (Unit(192), Unit(192, (1, 7)), Unit(192, (7, 1)), Unit(192, 3, 2, padded=False))),
    Branch("pool", pool="max", stride=2),
)
FORKED: Block = (
    Branch("1x1", (Unit(320),)),
    Branch("3x3", (Unit(384),), fork=(Unit(384, (1, 3)), Unit(384, (3, 1)))),
    Branch("3x3dbl", (Unit(448), Unit(384, 3)), fork=(Unit(384, (1, 3)), Unit(384, (3, 1)))),
    Branch("pool", (Unit(192),), pool="average"),
)


def _googlenet_name(match: re.Match[str]) -> str:
    """Branches and their layers are numbered there; the pooling is the first of its branch."""
    stage, block, branch, kind, number = match.groups()
    place = {"1x1": "1", "pool": "4.1"}.get(branch) or f"{2 if branch == '3x3' else 3}.{int(number or 1) - 1}"
    return f"inception{int(stage) + 1}{_letter(int(block))}.branch{place}.{kind}"


def _v3_name(match: re.Match[str]) -> str:
    """Blocks are lettered there, those of the second stage from b."""
    stage, block, branch, kind, number = match.groups()
    place = "_pool" if branch == "pool" else f"{branch}_{number}" if number else branch
    return f"Mixed_{int(stage) + 3}{_letter(int(block) + (stage == '2'))}.branch{place}.{kind}"


def _letter(index: int) -> str:
    return chr(ord("a") + index)


_BLOCK = r"stage(\d)_block(\d)_"
GOOGLENET_RULE = Rule(_BLOCK + r"(1x1|3x3|5x5|pool)_(conv|bn)([12]?)", _googlenet_name)  # of every block
V3_RULE = Rule(_BLOCK + r"([^_]+)_(conv|bn)(\w*)", _v3_name)
