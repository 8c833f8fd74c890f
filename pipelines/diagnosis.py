"""Why a step of training went wrong: the examples, the layer and the gradient where numbers stop being finite."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from pipelines.datasets import Dataset, Part
from pipelines.feed import Feed

_SHOWN = 5  # names in a message
_FILES = 64  # those of a whole batch
Values = Sequence[Any]  # of model.variables, in their order


def explain(model: keras.Model, batch: Any, *, before: Values | None = None, names: Sequence[str] = ()) -> str:
    """What is not finite in a step of a compiled functional model on a batch, a finding a line.

    Looked at are the inputs, targets and weights of the examples; the model's own weights; the output of each layer,
    in training, from input to output; the loss; and the gradient of each layer, from output to input. The batch is
    the whole one, (inputs, targets) or (inputs, targets, weights); `names` are what its examples are called. `before`
    are the values of `model.variables` that the step began with; both they and the values after it are looked at.
    Nothing of the model is changed.
    """
    inputs, targets, weights = keras.utils.unpack_x_y_sample_weight(batch)
    lines = [*_of_data(inputs, "inputs", names), *_of_data(targets, "targets", names)]
    lines += [*_of_data(weights, "weights of the examples", names), *_of_labels(model, targets, names)]
    now = [np.asarray(variable) for variable in model.variables]
    stages = {"After the step": now} if before is None else {"Before the step": before, "After the step": now}
    for title, values in stages.items():
        found = _of_step(_Pass(model, (inputs, targets, weights), values), names)
        lines += [f"{title}: {found}"]
    if names:
        lines.append(f"The batch: {_listed(names, _FILES)}.")
    return "\n".join(lines)


def examples(feed: Feed, number: int) -> np.ndarray | None:
    """The numbers of the examples in a batch, counted from 0; None where the feed does not know."""
    return None if feed.numbers is None else next(iter(feed.numbers(number).take(1).as_numpy_iterator()))


def names_of(data: Dataset, part: Part, numbers: Iterable[int]) -> list[str]:
    """What examples of a part are called: files, rows of files, or their numbers where nothing else is known."""
    if hasattr(data, "names"):
        return list(data.names(part, numbers))
    rows = data.parts[part]
    files, table = getattr(rows, "images", ()), getattr(rows, "table", None)
    if table is not None:
        return [table.where(number) for number in numbers]
    return [
        str(files[number]) if len(files) and isinstance(files[number], str) else f"{part} example {number}"
        for number in numbers
    ]


def _of_data(data: Any, what: str, names: Sequence[str]) -> list[str]:
    """Which examples of a batch hold what is no finite number."""
    found = []
    parts = data.items() if isinstance(data, Mapping) else enumerate(keras.tree.flatten(data))
    for key, tensor in parts:
        values = np.asarray(tensor)
        wrong = _wrong(values)
        if wrong.any():
            place = f" {key!r}" if isinstance(data, Mapping) else ""
            rows = _listed(_called(_rows(wrong), names))
            found.append(f"The {what}{place} hold {_kinds(values)}: {wrong.sum()} of {wrong.size} values, in {rows}.")
    return found


def _of_labels(model: keras.Model, targets: Any, names: Sequence[str]) -> list[str]:
    """Whether labels, whole numbers for a single output of logits, are of classes that there are not."""
    outputs = getattr(model, "outputs", None) or []
    shape = outputs[0].shape if len(outputs) == 1 else None
    labels = np.asarray(targets) if tf.is_tensor(targets) or isinstance(targets, np.ndarray) else np.zeros(0)
    if shape is None or not np.issubdtype(labels.dtype, np.integer) or labels.ndim != len(shape) - 1:
        return []
    classes = shape[-1]
    odd = (labels < 0) | (labels >= classes)
    if odd.any():
        shown = ", ".join(map(str, np.unique(labels[odd])[:_SHOWN]))
        rows = _listed(_called(_rows(odd), names))
        return [f"Labels {shown} are of no class of the model, which has {classes}, in {rows}."]
    return []


@dataclass(frozen=True, eq=False)
class _Node:
    """A call of a layer or an operation in a model's graph, and its values in a pass."""

    operation: Any
    call: Any  # Keras' node
    inputs: list[tf.Tensor]
    outputs: list[tf.Tensor]


