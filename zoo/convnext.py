"""ConvNeXt. Paper: https://arxiv.org/abs/2201.03545.

Differs from the paper: 1x1 convolutions are Dense layers, and the sizes below "tiny" are those of timm.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np
from keras import layers

from zoo.core.family import Family, HubMatch, Pixels, Task
from zoo.layers.heads import logits
from zoo.layers.layer_scale import LayerScale
from zoo.layers.pixels import image_input
from zoo.layers.regularization import StochasticDepth, depth_rates
from zoo.weights import hub
from zoo.weights.curated import curated
from zoo.weights.dialect import KERAS, TORCH, Dialect, Rule
from zoo.weights.errors import CheckpointError
from zoo.weights.layouts import Layout


@dataclass(frozen=True)
class Config:
    """What the variants and the publishers differ in."""

    depths: tuple[int, ...]  # blocks in each stage
    widths: tuple[int, ...]  # channels of each stage
    epsilon: float = 1e-6  # of the layer norms
    head_epsilon: float = 1e-6  # of the one after the pooling
    stochastic_depth: float = 0.0  # share of images that skip the last block; those before it grow to that from 0
    dropout: float = 0.0  # before the logits
    pixels: Pixels = Pixels(interpolation="bicubic")


def build(config: Config, *, task: Task, classes: int, name: str) -> keras.Model:
    """(B, H, W, 3) -> logits (B, classes), or the map (B, H/32, W/32, C) that the head would pool."""
    _check(config)
    image, x = image_input(config.pixels)
    x = layers.Conv2D(config.widths[0], 4, 4, name="stem_conv")(x)
    x = layers.LayerNormalization(epsilon=config.epsilon, name="stem_norm")(x)
    rates = iter(depth_rates(config.stochastic_depth, sum(config.depths)))
    for stage, (depth, width) in enumerate(zip(config.depths, config.widths, strict=True), start=1):
        if stage > 1:
            x = layers.LayerNormalization(epsilon=config.epsilon, name=f"stage{stage}_downsample_norm")(x)
            x = layers.Conv2D(width, 2, 2, name=f"stage{stage}_downsample_conv")(x)
        for block in range(depth):
            x = _residual(x, config, stochastic_depth=next(rates), name=f"stage{stage}_block{block}")
    if task == "classify":
        x = layers.GlobalAveragePooling2D(name="head_pool")(x)
        x = layers.LayerNormalization(epsilon=config.head_epsilon, name="head_norm")(x)
        if config.dropout:
            x = layers.Dropout(config.dropout, name="head_dropout")(x)
        x = logits(x, classes)
    return keras.Model(image, x, name=name)


def _residual(x, config: Config, *, stochastic_depth: float, name: str):
    """One block: (B, H, W, C) -> (B, H, W, C)."""
    width = x.shape[-1]
    y = layers.DepthwiseConv2D(7, padding="same", name=f"{name}_depthwise")(x)
    y = layers.LayerNormalization(epsilon=config.epsilon, name=f"{name}_norm")(y)
    y = layers.Dense(4 * width, "gelu", name=f"{name}_expand")(y)
    y = layers.Dense(width, name=f"{name}_project")(y)
    y = LayerScale(name=f"{name}_scale")(y)
    if stochastic_depth:
        y = StochasticDepth(stochastic_depth, name=f"{name}_drop")(y)
    return layers.Add(name=f"{name}_add")([x, y])


def _check(config: Config) -> None:
    """Refuse stages that do not fit each other, and images smaller than one cell of the last map."""
    if not 1 <= len(config.depths) == len(config.widths):
        raise ValueError(f"depths={config.depths!r} and widths={config.widths!r} need one number each for every stage.")
    height, width = config.pixels.shape
    smallest = 4 * 2 ** (len(config.widths) - 1)
    if min(height, width) < smallest:
        raise ValueError(f"Images of {height} x {width} pixels are too small: give a size of {smallest} or more.")


def _from_hub(config: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]) -> HubMatch | None:
    """timm and torchvision give sizes by name, transformers by numbers."""
    if config.get("model_type") == "convnext":
        return _from_transformers(config, shapes)
    published = hub.published_image_model(config)
    if published is None or published.architecture not in FAMILY.variants:
        return None
    hub.torchvision_arguments(config, known=("layer_scale", "stochastic_depth_prob"))
    found = replace(FAMILY.variants[published.architecture], pixels=published.pixels)
    head = shapes.get("head.fc.weight", shapes.get("classifier.2.weight"))
    return published.match(published.architecture, found, head=head)


def _from_transformers(config: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]) -> HubMatch:
    """ConvNextForImageClassification, whose names begin with "convnext.", or ConvNextModel."""
    for key, known in (("hidden_act", "gelu"), ("patch_size", 4)):
        if config.get(key, known) != known:
            raise CheckpointError(f"config.json: {key}={config[key]!r:.60}; only {known!r} is known here.")
    found = Config(
        depths=_numbers(config, "depths", 1_000, default=(3, 3, 9, 3)),
        widths=_numbers(config, "hidden_sizes", 65_536, default=(96, 192, 384, 768)),
        head_epsilon=hub.number(config, "layer_norm_eps", 0.0, 1.0, default=1e-12),
        pixels=_transformers_pixels(config),
    )
    for stage, (depth, width) in enumerate(zip(found.depths, found.widths, strict=True)):
        block = rf"(?:convnext\.)?encoder\.stages\.{stage}\.layers\.\d+\.dwconv\.bias"
        blocks = [shape for name, shape in shapes.items() if re.fullmatch(block, name)]
        hub.agree(f"depths[{stage}]", depth, len(blocks))
        hub.agree(f"hidden_sizes[{stage}]", width, next(iter(blocks[0]), None))
    classes = next(iter(shapes.get("classifier.bias", ())), None)
    classifies = classes or "ConvNextForImageClassification" in (config.get("architectures") or ())
    return HubMatch("convnext", found, "classify" if classifies else "features", classes)


def _numbers(config: Mapping[str, Any], key: str, high: int, *, default: tuple[int, ...]) -> tuple[int, ...]:
    values = config.get(key, default)
    if not isinstance(values, (list, tuple)) or len(values) != 4:
        raise CheckpointError(f"config.json: {key}={values!r:.60} must hold one number for each of four stages.")
    return tuple(hub.whole({key: value}, key, 1, high) for value in values)


def _transformers_pixels(config: Mapping[str, Any]) -> Pixels:
    """Images below 384 pixels are the centre of larger ones there, others are squashed."""
    processor = config.get("preprocessor") or {}
    size = processor.get("size", config.get("image_size", 224))
    pixels = hub.transformers_pixels(config, hub.sides(size, "size"))
    crop = hub.number(processor, "crop_pct", 0.01, 1.0, default=224 / 256)
    cut = min(pixels.shape) < 384
    return replace(pixels, crop=crop if cut else 1.0, resize="cover" if cut else "squash")


Names = tuple[str, ...]
_BLOCK = r"stage(\d)_block(\d+)_"
_LAYERS = (
    *("stem_conv", "stem_norm", r"stage(\d)_downsample_norm", r"stage(\d)_downsample_conv"),
    *(_BLOCK + part for part in ("depthwise", "norm", "expand", "project", "scale")),
    *("head_norm", "head_logits"),
)


def _dialect(
    *, stem: Names, downsample: Names, block: str, parts: Names, head: Names, layout: Layout = TORCH
) -> Dialect:
    """What a publisher calls each of _LAYERS; `block` stands before each of `parts`."""
    theirs = (*stem, *downsample, *(block + part for part in parts), *head)
    pieces = {_BLOCK + "depthwise": _depthwise, _BLOCK + "scale": np.ravel}  # torchvision's scale is (C, 1, 1)
    rules = (
        Rule(ours, _in_stage(name) if "{" in name else name, pieces.get(ours))
        for ours, name in zip(_LAYERS, theirs, strict=True)
    )
    return Dialect(layout, tuple(rules))


def _in_stage(template: str) -> Callable[[re.Match[str]], str]:
    """A name with a {stage} or a number made of it; stages count from 0 there."""

    def name(match: re.Match[str]) -> str:
        stage, block = int(match[1]) - 1, match[match.lastindex or 1]
        return template.format(stage=stage, before=stage - 1, even=2 * stage, odd=2 * stage + 1, block=block)

    return name


def _depthwise(array: np.ndarray) -> np.ndarray:
    """The kernel of a Keras convolution in as many groups as channels, for a depthwise one: (7, 7, 1, C)."""
    return array.transpose(0, 1, 3, 2) if array.shape[2:3] == (1,) else array


def _transformers(prefix: str) -> Dialect:
    stages = f"{prefix}encoder.stages.{{stage}}."
    return _dialect(
        stem=(f"{prefix}embeddings.patch_embeddings", f"{prefix}embeddings.layernorm"),
        downsample=(f"{stages}downsampling_layer.0", f"{stages}downsampling_layer.1"),
        block=f"{stages}layers.{{block}}.",
        parts=("dwconv", "layernorm", "pwconv1", "pwconv2", "layer_scale_parameter"),
        head=(f"{prefix}layernorm", "classifier"),
    )


def _keras(model: str) -> Dialect:
    """Layers carry the name of their model there."""
    downsample = f"{model}_downsampling_block_{{before}}/{model}_downsampling_"
    return _dialect(
        stem=(f"{model}_stem/{model}_stem_conv", f"{model}_stem/{model}_stem_layernorm"),
        downsample=(f"{downsample}layernorm_{{before}}", f"{downsample}conv_{{before}}"),
        block=f"{model}_stage_{{stage}}_block_{{block}}_",
        parts=("depthwise_conv", "layernorm", "pointwise_conv_1", "pointwise_conv_2", "layer_scale/variable"),
        head=(f"{model}_head_layernorm", f"{model}_head_dense"),
        layout=KERAS,
    )


_DIALECTS = {
    "timm": _dialect(
        stem=("stem.0", "stem.1"),
        downsample=("stages.{stage}.downsample.0", "stages.{stage}.downsample.1"),
        block="stages.{stage}.blocks.{block}.",
        parts=("conv_dw", "norm", "mlp.fc1", "mlp.fc2", "gamma"),
        head=("head.norm", "head.fc"),
    ),
    "torchvision": _dialect(
        stem=("features.0.0", "features.0.1"),
        downsample=("features.{even}.0", "features.{even}.1"),
        block="features.{odd}.{block}.",
        parts=("block.0", "block.2", "block.3", "block.5", "layer_scale"),
        head=("classifier.0", "classifier.2"),
    ),
    "facebook": _dialect(
        stem=("downsample_layers.0.0", "downsample_layers.0.1"),
        downsample=("downsample_layers.{stage}.0", "downsample_layers.{stage}.1"),
        block="stages.{stage}.{block}.",
        parts=("dwconv", "norm", "pwconv1", "pwconv2", "gamma"),
        head=("norm", "head"),
    ),
    "transformers": _transformers("convnext."),
    "transformers_base": _transformers(""),
    **{f"keras_{size}": _keras(f"convnext_{size}") for size in ("tiny", "small", "base", "large", "xlarge")},
}


def _doubling(depths: tuple[int, ...], width: int) -> Config:
    """A published size: every stage has twice the channels of the one before it."""
    return Config(depths, tuple(width * 2**stage for stage in range(len(depths))))


FAMILY = Family(
    paper="https://arxiv.org/abs/2201.03545",
    build=build,
    variants={
        "convnext_atto": _doubling((2, 2, 6, 2), 40),
        "convnext_femto": _doubling((2, 2, 6, 2), 48),
        "convnext_pico": _doubling((2, 2, 6, 2), 64),
        "convnext_nano": _doubling((2, 2, 8, 2), 80),
        "convnext_tiny": _doubling((3, 3, 9, 3), 96),
        "convnext_small": _doubling((3, 3, 27, 3), 96),
        "convnext_base": _doubling((3, 3, 27, 3), 128),
        "convnext_large": _doubling((3, 3, 27, 3), 192),
        "convnext_xlarge": _doubling((3, 3, 27, 3), 256),
    },
    conventions=("pixels", "epsilon", "head_epsilon"),
    dialects=_DIALECTS,
    pretrained=curated("convnext"),
    from_hub=_from_hub,
)
