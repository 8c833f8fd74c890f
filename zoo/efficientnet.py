"""EfficientNet, its second version and its Lite form. Papers: https://arxiv.org/abs/1905.11946, 2104.00298.

Differs from the papers: EfficientNetV2 RW-T and RW-S are timm's. Variants have the padding and epsilon of the
published TensorFlow weights; a file without config.json is read with those of its names' usual publisher:
give padding="same", epsilon=1e-3 for timm's `tf_*`, epsilon=1e-3 for torchvision's B5 to B7.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import keras
from keras import layers

from zoo.core.family import Family, HubMatch, Pixels, Task
from zoo.layers.convolution import Padding, conv_bn
from zoo.layers.heads import logits
from zoo.layers.inverted_residual import Block, Kind, Scaling, Squeeze, Stage, eights, inverted_residual, scaled_blocks
from zoo.layers.inverted_residual_names import keras_stage_rules, timm_rules, torchvision_stage_rules
from zoo.layers.pixels import image_input
from zoo.weights import hub
from zoo.weights.curated import curated
from zoo.weights.dialect import KERAS, TORCH, Dialect, Rule


@dataclass(frozen=True)
class Config:
    """What the variants and the publishers differ in."""

    stages: tuple[Stage, ...]
    stem: int = 32  # channels
    neck: int = 1280  # channels of a 1x1 convolution after the stages
    activation: str = "silu"  # of stem and neck
    width: float = 1.0  # multiplies channels, which are rounded to multiples of 8
    depth: float = 1.0  # multiplies blocks, rounded up
    fixed_ends: bool = False  # width leaves stem and neck alone, depth the first and the last stage
    scaling: Scaling = "ratio"
    padding: Padding = "same"
    epsilon: float = 1e-3  # of the batch norms
    dropout: float = 0.2  # before the logits
    stochastic_depth: float = 0.0  # share of images that skip the last block in training; earlier ones less
    pixels: Pixels = Pixels(interpolation="bicubic")


def build(config: Config, *, task: Task, classes: int, name: str) -> keras.Model:
    """(B, H, W, 3) -> logits (B, classes), or the map (B, H/32, W/32, C) that the head would pool.

    Stages are the papers'. The maps of a feature pyramid, strides 2 to 32, are the ends of 1, 2, 3, 5 and the last.
    """
    numerics = {"padding": config.padding, "epsilon": config.epsilon}
    image, x = image_input(config.pixels)
    x = conv_bn(x, _end(config, config.stem), 3, stride=2, name="stem_conv", activation=config.activation, **numerics)
    blocks = tuple(_blocks(config))
    for index, block in enumerate(blocks):
        x = inverted_residual(x, block, stochastic_depth=config.stochastic_depth * index / len(blocks), **numerics)
    x = conv_bn(x, _end(config, config.neck), 1, name="neck_conv", activation=config.activation, **numerics)
    if task == "classify":
        x = layers.GlobalAveragePooling2D(name="head_pool")(x)
        if config.dropout:
            x = layers.Dropout(config.dropout, name="head_dropout")(x)
        x = logits(x, classes)
    return keras.Model(image, x, name=name)


def _end(config: Config, channels: int) -> int:
    """Channels of the stem or the neck.

    Raises:
        ValueError: width, depth or stochastic_depth are out of range.
    """
    for name, value in (("width", config.width), ("depth", config.depth)):
        if not 0 < value <= 10:
            raise ValueError(f"{name}={value!r} must be over 0 and at most 10; 1.0 is the network before scaling.")
    if not 0 <= config.stochastic_depth < 1:
        raise ValueError(f"stochastic_depth={config.stochastic_depth!r} must be at least 0 and under 1.")
    return channels if config.fixed_ends else eights(channels * config.width, nearest=config.scaling == "nearest")


def _blocks(config: Config) -> Iterator[Block]:
    return scaled_blocks(
        config.stages,
        (config.stem, _end(config, config.stem)),
        width=config.width,
        depth=config.depth,
        fixed_ends=config.fixed_ends,
        scaling=config.scaling,
    )


_PUBLISHED = re.compile(r"(?P<tensorflow>tf_)?efficientnet_?(?P<variant>b[0-7]|lite[0-4]|v2_(?:b[0-3]|s|m|l|rw_[ts]))")


def _from_hub(config: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]) -> HubMatch | None:
    """Padding and epsilon are in timm's names; torchvision's epsilon hangs on the variant."""
    published = hub.published_image_model(config)
    match = _PUBLISHED.fullmatch(published.architecture) if published else None
    if published is None or match is None:
        return None
    variant = f"efficientnet_{match['variant']}"
    numerics = {"padding": "symmetric", "epsilon": 1e-5}
    if match["tensorflow"]:
        numerics = {"padding": "same", "epsilon": 1e-3}
    elif published.library == "torchvision":
        hub.torchvision_arguments(config, known=("dropout", "stochastic_depth_prob"))
        numerics["epsilon"] = 1e-5 if variant[-2:] in ("b0", "b1", "b2", "b3", "b4") else 1e-3
    found = replace(FAMILY.variants[variant], pixels=published.pixels, **numerics)
    stem = shapes.get("conv_stem.weight") or shapes.get("features.0.0.weight") or (None,)
    hub.agree("channels of the stem", _end(found, found.stem), stem[0])
    return published.match(variant, found, head=shapes.get("classifier.weight") or shapes.get("classifier.1.weight"))


_TIMM = Dialect(
    TORCH,
    (
        Rule("stem_conv", "conv_stem"),
        Rule("stem_bn", "bn1"),
        *timm_rules(),
        Rule("neck_conv", "conv_head"),
        Rule("neck_bn", "bn2"),
        Rule("head_logits", "classifier"),
    ),
    overrides={"padding": "symmetric", "epsilon": 1e-5},
)


def _torchvision(stages: int, *, fused: bool, epsilon: float) -> Dialect:
    """Stages are counted with the stem as the first of them there."""
    return Dialect(
        TORCH,
        (
            Rule("stem_conv", "features.0.0"),
            Rule("stem_bn", "features.0.1"),
            *torchvision_stage_rules(fused=fused),
            Rule("neck_conv", f"features.{stages + 1}.0"),
            Rule("neck_bn", f"features.{stages + 1}.1"),
            Rule("head_logits", "classifier.1"),
        ),
        overrides={"padding": "symmetric", "epsilon": epsilon},
    )


def _keras(depthwise: Literal["dwconv", "dwconv2"]) -> Dialect:
    """The pixels are in the graph there, and read from the live model."""
    ends = {"stem_(conv|bn)": r"stem_\1", "neck_(conv|bn)": r"top_\1", "head_logits": "predictions"}
    rules = (*keras_stage_rules(depthwise), *(Rule(ours, theirs) for ours, theirs in ends.items()))
    return Dialect(KERAS, rules, overrides={"padding": "same", "epsilon": 1e-3})


_SE = Squeeze("input", "silu", "sigmoid")
_HALF = {"mean": (127.5,) * 3, "std": (127.5,) * 3}
_STRIDES = (1, 2, 2, 2, 1, 2, 1)
_SCALES = (  # of B0 to B7: width, depth, image size, crop, dropout
    (1.0, 1.0, 224, 0.875, 0.2),
    (1.0, 1.1, 240, 0.882, 0.2),
    (1.1, 1.2, 260, 0.890, 0.3),
    (1.2, 1.4, 300, 0.904, 0.3),
    (1.4, 1.8, 380, 0.922, 0.4),
    (1.6, 2.2, 456, 0.934, 0.4),
    (1.8, 2.6, 528, 0.942, 0.5),
    (2.0, 3.1, 600, 0.949, 0.5),
)


def _v1(*, squeeze: Squeeze | None = _SE, activation: str = "silu") -> Config:
    rows = ((1, 1, 16), (2, 6, 24), (2, 6, 40), (3, 6, 80), (3, 6, 112), (4, 6, 192), (1, 6, 320))
    kernels = (3, 3, 5, 3, 5, 5, 3)
    stages = (
        Stage("inverted", (row,), stride, kernel, squeeze, activation)
        for row, stride, kernel in zip(rows, _STRIDES, kernels, strict=True)
    )
    return Config(tuple(stages), activation=activation)


def _v2(channels: tuple[int, ...], depths: tuple[int, ...], *, first: Kind = "convolution", **options: Any) -> Config:
    kinds: tuple[Kind, ...] = (first, "fused", "fused", *("inverted",) * (len(depths) - 3))
    rows = zip(kinds, depths, (1, 4, 4, 4, 6, 6, 6)[: len(depths)], channels, _STRIDES[: len(depths)], strict=True)
    stages = (
        Stage(kind, ((count, expansion, width),), stride, 3, _SE if kind == "inverted" else None, "silu")
        for kind, count, expansion, width, stride in rows
    )
    return Config(tuple(stages), stem=options.pop("stem", channels[0]), **options)


def _pixels(size: int, crop: float = 1.0, **options: Any) -> Pixels:
    return Pixels(size, crop, **{"interpolation": "bicubic", **options})


def _scaled(config: Config, index: int, **pixels: Any) -> Config:
    """A network at the scale of B`index`."""
    width, depth, size, crop, dropout = _SCALES[index]
    return replace(config, width=width, depth=depth, dropout=dropout, pixels=_pixels(size, **{"crop": crop, **pixels}))


_LITE = replace(_v1(squeeze=None, activation="relu6"), fixed_ends=True)
_LITE_PIXELS: tuple[dict[str, Any], ...] = (
    {},
    {},
    {},
    {"interpolation": "bilinear"},
    {"interpolation": "bilinear", "crop": 0.92},
)
_V2_B = _v2((16, 32, 48, 96, 112, 192), (1, 2, 2, 3, 5, 8), stem=32, scaling="nearest")
_V2_S = _v2((24, 48, 64, 128, 160, 256), (2, 4, 4, 6, 9, 15), pixels=_pixels(384, **_HALF))

FAMILY = Family(
    paper="https://arxiv.org/abs/1905.11946",
    build=build,
    variants={
        **{f"efficientnet_b{index}": _scaled(_v1(), index) for index in range(8)},
        **{
            f"efficientnet_lite{index}": _scaled(_LITE, index, **_HALF, **pixels)
            for index, pixels in enumerate(_LITE_PIXELS)
        },
        **{f"efficientnet_v2_b{index}": replace(_scaled(_V2_B, index), dropout=0.2) for index in range(4)},
        "efficientnet_v2_s": _V2_S,
        "efficientnet_v2_m": _v2(
            (24, 48, 80, 160, 176, 304, 512), (3, 5, 5, 7, 14, 18, 5), dropout=0.3, pixels=_pixels(480, **_HALF)
        ),
        "efficientnet_v2_l": _v2(
            (32, 64, 96, 192, 224, 384, 640), (4, 7, 7, 10, 19, 25, 7), dropout=0.4, pixels=_pixels(480, **_HALF)
        ),
        "efficientnet_v2_rw_t": replace(_V2_S, width=0.8, depth=0.9, pixels=_pixels(288)),
        "efficientnet_v2_rw_s": _v2(
            (24, 48, 64, 128, 160, 272), (2, 4, 4, 6, 9, 15), first="fused", neck=1792, pixels=_pixels(384)
        ),
    },
    conventions=("pixels", "padding", "epsilon"),
    dialects={
        "timm": _TIMM,
        "torchvision": _torchvision(7, fused=False, epsilon=1e-5),
        "torchvision_v2": _torchvision(7, fused=True, epsilon=1e-3),
        "torchvision_v2_s": _torchvision(6, fused=True, epsilon=1e-3),
        "keras": _keras("dwconv"),
        "keras_v2": _keras("dwconv2"),
    },
    pretrained=curated("efficientnet"),
    from_hub=_from_hub,
)
