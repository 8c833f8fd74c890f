"""Find a family by variant name and build its model. Family modules are found by file name."""

from __future__ import annotations

import dataclasses
import fnmatch
import functools
import importlib
import pkgutil
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.core.naming import nearest

if TYPE_CHECKING:
    import keras

    from zoo.core.family import Family, Pixels, Task
    from zoo.layers.scale import Scale


def families() -> tuple[str, ...]:
    """Names of all families: the modules of the package `zoo`. Imports none of them."""
    root = str(Path(__file__).parents[1])
    return tuple(sorted(module.name for module in pkgutil.iter_modules([root]) if not module.ispkg))


@functools.cache
def load_family(name: str) -> Family:
    """What the module zoo/<name>.py declares."""
    return importlib.import_module(f"zoo.{name}").FAMILY


def variants(pattern: str = "*", *, family: str | None = None, task: Task | None = None) -> tuple[str, ...]:
    """Names of the variants that match a shell pattern, of one family or of all, for one task or any.

    Raises:
        ValueError: there is no such family or task.
    """
    from zoo.core.family import Task

    if task is not None and task not in typing.get_args(Task):
        near = nearest(task, typing.get_args(Task))
        raise ValueError(f"No task named {task!r}.{near} Tasks: {', '.join(typing.get_args(Task))}.")
    if family is not None and family not in families():
        near = nearest(family, families())
        raise ValueError(f"No family named {family!r}.{near} Families: {', '.join(families())}.")
    return tuple(
        name
        for member in ([family] if family else families())
        for name in load_family(member).variants
        if fnmatch.fnmatchcase(name, pattern) and (task is None or task in load_family(member).tasks)
    )


def find_family(variant: str) -> Family:
    """The family that declares a variant.

    A variant's name starts with its family's file name (the longest such name wins); a few well-known
    names do not ('deit_small16' is in vit.py) and are found by looking everywhere.

    Raises:
        ValueError: no family has it; the message gives the nearest names.
    """
    prefixes = sorted((name for name in families() if variant.startswith(name)), key=len, reverse=True)
    for member in (*prefixes, *(name for name in families() if name not in prefixes)):
        if variant in load_family(member).variants:
            return load_family(member)
    if prefixes:
        known = tuple(load_family(prefixes[0]).variants)
        near = nearest(variant, known)
        raise ValueError(f"No architecture named {variant!r}.{near} Family {prefixes[0]} has: {', '.join(known)}.")
    near = nearest(variant, variants())
    raise ValueError(f"No architecture named {variant!r}.{near} Families: {', '.join(families())}; see zoo.variants().")


def create(
    name: str,
    *,
    task: Task | None = None,
    classes: int | None = None,
    weights: str | Path | keras.Model | None = None,
    size: int | tuple[int, int] | None = None,
    **overrides: Any,
) -> keras.Model:
    """A model by name; with random weights unless `weights` names published ones.

    Image models take (B, H, W, 3) RGB 0..255 and give logits (B, classes), for task="multi_label" a yes or no of each
    class by its sigmoid; or, for task="regress", the numbers that `target`, a zoo.layers.scale.Scale, names, in their
    own units; or, for task="features", the last feature map (B, h, w, C) or tokens (B, T, D).

    Published weights fit other images than those of their training: another `size`, for which
    tables of positions are resized, and another number of `channels`, for which the first kernel is
    adapted.

    `classes` is the checkpoint's number, or the family's usual one (1000 for ImageNet families);
    another number than the checkpoint's leaves `head_logits` freshly initialized. `weights` is a tag
    of the family ("bundled"), a URI ("hf://org/repo", "https://...#sha256=...", "keras://resnet50"),
    a local file or directory, or a live keras.applications model. `size` is the image size in
    pixels, (height, width) where not square. Any field of the family's Config, or of its Pixels
    (crop, interpolation, channels), can be given by name.

    Raises:
        ValueError: no such architecture, task or Config field, or a value out of range.
        FileNotFoundError: the weights are not there.
        WeightsMismatch: the checkpoint does not fit; nothing was loaded.
    """
    family = find_family(name)
    if task == "regress" and regresses_by_logits(family, family.variants[name]):
        target = overrides.pop("target", None)
        make = functools.partial(create, name, weights=weights, size=size, **overrides)
        return regression(make, target, classes=classes)
    config = configure(family.variants[name], size=size, **overrides)
    if weights is None:
        return build(family, config, name=name, task=task, classes=classes)
    from zoo.weights.load import create_pretrained

    chosen = {**overrides, **({} if size is None else {"size": size})}
    return create_pretrained(family, name, weights, task=task, classes=classes, overrides=chosen)


def from_checkpoint(
    uri: str | Path,
    *,
    task: Task | None = None,
    classes: int | None = None,
    size: int | tuple[int, int] | None = None,
    **overrides: Any,
) -> keras.Model:
    """The model that a checkpoint's config.json describes, with its weights.

    Any size of a known family loads, not only the named variants. The task and the number of
    classes are those that the checkpoint was saved for, unless given.

    Raises:
        FileNotFoundError: the checkpoint or its config.json is not there.
        ValueError: config.json is unreadable, out of range or of an unknown architecture.
        WeightsMismatch: the tensors do not fit; nothing was loaded.
    """
    from zoo.weights.load import from_hub

    chosen = {**overrides, **({} if size is None else {"size": size})}
    return from_hub(uri, task=task, classes=classes, overrides=chosen)


