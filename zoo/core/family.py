"""What a family file declares: its variants, its graph, its published weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import keras

    from zoo.weights.dialect import Dialect

Task = Literal[
    "classify", "multi_label", "features", "regress", "tag", "answer", "masked_lm", "causal_lm", "seq2seq", "forecast",
    "contrast", "image_features", "text_features", "caption", "match",
    "generate", "discriminate", "encode", "decode", "reconstruct", "text_to_image",
]  # fmt: skip
CLASSED: tuple[Task, ...] = ("classify", "multi_label", "tag")  # the tasks with a number of classes to choose

Resize = Literal["cover", "squash"]

IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)


@dataclass(frozen=True)
class Pixels:
    """How an image must look before it enters the graph: RGB, 0..255.

    `size` is in pixels, one number for a square or (height, width). `crop` is the share of the
    resized image that the centre crop keeps. `resize` says what becomes of an image of other
    proportions: "cover" keeps them and the crop cuts what is too much, "squash" gives them up and
    shows all of it. `mean` and `std` are on the scale 0..255. `channels` other than 3 are for
    images that are not RGB, such as a satellite's bands or a depth beside RGB.
    """

    size: int | tuple[int, int] = 224
    crop: float = 0.875
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    channels: int = 3
    resize: Resize = "cover"

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return (self.size, self.size) if isinstance(self.size, int) else self.size


@dataclass(frozen=True)
class Pretrained:
    """One published checkpoint: where it is, how to read it, what it was trained for.

    `overrides` holds the Config fields that differ from the variant's: numeric conventions, pixels.
    """

    uri: str
    licence: str
    dialect: str | None = None
    sha256: str = ""
    classes: int | None = None
    overrides: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class HubMatch:
    """What a Hub config.json describes: a Config of ours, the task and the classes it was saved for."""

    variant: str
    config: Any
    task: Task = "classify"
    classes: int | None = None


@dataclass(frozen=True, kw_only=True)
class Family:
    """A named set of architectures that share one graph-building function.

    `build(config, *, task, classes, name)` is pure. It is asked for "classify" where the task is "multi_label", and
    where it is "regress" of a Config without a `target`: the graph is the same up to the logits. `conventions` names
    the Config fields that belong to a checkpoint rather than to the architecture (padding, epsilon, pixels):
    `create(name, weights=directory)` takes them from the checkpoint. `from_hub` turns a Hub config.json and the shapes
    of the tensors beside it into a HubMatch, or None if it is another family's.
    """

    paper: str
    build: Callable[..., keras.Model]
    variants: Mapping[str, Any]
    tasks: tuple[Task, ...] = ("classify", "multi_label", "regress", "features")
    classes: int = 1000
    conventions: tuple[str, ...] = ("pixels",)
    dialects: Mapping[str, Dialect] = field(default_factory=dict)
    pretrained: Mapping[str, Pretrained] = field(default_factory=dict)
    from_hub: Callable[[Mapping[str, Any], Mapping[str, tuple[int, ...]]], HubMatch | None] | None = None