class _Pass:
    """A pass through a model in training with given values of its variables, which stay as they are."""

    def __init__(self, model: keras.Model, batch: tuple[Any, Any, Any], values: Values):
        self.model, self.batch = getattr(model, "_functional", model), batch
        self.whole = model
        self.state = [
            (v, tf.cast(tf.convert_to_tensor(value), v.dtype)) for v, value in zip(model.variables, values, strict=True)
        ]
        self.floats = [value for _, value in self.state if value.dtype.is_floating]
        self.learning = {id(variable) for variable in model.trainable_variables}

    def bad_weights(self) -> list[str]:
        """The layers with weights that are no finite numbers, from input to output."""
        wrong = [v.path.rsplit("/", 1)[0] for v, value in self.state if _wrong(value.numpy()).any()]
        return list(dict.fromkeys(wrong))

    def run(self) -> tuple[list[_Node], tf.Tensor, dict[int, tf.Tensor | None], dict[str, tf.Tensor | None]]:
        """The calls from input to output, the loss, and its gradient by every float value's id and variable's path."""
        inputs, targets, weights = self.batch
        with self._scope(), tf.GradientTape() as tape:
            tape.watch(self.floats)
            nodes, output = trace(self.model, inputs)
            loss = self.whole.compute_loss(inputs, targets, output, weights, training=True)
        flat = {id(t): t for node in nodes for t in (*node.inputs, *node.outputs) if t.dtype.is_floating}
        learned = {v.path: value for v, value in self.state if id(v) in self.learning}
        found, of_learned = tape.gradient(loss, [list(flat.values()), list(learned.values())])
        dense = [None if each is None else tf.convert_to_tensor(each) for each in (*found, *of_learned)]
        return nodes, loss, dict(zip(flat, dense, strict=False)), dict(zip(learned, dense[len(flat) :], strict=True))

    def breaks(self, node: _Node, gradients: Sequence[tf.Tensor | None]) -> bool:
        """Whether a call's own backward pass makes finite gradients of its outputs into others."""
        with self._scope(), tf.GradientTape() as tape:
            sources = self.floats + [t for t in node.inputs if t.dtype.is_floating]
            tape.watch(sources)
            outputs = [t for t in _called_again(node) if t.dtype.is_floating]
        known = [tf.zeros_like(t) if g is None else g for t, g in zip(outputs, gradients, strict=True)]
        found = tape.gradient(outputs, sources, output_gradients=known)
        return any(g is not None and _wrong(tf.convert_to_tensor(g).numpy()).any() for g in found)

    def _scope(self) -> keras.StatelessScope:
        return keras.StatelessScope(state_mapping=self.state)


def trace(model: keras.Model, inputs: Any) -> tuple[list[_Node], Any]:
    """The calls of a functional model's layers in training, in order, and its output."""
    nodes: list[_Node] = []
    calls = [
        node
        for depth in sorted(model._nodes_by_depth, reverse=True)
        for node in model._nodes_by_depth[depth]
        if not node.is_input
    ]
    wanted = {id(t): t for node in calls for t in (*node.input_tensors, *node.output_tensors)}
    probe = keras.Model(model.input, {"all": list(wanted.values()), "output": model.output})
    found = probe(inputs, training=True)
    known = dict(zip(wanted, found["all"], strict=True))
    for node in calls:
        own = [[known[id(t)] for t in tensors] for tensors in (node.input_tensors, node.output_tensors)]
        nodes.append(_Node(node.operation, node, *own))
    return nodes, found["output"]


def _called_again(node: _Node) -> list[tf.Tensor]:
    values = {id(symbol): value for symbol, value in zip(node.call.input_tensors, node.inputs, strict=True)}
    arguments, options = node.call.arguments.fill_in(values)
    if getattr(node.operation, "_call_has_training_arg", False):
        options["training"] = True
    return keras.tree.flatten(node.operation(*arguments, **options))


