"""Hub configurations: what config.json says in the words of timm, torchvision and transformers."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from reprlib import repr as short  # values of a stranger's file can be of any length
from typing import Any, Literal

from zoo.core.family import HubMatch, Pixels, Resize, Task
from zoo.weights.errors import CheckpointError
from zoo.weights.read import beside, read_json

_RESAMPLING: dict[Any, Literal["bilinear", "bicubic"]] = {  # also by PIL's numbers
    2: "bilinear",
    3: "bicubic",
    "bilinear": "bilinear",
    "bicubic": "bicubic",
}
_UNDERSTOOD_ARGUMENTS = {"img_size", "num_classes", "in_chans"}


@dataclass(frozen=True)
class PublishedImageModel:
    """What timm or torchvision say of an image model."""

    library: Literal["timm", "torchvision"]
    architecture: str
    pixels: Pixels
    classes: int | None  # 0: saved without a head

    def match(self, variant: str, config: Any, *, head: tuple[int, ...] | None) -> HubMatch:
        """The HubMatch; `head` is the shape of the classifier's weight, which must tell the same classes.

        Raises:
            CheckpointError: config.json and the tensors disagree about the number of classes.
        """
        task: Task = "features" if self.classes == 0 else "classify"
        if head is not None and self.classes and head[:1] != (self.classes,):
            raise CheckpointError(f"config.json speaks of {self.classes:,} classes, the classifier's shape is {head}.")
        return HubMatch(variant, config, task, self.classes or None)


def read_config(folder: Path) -> dict[str, Any] | None:
    """config.json of a Hub directory, with preprocessor_config.json under "preprocessor"; None if there is none."""
    config, preprocessor = folder / "config.json", folder / "preprocessor_config.json"
    if not os.path.isfile(beside(folder, config.name)):
        return None
    found = os.path.isfile(beside(folder, preprocessor.name))
    return read_json(config) | {"preprocessor": read_json(preprocessor) if found else {}}


def published_image_model(config: Mapping[str, Any]) -> PublishedImageModel | None:
    """What a timm or torchvision config.json says, or None if it is of another library.

    Raises:
        CheckpointError: a value is out of range, or the architecture was built with options unknown here.
    """
    if "architecture" not in config:
        return None
    values = {**config, **_object(config, "pretrained_cfg")}
    strange = set(_object(config, "model_args")) - _UNDERSTOOD_ARGUMENTS
    if strange:
        raise CheckpointError(
            f"config.json builds {short(config['architecture'])} with options unknown here: {short(sorted(strange))}."
        )
    shape = values.get("input_size", (3, 224, 224))
    if not isinstance(shape, (list, tuple)) or len(shape) != 3:
        raise CheckpointError(f"config.json: input_size={short(shape)} is not (channels, height, width).")
    channels = whole({"in_chans": shape[0], **_object(config, "model_args")}, "in_chans", 1, 1024)
    classes = config.get("num_classes", values.get("num_classes"))
    return PublishedImageModel(
        library="torchvision" if config.get("library_name") == "torchvision" else "timm",
        architecture=str(config["architecture"]),
        pixels=Pixels(
            size=sides(shape[1:], "input_size"),
            crop=number(values, "crop_pct", 0.01, 1.0, default=0.875),
            interpolation=_interpolation(values, "interpolation"),
            mean=_for_channels(values.get("mean", (0.485, 0.456, 0.406)), "mean", channels),
            std=_for_channels(values.get("std", (0.229, 0.224, 0.225)), "std", channels),
            channels=channels,
        ),
        classes=None if classes is None else whole({"num_classes": classes}, "num_classes", 0, 1_000_000),
    )


def torchvision_arguments(config: Mapping[str, Any], *, known: Collection[str] = ()) -> Mapping[str, Any]:
    """The arguments that a torchvision model was built with.

    Raises:
        CheckpointError: it was built with others than `known`, which change what the same weights compute.
    """
    arguments = _object(config, "torchvision_args")
    strange = sorted(set(arguments) - {"num_classes", *known})
    if strange:
        raise CheckpointError(
            f"config.json builds {short(config['architecture'])} with options unknown here: {short(strange)}."
        )
    return arguments


def transformers_pixels(config: Mapping[str, Any], size: int | tuple[int, int], *, resize: Resize = "cover") -> Pixels:
    """What a transformers preprocessor_config.json says; a mean and std of 0.5 where there is none.

    `resize` is what the preprocessor of this kind of model does where the file gives no size, or a number alone.
    """
    values = _object(config, "preprocessor")
    channels = whole(config, "num_channels", 1, 1024, default=3)
    return Pixels(
        size=size,
        crop=_crop(values),
        interpolation=_interpolation(values, "resample"),
        mean=_for_channels(values.get("image_mean", (0.5,) * 3), "image_mean", channels),
        std=_for_channels(values.get("image_std", (0.5,) * 3), "image_std", channels),
        channels=channels,
        resize=_resize(values.get("size"), resize),
    )


def _resize(size: Any, usual: Resize) -> Resize:
    """A shortest edge keeps the proportions, a height and a width do not."""
    if not isinstance(size, Mapping):
        return usual
    return "cover" if "shortest_edge" in size else "squash"


def _crop(preprocessor: Mapping[str, Any]) -> float:
    """The share of the resized image that a preprocessor's centre crop keeps; all of it where it does not crop."""
    if not preprocessor.get("do_center_crop"):
        return 1.0
    kept, resized = (_shorter_side(preprocessor, key) for key in ("crop_size", "size"))
    return min(1.0, kept / resized)


