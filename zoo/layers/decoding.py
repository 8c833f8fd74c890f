"""Writing text token by token: from a language model to one that takes a few tokens and what it kept of those before.

Whatever a family builds of TransformerBlocks and of layers that look at each token alone can be written with; its
file says nothing about it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import keras
from keras import layers, ops

from zoo.layers.decoding_parts import EMPTY, BiasAt, BlockStep, KeysAndValues, Logits, OwnLogitsAt, PositionsAt, Visible
from zoo.layers.image_text import OwnLogits, TextThenImageBlock, TextThenImagePositions
from zoo.layers.positions import RelativePositions, SinusoidPositions
from zoo.layers.recurrent import steps
from zoo.layers.text import Bias
from zoo.layers.tokens import LearnedPositions
from zoo.layers.transformer_block import TransformerBlock

POINTWISE = (  # layers that look at each token alone
    layers.Activation,
    layers.Add,
    layers.Dense,
    layers.Dropout,
    layers.Embedding,
    layers.LayerNormalization,
    layers.Multiply,
    layers.RMSNormalization,
    layers.Rescaling,
    Bias,
)


@dataclass(frozen=True)
class Decoder:
    """A model that writes, in the parts that writing takes; they share its weights.

    `start` takes what the text hangs on, the encoder's inputs or a condition, and gives what `step` needs of it by the
    names of its inputs. It is None where there is nothing of that kind.

    `step` takes token_ids (B, T) and gives {"logits": (B, vocabulary) of what follows the last of them}. With a cache
    of keys and values it also takes `positions` (B, T), that of each token in its own text, and `cache_positions`
    (B, S), both EMPTY where there is none, and the tensors named in `cache`, each (B, H, S, W); it gives those of the
    new tokens, (B, H, T, W), by the same names: who keeps the cache puts them behind the others. The tensors named in
    `state` are replaced by those of the same name that it gives.
    """

    start: keras.Model | None
    step: keras.Model
    vocabulary: int
    prompts: int = 0  # tokens of the vocabulary that prompts are in; an encoder's may be another
    cache: tuple[str, ...] = ()
    state: tuple[str, ...] = ()
    length: int | None = None  # tokens that it has positions for; None: any number

    @property
    def encodes(self) -> bool:
        """Whether prompts are read by an encoder, and what is written begins with a start token of its own."""
        return self.start is not None and "token_ids" in self.start.input


def decoder_of(model: keras.Model) -> Decoder:
    """The parts of a model with task="causal_lm" or "seq2seq".

    Raises:
        ValueError: it is no language model, or it has a layer that is not known to work token by token.
    """
    inputs = model.input if isinstance(model.input, dict) else {}
    names = [name for name in ("decoder_token_ids", "token_ids") if name in inputs]
    if not names:
        raise ValueError(f"{model.name!r} takes no token_ids, so it cannot write text.")
    tables = [layer.input_dim for layer in model.layers if isinstance(layer, layers.Embedding)]
    logits = model.output.get("logits") if isinstance(model.output, dict) else model.output
    shape = getattr(logits, "shape", ())
    if len(shape) != 3 or shape[-1] not in tables:
        raise ValueError(
            f"{model.name!r} gives no logits over its vocabulary for each token, so it cannot write text. "
            'Models that can are built with task="causal_lm" or task="seq2seq".'
        )
    if any(isinstance(layer, layers.RNN) for layer in model.layers):
        found = _recurrent(model, shape[-1])
    else:
        found = _Rebuilt(model, names[0]).decoder(shape[-1])
    return replace(found, prompts=tables[0])


def _recurrent(model: keras.Model, vocabulary: int) -> Decoder:
    """The state of recurrent layers is all that they keep."""
    parts = steps(model)
    prefix = "decoder_" if "decoder_token_ids" in parts.step.input else ""
    state = {name: tensor for name, tensor in parts.step.input.items() if name.endswith("_0")}
    token_ids, positions = (keras.Input((None,), dtype="int32", name=name) for name in ("token_ids", "positions"))
    mask = ops.cast(positions > EMPTY, "int32")
    found = parts.step({f"{prefix}token_ids": token_ids, f"{prefix}padding_mask": mask, **state})
    step = keras.Model(
        {"token_ids": token_ids, "positions": positions, **state},
        {"logits": found["logits"][:, -1], **{name: found[f"{name[:-2]}_n"] for name in state}},
        name=f"{model.name}_step",
    )
    return Decoder(parts.start, step, vocabulary, state=tuple(state))


class _Rebuilt:
    """The graph of a model once more, with another part in the place of each layer that looks at several tokens."""

    def __init__(self, model: keras.Model, tokens: str):
        self.model, self.tokens = model, tokens
        self.token_ids = keras.Input((None,), dtype="int32", name="token_ids")
        self.positions = keras.Input((None,), dtype="int32", name="positions")
        self.cache_positions = keras.Input((None,), dtype="int32", name="cache_positions")
        self.caches: dict[str, keras.KerasTensor] = {}  # inputs of the step
        self.new: dict[str, keras.KerasTensor] = {}  # outputs of the step
        self.context: dict[str, keras.KerasTensor] = {}  # inputs of the step
        self.started: dict[str, keras.KerasTensor] = {}  # outputs of the start
        self.written: dict[int, keras.KerasTensor] = {}  # tensors that hang on the tokens, by id
        self.biases: dict[tuple[int, float], keras.KerasTensor] = {}  # what is added to scores
        self.length: int | None = None
        self.last = [layer for layer in model.layers if isinstance(layer, TransformerBlock)][-1:]

    def decoder(self, vocabulary: int) -> Decoder:
        given = dict(self.model.input)
        prefix = self.tokens.removesuffix("token_ids")
        mask = ops.cast(self.positions > EMPTY, "int32")
        ours = {self.tokens: self.token_ids, f"{prefix}padding_mask": mask}
        self._mark([self.token_ids, mask])
        outputs = self.model._run_through_graph({**given, **ours}, call_fn=self._call)  # what clone_model does
        begun = {name: tensor for name, tensor in given.items() if name not in ours}
        inputs = {"token_ids": self.token_ids, "positions": self.positions, "cache_positions": self.cache_positions}
        step = keras.Model(
            {**inputs, **self.caches, **self.context},
            {"logits": outputs, **self.new},
            name=f"{self.model.name}_step",
        )
        start = keras.Model(begun, self.started, name=f"{self.model.name}_start") if begun else None
        return Decoder(start, step, vocabulary, cache=tuple(self.caches), length=self.length)

    def _mark(self, tensors: Any) -> None:
        self.written |= {id(tensor): tensor for tensor in keras.tree.flatten(tensors)}

    def _call(self, operation: keras.Operation, *args: Any, **kwargs: Any) -> Any:
        """What an operation of the model gives in the rebuilt graph."""
        if not any(id(tensor) in self.written for tensor in keras.tree.flatten((args, kwargs))):
            return operation(*args, **kwargs)
        if isinstance(operation, TransformerBlock):
            outputs = self._block(operation, *args, **kwargs)
        elif isinstance(operation, LearnedPositions | SinusoidPositions | TextThenImagePositions):
            outputs = PositionsAt(operation, name=f"{operation.name}_step")(args[0], self.positions)
            self.length = getattr(operation, "length", self.length)
        elif isinstance(operation, RelativePositions):
            outputs = BiasAt(operation, name=f"{operation.name}_step")(self.positions, self.cache_positions)
        elif isinstance(operation, layers.ReversibleEmbedding) and kwargs.get("reverse"):
            outputs = Logits(operation, name="head_logits_step")(*args)
        elif isinstance(operation, OwnLogits):
            outputs = OwnLogitsAt(operation, name=f"{operation.name}_step")(args[0], self.positions[:, -1])
        elif isinstance(operation, POINTWISE) or not isinstance(operation, layers.Layer):
            outputs = operation(*args, **kwargs)
        else:
            raise ValueError(
                f"{self.model.name!r} cannot write text token by token: {type(operation).__name__} {operation.name!r} "
                "may look at several tokens at once."
            )
        self._mark(outputs)
        return outputs

    def _block(self, block: TransformerBlock, x, context=None, *, context_mask=None, position_bias=None, **_: Any):
        if not block.causal:
            raise ValueError(
                f"{self.model.name!r} cannot write text: its {block.name!r} looks at the tokens that come after."
            )
        caches = self._inputs(self.caches, block, block.kept)
        others: dict[str, Any] = {}
        if isinstance(block, TextThenImageBlock):
            others = {"positions": self.positions, "cache_positions": self.cache_positions}
        if context is not None:
            names = tuple(f"{block.name}_context_{part}" for part in ("key", "value"))
            found = KeysAndValues(block.cross_attention, name=f"{block.name}_context")(context)
            self.started |= dict(zip(names, found, strict=True))
            parts = {f"context_{part}": shape for part, shape in block.kept.items()}
            others["crossed"] = self._inputs(self.context, block, parts, length=found[0].shape[2])
            if context_mask is not None:
                others["context_mask"] = self.context[context_mask.name] = context_mask
        bias = self._bias(position_bias, block.mask_value)
        x, *new = BlockStep(block, name=f"{block.name}_step")(x, caches, bias=bias, **others)
        self.new |= dict(zip((f"{block.name}_{part}" for part in block.kept), new, strict=True))
        return x[:, -1] if block in self.last else x  # after it each token is alone, and only the last one counts

    def _inputs(
        self,
        into: dict[str, keras.KerasTensor],
        block: TransformerBlock,
        parts: Mapping[str, tuple[int, int]],
        *,
        length: int | None = None,
    ) -> list[keras.KerasTensor]:
        """Inputs (B, H, `length`, W) for what is kept of a block; an image as context has always as many tokens."""
        found = []
        for part, (heads, width) in parts.items():
            name = f"{block.name}_{part}"
            into[name] = keras.Input((heads, length, width), dtype=block.compute_dtype, name=name)
            found.append(into[name])
        return found

    def _bias(self, position_bias: keras.KerasTensor | None, mask_value: float) -> keras.KerasTensor:
        """What is added to the scores of the tokens for the cache's and for themselves: (B, 1 or H, T, S + T)."""
        key = (id(position_bias), mask_value)
        if key not in self.biases:
            name = f"stem_visible{len(self.biases) or ''}"
            bias = Visible(mask_value, dtype="float32", name=name)(self.positions, self.cache_positions)
            self.biases[key] = bias if position_bias is None else bias + position_bias
        return self.biases[key]


