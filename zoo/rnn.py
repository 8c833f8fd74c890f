"""Recurrent networks: SimpleRNN, LSTM and GRU.

Papers: https://doi.org/10.1207/s15516709cog1402_1, https://doi.org/10.1162/neco.1997.9.8.1735, arXiv 1406.1078.

What goes in and out has one of four shapes: many-to-one (classify, regress, forecast), many-to-many of one length (tag,
features, causal_lm) or of another (seq2seq, arXiv 1409.3215), one-to-many (causal_lm with a
`condition`), and one-to-one, which is any of the first on a sequence of one step.

Differs from the papers: the GRU resets its state after the product with the recurrent kernel, as cuDNN and torch do,
and the encoder of seq2seq reads its sequence forward.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from reprlib import repr as short
from typing import Any

import keras
from keras import layers

from zoo.core.family import Family, HubMatch, Task
from zoo.layers.heads import logits
from zoo.layers.recurrent import (
    Recurrent,
    at_the_end,
    conditioned,
    handed_over,
    joined_states,
    stack,
    state_inputs,
    unrolled,
)
from zoo.layers.recurrent_names import torch_dialect
from zoo.layers.scale import UNIT, Scale, value_head
from zoo.layers.series import Windows, forecast_head, series_input
from zoo.layers.text import Bias, text_inputs, token_embedding
from zoo.weights.errors import CheckpointError
from zoo.weights.hub import agree, number, whole
from zoo.weights.layouts import Shape

TASKS: tuple[Task, ...] = ("classify", "regress", "tag", "features", "forecast", "causal_lm", "seq2seq")
CONVENTIONS = ("features", "states", "activation", "bias")


@dataclass(frozen=True, kw_only=True)
class Config(Recurrent):
    """The recurrent layers, and what goes in and out of them."""

    vocabulary: int = 10_000  # tokens; unused where `features` is given
    embedding: int = 128  # width of a token's vector
    features: int = 0  # numbers at each step of a float series; 0: the model takes tokens
    padded: bool = False  # a float series comes with a padding_mask
    series: Windows | None = None  # what task="forecast" takes and gives
    target: Scale = UNIT  # what task="regress" gives, in its own units
    condition: int = 0  # width of a vector that the states of task="causal_lm" begin from; 0: they begin at zero
    states: bool = False  # task="features" and "causal_lm" take the first states and give the last
    tied: bool = False  # logits over the vocabulary come from the table of token vectors
    unroll: int = 0  # steps of a graph without loops, for that length alone; 0: a loop for any length


def build(config: Config, *, task: Task, classes: int, name: str) -> keras.Model:
    """Tokens (B, T) or a series (B, T, features) -> what the task gives; D is the width of all directions together.

    classify: logits (B, classes); regress: (B, targets); forecast: (B, horizon, targets); tag: logits (B, T, classes);
    features: (B, T, D), 0 at padding; causal_lm, seq2seq: logits (B, T, vocabulary). With `states` a dict of "tokens"
    or "logits", "h_n" and in LSTMs "c_n", which are (B, layers * directions, width) in the order of torch.

    Raises:
        ValueError: these options do not go together, or not with the task.
    """
    _check(config, task)
    if task == "seq2seq":
        model = _encoder_decoder(config, name)
    elif task == "forecast":
        model = _forecaster(config, name)
    elif task == "causal_lm":
        model = _language_model(config, name)
    else:
        model = _reader(config, task, classes, name)
    return unrolled(model, config.unroll, copy=False) if config.unroll else model


def _check(config: Config, task: Task) -> None:
    if task == "causal_lm" and config.bidirectional:
        raise ValueError(
            "A bidirectional model sees the tokens that task='causal_lm' is to predict. Take another task."
        )
    if task == "causal_lm" and config.features:
        raise ValueError(f"task='causal_lm' takes tokens, not a series of features={config.features}.")
    if config.condition and config.states:
        raise ValueError("The first states come from condition= or from the inputs of states=True, not from both.")
    written = config.decoder.width if task == "seq2seq" else config.width
    if config.tied and task in ("causal_lm", "seq2seq") and written != config.embedding:
        raise ValueError(
            f"tied=True takes token vectors as wide as the layers: embedding={written}, got {config.embedding}."
        )


def _reader(config: Config, task: Task, classes: int, name: str) -> keras.Model:
    """One stack, read to its end (classify, regress) or at every step (tag, features)."""
    inputs, x, mask, _ = _read(config)
    if task == "features":  # torch drops between the layers, not after the last
        x, states = _with_states(x, inputs, config, mask=mask, dropout=0.0)
        outputs = {"tokens": x, **states} if states else x
    else:
        x, _ = stack(x, config, mask=mask)
        x = x if task == "tag" else at_the_end(x, config, mask=mask)
        outputs = value_head(x, config.target) if task == "regress" else logits(x, classes)
    return keras.Model(inputs["series"] if list(inputs) == ["series"] else inputs, outputs, name=name)


def _forecaster(config: Config, name: str) -> keras.Model:
    if config.series is None:
        raise ValueError(f"{name!r} forecasts a series of which it knows nothing. Give series=Windows(...).")
    series, x = series_input(config.series)
    x = at_the_end(stack(x, config).output, config)
    return keras.Model(series, forecast_head(x, series, config.series), name=name)


def _language_model(config: Config, name: str) -> keras.Model:
    """One stack that predicts the next token at every step."""
    inputs, x, mask, embedding = _read(config)
    if config.condition:
        inputs["condition"] = keras.Input((config.condition,), name="condition")
        x, _ = stack(x, config, mask=mask, first=conditioned(inputs["condition"], config), states=True)
        states = {}
    else:
        x, states = _with_states(x, inputs, config, mask=mask)
    x = _vocabulary_logits(x, embedding, config)
    return keras.Model(inputs, {"logits": x, **states} if states else x, name=name)


def _with_states(x, inputs: dict[str, keras.KerasTensor], config: Config, *, mask, dropout: float | None = None):
    """A stack's output and, if asked for, its last states; the first ones are added to the inputs."""
    given = state_inputs(config) if config.states else {}
    inputs |= given
    x, last = stack(x, config, mask=mask, first=given, states=True, dropout=dropout)
    return x, joined_states(last, config, when="n") if given else {}