def _shorter_side(values: Mapping[str, Any], key: str) -> int:
    """The shorter side of a size: one number, or an object with shortest_edge or with height and width."""
    found = values.get(key)
    given = found if isinstance(found, Mapping) else {"shortest_edge": found}
    names = ("shortest_edge",) if "shortest_edge" in given else ("height", "width")
    return min(whole({key: given.get(name)}, key, 1, 16_384) for name in names)


def arguments(config: Mapping[str, Any], *, known: Collection[str]) -> Mapping[str, Any]:
    """The arguments that a network without a library of its own was built with, "args" of its config.json.

    Raises:
        CheckpointError: they are no object, or one is not among `known`.
    """
    values = config.get("args")
    if not isinstance(values, Mapping) or not set(values) <= set(known):
        raise CheckpointError(
            f"config.json: args={short(values)} must be an object with the arguments of "
            f"{short(config.get('architecture'))}; known here: {', '.join(known)}."
        )
    return values


def whole(values: Mapping[str, Any], key: str, low: int, high: int, *, default: int | None = None) -> int:
    """A whole number of a config.json within bounds that no real model leaves.

    Raises:
        CheckpointError: it is missing, no whole number, or out of bounds.
    """
    value = values.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise CheckpointError(f"config.json: {key}={short(value)} must be a whole number from {low:,} to {high:,}.")
    return value


def sides(value: Any, key: str) -> int | tuple[int, int]:
    """An image size of a config.json, as Pixels have it: one number, (height, width), or an object that names them.

    Raises:
        CheckpointError: it is neither, or out of bounds.
    """
    if isinstance(value, Mapping):
        value = value.get("shortest_edge") or (value.get("height"), value.get("width"))
    both = value if isinstance(value, (list, tuple)) else (value, value)
    if len(both) != 2:
        raise CheckpointError(f"config.json: {key}={short(value)} must be one number or (height, width).")
    height, width = (whole({key: side}, key, 1, 4096) for side in both)
    return height if height == width else (height, width)


def number(values: Mapping[str, Any], key: str, low: float, high: float, *, default: float | None = None) -> float:
    """A number of a config.json within bounds.

    Raises:
        CheckpointError: it is missing, no number, or out of bounds.
    """
    value = values.get(key, default)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
        raise CheckpointError(f"config.json: {key}={short(value)} must be a number from {low:g} to {high:g}.")
    return float(value)


def agree(key: str, said: int, found: int | None) -> None:
    """Refuse a config.json whose number the tensors do not bear out, before anything of that size is built.

    Raises:
        CheckpointError: they disagree.
    """
    if said != found:
        raise CheckpointError(f"config.json: {key}={said:,}, but the tensors beside it tell {found}.")


def _object(values: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """A JSON object inside another; empty where it is absent or null."""
    found = values.get(key) or {}
    if not isinstance(found, Mapping):
        raise CheckpointError(f"config.json: {key}={short(found)} must be an object.")
    return found


def _interpolation(values: Mapping[str, Any], key: str) -> Literal["bilinear", "bicubic"]:
    """How images are resized, by name or by PIL's number; bilinear where it is not said."""
    value = values.get(key)
    if value is None:
        return "bilinear"
    if not isinstance(value, (int, str)) or value not in _RESAMPLING:
        raise CheckpointError(f"config.json: {key}={short(value)}; known are bilinear and bicubic, PIL's 2 and 3.")
    return _RESAMPLING[value]


def _for_channels(values: Any, key: str, channels: int) -> tuple[float, ...]:
    """A mean or std on the scale 0..1, as ours on 0..255; one number stands for every channel."""
    if not isinstance(values, (list, tuple)) or len(values) not in (1, 3, channels):
        known = " or ".join(map(str, sorted({1, 3, channels})))
        raise CheckpointError(f"config.json: {key}={short(values)} must hold {known} numbers.")
    low = 1e-6 if key.endswith("std") else -10.0
    found = tuple(255 * number({key: value}, key, low, 10.0) for value in values)
    return found * channels if len(found) == 1 else found