def _of_step(step: _Pass, names: Sequence[str]) -> str:
    """The first thing that is not finite in a step, in the order in which it is computed."""
    if weights := step.bad_weights():
        return f"the weights of {len(weights)} layers are not finite: {_listed(weights)}."
    if not hasattr(step.model, "_nodes_by_depth"):
        return "all weights are finite; the layers of a model that is not functional cannot be looked at."
    nodes, loss, gradients, learned = step.run()
    if found := _first_output(nodes, names):
        return found
    if not np.isfinite(loss):
        tops = ", ".join(f"{_top(t):.3g}" for t in nodes[-1].outputs)
        return f"every layer's output is finite, up to {tops} in the last; the loss is {float(loss)}."
    for node in reversed(nodes):
        floats = [gradients.get(id(t)) for t in node.outputs if t.dtype.is_floating]
        if any(g is not None and _wrong(g.numpy()).any() for g in floats):
            return f"the loss is {float(loss):.4g}, but its gradient for {_title(node)} is not finite."
        around = [gradients.get(id(t)) for t in node.inputs]
        own = [learned[v.path] for v in getattr(node.operation, "trainable_variables", ()) if v.path in learned]
        suspect = any(g is not None and _wrong(g.numpy()).any() for g in (*around, *own))
        if suspect and step.breaks(node, floats):
            return f"the loss is {float(loss):.4g}; going back, its gradient first fails in {_title(node)}."
    wrong = [path for path, g in learned.items() if g is not None and _wrong(g.numpy()).any()]
    if wrong:
        return f"the loss is {float(loss):.4g}; the gradients of {_listed(wrong)} are not finite."
    return f"all is finite: the outputs of all layers, the loss ({float(loss):.4g}) and the gradients."


def _first_output(nodes: Sequence[_Node], names: Sequence[str], *, within: str = "") -> str:
    """The first call with an output that is not finite, in a model inside the model too; '' where there is none."""
    for node in nodes:
        for output in node.outputs:
            values = output.numpy() if output.dtype.is_floating else np.zeros(0)
            wrong = _wrong(values)
            if not wrong.any():
                continue
            inner = getattr(node.operation, "_functional", node.operation)
            if hasattr(inner, "_nodes_by_depth"):
                arguments = keras.tree.pack_sequence_as(inner.input, node.inputs)
                if found := _first_output(trace(inner, arguments)[0], names, within=f"{within}{inner.name} > "):
                    return found
            top = max((_top(t) for t in node.inputs if t.dtype.is_floating), default=0.0)
            where = _listed(_called(_rows(wrong), names))
            return (
                f"the first output that is not finite is that of {_title(node, within)}: {_kinds(values)} in "
                f"{wrong.sum()} of {wrong.size} values, of {where}; its inputs go up to {top:.3g}."
            )
    return ""


def _title(node: _Node, within: str = "") -> str:
    return f"'{within}{node.operation.name}' ({type(node.operation).__name__})"


def _wrong(values: np.ndarray) -> np.ndarray:
    """Where there are no finite numbers."""
    is_number = values.dtype.kind in "fV"  # V: bfloat16, as NumPy sees it
    return ~np.isfinite(values.astype(np.float64)) if is_number else np.zeros(values.shape, bool)


def _kinds(values: np.ndarray) -> str:
    values = values.astype(np.float64)
    return " and ".join(name for name, there in (("NaN", np.isnan(values)), ("inf", np.isinf(values))) if there.any())


def _top(tensor: tf.Tensor) -> float:
    """The largest finite magnitude."""
    values = np.abs(tensor.numpy().astype(np.float64))
    return float(values[np.isfinite(values)].max(initial=0.0))


def _rows(wrong: np.ndarray) -> list[int]:
    return np.flatnonzero(wrong.reshape(len(wrong), -1).any(axis=1)).tolist() if wrong.ndim else []


def _called(rows: Iterable[int], names: Sequence[str]) -> list[str]:
    return [names[row] if row < len(names) else f"example {row} of the batch" for row in rows]


def _listed(names: Sequence[str], shown: int = _SHOWN) -> str:
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more
