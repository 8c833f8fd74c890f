"""Inception: GoogLeNet (v1) and v3. Papers: https://arxiv.org/abs/1409.4842, 1512.00567.

Differs from the papers: v1 is torchvision's, with batch norms, without local response normalization, and with 3x3
kernels where the paper has 5x5. Auxiliary classifiers are built with auxiliary=True only.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import keras
from keras import layers

from zoo.core.family import IMAGENET_MEAN, IMAGENET_STD, Family, HubMatch, Pixels, Task
from zoo.layers import inception_blocks as blocks
from zoo.layers.auxiliary import AuxiliaryModel
from zoo.layers.heads import logits
from zoo.layers.inception_blocks import AuxiliaryKind, Block, Unit
from zoo.layers.pixels import image_input
from zoo.weights import hub
from zoo.weights.curated import curated
from zoo.weights.dialect import KERAS, TORCH, Dialect, Rule, channels_last
from zoo.weights.errors import CheckpointError


@dataclass(frozen=True)
class Stage:
    """What computes at one resolution: max pooling that halves it, convolutions, blocks."""

    pool: int = 0  # side of the pooling window; 0 where the first block halves the map
    units: tuple[Unit, ...] = ()
    blocks: tuple[Block, ...] = ()
    auxiliary: tuple[int, ...] = ()  # blocks after which an auxiliary classifier looks


@dataclass(frozen=True)
class Config:
    """What the variants and the publishers differ in."""

    stem: tuple[Unit, ...]
    stages: tuple[Stage, ...]
    hanging_pools: bool  # whether pooling windows may hang over the edge (torch's ceil_mode)
    auxiliary_kind: AuxiliaryKind
    smallest: int  # pixels; smaller images leave nothing for the last stage
    smallest_auxiliary: int  # the same with auxiliary classifiers
    auxiliary: bool = False  # whether to build the auxiliary classifiers
    count_padding: bool = True  # whether average pooling in a block counts the zeros around the map
    scale: bool = True  # whether the batch norms have a gamma
    epsilon: float = 1e-3  # of the batch norms
    dropout: float = 0.5  # before the logits
    pixels: Pixels = Pixels()


def build(config: Config, *, task: Task, classes: int, name: str) -> keras.Model:
    """(B, H, W, 3) -> logits (B, classes), or the map (B, H/32, W/32, C) that the head would pool.

    With auxiliary=True, for training, it is an AuxiliaryModel and gives {"logits": ..., "auxiliary1": ..., ...},
    each (B, classes).

    Raises:
        ValueError: the images are too small.
    """
    auxiliary = config.auxiliary and task == "classify"
    _check_size(config, auxiliary=auxiliary)
    numerics = {"epsilon": config.epsilon, "scale": config.scale}
    image, x = image_input(config.pixels)
    x = blocks.convolutions(x, config.stem, name="stem", **numerics)
    heads: dict[str, keras.KerasTensor] = {}
    for number, stage in enumerate(config.stages, start=1):
        if stage.pool:
            x = blocks.max_pool(x, stage.pool, hanging=config.hanging_pools, name=f"stage{number}_pool")
        x = blocks.convolutions(x, stage.units, name=f"stage{number}", **numerics)
        for index, block in enumerate(stage.blocks):
            path = f"stage{number}_block{index}"
            x = blocks.inception_block(x, block, name=path, count_padding=config.count_padding, **numerics)
            if auxiliary and index in stage.auxiliary:
                which = f"auxiliary{len(heads) + 1}"
                heads[which] = blocks.auxiliary_logits(x, classes, kind=config.auxiliary_kind, name=which, **numerics)
    if task == "classify":
        x = layers.GlobalAveragePooling2D(name="head_pool")(x)
        if config.dropout:
            x = layers.Dropout(config.dropout, name="head_dropout")(x)
        x = logits(x, classes)
    return AuxiliaryModel(image, {"logits": x, **heads}, name=name) if heads else keras.Model(image, x, name=name)


def _check_size(config: Config, *, auxiliary: bool) -> None:
    size, smallest = config.pixels.size, config.smallest_auxiliary if auxiliary else config.smallest
    if min(config.pixels.shape) < smallest:
        what = "this network with its auxiliary classifiers" if auxiliary else "this network"
        raise ValueError(f"size={size!r} is too small: {what} takes {smallest} pixels a side or more.")


def _from_hub(config: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]) -> HubMatch | None:
    """timm and torchvision have one name for v3; v1 is torchvision's alone."""
    published = hub.published_image_model(config)
    variant = _PUBLISHED.get(published.architecture) if published else None
    if published is None or variant is None:
        return None
    known = ("aux_logits", "transform_input", "init_weights", "dropout", "dropout_aux")  # only one changes the answers
    arguments = hub.torchvision_arguments(config, known=known)
    pixels = _for_transformed(published.pixels) if arguments.get("transform_input") else published.pixels
    found = replace(FAMILY.variants[variant], pixels=pixels)
    return published.match(variant, found, head=shapes.get("fc.weight"))


_PUBLISHED = {"googlenet": "inception_v1", "inception_v3": "inception_v3"}


def _for_transformed(pixels: Pixels) -> Pixels:
    """The pixels of a torchvision model that turns ImageNet's normalization into one to -1..1 (transform_input)."""
    if pixels.channels != 3:
        raise CheckpointError(f"config.json: transform_input is for three channels, not {pixels.channels}.")
    triples = tuple(zip(pixels.mean, pixels.std, IMAGENET_MEAN, IMAGENET_STD, strict=True))
    return replace(
        pixels,
        mean=tuple(mean + std * (_HALF - usual) / deviation for mean, std, usual, deviation in triples),
        std=tuple(std * _HALF / deviation for _, std, _, deviation in triples),
    )


