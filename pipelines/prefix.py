"""A model cut in two: the frozen layers before all that learns, and the rest, which reads their answers."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from pipelines.freezing import dropping

_BACKWARD = 2  # the work of a gradient, in forward passes
_FREE = 64  # places that an axis of free length, which is that of tokens, counts for

Tensor = keras.KerasTensor


class NotCut(Exception):  # no error: the model is then trained as a whole
    """Why a model in its present state is not to be cut."""


class NothingFrozen(NotCut):
    """Nothing before what learns is frozen, or nothing with weights."""


@dataclass(frozen=True, eq=False)
class Prefix:
    """The two parts of a model whose layers are in the state of a phase; both share its layers.

    `first` gives the tensors (B, ...) that the rest reads, in inference. Of tensors that no weight had a part in, the
    rest begins with the model's inputs, whose names are in `inputs`. `saved` is the share of the work of a step that
    is saved where `first` need not run, and `work` what that is an example: both by a count of multiplications.
    """

    model: keras.Model
    first: keras.Model
    tensors: tuple[Tensor, ...]
    inputs: tuple[str, ...]
    saved: float
    work: int
    nodes: tuple[Any, ...]  # the calls of the rest, in order

    def identity(self) -> str:
        """A hash of the graph of `first`, its precision and its weights; the names of layers have no part in it."""
        digest = hashlib.sha256()
        calls = _calls(self.first)
        place = {id(tensor): f"input {name}" for name, tensor in _named_inputs(self.model).items()}
        for number, node in enumerate(calls):
            place |= {id(tensor): f"{number}:{index}" for index, tensor in enumerate(node.output_tensors)}
        for node in calls:
            arguments = keras.tree.map_structure(lambda x: place.get(id(x), repr(x)), _arguments(node))
            digest.update(repr((type(node.operation).__name__, _config(node.operation), arguments)).encode())
        digest.update(repr([place[id(tensor)] for tensor in self.tensors]).encode())
        for operation in {id(node.operation): node.operation for node in calls}.values():
            for variable in getattr(operation, "variables", ()):
                values = np.ascontiguousarray(keras.ops.convert_to_numpy(variable))
                digest.update(f"{values.shape} {variable.dtype}".encode() + values.tobytes())
        return digest.hexdigest()

    def rest(self) -> Rest:
        """What reads the tensors and the inputs, and answers as the model does."""
        return Rest(self)


class Rest:
    """Gives a model's outputs from the tensors of its prefix and the inputs it needs besides, in one tuple."""

    def __init__(self, prefix: Prefix):
        self._prefix, self._layer = prefix, _Calls(prefix)

    def __call__(self, values: Sequence[Any], *, training: bool) -> Any:
        self._prefix.model._clear_losses()  # those of the layers' last call, as the model would do
        return self._layer(tuple(values), training=training)


class _Calls(keras.layers.Layer):
    """Carries the training argument to all layers inside, as a model does; they are no part of it."""

    def __init__(self, prefix: Prefix):
        super().__init__(name="rest", autocast=False)
        self._run = lambda values, training: _run(prefix, values, training)  # which Keras does not look into
        self.built = True

    def call(self, values: tuple, training: bool = False) -> Any:
        return self._run(values, training)


def cut(model: keras.Model, *, least: float = 0.0) -> Prefix:
    """The model, cut where the answers of its frozen layers are read by what learns.

    A layer is frozen here if it has nothing to learn, keeps no statistics, and has no part in chance: its answers to
    an example are then always the same. The cut may go through several tensors, as where a connection skips layers.

    Raises:
        NotCut: nothing with weights is frozen, under `least` of the work of a step would be saved, or it is no graph.
    """
    if not hasattr(model, "_nodes_by_depth"):
        raise NotCut(f"{model.name!r} is no functional model")
    calls, inputs = _calls(model), _named_inputs(model)
    fixed = {id(tensor) for tensor in inputs.values()}
    weighty: set[int] = set()
    for node in calls:
        if _lives(node.operation) or not all(id(t) in fixed for t in node.input_tensors):
            continue
        if any(len(t.shape) == 0 or t.shape[0] is not None for t in node.output_tensors):
            continue  # has no axis of examples: it is cheap, and computed with the rest
        fixed.update(map(id, node.output_tensors))
        if getattr(node.operation, "weights", ()) or any(id(t) in weighty for t in node.input_tensors):
            weighty.update(map(id, node.output_tensors))
    rest, tensors, raw = _from_outputs(model, calls, weighty, fixed & {id(t) for t in inputs.values()})
    if not tensors:
        raise NothingFrozen("no frozen layer with weights comes before all that learns")
    first = keras.Model(model.input, list(tensors), name="prefix")
    mine = {id(node) for node in rest}
    before, after = _work(_calls(first)), _work(node for node in calls if id(node) in mine)
    saved = before / (before + (1 + _BACKWARD) * after) if before else 0.0
    if saved < least:
        raise NotCut(f"the frozen layers before all that learns are {saved:.0%} of the work")
    names = tuple(name for name, tensor in inputs.items() if id(tensor) in raw)
    return Prefix(model, first, tuple(tensors), names, saved, before, tuple(rest))


