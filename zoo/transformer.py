"""The Transformer: encoder, decoder, or both. Paper: https://arxiv.org/abs/1706.03762.

Differs from the paper: shares of attention and the MLPs' hidden units are dropped too, as its authors' code does.
The task says what is built: both stacks (seq2seq), the encoder (features, masked_lm, classify, tag) or the decoder
without attention to another text (causal_lm).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from reprlib import repr as short
from typing import Any, Literal

import keras
from keras import layers

from zoo.core.family import CLASSED, Family, HubMatch, Task
from zoo.layers.heads import logits
from zoo.layers.positions import SinusoidPositions
from zoo.layers.text import text_inputs
from zoo.layers.tokens import LearnedPositions, TokenMean
from zoo.layers.transformer_block import HUB_ACTIVATIONS, Activation, BlockNames, TransformerBlock, block_rules
from zoo.weights.curated import curated
from zoo.weights.dialect import TORCH, Dialect, Rule
from zoo.weights.errors import CheckpointError
from zoo.weights.hub import agree, number, whole

TASKS: tuple[Task, ...] = ("seq2seq", "features", "masked_lm", "classify", "tag", "causal_lm")
Positions = Literal["sinusoid", "learned", "none"]
Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Config:
    """Sizes, and what later work changed."""

    width: int
    depth: int  # blocks of the encoder
    heads: int
    mlp_width: int
    decoder_depth: int = 0  # blocks of the decoder; 0: as many as the encoder has
    vocabulary: int = 37_000  # 0: takes "series", vectors (B, T, width), instead of tokens
    decoder_vocabulary: int = 0  # 0: the decoder shares the encoder's table of token vectors
    tied: bool = True  # logits come from the table of token vectors, that of the decoder where it has its own
    positions: Positions = "sinusoid"
    length: int = 512  # tokens; of learned positions only
    pre_norm: bool = False
    final_norm: bool = False  # after the last block of a stack; with pre_norm there always is one
    activation: Activation = "relu"
    epsilon: float = 1e-6  # of the layer norms
    dropout: float = 0.1

    def __post_init__(self):
        if self.positions not in ("sinusoid", "learned", "none"):
            raise ValueError(f"positions={self.positions!r} is unknown here. Known: sinusoid, learned, none.")
        if self.decoder_vocabulary and not self.vocabulary:
            raise ValueError(f"decoder_vocabulary={self.decoder_vocabulary}, but vocabulary=0: that takes vectors.")


def build(config: Config, *, task: Task, classes: int, name: str) -> keras.Model:
    """Tokens (B, S), for seq2seq also the decoder's (B, T) -> what the task gives.

    seq2seq, causal_lm, masked_lm: logits (B, T, vocabulary); features: (B, S, D); classify: logits (B, classes), from
    the mean of the tokens; tag: logits (B, S, classes). Without a vocabulary seq2seq gives the decoder's (B, T, D).

    Raises:
        ValueError: a language model without a vocabulary.
    """
    if task in ("masked_lm", "causal_lm") and not config.vocabulary:
        raise ValueError(f"task={task!r} is about tokens, but vocabulary=0: {name!r} takes vectors then.")
    inputs = _inputs(config)
    mask = inputs["padding_mask"]
    embedding = _token_embedding(config.vocabulary, config, name="stem_tokens") if config.vocabulary else None
    tower = "decoder" if task == "causal_lm" else "encoder"
    x = _vectors(inputs, embedding, tower=tower)
    x = _stack(x, mask, config, tower=tower)
    if task == "seq2seq":
        own = _inputs(config, prefix="decoder_")
        if config.decoder_vocabulary:
            embedding = _token_embedding(config.decoder_vocabulary, config, name="decoder.stem_tokens")
        y = _vectors(own, embedding, tower="decoder", prefix="decoder_")
        x = _stack(y, own["decoder_padding_mask"], config, tower="decoder", context=x, context_mask=mask)
        inputs |= own
    if task == "classify":
        x = TokenMean(name="head_mean")(x, mask)
    if task in CLASSED:
        x = logits(layers.Dropout(config.dropout, name="head_dropout")(x), classes)
    elif task != "features" and embedding is not None:
        x = _vocabulary_logits(x, embedding, config)
    return keras.Model(inputs, x, name=name)


def _inputs(config: Config, *, prefix: str = "") -> dict[str, keras.KerasTensor]:
    inputs = text_inputs(prefix=prefix)
    if config.vocabulary:
        return inputs
    series, mask = f"{prefix}series", f"{prefix}padding_mask"
    return {series: keras.Input((None, config.width), name=series), mask: inputs[mask]}


def _vectors(inputs, embedding: layers.ReversibleEmbedding | None, *, tower: str, prefix: str = ""):
    """What a stack begins with: the vectors given, or those of tokens times the square root of their width."""
    if embedding is None:
        return inputs[f"{prefix}series"]
    scale = layers.Rescaling(math.sqrt(embedding.output_dim), name=f"{tower}.stem_scale")
    return scale(embedding(inputs[f"{prefix}token_ids"]))


def _token_embedding(vocabulary: int, config: Config, *, name: str) -> layers.ReversibleEmbedding:
    """The table of token vectors, drawn so that they are about 1 when scaled, and logits from it too."""
    normal = keras.initializers.RandomNormal(stddev=config.width**-0.5)
    return layers.ReversibleEmbedding(
        vocabulary, config.width, embeddings_initializer=normal, reverse_dtype="float32", name=name
    )


def _stack(x, mask, config: Config, *, tower: str, context=None, context_mask=None):
    """Encoder or decoder, the latter with or without a context: (B, T, D) -> (B, T, D)."""
    decodes = tower == "decoder"
    if config.positions == "sinusoid":
        x = SinusoidPositions(name=f"{tower}.stem_positions")(x, mask)
    elif config.positions == "learned":
        x = LearnedPositions(config.length, count="after_padding", name=f"{tower}.stem_positions")(x, mask)
    x = layers.Dropout(config.dropout, name=f"{tower}.stem_dropout")(x)
    for block in range((decodes and config.decoder_depth) or config.depth):
        x = TransformerBlock(
            config.heads,
            config.mlp_width,
            pre_norm=config.pre_norm,
            causal=decodes,
            cross=context is not None,
            activation=config.activation,
            epsilon=config.epsilon,
            dropout=config.dropout,
            mlp_dropout=config.dropout,
            name=f"{tower}.block{block}",
        )(x, context, padding_mask=mask, context_mask=context_mask)
    if config.pre_norm or config.final_norm:
        x = layers.LayerNormalization(epsilon=config.epsilon, name=f"{tower}.neck_norm")(x)
    return x


def _vocabulary_logits(x, embedding: layers.ReversibleEmbedding, config: Config):
    if config.tied:
        return embedding(x, reverse=True)
    return layers.Dense(embedding.input_dim, use_bias=False, dtype="float32", name="head_vocabulary")(x)


def _torch(*towers: str, ignore: tuple[str, ...] = ()) -> Dialect:
    """The names of torch.nn.Transformer."""
    rules: list[Rule] = []
    for tower in towers:
        names = BlockNames(
            ("self_attn.in_proj_",),
            "self_attn.out_proj",
            norms=("norm1", "norm3" if tower == "decoder" else "norm2"),
            mlp=("linear1", "linear2"),
            cross_attention=("multihead_attn.in_proj_", "multihead_attn.out_proj", "norm2"),
        )
        rules.extend(block_rules(rf"{tower}.layers.\1", names, tower=f"{tower}."))
        rules.append(Rule(rf"{tower}\.neck_norm", f"{tower}.norm"))
    return Dialect(TORCH, tuple(rules), ignore)


_TORCH_ARGUMENTS = {"d_model", "nhead", "num_encoder_layers", "num_decoder_layers", "dim_feedforward", "activation"}
_TORCH_ARGUMENTS |= {"dropout", "layer_norm_eps", "batch_first", "norm_first", "bias"}


def _from_hub(config: Mapping[str, Any], shapes: Shapes) -> HubMatch | None:
    """Not a file of any hub: a config.json that holds the arguments of torch.nn.Transformer under "args"."""
    if config.get("architecture") != "torch.nn.Transformer":
        return None
    said = config.get("args") or {}
    if not isinstance(said, Mapping):
        raise CheckpointError(f"config.json: args={short(said)} must be an object.")
    activation = said.get("activation", "relu")
    if not said.keys() <= _TORCH_ARGUMENTS or not said.get("bias", True) or activation not in ("relu", "gelu"):
        raise CheckpointError(f"config.json builds torch.nn.Transformer with options unknown here: {short(said)}.")
    found = Config(
        width=whole(said, "d_model", 1, 16_384, default=512),
        depth=whole(said, "num_encoder_layers", 1, 256, default=6),
        heads=whole(said, "nhead", 1, 1_024, default=8),
        mlp_width=whole(said, "dim_feedforward", 1, 1_048_576, default=2048),
        decoder_depth=whole(said, "num_decoder_layers", 1, 256, default=6),
        vocabulary=0,
        positions="none",
        pre_norm=bool(said.get("norm_first", False)),
        final_norm=True,
        activation=HUB_ACTIVATIONS[activation],
        epsilon=number(said, "layer_norm_eps", 1e-20, 0.1, default=1e-5),
        dropout=number(said, "dropout", 0, 0.9, default=0.1),
    )
    agree("dim_feedforward", found.mlp_width, shapes.get("encoder.layers.0.linear1.weight", (None,))[0])
    agree("d_model", found.width, shapes.get("encoder.layers.0.linear2.weight", (None,))[0])
    for tower, depth in (("encoder", found.depth), ("decoder", found.decoder_depth)):
        blocks = [f"{tower}.layers.{block}.norm1.weight" for block in range(depth + 1)]
        agree(f"num_{tower}_layers", depth, sum(name in shapes for name in blocks))
    return HubMatch("transformer", found, "seq2seq")


FAMILY = Family(
    paper="https://arxiv.org/abs/1706.03762",
    build=build,
    tasks=TASKS,
    classes=2,
    variants={
        "transformer_base": Config(512, 6, 8, 2048),
        "transformer_big": Config(1024, 6, 16, 4096, dropout=0.3),
        "transformer_small": Config(256, 2, 4, 1024, vocabulary=8_000),  # these two as in the authors' Tensor2Tensor
        "transformer_tiny": Config(128, 2, 4, 512, vocabulary=8_000),
    },
    conventions=("vocabulary", "positions", "pre_norm", "final_norm", "activation", "epsilon"),
    dialects={
        "torch": _torch("encoder", "decoder"),
        "torch_encoder": _torch("encoder", ignore=(r"decoder\..*",)),
    },
    pretrained=curated("transformer"),
    from_hub=_from_hub,
)
