"""DistilBERT, half of BERT's blocks, taught by it. Paper: https://arxiv.org/abs/1910.01108.

The graph is BERT's without segments and without a pooler.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from zoo import bert
from zoo.bert import Config
from zoo.core.family import Family, HubMatch
from zoo.layers.transformer_block import BlockNames, block_rules
from zoo.weights.curated import curated
from zoo.weights.dialect import TORCH, Copy, Dialect, Rule
from zoo.weights.hub import agree, number, whole
from zoo.weights.hub_text import (
    Shapes,
    flag,
    has_bias,
    is_of,
    named_variant,
    published_activation,
    published_task,
    sides,
)

_ALIKE: Mapping[str, Any] = {  # what all of them have in common
    "segments": 0,
    "pooler": False,
    "classifies_pooled": False,
    "classifier_activation": "relu",
}


def _transformers(prefix: str) -> Dialect:
    names = BlockNames(
        tuple(f"attention.{name}_lin" for name in "qkv"),
        "attention.out_lin",
        norms=("sa_layer_norm", "output_layer_norm"),
        mlp=("ffn.lin1", "ffn.lin2"),
    )
    rules = (
        Rule("stem_tokens", f"{prefix}embeddings.word_embeddings"),
        Rule("stem_positions", f"{prefix}embeddings.position_embeddings.weight"),
        Rule("stem_norm", f"{prefix}embeddings.LayerNorm"),
        *block_rules(rf"{prefix}transformer.layer.\1", names),
        Rule("head_transform", "vocab_transform"),
        Rule("head_norm", "vocab_layer_norm"),
        Rule("head_bias", "vocab_projector"),
        Rule("head_vocabulary", "vocab_projector"),
        Rule("head_dense", "pre_classifier"),
        Rule("head_logits", "classifier"),
        Rule("head_span", "qa_outputs"),
    )
    copies = (Copy("vocab_projector.weight", f"{prefix}embeddings.word_embeddings.weight", "head_bias"),)
    return Dialect(TORCH, rules, ignore=(r".*position_ids",), copies=copies)


def _from_hub(config: Mapping[str, Any], shapes: Shapes) -> HubMatch | None:
    """What transformers says. Its sinusoidal_pos_embds tells how the table began that the file holds."""
    if not is_of(config, "distilbert", classes="DistilBert"):
        return None
    task, classes = published_task(config, bert.TASKS, head=sides(shapes, "classifier.weight")[0])
    activation = published_activation(config, "activation")
    dropout = number(config, "dropout", 0, 0.99, default=0.1)
    found = Config(
        width=whole(config, "dim", 1, 16_384, default=768),
        depth=whole(config, "n_layers", 1, 256, default=6),
        heads=whole(config, "n_heads", 1, 256, default=12),
        mlp_width=whole(config, "hidden_dim", 1, 65_536, default=3_072),
        vocabulary=whole(config, "vocab_size", 1, 2_000_000, default=30_522),
        length=whole(config, "max_position_embeddings", 1, 1_000_000, default=512),
        activation=activation,
        dropout=dropout,
        head_dropout=number(config, "seq_classif_dropout", 0, 0.99, default=0.2) if task == "classify" else dropout,
        head_bias=has_bias(shapes, "classifier"),
        head_activation=activation,
        tied=flag(config, "tie_word_embeddings", default=True),
        **_ALIKE,
    )
    agree("vocab_size", found.vocabulary, sides(shapes, "word_embeddings.weight")[0])
    agree("dim", found.width, sides(shapes, "word_embeddings.weight")[1])
    agree("max_position_embeddings", found.length, sides(shapes, "position_embeddings.weight")[0])
    agree("hidden_dim", found.mlp_width, sides(shapes, "layer.0.ffn.lin1.weight")[0])
    agree("n_layers", found.depth, sum(name.endswith(".ffn.lin1.weight") for name in shapes))
    return HubMatch(named_variant(found, FAMILY.variants, bert.SIZES, default="distilbert"), found, task, classes)


def _sized(vocabulary: int = 30_522) -> Config:
    return Config(768, 6, 12, 3_072, vocabulary=vocabulary, head_dropout=0.2, **_ALIKE)


FAMILY = Family(
    paper="https://arxiv.org/abs/1910.01108",
    build=bert.build,
    tasks=bert.TASKS,
    classes=2,
    variants={
        "distilbert_base": _sized(),
        "distilbert_base_cased": _sized(28_996),
        "distilbert_base_multilingual": _sized(119_547),
    },
    conventions=bert.CONVENTIONS,
    dialects={"transformers": _transformers("distilbert."), "transformers_bare": _transformers("")},
    pretrained=curated("distilbert"),
    from_hub=_from_hub,
)
