"""T5, its version 1.1 and Flan-T5. Paper: https://arxiv.org/abs/1910.10683.

Differs from the paper: nothing in version 1.0; 1.1 (https://arxiv.org/abs/2002.05202) gates its MLPs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from reprlib import repr as short
from typing import Any, Literal, get_args

import keras
from keras import layers

from zoo.core.family import Family, HubMatch, Task
from zoo.layers.positions import RelativePositions
from zoo.layers.text import text_inputs
from zoo.layers.transformer_block import HUB_ACTIVATIONS, Activation, BlockNames, TransformerBlock, block_rules
from zoo.weights.curated import curated
from zoo.weights.dialect import TORCH, Copy, Dialect, Rule
from zoo.weights.errors import CheckpointError
from zoo.weights.hub import agree, number, whole
from zoo.weights.hub_text import published_task

Part = Literal["tied", "untied", "encoder"]  # of a model: whole with one table or with two, or the encoder alone
TASKS: tuple[Task, ...] = ("seq2seq", "features")
Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Config:
    """Sizes, and what the two versions differ in."""

    width: int
    depth: int  # blocks of the encoder
    heads: int
    mlp_width: int
    head_width: int = 64
    decoder_depth: int = 0  # blocks of the decoder; 0: as many as the encoder has
    vocabulary: int = 32_128
    buckets: int = 32  # of distances between tokens
    distance: int = 128  # tokens; all farther ones are in the last bucket
    gated: bool = False
    activation: Activation = "relu"
    tied: bool = True  # logits come from the table of token vectors
    scaled_logits: bool = True  # what the logits are made of is divided by the square root of the width first
    epsilon: float = 1e-6  # of the norms
    dropout: float = 0.1


def build(config: Config, *, task: Task, classes: int, name: str) -> keras.Model:
    """Tokens (B, S), and for seq2seq those of the decoder (B, T) -> logits (B, T, vocabulary).

    features: the encoder's tokens (B, S, D). Those of a seq2seq model are the output of its group "encoder.neck".
    """
    inputs, embedding = text_inputs(), _token_embedding(config)
    mask = inputs["padding_mask"]
    x = _stack(embedding(inputs["token_ids"]), mask, config, tower="encoder", depth=config.depth)
    if task == "seq2seq":
        inputs |= text_inputs(prefix="decoder_")
        depth = config.decoder_depth or config.depth
        y, own = embedding(inputs["decoder_token_ids"]), inputs["decoder_padding_mask"]
        y = _stack(y, own, config, tower="decoder", depth=depth, context=x, context_mask=mask)
        x = _logits(y, embedding, config)
    return keras.Model(inputs, x, name=name)


def _token_embedding(config: Config) -> layers.ReversibleEmbedding:
    """As token_embedding, but drawn as wide as T5's authors do, which scaled logits and unscaled inputs need."""
    normal = keras.initializers.RandomNormal(stddev=1.0)
    return layers.ReversibleEmbedding(
        config.vocabulary, config.width, embeddings_initializer=normal, reverse_dtype="float32", name="stem_tokens"
    )


def _stack(x, mask, config: Config, *, tower: str, depth: int, context=None, context_mask=None):
    """Encoder or decoder: (B, T, D) -> (B, T, D)."""
    decodes = context is not None
    buckets = {"buckets": config.buckets, "distance": config.distance, "bidirectional": not decodes}
    bias = RelativePositions(config.heads, **buckets, name=f"{tower}.stem_positions")(x)
    x = layers.Dropout(config.dropout, name=f"{tower}.stem_dropout")(x)
    for block in range(depth):
        x = TransformerBlock(
            config.heads,
            config.mlp_width,
            causal=decodes,
            cross=decodes,
            gated=config.gated,
            norm="rms",
            activation=config.activation,
            epsilon=config.epsilon,
            dropout=config.dropout,
            mlp_dropout=config.dropout,
            bias=False,
            head_width=config.head_width,
            scaled=False,
            name=f"{tower}.block{block}",
        )(x, context, padding_mask=mask, context_mask=context_mask, position_bias=bias)
    x = layers.RMSNormalization(epsilon=config.epsilon, name=f"{tower}.neck_norm")(x)
    return layers.Dropout(config.dropout, name=f"{tower}.neck_dropout")(x)


def _logits(x, embedding: layers.ReversibleEmbedding, config: Config):
    if config.scaled_logits:
        x = x * config.width**-0.5
    if config.tied:
        return embedding(x, reverse=True)
    return layers.Dense(config.vocabulary, use_bias=False, dtype="float32", name="head_vocabulary")(x)


def _transformers(*, gated: bool, part: Part) -> Dialect:
    r"""The names of transformers. The part "encoder" is read from whole files too."""
    up_down_gate = ("wi_0", "wo", "wi_1") if gated else ("wi", "wo")
    towers = ("encoder",) if part == "encoder" else ("encoder", "decoder")
    rules = [Rule("stem_tokens", "shared")]
    for tower in towers:
        last = 2 if tower == "decoder" else 1  # of the sublayers
        names = BlockNames(
            tuple(f"layer.0.SelfAttention.{letter}" for letter in "qkv"),
            "layer.0.SelfAttention.o",
            norms=("layer.0.layer_norm", f"layer.{last}.layer_norm"),
            mlp=tuple(f"layer.{last}.DenseReluDense.{name}" for name in up_down_gate),
            cross_attention=(*(f"layer.1.EncDecAttention.{letter}" for letter in "qkvo"), "layer.1.layer_norm"),
        )
        table = f"{tower}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
        rules.append(Rule(rf"{tower}\.stem_positions", table))
        rules.extend(block_rules(rf"{tower}.block.\1", names, tower=f"{tower}."))
        rules.append(Rule(rf"{tower}\.neck_norm", f"{tower}.final_layer_norm"))
    copies = [Copy(f"{tower}.embed_tokens.weight", of="shared.weight", where="stem_tokens") for tower in towers]
    if part == "tied":
        copies.append(Copy("lm_head.weight", of="shared.weight", where="stem_tokens"))
    elif part == "untied":
        rules.append(Rule("head_vocabulary", lambda match: "lm_head"))  # a name alone would be ignored in tied models
    ignored = r"(decoder|lm_head)\..*" if part == "encoder" else r".*\.EncDecAttention\.relative_attention_bias\.weight"
    return Dialect(TORCH, tuple(rules), ignore=(ignored,), copies=tuple(copies))


