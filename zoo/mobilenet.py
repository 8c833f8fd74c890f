"""MobileNet V1, V2 and V3, of any width. Papers: https://arxiv.org/abs/1704.04861, 1801.04381, 1905.02244.

Differs from the papers: the last 1x1 convolution of V3 is a stage of its own; `padding`, `epsilon` and
`scaling` follow the publisher of the weights ("same" is TensorFlow's padding, "uniform" torchvision's scaling).
The MobileNet V1 of keras.applications pads as "same" does where the sides are multiples of 32, or one less.
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
from zoo.layers.inverted_residual import Block, Scaling, Squeeze, Stage, eights, inverted_residual, scaled_blocks
from zoo.layers.inverted_residual_names import keras_rules, timm_rules, torchvision_rules
from zoo.layers.pixels import image_input
from zoo.weights import hub
from zoo.weights.curated import curated
from zoo.weights.dialect import KERAS, TORCH, Dialect, Rule


@dataclass(frozen=True)
class Config:
    """What the variants, the widths and the publishers differ in."""

    stages: tuple[Stage, ...]
    stem: int = 32  # channels
    neck: int = 0  # channels of a 1x1 convolution after the stages; widths below 1 do not narrow it
    hidden: int = 0  # units of a dense layer before the logits
    activation: str = "relu6"  # of stem, neck and hidden
    width: float = 1.0  # multiplies channels, which are rounded to multiples of 8
    depth: float = 1.0  # multiplies blocks, rounded up
    fixed_ends: bool = False  # width leaves stem and neck alone, depth the first and the last stage
    narrow_stem: bool = True  # whether widths below 1 narrow the stem
    scaling: Scaling = "ratio"
    padding: Padding = "symmetric"
    epsilon: float = 1e-5  # of the batch norms
    dropout: float = 0.2  # before the logits
    pixels: Pixels = Pixels()


def build(config: Config, *, task: Task, classes: int, name: str) -> keras.Model:
    """(B, H, W, 3) -> logits (B, classes), or the map (B, H/32, W/32, C) that the head would pool."""
    numerics = {"padding": config.padding, "epsilon": config.epsilon}
    image, x = image_input(config.pixels)
    x = conv_bn(x, _stem(config), 3, stride=2, name="stem_conv", activation=config.activation, **numerics)
    for block in _blocks(config):
        x = inverted_residual(x, block, **numerics)
    if config.neck:
        neck = config.neck if config.fixed_ends else max(config.neck, eights(config.neck * config.width))
        x = conv_bn(x, neck, 1, name="neck_conv", activation=config.activation, **numerics)
    if task == "classify":
        x = layers.GlobalAveragePooling2D(name="head_pool")(x)
        if config.hidden:
            x = layers.Dense(_hidden(config), name="head_dense")(x)
            x = layers.Activation(config.activation, name="head_act")(x)
        if config.dropout:
            x = layers.Dropout(config.dropout, name="head_dropout")(x)
        x = logits(x, classes)
    return keras.Model(image, x, name=name)


def _blocks(config: Config) -> Iterator[Block]:
    return scaled_blocks(
        config.stages,
        (config.stem, _stem(config)),
        width=config.width,
        depth=config.depth,
        fixed_ends=config.fixed_ends,
        scaling=config.scaling,
    )


def _stem(config: Config) -> int:
    """Channels of the first convolution.

    Raises:
        ValueError: width or depth are out of range.
    """
    for name, value in (("width", config.width), ("depth", config.depth)):
        if not 0 < value <= 10:
            raise ValueError(f"{name}={value!r} must be over 0 and at most 10; 1.0 is the published network.")
    fixed = config.fixed_ends or config.scaling == "keras"
    scaled = config.stem if fixed else eights(config.stem * config.width)
    return scaled if config.narrow_stem else max(config.stem, scaled)


def _hidden(config: Config) -> int:
    """Units of the dense layer: "ratio" leaves them alone, "keras" does not narrow them."""
    factor = {"uniform": config.width, "keras": max(1.0, config.width)}.get(config.scaling, 1.0)
    return eights(config.hidden * factor)


_PUBLISHED = re.compile(
    r"(?P<tensorflow>tf_)?mobilenetv(?P<net>1|2|3_large|3_small)(?P<minimal>_minimal)?_(?P<width>\d{3})(?P<kind>[dh]?)"
)


def _from_hub(config: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]) -> HubMatch | None:
    """The width is in timm's names, and an argument of torchvision's."""
    published = hub.published_image_model(config)
    if published is None:
        return None
    match = _PUBLISHED.fullmatch(published.architecture)
    if match:
        base = f"mobilenet_v{match['net']}{match['minimal'] or ''}"
        width, kind = int(match["width"]) / 100, match["kind"]
        numerics = {"padding": "same", "epsilon": 1e-3} if match["tensorflow"] else {"epsilon": 1e-5}
    elif published.architecture in ("mobilenet_v2", "mobilenet_v3_large", "mobilenet_v3_small"):
        arguments = hub.torchvision_arguments(config, known=("width_mult", "dropout"))
        base, kind, width = published.architecture, "", hub.number(arguments, "width_mult", 0.01, 10.0, default=1.0)
        numerics = _UNIFORM if "v3" in base else {}
    else:
        return None
    variant = f"{base}_{round(100 * width):03}{kind}" if kind or width != 1 else base
    if base not in FAMILY.variants or (kind and variant not in FAMILY.variants):
        return None
    found = FAMILY.variants[variant] if kind else replace(FAMILY.variants[base], width=width)
    found = replace(found, pixels=published.pixels, **numerics)
    stem = shapes.get("conv_stem.weight") or shapes.get("features.0.0.weight") or (None,)
    hub.agree("channels of the stem", _stem(found), stem[0])
    heads = (shapes.get(f"{name}.weight") for name in ("classifier", "classifier.1", "classifier.3"))
    return published.match(variant, found, head=next(filter(None, heads), None))


_HALF = {"mean": (127.5,) * 3, "std": (127.5,) * 3}  # in keras.applications, V3 has it in the graph
_UNIFORM = {"scaling": "uniform", "narrow_stem": True, "epsilon": 1e-3}  # torchvision's V3


def _torchvision(config: Config, inner: Literal["conv", "block"]) -> Dialect:
    """Blocks are counted through all stages there, and the layers within a block too."""
    rules = [Rule("stem_conv", "features.0.0"), Rule("stem_bn", "features.0.1")]
    blocks = tuple(_blocks(config))
    for index, block in enumerate(blocks, start=1):
        rules += torchvision_rules(block, f"features.{index}", inner=inner)
    neck = f"features.{len(blocks) + 1}"
    rules += [Rule("neck_conv", f"{neck}.0"), Rule("neck_bn", f"{neck}.1")]
    if config.hidden:
        rules += [Rule("head_dense", "classifier.0"), Rule("head_logits", "classifier.3")]
        return Dialect(TORCH, tuple(rules), overrides=_UNIFORM)
    return Dialect(TORCH, (*rules, Rule("head_logits", "classifier.1")))


def _keras(config: Config, generation: Literal[1, 2, 3], **overrides: Any) -> Dialect:
    rules = tuple(keras_rules(_blocks(config), generation=generation))
    return Dialect(KERAS, rules, overrides={"padding": "same", "epsilon": 1e-3, **overrides})


_TIMM = Dialect(
    TORCH,
    (
        Rule("stem_conv", "conv_stem"),
        Rule("stem_bn", "bn1"),
        *timm_rules(),
        Rule("neck_conv", "conv_head"),
        Rule("neck_bn", "bn2"),
        Rule("head_dense", "conv_head"),
        Rule("head_logits", "classifier"),
    ),
    overrides={"epsilon": 1e-5},
)


def _v3(*stages: Stage, hidden: int) -> Config:
    return Config(stages, stem=16, hidden=hidden, activation="hard_swish", narrow_stem=False, epsilon=1e-3)


def _minimal(config: Config) -> Config:
    """V3 without what some accelerators lack: 5x5 kernels, squeeze and excitation, hard swish."""
    stages = tuple(
        replace(stage, kernel=min(stage.kernel, 3), squeeze=None, activation="relu") for stage in config.stages
    )
    return replace(config, stages=stages, activation="relu")


_SE = Squeeze("expanded", "relu", "hard_sigmoid")
_V1_ROWS = ((64, 1, 1), (128, 2, 2), (256, 2, 2), (512, 6, 2), (1024, 2, 2))  # channels, blocks, stride
# expansion, channels, blocks, stride
_V2_ROWS = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
_V1 = Config(
    tuple(Stage("separable", ((count, 1, channels),), stride) for channels, count, stride in _V1_ROWS), dropout=0.001
)
_V2 = Config(
    tuple(Stage("inverted", ((count, ratio, channels),), stride) for ratio, channels, count, stride in _V2_ROWS),
    neck=1280,
)
_V3_LARGE = _v3(
    Stage("inverted", ((1, 1, 16),), activation="relu"),
    Stage("inverted", ((1, 4, 24), (1, 3, 24)), 2, activation="relu"),
    Stage("inverted", ((3, 3, 40),), 2, 5, squeeze=_SE, activation="relu"),
    Stage("inverted", ((1, 6, 80), (1, 2.5, 80), (2, 2.3, 80)), 2, activation="hard_swish"),
    Stage("inverted", ((2, 6, 112),), squeeze=_SE, activation="hard_swish"),
    Stage("inverted", ((3, 6, 160),), 2, 5, squeeze=_SE, activation="hard_swish"),
    Stage("convolution", ((1, 6, 960),), kernel=1, activation="hard_swish"),
    hidden=1280,
)
_V3_SMALL = _v3(
    Stage("inverted", ((1, 1, 16),), 2, squeeze=_SE, activation="relu"),
    Stage("inverted", ((1, 4.5, 24), (1, 3.67, 24)), 2, activation="relu"),
    Stage("inverted", ((1, 4, 40), (2, 6, 40)), 2, 5, squeeze=_SE, activation="hard_swish"),
    Stage("inverted", ((2, 3, 48),), 1, 5, squeeze=_SE, activation="hard_swish"),
    Stage("inverted", ((3, 6, 96),), 2, 5, squeeze=_SE, activation="hard_swish"),
    Stage("convolution", ((1, 6, 576),), kernel=1, activation="hard_swish"),
    hidden=1024,
)

FAMILY = Family(
    paper="https://arxiv.org/abs/1801.04381",
    build=build,
    variants={
        "mobilenet_v1": _V1,
        **{f"mobilenet_v1_{width:03}": replace(_V1, width=width / 100) for width in (25, 50, 75, 125)},
        "mobilenet_v1_100h": replace(_V1, neck=1024),
        "mobilenet_v2": _V2,
        **{f"mobilenet_v2_{width:03}": replace(_V2, width=width / 100) for width in (35, 50, 75, 140)},
        "mobilenet_v2_110d": replace(_V2, width=1.1, depth=1.2, fixed_ends=True),
        "mobilenet_v2_120d": replace(_V2, width=1.2, depth=1.4, fixed_ends=True),
        "mobilenet_v3_large": _V3_LARGE,
        "mobilenet_v3_large_075": replace(_V3_LARGE, width=0.75),
        "mobilenet_v3_large_150d": replace(_V3_LARGE, width=1.5, depth=1.2),
        "mobilenet_v3_large_minimal": _minimal(_V3_LARGE),
        "mobilenet_v3_small": _V3_SMALL,
        "mobilenet_v3_small_050": replace(_V3_SMALL, width=0.5),
        "mobilenet_v3_small_075": replace(_V3_SMALL, width=0.75),
        "mobilenet_v3_small_minimal": _minimal(_V3_SMALL),
    },
    conventions=("pixels", "padding", "epsilon", "scaling", "narrow_stem"),
    dialects={
        "timm": _TIMM,
        "torchvision": _torchvision(_V2, "conv"),
        "torchvision_v3_large": _torchvision(_V3_LARGE, "block"),
        "torchvision_v3_small": _torchvision(_V3_SMALL, "block"),
        "keras_v1": _keras(_V1, 1, **_HALF),
        "keras_v2": _keras(_V2, 2, **_HALF),
        "keras_v3_large": _keras(_V3_LARGE, 3, scaling="keras"),
        "keras_v3_small": _keras(_V3_SMALL, 3, scaling="keras"),
    },
    pretrained=curated("mobilenet"),
    from_hub=_from_hub,
)
