"""GPT-2 and its distilled copy. Paper: https://cdn.openai.com/better-language-models/language_models_are_unsupervised_multitask_learners.pdf.

Differs from the paper: nothing. Padding may stand before or after a text: neither changes what its tokens get.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from zoo.core.family import Family, HubMatch, Task
from zoo.layers.text import text_inputs, token_embedding
from zoo.layers.tokens import LearnedPositions
from zoo.layers.transformer_block import Activation, TransformerBlock
from zoo.weights.curated import curated
from zoo.weights.dialect import TORCH, Copy, Dialect, Layout, Rule
from zoo.weights.errors import CheckpointError
from zoo.weights.hub import agree, number, whole
from zoo.weights.hub_text import published_activation, published_task

TASKS: tuple[Task, ...] = ("causal_lm", "classify", "features")
CONVENTIONS = ("vocabulary", "length", "activation", "epsilon", "scaled")
Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Config:
    """Sizes, and what checkpoints differ in."""

    width: int
    depth: int  # blocks
    heads: int
    mlp_width: int
    vocabulary: int = 50_257
    length: int = 1_024  # tokens
    activation: Activation = "gelu_tanh"
    scaled: bool = True  # scores of attention are divided by the square root of a head's width
    epsilon: float = 1e-5  # of the layer norms
    dropout: float = 0.1


def build(config: Config, *, task: Task, classes: int, name: str) -> keras.Model:
    """Tokens (B, T) -> what the task gives.

    causal_lm: logits of the next token (B, T, vocabulary); classify: logits (B, classes), from the last token that is
    no padding; features: (B, T, D).
    """
    inputs = text_inputs()
    mask = inputs["padding_mask"]
    embedding = token_embedding(config.vocabulary, config.width)
    x = embedding(inputs["token_ids"])
    x = LearnedPositions(config.length, count="after_padding", name="stem_positions")(x, mask)
    x = layers.Dropout(config.dropout, name="stem_dropout")(x)
    for block in range(config.depth):
        x = TransformerBlock(
            config.heads,
            config.mlp_width,
            causal=True,
            activation=config.activation,
            epsilon=config.epsilon,
            dropout=config.dropout,
            scaled=config.scaled,
            name=f"block{block}",
        )(x, padding_mask=mask)
    x = layers.LayerNormalization(epsilon=config.epsilon, name="neck_norm")(x)
    if task == "causal_lm":
        x = embedding(x, reverse=True)
    elif task == "classify":
        x = layers.Dense(classes, use_bias=False, dtype="float32", name="head_logits")(_last_token(x, mask))
    return keras.Model(inputs, x, name=name)


def _last_token(x, mask):
    """The last token that is no padding: (B, T, D), (B, T) -> (B, D)."""
    mask = ops.cast(mask, "int32")
    counted = ops.cumsum(mask, axis=1)
    last = mask * ops.cast(ops.equal(counted, counted[:, -1:]), "int32")  # 1 there alone, 0 elsewhere
    return ops.sum(x * ops.cast(last, x.dtype)[:, :, None], axis=1)


def _same(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    return array


CONV1D: Layout = {**TORCH, ("Dense", "kernel"): ("weight", _same)}  # transformers' Conv1D is (in, out), as ours


def _part(index: int):
    """Query (0), key (1) or value (2) of c_attn, which has them side by side: (..., 3 * D) -> (..., D)."""
    return lambda array: np.split(array, 3, axis=-1)[index]


def _transformers(prefix: str) -> Dialect:
    block = rf"{prefix}h.\1"
    rules = (
        Rule("stem_tokens", f"{prefix}wte"),
        Rule("stem_positions", f"{prefix}wpe.weight"),
        *(
            Rule(rf"block(\d+)/attention/{name}", f"{block}.attn.c_attn", _part(index))
            for index, name in enumerate(("query", "key", "value"))
        ),
        Rule(r"block(\d+)/attention/output", f"{block}.attn.c_proj"),
        Rule(r"block(\d+)/attention_norm", f"{block}.ln_1"),
        Rule(r"block(\d+)/mlp_norm", f"{block}.ln_2"),
        Rule(r"block(\d+)/mlp_up", f"{block}.mlp.c_fc"),
        Rule(r"block(\d+)/mlp_down", f"{block}.mlp.c_proj"),
        Rule("neck_norm", f"{prefix}ln_f"),
        Rule("head_logits", "score", np.transpose),  # the one Linear, which is (out, in)
    )
    return Dialect(
        CONV1D,
        rules,
        ignore=(r"(transformer\.)?h\.\d+\.attn\.(bias|masked_bias)",),
        copies=(Copy("lm_head.weight", of=f"{prefix}wte.weight", where="stem_tokens"),),
    )


def _from_hub(config: Mapping[str, Any], shapes: Shapes) -> HubMatch | None:
    if config.get("model_type") != "gpt2":
        return None
    _refuse_unknown(config)
    task, classes = published_task(config, TASKS)
    width = whole(config, "n_embd", 1, 16_384)
    inner = config.get("n_inner")
    found = Config(
        width=width,
        depth=whole(config, "n_layer", 1, 256),
        heads=whole(config, "n_head", 1, 256),
        mlp_width=4 * width if inner is None else whole(config, "n_inner", 1, 65_536),
        vocabulary=whole(config, "vocab_size", 1, 2_000_000),
        length=whole(config, "n_positions", 1, 1_000_000),
        activation=published_activation({"activation_function": "gelu_new", **config}, "activation_function"),
        scaled=config.get("scale_attn_weights", True) is True,
        epsilon=number(config, "layer_norm_epsilon", 1e-20, 0.1, default=1e-5),
        dropout=number(config, "resid_pdrop", 0, 0.9, default=0.1),
    )
    tables = {
        name: next((shape for key, shape in shapes.items() if key.endswith(f"{name}.weight")), (None, None))
        for name in ("wte", "wpe")
    }
    agree("vocab_size", found.vocabulary, tables["wte"][0])
    agree("n_embd", width, tables["wte"][-1])
    agree("n_positions", found.length, tables["wpe"][0])
    return HubMatch("gpt2", found, task, classes)


def _refuse_unknown(config: Mapping[str, Any]) -> None:
    """Options with which the same weights compute something else.

    `reorder_and_upcast_attn` is none: it scales in another order, and keeps scores in float32, as we always do.
    """
    usual = {"scale_attn_by_inverse_layer_idx": False, "add_cross_attention": False, "tie_word_embeddings": True}
    for key, value in usual.items():
        if config.get(key, value) is not value:
            raise CheckpointError(f"config.json: {key}={config[key]!r} is unknown here; it must be {value}.")
    if not isinstance(config.get("scale_attn_weights", True), bool):
        raise CheckpointError(
            f"config.json: scale_attn_weights={config['scale_attn_weights']!r} must be true or false."
        )


def _sized(width: int, depth: int, heads: int) -> Config:
    return Config(width, depth, heads, 4 * width)


FAMILY = Family(
    paper="https://cdn.openai.com/better-language-models/language_models_are_unsupervised_multitask_learners.pdf",
    build=build,
    tasks=TASKS,
    classes=2,
    variants={
        "gpt2": _sized(768, 12, 12),
        "gpt2_medium": _sized(1024, 24, 16),
        "gpt2_large": _sized(1280, 36, 20),
        "gpt2_xl": _sized(1600, 48, 25),
        "distilgpt2": _sized(768, 6, 12),
    },
    conventions=CONVENTIONS,
    dialects={"transformers": _transformers("transformer."), "transformers_bare": _transformers("")},
    pretrained=curated("gpt"),
    from_hub=_from_hub,
)