def _encoder_decoder(config: Config, name: str) -> keras.Model:
    """The decoder's first states are the encoder's last, both directions' side by side."""
    inputs, x, mask, embedding = _read(config)
    encoded = stack(x, config, mask=mask, states=True, tower="encoder.").states
    first = handed_over(encoded, config)
    inputs |= text_inputs(prefix="decoder_")
    embedding = embedding or token_embedding(config.vocabulary, config.embedding, name="decoder.stem_tokens")
    x, mask = embedding(inputs["decoder_token_ids"]), inputs["decoder_padding_mask"]
    x, _ = stack(x, config.decoder, mask=mask, first=first, states=True, tower="decoder.")
    return keras.Model(inputs, _vocabulary_logits(x, embedding, config), name=name)


def _read(config: Config):
    """The inputs by name, the sequence (B, T, F), its mask and the table of token vectors, where there are such."""
    if not config.features:
        inputs = text_inputs()
        embedding = token_embedding(config.vocabulary, config.embedding)
        return inputs, embedding(inputs["token_ids"]), inputs["padding_mask"], embedding
    inputs = {"series": keras.Input((None, config.features), name="series")}
    if config.padded:
        inputs["padding_mask"] = keras.Input((None,), dtype="int32", name="padding_mask")
    return inputs, inputs["series"], inputs.get("padding_mask"), None


def _vocabulary_logits(x, embedding, config: Config):
    if config.tied:
        return Bias(dtype="float32", name="head_bias")(embedding(x, reverse=True))
    return layers.Dense(config.vocabulary, dtype="float32", name="head_vocabulary")(x)


_TORCH = {"torch.nn.RNN": "simple", "torch.nn.LSTM": "lstm", "torch.nn.GRU": "gru"}
_ARGUMENTS = (
    "input_size",
    "hidden_size",
    "num_layers",
    "bias",
    "batch_first",
    "dropout",
    "bidirectional",
    "nonlinearity",
)


def _from_hub(config: Mapping[str, Any], shapes: Mapping[str, Shape]) -> HubMatch | None:
    """What torch.nn.RNN, LSTM or GRU was called with."""
    cell = _TORCH.get(str(config.get("architecture")))
    if cell is None:
        return None
    values = _arguments(config)
    found = Config(
        cell=cell,
        width=whole(values, "hidden_size", 1, 65_536),
        depth=whole(values, "num_layers", 1, 256, default=1),
        bidirectional=bool(whole(values, "bidirectional", 0, 1, default=0)),
        activation=values.get("nonlinearity", "tanh"),
        bias=bool(whole(values, "bias", 0, 1, default=1)),
        dropout=number(values, "dropout", 0, 0.99, default=0.0),
        features=whole(values, "input_size", 1, 1_000_000),
        states=True,
    )
    agree("input_size", found.features, shapes.get("weight_ih_l0", (None,))[-1])
    agree("hidden_size", found.width, shapes.get("weight_hh_l0", (None,))[-1])
    agree("num_layers", found.depth, sum(bool(re.fullmatch(r"weight_ih_l\d+", name)) for name in shapes))
    return HubMatch(f"rnn_{cell}", found, "features")


def _arguments(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The arguments by name, true and false as 1 and 0.

    Raises:
        CheckpointError: one is unknown here, or projects the state (proj_size).
    """
    values = config.get("args")
    if not isinstance(values, Mapping):
        raise CheckpointError(f"config.json: args={short(values)} must be an object with the arguments of torch.")
    strange = sorted(set(values) - {*_ARGUMENTS, *(["proj_size"] if not values.get("proj_size") else [])})
    if strange:
        raise CheckpointError(
            f"config.json builds {config['architecture']} with arguments unknown here: {short(strange)}. "
            f"Known: {', '.join(_ARGUMENTS)}."
        )
    return {name: int(value) if isinstance(value, bool) else value for name, value in values.items()}


FAMILY = Family(
    paper="https://doi.org/10.1162/neco.1997.9.8.1735",
    build=build,
    tasks=TASKS,
    classes=2,
    variants={"rnn_simple": Config(cell="simple"), "rnn_lstm": Config(cell="lstm"), "rnn_gru": Config(cell="gru")},
    conventions=CONVENTIONS,
    dialects={
        "torch": torch_dialect("weight_ih", "weight_hh", "bias_ih", "bias_hh"),
        "torch_without_bias": torch_dialect("weight_ih", "weight_hh"),
    },
    from_hub=_from_hub,
)
