"""The strict engine: every variable of a model from a checkpoint, all of them or none."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from zoo.core.naming import GRAMMAR
from zoo.weights.adapt import Adapter
from zoo.weights.dialect import Copy, Dialect, Source
from zoo.weights.errors import WeightsMismatch
from zoo.weights.layouts import Shape
from zoo.weights.read import Tensors
from zoo.weights.report import fold

if TYPE_CHECKING:
    import keras

LOGITS = r"(?:.*\.)?head_logits(?:_.*)?"  # layer paths of classifiers, all that depends on the number of classes


@dataclass
class Plan:
    """What a dialect would assign to a model, and everything in the checkpoint's shapes that stands against it."""

    sources: dict[str, tuple[Source, Shape]] = field(default_factory=dict)  # by variable, such as 'stem_conv/kernel'
    kept: list[str] = field(default_factory=list)  # layers left as they are, as asked
    adapted: list[str] = field(default_factory=list)  # what is changed for other images, in words
    copies: list[Copy] = field(default_factory=list)  # tensors that must be equal to others
    missing: list[str] = field(default_factory=list)
    looked_for: str = ""  # the first tensor that was not there
    misshapen: dict[str, str] = field(default_factory=dict)  # variable -> what is wrong with it
    unused: list[str] = field(default_factory=list)

    @property
    def problems(self) -> int:
        """How many variables and tensors do not fit."""
        return len(self.missing) + len(self.misshapen) + len(self.unused)

    def report(self) -> str:
        """The problems in one paragraph, layer indices folded, with what to do if that can be told."""
        parts = []
        if self.missing:
            looked = f" (first looked for {self.looked_for!r})" if self.looked_for else ""
            parts.append(f"Missing {len(self.missing)}: {fold(self.missing)}{looked}.")
        if self.misshapen:
            example = next(iter(self.misshapen.values()))
            parts.append(f"Misshapen {len(self.misshapen)}: {fold(self.misshapen)} ({example}).")
        if self.unused:
            parts.append(f"Not used {len(self.unused)}: {fold(self.unused)}.")
        return " ".join([*parts, *self._advice()])

    def _advice(self) -> Iterator[str]:
        if not self.sources and not self.misshapen:
            yield "No tensor has a name that is known here: it is a checkpoint of another architecture or publisher."
        elif self.missing and not self.misshapen and not self.unused:
            if all(re.fullmatch(LOGITS, name.rpartition("/")[0]) for name in self.missing):
                yield "It has no classifier: give classes=N for a fresh one, or task='features'."
            elif all(name.endswith("/bias") for name in self.missing):
                yield "A checkpoint without convolution biases needs conv_bias=False."
        for tower in sorted(_towers(self.missing) - _towers(self.sources) - _towers(self.misshapen)):
            yield f"It has nothing of the tower {tower!r}: it is a checkpoint of another one, or for another task."


def _towers(variables: Iterable[str]) -> set[str]:
    """The towers, such as 'image', that variables belong to."""
    matches = (GRAMMAR.match(name.partition("/")[0]) for name in variables)
    return {match["tower"] for match in matches if match and match["tower"]}


def translate(
    model: keras.Model, tensors: Mapping[str, np.ndarray], dialect: Dialect, *, keep: Iterable[str] = ()
) -> None:
    """Assign every weight of `model` from `tensors`, except the layers whose path matches a regex of `keep`.

    Raises:
        WeightsMismatch: a tensor is missing, misshapen, not finite or left over; nothing was assigned.
    """
    opened = tensors if isinstance(tensors, Tensors) else Tensors.of(tensors)
    plan = make_plan(model, opened.shapes, dialect, keep=keep)
    if plan.problems:
        raise WeightsMismatch(f"The checkpoint does not fit {model.name!r}; nothing was loaded. {plan.report()}")
    deque(values(plan, opened), maxlen=0)  # all are read once before any is assigned
    ours = {variable.path: variable for _, _, variable in variables(model)}
    for path, array in values(plan, opened):
        ours[path].assign(array)


