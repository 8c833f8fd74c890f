"""RoBERTa, and XLM-RoBERTa of the same graph. Papers: https://arxiv.org/abs/1907.11692, 1911.02116.

The graph is BERT's; positions count tokens only, and padding stands at a row of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from zoo import bert
from zoo.bert import Config
from zoo.core.family import Family, HubMatch
from zoo.weights.curated import curated
from zoo.weights.dialect import TORCH, Copy, Dialect, Rule
from zoo.weights.errors import CheckpointError
from zoo.weights.hub import whole
from zoo.weights.hub_text import Shapes, has_bias, is_of, named_variant, published_task, sides

_CLASSIFIERS = ("classifier.out_proj", "classifier")  # of whole texts, after a dense layer, and of tokens
_ALIKE: Mapping[str, Any] = {  # what all of them have in common
    "count": "tokens",
    "classifies_pooled": False,
}


def _transformers(prefix: str, classifier: str) -> Dialect:
    heads = (
        Rule("head_transform", "lm_head.dense"),
        Rule("head_norm", "lm_head.layer_norm"),
        Rule("head_bias", "lm_head"),
        Rule("head_vocabulary", "lm_head.decoder"),
        Rule("head_dense", "classifier.dense"),
        Rule("head_logits", classifier),
        Rule("head_span", "qa_outputs"),
    )
    copies = (
        Copy("lm_head.decoder.weight", f"{prefix}embeddings.word_embeddings.weight", "head_bias"),
        Copy("lm_head.decoder.bias", "lm_head.bias", "head_bias"),
    )
    return Dialect(TORCH, (*bert.encoder_rules(prefix), *heads), ignore=(r".*position_ids",), copies=copies)


def _from_hub(config: Mapping[str, Any], shapes: Shapes) -> HubMatch | None:
    """RoBERTa, and what transformers calls otherwise but computes in the same way."""
    if not is_of(config, "roberta", "xlm-roberta", "camembert", classes=("Roberta", "XLMRoberta", "Camembert")):
        return None
    head = next((module for module in _CLASSIFIERS if f"{module}.weight" in shapes), _CLASSIFIERS[0])
    task, classes = published_task(config, bert.TASKS, head=sides(shapes, f"{head}.weight")[0])
    read = bert.read(config, shapes)
    unused = whole(config, "pad_token_id", 0, 1_000, default=1) + 1  # rows of the table of positions, padding's last
    if read.length <= unused:
        raise CheckpointError(
            f"config.json: max_position_embeddings={read.length} has no position after {unused} rows."
        )
    found = replace(
        read,
        **_ALIKE,
        length=read.length - unused,
        offset=unused,
        head_bias=has_bias(shapes, head),
        head_activation="gelu",  # of lm_head, whatever hidden_act says
    )
    return HubMatch(named_variant(found, FAMILY.variants, bert.SIZES, default="roberta"), found, task, classes)


def _sized(width: int, depth: int, *, vocabulary: int = 50_265) -> Config:
    options = {**_ALIKE, "vocabulary": vocabulary, "segments": 1, "offset": 2, "epsilon": 1e-5}
    return Config(width, depth, width // 64, 4 * width, **options)


FAMILY = Family(
    paper="https://arxiv.org/abs/1907.11692",
    build=bert.build,
    tasks=bert.TASKS,
    classes=2,
    variants={
        "roberta_base": _sized(768, 12),
        "roberta_large": _sized(1024, 24),
        "distilroberta_base": _sized(768, 6),
        "xlm_roberta_base": _sized(768, 12, vocabulary=250_002),
        "xlm_roberta_large": _sized(1024, 24, vocabulary=250_002),
    },
    conventions=bert.CONVENTIONS,
    dialects={
        f"transformers{bare}{kind}": _transformers(prefix, classifier)
        for bare, prefix in (("", "roberta."), ("_bare", ""))
        for kind, classifier in zip(("", "_tagger"), _CLASSIFIERS, strict=True)
    },
    pretrained=curated("roberta"),
    from_hub=_from_hub,
)
