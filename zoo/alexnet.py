"""AlexNet, the one-tower form of "one weird trick". Paper: https://arxiv.org/abs/1404.5997.

Differs from the paper: 64 filters in the first convolution and 256 in the fourth, no response normalization,
padding in the first convolution, and maps of other images are pooled to 6x6, all as torchvision does it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import keras
from keras import layers

from zoo.core.family import Family, HubMatch, Pixels, Task
from zoo.layers.dense_head import dense_head, pooled_to
from zoo.layers.pixels import image_input
from zoo.weights import hub
from zoo.weights.curated import curated
from zoo.weights.dialect import TORCH, Dialect, Rule, channels_last

_SMALLEST = 63  # pixels that leave one cell after the last pooling
_CELLS = 6  # the dense layers see a map of 6x6


@dataclass(frozen=True)
class Config:
    """Sizes of the layers."""

    filters: tuple[int, int, int, int, int] = (64, 192, 384, 256, 256)  # of each convolution
    hidden: int = 4096  # units of both dense layers before the logits
    dropout: float = 0.5  # before each of them
    pixels: Pixels = Pixels()


def build(config: Config, *, task: Task, classes: int, name: str) -> keras.Model:
    """(B, H, W, 3) -> logits (B, classes), or the map (B, H/32, W/32, 256) that the head would pool.

    Raises:
        ValueError: the image is too small for the strides.
    """
    if min(config.pixels.shape) < _SMALLEST:
        height, width = config.pixels.shape
        raise ValueError(f"{name!r} takes images of at least {_SMALLEST} pixels on each side, got {height}x{width}.")
    image, x = image_input(config.pixels)
    x = layers.ZeroPadding2D(2, name="stage1_pad")(x)
    for stage, (filters, kernel) in enumerate(zip(config.filters, (11, 5, 3, 3, 3), strict=True), start=1):
        if stage in (2, 3):
            x = layers.MaxPooling2D(3, 2, name=f"stage{stage}_pool")(x)
        stride, padding = (4, "valid") if stage == 1 else (1, "same")
        x = layers.Conv2D(filters, kernel, stride, padding, name=f"stage{stage}_conv")(x)
        x = layers.Activation("relu", name=f"stage{stage}_act")(x)
    x = layers.MaxPooling2D(3, 2, name="stage5_pool")(x)
    if task == "classify":
        x = pooled_to(x, _CELLS, _CELLS)
        x = dense_head(x, classes, width=config.hidden, dropout=config.dropout, dropout_first=True)
    return keras.Model(image, x, name=name)


def _from_hub(config: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]) -> HubMatch | None:
    """It has one name, and only torchvision publishes it."""
    published = hub.published_image_model(config)
    if published is None or published.architecture not in FAMILY.variants:
        return None
    hub.torchvision_arguments(config, known=("dropout",))
    found = replace(FAMILY.variants[published.architecture], pixels=published.pixels)
    return published.match(published.architecture, found, head=shapes.get("classifier.6.weight"))


_TORCHVISION = Dialect(
    TORCH,
    (
        *(Rule(f"stage{stage}_conv", f"features.{index}") for stage, index in enumerate((0, 3, 6, 8, 10), start=1)),
        Rule("head_dense1", "classifier.1", channels_last(_CELLS, _CELLS)),
        Rule("head_dense2", "classifier.4"),
        Rule("head_logits", "classifier.6"),
    ),
)

FAMILY = Family(
    paper="https://arxiv.org/abs/1404.5997",
    build=build,
    variants={"alexnet": Config()},
    dialects={"torchvision": _TORCHVISION},
    pretrained=curated("alexnet"),
    from_hub=_from_hub,
)
