"""Stacks of recurrent layers, the states that go into and come out of them, and their graphs without loops."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple, get_args

import keras
from keras import layers, ops

from zoo.layers.text import text_inputs

Cell = Literal["simple", "lstm", "gru"]
Activation = Literal["tanh", "relu"]
States = list[list[keras.KerasTensor]]  # of each layer: the state, of LSTMs then the cell's, of each direction

_LAYERS = {"simple": layers.SimpleRNN, "lstm": layers.LSTM, "gru": layers.GRU}


@dataclass(frozen=True, kw_only=True)
class Recurrent:
    """A stack of layers of one kind; the Configs of families with one inherit these fields.

    Raises:
        ValueError: a value is unknown or out of range.
    """

    cell: Cell = "lstm"
    width: int = 256  # units of each direction
    depth: int = 2  # layers on top of each other
    bidirectional: bool = False
    activation: Activation = "tanh"  # of SimpleRNN; the others' is tanh
    bias: bool = True
    dropout: float = 0.0  # after each layer, another mask at each step
    recurrent_dropout: float = 0.0  # of the state, one mask for all steps

    def __post_init__(self) -> None:
        for name, kind in (("cell", Cell), ("activation", Activation)):
            if getattr(self, name) not in get_args(kind):
                known = ", ".join(get_args(kind))
                raise ValueError(f"{name}={getattr(self, name)!r} is unknown here. Known: {known}.")
        for name in ("width", "depth"):
            value = getattr(self, name)
            if type(value) is not int or value < 1:
                raise ValueError(f"{name}={value!r} must be a whole number over 0.")
        for name in ("dropout", "recurrent_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)!r} must be at least 0 and below 1: the share dropped.")

    @property
    def directions(self) -> int:
        """How many ways the sequence is read."""
        return 2 if self.bidirectional else 1

    @property
    def kept(self) -> tuple[str, ...]:
        """What a layer carries from step to step, by torch's letters: the state h, and in LSTMs the cell's c."""
        return ("h", "c") if self.cell == "lstm" else ("h",)

    @property
    def decoder(self) -> Recurrent:
        """A stack that can go on from the last states of this one, both directions' side by side."""
        return replace(self, bidirectional=False, width=self.directions * self.width)


@keras.saving.register_keras_serializable("zoo")
class Bidirectional(layers.Bidirectional):
    """Keras' layer, which gives at padding whatever it gave before instead of 0.

    Unrolled, Keras puts the zeros of the backward layer where the reversed sequence is padded, over its answers.
    """

    def __init__(self, *arguments: Any, **options: Any):
        super().__init__(*arguments, **options)
        self.forward_layer.zero_output_for_mask = self.backward_layer.zero_output_for_mask = False


class Stack(NamedTuple):
    """What a stack gives: its output, and the last states of its layers if they were asked for."""

    output: keras.KerasTensor
    states: States


def stack(
    x: keras.KerasTensor,
    options: Recurrent,
    *,
    mask: keras.KerasTensor | None = None,
    first: Mapping[str, keras.KerasTensor] | None = None,
    states: bool = False,
    dropout: float | None = None,
    tower: str = "",
) -> Stack:
    """The layers block0, block1, ...: (B, T, F) -> (B, T, D).

    D is the width of all directions together. `mask` is (B, T), 1 = step; where it is 0 the states stay and the
    output is 0, so that padding changes nothing. `first` are the states to begin with, joined; zeros if not given.
    `dropout` is that after the last layer where it differs.
    """
    last: States = []
    begin = split_states(first, options) if first else None
    for block in range(options.depth):
        top = block == options.depth - 1
        layer = _layer(options, states=states, name=f"{tower}block{block}")
        given = {"initial_state": begin[block]} if begin else {}
        x = layer(x, mask=mask, **given)
        if states:
            x, *found = x
            last.append(found)
        x = _zeros_at_padding(x, mask)
        rate = dropout if top and dropout is not None else options.dropout
        x = layers.Dropout(rate, name=f"{tower}block{block}_dropout")(x)
    return Stack(x, last)