def fixed_step(model: keras.Model, length: int, *, batch: int | None = 1) -> keras.Model:
    """One step of writing as a model of fixed shapes whose outputs are inputs of the next: for export.

    It takes token_ids and positions (batch, 1) and what was kept of the `length` tokens before: cache_positions
    (batch, length), which is EMPTY everywhere at first, and the keys and values, at first 0; with recurrent layers, the
    state instead. It gives the logits (batch, vocabulary) and, by the names of the inputs, what to give next. What an
    encoder-decoder model needs of its encoder are inputs too; they come from `decoder_of(model).start`, padded to
    `length`.

    Raises:
        ValueError: `model` is no language model, or it has no positions for so many tokens.
    """
    decoder = decoder_of(model)
    if decoder.length is not None and not 1 <= length <= decoder.length:
        raise ValueError(f"length={length} must be 1 to {decoder.length} tokens, the positions of {model.name!r}.")
    inputs = {}
    for name, tensor in decoder.step.input.items():
        sides = (
            1 if name in ("token_ids", "positions") else length if side is None else side for side in tensor.shape[1:]
        )
        inputs[name] = keras.Input(batch_shape=(batch, *sides), dtype=tensor.dtype, name=name)
    found = decoder.step(inputs)
    outputs = {name: found[name] for name in ("logits", *decoder.state)}
    for name in decoder.cache:  # the oldest goes
        outputs[name] = ops.concatenate([inputs[name][:, :, 1:], found[name]], axis=2)
    if decoder.cache:
        moved = [inputs["cache_positions"][:, 1:], inputs["positions"]]
        outputs["cache_positions"] = ops.concatenate(moved, axis=1)
    return keras.Model(inputs, outputs, name=f"{model.name}_step")