def build(family: Family, config: Any, *, name: str, task: Task | None, classes: int | None) -> keras.Model:
    """A model of a family with random weights.

    Raises:
        ValueError: the family has no such task, or `classes` is not a sensible number.
    """
    from zoo.core.family import CLASSED

    task = task or family.tasks[0]
    if task not in family.tasks:
        raise ValueError(f"{name!r} has no task {task!r}. It has: {', '.join(family.tasks)}.")
    if task == "regress" and regresses_by_logits(family, config):
        return regression(functools.partial(build, family, config, name=name), None, classes=classes)
    if classes is not None and task not in (*CLASSED, "features"):
        raise ValueError(f"task={task!r} has no classes= to choose; it is for {' and '.join(CLASSED)}.")
    classes = family.classes if classes is None else classes
    if isinstance(classes, bool) or not isinstance(classes, int) or not 1 <= classes <= 1_000_000:
        raise ValueError(f"classes={classes!r} must be a whole number between 1 and 1,000,000.")
    return family.build(config, task="classify" if task == "multi_label" else task, classes=classes, name=name)


def regresses_by_logits(family: Family, config: Any) -> bool:
    """Whether a family knows of "classify" alone, whose logits become the numbers of "regress"."""
    return "regress" in family.tasks and not any(field.name == "target" for field in dataclasses.fields(config))


def regression(make: Callable[..., keras.Model], target: Scale | None, *, classes: int | None) -> keras.Model:
    """A model of the numbers that `target` names, from what makes one by its task and classes.

    Raises:
        ValueError: classes are given, or the target is no Scale.
    """
    from zoo.layers.scale import UNIT, Scale, in_units

    target = UNIT if target is None else target
    if classes is not None or not isinstance(target, Scale):
        raise ValueError(
            f"task='regress' takes target=Scale(names, mean, std) of zoo.layers.scale, one number each for what is to "
            f"be predicted; got target={target!r:.60} and classes={classes}."
        )
    return in_units(make(task="classify", classes=len(target.names)), target)


def configure(config: Any, *, size: int | tuple[int, int] | None = None, **overrides: Any) -> Any:
    """A Config with some fields replaced; `size` and other fields of Pixels are replaced inside `pixels`.

    Raises:
        ValueError: there is no such field (the message gives the nearest), or a value is out of range.
    """
    own = [field.name for field in dataclasses.fields(config)]
    inner = [field.name for field in dataclasses.fields(config.pixels)] if "pixels" in own else []
    for name in overrides:
        if name not in own and name not in inner:
            known = [*own, *inner]
            raise ValueError(f"There is no option {name!r} here.{nearest(name, known)} Options: {', '.join(known)}.")
    values = {name: _frozen(value) for name, value in overrides.items()} | ({} if size is None else {"size": size})
    changed = dataclasses.replace(config, **{name: value for name, value in values.items() if name in own})
    if "epsilon" in own and not 0 < changed.epsilon < 1:
        raise ValueError(f"epsilon={changed.epsilon!r} must be over 0 and under 1; it is added to a variance.")
    if not any(name in inner for name in values):
        return changed
    pixels = dataclasses.replace(changed.pixels, **{name: value for name, value in values.items() if name in inner})
    return dataclasses.replace(changed, pixels=_checked(pixels))


def _checked(pixels: Pixels) -> Pixels:
    sides = (pixels.size, pixels.size) if isinstance(pixels.size, (int, float)) else tuple(pixels.size)
    if len(sides) != 2 or not all(type(side) is int and 1 <= side <= 4096 for side in sides):
        raise ValueError(f"size={pixels.size!r} must be 1 to 4096 pixels, one number or (height, width).")
    if not isinstance(pixels.crop, (int, float)) or not 0 < pixels.crop <= 1:
        raise ValueError(f"crop={pixels.crop!r} must be over 0 and at most 1: the share that the centre crop keeps.")
    if pixels.interpolation not in ("bilinear", "bicubic"):
        raise ValueError(f"interpolation={pixels.interpolation!r} is unknown here. Known: bilinear, bicubic.")
    if pixels.resize not in ("cover", "squash"):
        raise ValueError(f"resize={pixels.resize!r} is unknown here. Known: cover, squash.")
    if type(pixels.channels) is not int or not 1 <= pixels.channels <= 1024:
        raise ValueError(f"channels={pixels.channels!r} must be a whole number from 1 to 1024; 3 is RGB.")
    levels = (pixels.mean, pixels.std)
    if (
        not all(isinstance(values, tuple) and values for values in levels)
        or len(pixels.mean) != len(pixels.std)
        or min(pixels.std) <= 0
    ):
        raise ValueError(f"mean={pixels.mean!r} and std={pixels.std!r} must be equally many numbers, std over 0.")
    return pixels


def _frozen(value: Any) -> Any:
    """Options read from JSON: lists as tuples, an object as Pixels."""
    from zoo.core.family import Pixels

    if isinstance(value, Mapping):
        return Pixels(**{name: _frozen(item) for name, item in value.items()})
    return tuple(_frozen(item) for item in value) if isinstance(value, list) else value