def _zeros_at_padding(x: keras.KerasTensor, mask: keras.KerasTensor | None) -> keras.KerasTensor:
    """By an op, after which Keras no longer carries the mask along: it would reach into losses."""
    return x if mask is None else ops.where(mask[..., None] > 0, x, 0.0)


def at_the_end(x: keras.KerasTensor, options: Recurrent, *, mask: keras.KerasTensor | None = None) -> keras.KerasTensor:
    """What a stack gives at its last step, which for the backward direction is the first: (B, T, D) -> (B, D).

    With a mask the last and the first of the steps that it has; zeros where it has none.
    """
    halves = ops.split(x, options.directions, axis=-1)
    if mask is None:
        ends = [half[:, place] for half, place in zip(halves, (-1, 0), strict=False)]
    else:
        count = ops.cumsum(mask, axis=1)  # the steps until each, so that the last one has that of all
        chosen = (ops.logical_and(mask > 0, ops.equal(count, end)) for end in (count[:, -1:], 1))
        ends = [
            ops.sum(ops.where(place[..., None], half, 0.0), axis=1) for half, place in zip(halves, chosen, strict=False)
        ]
    return ops.concatenate(ends, axis=-1)


def _layer(options: Recurrent, *, states: bool, name: str) -> keras.layers.Layer:
    layer = _LAYERS[options.cell](
        options.width,
        activation=options.activation if options.cell == "simple" else "tanh",
        use_bias=options.bias,
        recurrent_dropout=options.recurrent_dropout,
        return_sequences=True,
        return_state=states,
        name=options.cell if options.bidirectional else name,
    )
    return Bidirectional(layer, name=name) if options.bidirectional else layer


def state_inputs(options: Recurrent) -> dict[str, keras.KerasTensor]:
    """Inputs for the first states: h_0, in LSTMs also c_0, (B, layers * directions, width) in the order of torch."""
    shape = (options.depth * options.directions, options.width)
    return {f"{letter}_0": keras.Input(shape, name=f"{letter}_0") for letter in options.kept}


def split_states(tensors: Mapping[str, keras.KerasTensor], options: Recurrent) -> States:
    """h_0 (and c_0), each (B, layers * directions, width), as the layers take them."""
    ways = options.directions
    return [
        [tensor[:, ways * block + way] for way in range(ways) for tensor in tensors.values()]
        for block in range(options.depth)
    ]


def joined_states(states: States, options: Recurrent, *, when: Literal["0", "n"]) -> dict[str, keras.KerasTensor]:
    """The other way round: {"h_n": (B, layers * directions, width)}, in LSTMs also "c_n"."""
    flat = [state for layer in states for state in layer]
    letters = options.kept
    return {f"{letter}_{when}": ops.stack(flat[i :: len(letters)], axis=1) for i, letter in enumerate(letters)}


def handed_over(states: States, options: Recurrent) -> dict[str, keras.KerasTensor]:
    """The last states of an encoder as the first of its decoder, joined, both directions' side by side."""
    half = len(options.kept)
    if options.bidirectional:
        pairs = [zip(layer[:half], layer[half:], strict=True) for layer in states]
        states = [[ops.concatenate(pair, axis=-1) for pair in layer] for layer in pairs]
    return joined_states(states, options.decoder, when="0")


def conditioned(vector: keras.KerasTensor, options: Recurrent) -> dict[str, keras.KerasTensor]:
    """The first states from a vector (B, C), joined."""
    shape = (len(options.kept), options.depth, options.width)
    x = layers.Dense(math.prod(shape), "tanh", name="stem_condition")(vector)
    x = layers.Reshape(shape, name="stem_states")(x)
    return {f"{letter}_0": x[:, i] for i, letter in enumerate(options.kept)}