def _from_hub(config: Mapping[str, Any], shapes: Shapes) -> HubMatch | None:
    if config.get("model_type") != "t5":
        return None
    config = {key: value for key, value in config.items() if value is not None}  # null is as good as nothing
    depth = whole(config, "num_layers", 1, 256)
    says_tied = config.get("tie_word_embeddings") is not False
    scaled = bool(config.get("scale_decoder_outputs", says_tied))  # transformers 5 says so, and ties by word alone
    gated, activation = _feed_forward(config)
    found = Config(
        width=whole(config, "d_model", 1, 16_384),
        depth=depth,
        heads=whole(config, "num_heads", 1, 1_024),
        mlp_width=whole(config, "d_ff", 1, 1_048_576),
        head_width=whole(config, "d_kv", 1, 4_096, default=64),
        decoder_depth=whole(config, "num_decoder_layers", 1, 256, default=depth),
        vocabulary=whole(config, "vocab_size", 1, 2_000_000),
        buckets=whole(config, "relative_attention_num_buckets", 4, 65_536, default=32),
        distance=whole(config, "relative_attention_max_distance", 2, 1_000_000, default=128),
        gated=gated,
        activation=activation,
        tied=says_tied and (scaled or "lm_head.weight" not in shapes),
        scaled_logits=scaled,
        epsilon=number(config, "layer_norm_epsilon", 1e-20, 0.1, default=1e-6),
        dropout=number(config, "dropout_rate", 0, 0.9, default=0.1),
    )
    _agree(found, shapes)
    task, _ = published_task(config, (*TASKS, "causal_lm"))  # T5WithLMHeadModel was the first name of the class
    silent = not config.get("architectures") and "decoder.final_layer_norm.weight" in shapes
    return HubMatch("t5", found, "seq2seq" if silent or task != "features" else "features")


def _feed_forward(config: Mapping[str, Any]) -> tuple[bool, Activation]:
    """Whether the MLPs are gated, and their activation, from a name such as gated-gelu."""
    name = config.get("feed_forward_proj", "relu")
    gate, _, activation = str(name).rpartition("-")
    if gate not in ("", "gated") or activation not in HUB_ACTIVATIONS:
        raise CheckpointError(
            f"config.json: feed_forward_proj={short(name)} is unknown here. "
            f"Known: {', '.join(HUB_ACTIVATIONS)}, and each of them as gated-NAME."
        )
    return bool(gate), "gelu_tanh" if name == "gated-gelu" else HUB_ACTIVATIONS[activation]


def _agree(config: Config, shapes: Shapes) -> None:
    """Refuse a description that the tensors do not bear out, before anything of that size is built."""

    def side(tensor: str, axis: int = 0) -> int | None:
        return shapes.get(f"{tensor}.weight", (None, None))[axis]

    norms = [f"encoder.block.{block}.layer.0.layer_norm.weight" for block in range(config.depth + 1)]
    agree("vocab_size", config.vocabulary, side("shared"))
    agree("d_model", config.width, side("shared", 1))
    agree("num_heads * d_kv", config.heads * config.head_width, side("encoder.block.0.layer.0.SelfAttention.q"))
    up = "wi_0" if config.gated else "wi"
    agree("d_ff", config.mlp_width, side(f"encoder.block.0.layer.1.DenseReluDense.{up}"))
    agree("num_layers", config.depth, sum(name in shapes for name in norms))


_SIZES = {  # of version 1.0: width, blocks, heads, width of the MLPs and of a head
    "small": Config(512, 6, 8, 2048),
    "base": Config(768, 12, 12, 3072),
    "large": Config(1024, 24, 16, 4096),
    "3b": Config(1024, 24, 32, 16_384, 128),
    "11b": Config(1024, 24, 128, 65_536, 128),
}
_GATED: dict[str, Any] = {"gated": True, "activation": "gelu_tanh", "tied": False, "scaled_logits": False}
_GATED_SIZES = {  # of version 1.1, and of Flan-T5
    "small": Config(512, 8, 6, 1024, **_GATED),
    "base": Config(768, 12, 12, 2048, **_GATED),
    "large": Config(1024, 24, 16, 2816, **_GATED),
    "xl": Config(2048, 24, 32, 5120, **_GATED),
    "xxl": Config(4096, 24, 64, 10_240, **_GATED),
}

FAMILY = Family(
    paper="https://arxiv.org/abs/1910.10683",
    build=build,
    tasks=TASKS,
    variants={
        **{f"t5_{size}": config for size, config in _SIZES.items()},
        **{f"t5_v1_1_{size}": config for size, config in _GATED_SIZES.items()},
        **{f"flan_t5_{size}": config for size, config in _GATED_SIZES.items()},
    },
    conventions=("vocabulary", "buckets", "distance", "activation", "tied", "scaled_logits", "epsilon"),
    dialects={
        f"transformers{version}_{part}": _transformers(gated=gated, part=part)
        for version, gated in (("", False), ("_gated", True))
        for part in get_args(Part)
    },
    pretrained=curated("t5"),
    from_hub=_from_hub,
)
