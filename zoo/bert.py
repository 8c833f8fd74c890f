"""BERT, and the graph of the encoders that followed it. Paper: https://arxiv.org/abs/1810.04805.

Differs from the paper: no head for next-sentence prediction.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import keras
from keras import layers, ops

from zoo.core.family import Family, HubMatch, Task
from zoo.layers.heads import logits
from zoo.layers.text import Bias, text_inputs, token_embedding
from zoo.layers.tokens import Count, LearnedPositions, TokenAt
from zoo.layers.transformer_block import ACTIVATIONS, Activation, BlockNames, TransformerBlock, block_rules
from zoo.weights.curated import curated
from zoo.weights.dialect import TORCH, TORCH_LEGACY, Copy, Dialect, Layout, Rule
from zoo.weights.hub import agree, number, whole
from zoo.weights.hub_text import (
    Shapes,
    flag,
    has_bias,
    is_of,
    named_variant,
    only,
    published_activation,
    published_task,
    sides,
)

TASKS: tuple[Task, ...] = ("features", "masked_lm", "classify", "tag", "answer")
SIZES = ("width", "depth", "heads", "mlp_width", "vocabulary")  # what tells a variant from the others
CONVENTIONS = (
    *("vocabulary", "length", "segments", "offset", "pooler", "tied", "head_bias", "dropout", "head_dropout"),
    *("activation", "head_activation", "epsilon"),
)


@dataclass(frozen=True)
class Config:
    """Sizes, and what the encoders of this kind differ in."""

    width: int
    depth: int  # blocks
    heads: int
    mlp_width: int
    vocabulary: int = 30_522
    length: int = 512  # tokens
    segments: int = 2  # texts in one input, told apart by segment_ids; with 1 all tokens get the same vector, 0: none
    count: Count = "places"  # what learned positions count
    offset: int = 0  # rows of the position table before the first token's
    activation: Activation = "gelu"
    epsilon: float = 1e-12  # of the layer norms
    dropout: float = 0.1
    pooler: bool = True  # a tanh layer on the first token of task="features"
    classifies_pooled: bool = True  # task="classify" has that layer before its logits, else one of its own
    classifier_activation: Activation | None = None  # of its own layer; None: tanh
    head_dropout: float = 0.1  # before the logits
    head_bias: bool = True  # of the logits over classes
    head_activation: Activation = "gelu"  # before the logits over the vocabulary
    tied: bool = True  # these logits come from the table of token vectors, else from a layer of their own


def build(config: Config, *, task: Task, classes: int, name: str) -> keras.Model:
    """Tokens (B, T) -> what the task gives.

    features: {"tokens": (B, T, D), "pooled": (B, D)}, without a pooler the tokens alone; masked_lm: logits
    (B, T, vocabulary); classify: logits (B, classes); tag: logits (B, T, classes); answer: logits of the start and of
    the end (B, T, 2).
    """
    inputs = text_inputs(segments=config.segments > 1)
    embedding = token_embedding(config.vocabulary, config.width)
    x = encode(inputs, embedding, config)
    if task == "features":
        outputs = {"tokens": x, "pooled": _first_token(x, config, "head_pooler")} if config.pooler else x
    elif task == "masked_lm":
        outputs = _vocabulary_logits(x, embedding, config)
    elif task == "answer":
        outputs = layers.Dense(2, dtype="float32", name="head_span")(x)
    else:
        if task == "classify":
            x = _first_token(x, config, "head_pooler" if config.classifies_pooled else "head_dense")
        x = layers.Dropout(config.head_dropout, name="head_dropout")(x)
        outputs = logits(x, classes, bias=config.head_bias)
    return keras.Model(inputs, outputs, name=name)


def encode(inputs: dict[str, keras.KerasTensor], embedding: layers.ReversibleEmbedding, config: Config):
    """Token ids, their mask and their segments -> (B, T, D)."""
    mask = inputs["padding_mask"]
    x = embedding(inputs["token_ids"])
    if config.segments:
        segments = inputs.get("segment_ids", ops.zeros_like(mask))
        added = layers.Embedding(config.segments, config.width, name="stem_segments")(segments)
        x = layers.Add(name="stem_add")([x, added])
    x = LearnedPositions(config.length, count=config.count, offset=config.offset, name="stem_positions")(x, mask)
    x = layers.LayerNormalization(epsilon=config.epsilon, name="stem_norm")(x)
    x = layers.Dropout(config.dropout, name="stem_dropout")(x)
    for block in range(config.depth):
        x = TransformerBlock(
            config.heads,
            config.mlp_width,
            pre_norm=False,
            activation=config.activation,
            epsilon=config.epsilon,
            dropout=config.dropout,
            name=f"block{block}",
        )(x, padding_mask=mask)
    return x


def _first_token(x, config: Config, name: str):
    """The first token through a dense layer: (B, T, D) -> (B, D)."""
    own = config.classifier_activation if name == "head_dense" else None
    return layers.Dense(config.width, ACTIVATIONS[own] if own else "tanh", name=name)(TokenAt(0, name="head_token")(x))


def _vocabulary_logits(x, embedding: layers.ReversibleEmbedding, config: Config):
    x = layers.Dense(config.width, ACTIVATIONS[config.head_activation], name="head_transform")(x)
    x = layers.LayerNormalization(epsilon=config.epsilon, name="head_norm")(x)
    if not config.tied:
        return layers.Dense(config.vocabulary, dtype="float32", name="head_vocabulary")(x)
    return Bias(dtype="float32", name="head_bias")(embedding(x, reverse=True))


def encoder_rules(prefix: str) -> tuple[Rule, ...]:
    """What transformers calls the stem, the blocks and the pooler of BERT and RoBERTa."""
    names = BlockNames(
        tuple(f"attention.self.{name}" for name in ("query", "key", "value")),
        "attention.output.dense",
        norms=("attention.output.LayerNorm", "output.LayerNorm"),
        mlp=("intermediate.dense", "output.dense"),
    )
    return (
        Rule("stem_tokens", f"{prefix}embeddings.word_embeddings"),
        Rule("stem_segments", f"{prefix}embeddings.token_type_embeddings"),
        Rule("stem_positions", f"{prefix}embeddings.position_embeddings.weight"),
        Rule("stem_norm", f"{prefix}embeddings.LayerNorm"),
        *block_rules(rf"{prefix}encoder.layer.\1", names),
        Rule("head_pooler", f"{prefix}pooler.dense"),
    )


def _transformers(prefix: str, layout: Layout) -> Dialect:
    heads = (
        Rule("head_transform", "cls.predictions.transform.dense"),
        Rule("head_norm", "cls.predictions.transform.LayerNorm"),
        Rule("head_bias", "cls.predictions"),
        Rule("head_vocabulary", "cls.predictions.decoder"),
        Rule("head_logits", "classifier"),
        Rule("head_span", "qa_outputs"),
    )
    copies = (
        Copy("cls.predictions.decoder.weight", f"{prefix}embeddings.word_embeddings.weight", "head_bias"),
        Copy("cls.predictions.decoder.bias", "cls.predictions.bias", "head_bias"),
    )
    ignored = (r".*position_ids", r"cls\.seq_relationship\..*")
    return Dialect(layout, (*encoder_rules(prefix), *heads), ignore=ignored, copies=copies)


def read(config: Mapping[str, Any], shapes: Shapes) -> Config:
    """What the config.json of a BERT or RoBERTa says, as far as the two say it alike.

    Raises:
        CheckpointError: a value is out of range, not built here, or not borne out by the tensors.
    """
    only(config, position_embedding_type="absolute", is_decoder=False, add_cross_attention=False)
    dropout = number(config, "hidden_dropout_prob", 0, 0.99, default=0.1)
    head_dropout = config.get("classifier_dropout")
    activation = published_activation(config, "hidden_act")
    found = Config(
        width=whole(config, "hidden_size", 1, 16_384, default=768),
        depth=whole(config, "num_hidden_layers", 1, 256, default=12),
        heads=whole(config, "num_attention_heads", 1, 256, default=12),
        mlp_width=whole(config, "intermediate_size", 1, 65_536, default=3_072),
        vocabulary=whole(config, "vocab_size", 1, 2_000_000, default=30_522),
        length=whole(config, "max_position_embeddings", 1, 1_000_000, default=512),
        segments=whole(config, "type_vocab_size", 1, 64, default=2),
        activation=activation,
        epsilon=number(config, "layer_norm_eps", 1e-20, 0.1, default=1e-12),
        dropout=dropout,
        pooler=any(name.endswith("pooler.dense.weight") for name in shapes),
        head_dropout=dropout if head_dropout is None else number(config, "classifier_dropout", 0, 0.99),
        head_bias=has_bias(shapes, "classifier"),
        head_activation=activation,
        tied=flag(config, "tie_word_embeddings", default=True),
    )
    agree("vocab_size", found.vocabulary, sides(shapes, "word_embeddings.weight")[0])
    agree("hidden_size", found.width, sides(shapes, "word_embeddings.weight")[1])
    agree("max_position_embeddings", found.length, sides(shapes, "position_embeddings.weight")[0])
    agree("intermediate_size", found.mlp_width, sides(shapes, "layer.0.intermediate.dense.weight")[0])
    agree("num_hidden_layers", found.depth, sum(name.endswith(".intermediate.dense.weight") for name in shapes))
    return found


def _from_hub(config: Mapping[str, Any], shapes: Shapes) -> HubMatch | None:
    if not is_of(config, "bert", classes="Bert"):
        return None
    task, classes = published_task(config, TASKS, head=sides(shapes, "classifier.weight")[0])
    found = read(config, shapes)
    return HubMatch(named_variant(found, FAMILY.variants, SIZES, default="bert"), found, task, classes)


def _sized(width: int, depth: int, **options: Any) -> Config:
    return Config(width, depth, width // 64, 4 * width, **options)


FAMILY = Family(
    paper="https://arxiv.org/abs/1810.04805",
    build=build,
    tasks=TASKS,
    classes=2,
    variants={
        "bert_tiny": _sized(128, 2),
        "bert_mini": _sized(256, 4),
        "bert_small": _sized(512, 4),
        "bert_medium": _sized(512, 8),
        "bert_base": _sized(768, 12),
        "bert_base_cased": _sized(768, 12, vocabulary=28_996),
        "bert_base_multilingual": _sized(768, 12, vocabulary=119_547),
        "bert_large": _sized(1024, 24),
        "bert_large_cased": _sized(1024, 24, vocabulary=28_996),
        "bert_minilm_l6": Config(384, 6, 12, 1536),
        "bert_minilm_l12": Config(384, 12, 12, 1536),
    },
    conventions=CONVENTIONS,
    dialects={
        f"transformers{bare}{old}": _transformers(prefix, layout)
        for bare, prefix in (("", "bert."), ("_bare", ""))
        for old, layout in (("", TORCH), ("_legacy", TORCH_LEGACY))
    },
    pretrained=curated("bert"),
    from_hub=_from_hub,
)