class Steps(NamedTuple):
    """A model that writes token after token, in the parts that writing takes; they share its weights.

    `start` gives the first states, {"h_0": (B, layers, width)} and in LSTMs "c_0", from what the text hangs on: the
    encoder's inputs or the condition. It is None where they are zeros. `step` takes token_ids and padding_mask
    (decoder_token_ids, decoder_padding_mask in an encoder-decoder model), (B, T) for any T, and these states, and
    gives {"logits": (B, T, vocabulary), "h_n": the states after them, in LSTMs "c_n"}.
    """

    start: keras.Model | None
    step: keras.Model


def steps(model: keras.Model) -> Steps:
    """The parts of a recurrent model of task="causal_lm" or "seq2seq", for generation with its state as the cache."""
    if "h_0" in model.input:
        return Steps(None, model)
    tower = r"decoder\." if "decoder_token_ids" in model.input else ""
    blocks = _named(model, rf"{tower}block\d+")
    kinds = {kind: cell for cell, kind in _LAYERS.items()}
    options = Recurrent(cell=kinds[type(blocks[0])], width=blocks[0].units, depth=len(blocks))
    inputs = text_inputs(prefix="decoder_" if tower else "")
    (tokens, mask), first = inputs.values(), state_inputs(options)
    embedding, last = _named(model, r".*stem_tokens")[0], []
    x = embedding(tokens)
    for block, states in zip(blocks, split_states(first, options), strict=True):
        x, *found = block(x, mask=mask, initial_state=states)
        x = _zeros_at_padding(x, mask)
        last.append(found)
    heads = {layer.name: layer for layer in model.layers if layer.name in ("head_bias", "head_vocabulary")}
    logits = (
        heads["head_vocabulary"](x) if "head_vocabulary" in heads else heads["head_bias"](embedding(x, reverse=True))
    )
    outputs = {"logits": logits, **joined_states(last, options, when="n")}
    return Steps(_start(model, options), keras.Model(inputs | first, outputs, name=f"{model.name}_step"))


def _start(model: keras.Model, options: Recurrent) -> keras.Model | None:
    given = {name: tensor for name, tensor in model.input.items() if not name.startswith("decoder_")}
    if "condition" in given:
        x = model.get_layer("stem_states").output
        states = {f"{letter}_0": x[:, i] for i, letter in enumerate(options.kept)}
        return keras.Model({"condition": given["condition"]}, states, name=f"{model.name}_start")
    encoder = _named(model, r"encoder\.block\d+")
    if not encoder:
        return None
    both = isinstance(encoder[0], layers.Bidirectional)
    encoding = replace(options, bidirectional=both, width=options.width // (2 if both else 1))
    states = handed_over([list(block.output[1:]) for block in encoder], encoding)
    return keras.Model(given, states, name=f"{model.name}_start")


def _named(model: keras.Model, pattern: str) -> list[keras.layers.Layer]:
    """The layers of that name, from input to output."""
    return [layer for layer in model.layers if re.fullmatch(pattern, layer.name)]


def unrolled(model: keras.Model, steps: int, *, copy: bool = True) -> keras.Model:
    """The same model for sequences of `steps` steps alone, its recurrent layers without loops.

    The converter to TFLite cannot calibrate loops for int8. With `copy` it has the model's weights (a copy of them),
    else new ones. Every input with a time axis of any length becomes one of `steps`.
    """
    twin = type(model).from_config(_fixed(model.get_config(), steps))
    if copy:
        twin.set_weights(model.get_weights())
    return twin


def _fixed(config: Any, steps: int) -> Any:
    """A model's config with every time axis fixed and every loop unrolled."""
    if isinstance(config, Mapping):
        found = {key: _fixed(value, steps) for key, value in config.items()}
        if "unroll" in found:
            found["unroll"] = True
        shape = found.get("batch_shape")
        if shape is not None and len(shape) > 1 and shape[1] is None:
            found["batch_shape"] = (shape[0], steps, *shape[2:])
        return found
    return [_fixed(value, steps) for value in config] if isinstance(config, (list, tuple)) else config