def _from_outputs(
    model: keras.Model, calls: Sequence[Any], weighty: set[int], inputs: set[int]
) -> tuple[list[Any], list[Tensor], set[int]]:
    """Back from the outputs to the fixed tensors: the calls in between, those tensors, and the inputs (ids)."""
    made = {id(tensor): node for node in calls for tensor in node.output_tensors}
    wanted, seen, found, raw = list(model.outputs), set[int](), list[Tensor](), set[int]()
    needed: set[int] = set()
    while wanted:
        tensor = wanted.pop()
        if id(tensor) in seen:
            continue
        seen.add(id(tensor))
        if id(tensor) in weighty:
            found.append(tensor)
        elif id(tensor) in inputs:
            raw.add(id(tensor))
        else:
            needed.add(id(made[id(tensor)]))
            wanted.extend(made[id(tensor)].input_tensors)
    order = {id(tensor): place for place, tensor in enumerate(t for node in calls for t in node.output_tensors)}
    return [node for node in calls if id(node) in needed], sorted(found, key=lambda t: order[id(t)]), raw


def _run(prefix: Prefix, values: Sequence[Any], training: bool) -> Any:
    inputs = _named_inputs(prefix.model)
    symbols = [*prefix.tensors, *(inputs[name] for name in prefix.inputs)]
    known = {id(symbol): value for symbol, value in zip(symbols, values, strict=True)}
    for node in prefix.nodes:
        arguments, options = node.arguments.fill_in(known)
        if getattr(node.operation, "_call_has_training_arg", False):
            options["training"] = training
        found = keras.tree.flatten(node.operation(*arguments, **options))
        known.update((id(symbol), value) for symbol, value in zip(node.output_tensors, found, strict=True))
    return keras.tree.map_structure(lambda symbol: known[id(symbol)], prefix.model.output)


def _lives(operation: Any) -> bool:
    """Whether a layer's answer to an example may change from step to step."""
    if not isinstance(operation, keras.layers.Layer):
        return False
    if operation.trainable_variables:
        return True
    for layer in operation._flatten_layers():
        names = dropping(layer)
        if any(getattr(layer, name) for name in names):
            return True
        if isinstance(layer, keras.layers.BatchNormalization) and layer.trainable:
            return True
        if not names and getattr(layer, "_seed_generators", ()):
            return True
    return False


def _work(calls: Iterable[Any]) -> int:
    """About how many multiplications the weights of some calls take part in, an example.

    Where whole numbers come in, rows of tables are looked up, which is none.
    """
    total = 0
    for node in calls:
        if any("int" in str(tensor.dtype) for tensor in node.input_tensors[:1]):
            continue
        places = [math.prod(side or _FREE for side in tensor.shape[1:-1]) for tensor in node.output_tensors]
        total += sum(math.prod(w.shape) for w in getattr(node.operation, "weights", ())) * max(places, default=1)
    return total


def _calls(model: keras.Model) -> list[Any]:
    """The calls of a model's layers, in an order in which they can be done."""
    depths = sorted(model._nodes_by_depth, reverse=True)
    return [node for depth in depths for node in model._nodes_by_depth[depth] if not node.is_input]


def _named_inputs(model: keras.Model) -> dict[str, Tensor]:
    return {tensor.name: tensor for tensor in model.inputs}


def _arguments(node: Any) -> Any:
    return [list(node.arguments.args), dict(sorted(node.arguments.kwargs.items()))]


def _config(operation: Any) -> str:
    """What a layer is, without its own name; of an operation without a config, its attributes."""
    try:
        config = dict(operation.get_config())
    except (NotImplementedError, TypeError):
        config = {name: repr(value) for name, value in vars(operation).items() if not name.startswith("_")}
    config.pop("name", None)
    config.pop("trainable", None)
    return json.dumps(config, sort_keys=True, default=repr)