_HALF = 127.5  # on the scale 0..255
_CENTERED = Pixels(mean=(_HALF,) * 3, std=(_HALF,) * 3)

_V1_ROWS = (  # channels of the 1x1, of the 3x3 and before it, of the 5x5 and before it, of the pooling
    ((64, 96, 128, 16, 32, 32), (128, 128, 192, 32, 96, 64)),
    (
        (192, 96, 208, 16, 48, 64),
        (160, 112, 224, 24, 64, 64),
        (128, 128, 256, 24, 64, 64),
        (112, 144, 288, 32, 64, 64),
        (256, 160, 320, 32, 128, 128),
    ),
    ((256, 160, 320, 32, 128, 128), (384, 192, 384, 48, 128, 128)),
)
_V1_BLOCKS = tuple(tuple(blocks.googlenet(*row) for row in rows) for rows in _V1_ROWS)
_V1 = Config(
    stem=(Unit(64, 7, 2),),
    stages=(
        Stage(pool=3, units=(Unit(64), Unit(192, 3))),
        Stage(pool=3, blocks=_V1_BLOCKS[0]),
        Stage(pool=3, blocks=_V1_BLOCKS[1], auxiliary=(0, 3)),
        Stage(pool=2, blocks=_V1_BLOCKS[2]),
    ),
    hanging_pools=True,
    auxiliary_kind="dense",
    smallest=15,
    smallest_auxiliary=15,
    dropout=0.2,
    pixels=_CENTERED,
)
_V3_WIDTHS = (128, 160, 160, 192)
_V3 = Config(
    stem=(Unit(32, 3, 2, padded=False), Unit(32, 3, padded=False), Unit(64, 3)),
    stages=(
        Stage(pool=3, units=(Unit(80), Unit(192, 3, padded=False))),
        Stage(pool=3, blocks=(blocks.square(32), blocks.square(64), blocks.square(64))),
        Stage(blocks=(blocks.HALVING_SQUARE, *map(blocks.factorized, _V3_WIDTHS)), auxiliary=(4,)),
        Stage(blocks=(blocks.HALVING_FACTORIZED, blocks.FORKED, blocks.FORKED)),
    ),
    hanging_pools=False,
    auxiliary_kind="convolution",
    smallest=75,
    smallest_auxiliary=299,
    pixels=replace(_CENTERED, size=299, interpolation="bicubic"),
)


def _v1_auxiliary(index: int) -> Iterator[Rule]:
    for ours, theirs in (("conv1", "conv.conv"), ("bn1", "conv.bn")):
        yield Rule(f"head_auxiliary{index}_{ours}", f"aux{index}.{theirs}")
    yield Rule(f"head_auxiliary{index}_dense", f"aux{index}.fc1", channels_last(4, 4))
    yield Rule(f"head_logits_auxiliary{index}", f"aux{index}.fc2")


_TORCH_V1 = Dialect(
    TORCH,
    (
        Rule(r"stem_(conv|bn)1", r"conv1.\1"),
        Rule(r"stage1_(conv|bn)1", r"conv2.\1"),
        Rule(r"stage1_(conv|bn)2", r"conv3.\1"),
        blocks.GOOGLENET_RULE,
        *_v1_auxiliary(1),
        *_v1_auxiliary(2),
        Rule("head_logits", "fc"),
    ),
)
_TORCH_V3 = Dialect(
    TORCH,
    (
        Rule(r"stem_(conv|bn)1", r"Conv2d_1a_3x3.\1"),
        Rule(r"stem_(conv|bn)2", r"Conv2d_2a_3x3.\1"),
        Rule(r"stem_(conv|bn)3", r"Conv2d_2b_3x3.\1"),
        Rule(r"stage1_(conv|bn)1", r"Conv2d_3b_1x1.\1"),
        Rule(r"stage1_(conv|bn)2", r"Conv2d_4a_3x3.\1"),
        blocks.V3_RULE,
        *(
            Rule(f"head_auxiliary1_{kind}{number}", f"AuxLogits.conv{number - 1}.{kind}")
            for kind in ("conv", "bn")
            for number in (1, 2)
        ),
        Rule("head_logits_auxiliary1", "AuxLogits.fc"),
        Rule("head_logits", "fc"),
    ),
)


def _keras(config: Config) -> Dialect:
    """keras.applications names no convolution and no norm, so they are counted in the order of the blocks' branches."""
    paths = [f"stem_conv{number}" for number, _ in enumerate(config.stem, start=1)]
    for number, stage in enumerate(config.stages, start=1):
        paths += [f"stage{number}_conv{unit}" for unit, _ in enumerate(stage.units, start=1)]
        for index, block in enumerate(stage.blocks):
            paths += [path for branch in block for path, _ in branch.convolutions(f"stage{number}_block{index}")]
    rules = []
    for index, path in enumerate(paths):
        number = f"_{index}" if index else ""
        norm = "bn".join(path.rsplit("conv", 1))
        rules += [Rule(path, f"conv2d{number}"), Rule(norm, f"batch_normalization{number}")]
    overrides = {"pixels": config.pixels, "scale": False, "count_padding": False}
    return Dialect(KERAS, (*rules, Rule("head_logits", "predictions")), overrides=overrides)


FAMILY = Family(
    paper="https://arxiv.org/abs/1512.00567",
    build=build,
    variants={"inception_v1": _V1, "inception_v3": _V3},
    conventions=("pixels", "count_padding", "scale", "epsilon"),
    dialects={"torch": _TORCH_V3, "torch_v1": _TORCH_V1, "keras": _keras(_V3)},
    pretrained=curated("inception"),
    from_hub=_from_hub,
)