def make_plan(
    model: keras.Model,
    shapes: Mapping[str, Shape],
    dialect: Dialect,
    *,
    keep: Iterable[str] = (),
    adapters: Mapping[str, Adapter] | None = None,
) -> Plan:
    """What a dialect would assign to `model`, from the shapes of the tensors alone: nothing is read.

    `adapters` are for the variables, by path, whose arrays may be changed to fit.
    """
    plan = Plan()
    used: set[str] = set()
    paths: set[str] = set()
    for layer_class, path, variable in variables(model):
        paths.add(path)
        source = dialect.source(path, layer_class, variable.name)
        names = source.names if source else ()
        if any(re.fullmatch(pattern, path) for pattern in keep):
            plan.kept.append(path)
        elif source is None or not all(name in shapes for name in names):
            plan.missing.append(f"{path}/{variable.name}")
            plan.looked_for = plan.looked_for or next((name for name in names if name not in shapes), "")
        else:
            _plan_variable(plan, variable, source, shapes, adapter=(adapters or {}).get(variable.path))
        used.update(names)
    plan.copies = [copy for copy in dialect.copies if copy.theirs in shapes and copy.of in used and copy.where in paths]
    used.update(copy.theirs for copy in plan.copies)
    for name in shapes:
        ignored = any(re.fullmatch(pattern, name) for pattern in dialect.ignore)
        if name not in used and not ignored and not dialect.is_unused(name, paths):
            plan.unused.append(name)
    return plan


def _plan_variable(
    plan: Plan, variable: keras.Variable, source: Source, shapes: Mapping[str, Shape], *, adapter: Adapter | None
) -> None:
    """Put one variable into the plan if its tensors would come out in its shape."""
    shape = tuple(variable.shape)
    try:
        hollow = [np.broadcast_to(np.float32(0), shapes[name]) for name in source.names]  # a shape without memory
        found = source.array(hollow, shape).shape
        if adapter is not None and (change := adapter.describe(found, shape)):
            plan.adapted.append(change)
            source = source._replace(adapt=adapter)
            found = source.array(hollow, shape).shape
    except (ValueError, IndexError):  # a transpose or split that this shape does not have
        found = None
    if found == shape:
        plan.sources[variable.path] = (source, shape)
    else:
        held = ", ".join(f"{fold([name])!r} {tuple(shapes[name])}" for name in source.names)
        ours = f"{_layer_path(variable)}/{variable.name}"
        plan.misshapen[ours] = f"{ours} takes {shape}, the checkpoint has {held}"


def values(plan: Plan, tensors: Mapping[str, np.ndarray]) -> Iterator[tuple[str, np.ndarray]]:
    """(variable, array in float32) for all of a plan without problems, read one at a time.

    Raises:
        WeightsMismatch: a tensor is not the copy that it should be; or it holds NaN, infinity or no floating-point
            numbers at all, which is told after the last array.
    """
    for copy in plan.copies:
        if not np.array_equal(tensors[copy.theirs], tensors[copy.of]):
            raise WeightsMismatch(
                f"{copy.theirs!r} differs from {copy.of!r}, which this model takes in its place. Nothing was loaded. "
                "A checkpoint that does not tie the two needs tied=False, where the family has this option."
            )
    unusable: list[str] = []
    for ours, (source, shape) in plan.sources.items():
        parts = [tensors[name] for name in source.names]
        array = None
        if all(map(_is_usable, parts)):
            with np.errstate(over="ignore"):  # a float64 beyond float32 becomes infinite, and is refused as such
                array = source.array(parts, shape).astype("float32", copy=False)
        if array is not None and np.isfinite(array).all():
            yield ours, array
        else:
            unusable += source.names
    if unusable:
        raise WeightsMismatch(
            f"The checkpoint does not hold finite floating-point numbers in {len(unusable)} tensors: {fold(unusable)}. "
            "Nothing was loaded. The file is damaged, or its training had diverged."
        )


def _is_usable(array: np.ndarray) -> bool:
    return array.dtype.kind == "f" or array.dtype.name == "bfloat16"


def variables(model: keras.Model) -> Iterator[tuple[str, str, keras.Variable]]:
    """(layer class, layer path, variable) of every weight, in graph order; random states are no weights."""
    for layer in model._flatten_layers(include_self=False, recursive=True):
        for variable in (*layer._trainable_variables, *layer._non_trainable_variables):
            yield _layer_class(layer), _layer_path(variable), variable


def _layer_class(layer: keras.layers.Layer) -> str:
    """The class of Keras that a layer is of, whose layout it has: our faster ones are its subclasses."""
    return next(kind.__name__ for kind in type(layer).__mro__ if kind.__module__.partition(".")[0] == "keras")


def _layer_path(variable: keras.Variable) -> str:
    """The path of a variable's layer, from the innermost layer on that is named by the grammar."""
    names = variable.path.split("/")[:-1]
    start = max((index for index, name in enumerate(names) if GRAMMAR.fullmatch(name)), default=0)
    return "/".join(names[start:])
