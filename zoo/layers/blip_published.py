"""What BLIP's config.json says, and what transformers calls its tensors."""

from __future__ import annotations

from collections.abc import Mapping
from reprlib import repr as short
from typing import Any

from zoo.core.family import Task
from zoo.layers.transformer_block import BlockNames, block_rules
from zoo.weights import hub_pairs
from zoo.weights.dialect import TORCH, Copy, Dialect, Rule, squeezed
from zoo.weights.errors import CheckpointError
from zoo.weights.hub import agree, number, whole
from zoo.weights.hub_text import Shapes, only

_TEXT = {
    **{"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 8, "intermediate_size": 3_072},
    **{"vocab_size": 30_524, "max_position_embeddings": 512, "hidden_act": "gelu", "layer_norm_eps": 1e-12},
}
_VISION = {
    **{"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3_072},
    **{"image_size": 384, "patch_size": 16, "hidden_act": "gelu", "layer_norm_eps": 1e-5},
}
_SAVED: dict[str, Task] = {
    "BlipForConditionalGeneration": "caption",
    "BlipForImageTextRetrieval": "match",
    "BlipForQuestionAnswering": "answer",
}


def read(config: Mapping[str, Any], shapes: Shapes) -> tuple[Task, dict[str, Any]] | None:
    """The task and the Config fields that transformers' config.json says of a BLIP, if it is one.

    Raises:
        CheckpointError: it is of a kind that is not built here, a value is out of range, or the tensors disagree.
    """
    if config.get("model_type") != "blip":
        return None
    task = _task(config, shapes)
    ask = hub_pairs.asking(DIALECTS.values(), shapes)
    tower = "decoder" if task == "caption" else "text"
    if not ask(f"{tower}.stem_tokens", "Embedding", "embeddings"):
        raise CheckpointError(f"config.json describes a BLIP for task={task!r}, but no tensors of one are beside it.")
    only(config, tie_word_embeddings=True)
    values = hub_pairs.part(config, "text_config", defaults=_TEXT)
    only(values, is_decoder=True, tie_word_embeddings=True)
    text = hub_pairs.text_tower(values, ask, tower=tower)
    names = {key: key if key in ("vocabulary", "length") else f"text_{key}" for key in text}
    side = next(iter(ask("image.head_projection", "Dense", "kernel")[1:]), None)
    projection = whole(config, "image_text_hidden_size", 1, 16_384, default=256)
    if side is not None:
        agree("image_text_hidden_size", projection, side)
    vision = hub_pairs.part(config, "vision_config", defaults=_VISION)
    return task, {
        **hub_pairs.image_tower(vision, config.get("preprocessor") or {}, ask, resize="squash"),
        **{names[key]: value for key, value in text.items()},
        "projection": projection,
        "dropout": number(values, "hidden_dropout_prob", 0, 0.99, default=0.0),
    }


def _task(config: Mapping[str, Any], shapes: Shapes) -> Task:
    """What a checkpoint was saved for; where config.json does not say, what its tensors are for."""
    saved = hub_pairs.saved_class(config)
    if saved is None:
        decodes = "text_decoder.cls.predictions.bias" in shapes
        return "match" if not decodes else "answer" if _QUESTIONS in shapes else "caption"
    if saved not in _SAVED:
        raise CheckpointError(f"config.json: {short(saved)} is not built here. Known: {', '.join(_SAVED)}.")
    return _SAVED[saved]


_IMAGE_BLOCK = BlockNames(
    ("self_attn.qkv",),
    "self_attn.projection",
    norms=("layer_norm1", "layer_norm2"),
    mlp=("mlp.fc1", "mlp.fc2"),
)
_TEXT_BLOCK = BlockNames(
    tuple(f"attention.self.{name}" for name in ("query", "key", "value")),
    "attention.output.dense",
    norms=("attention.output.LayerNorm", "output.LayerNorm"),
    mlp=("intermediate.dense", "output.dense"),
    cross_attention=(
        *(f"crossattention.self.{name}" for name in ("query", "key", "value")),
        *("crossattention.output.dense", "crossattention.output.LayerNorm"),
    ),
)


def _transformers() -> Dialect:
    rules = [
        Rule(r"image\.stem_patches", "vision_model.embeddings.patch_embedding"),
        Rule(r"image\.stem_class_token", "vision_model.embeddings.class_embedding"),
        Rule(r"image\.stem_positions", "vision_model.embeddings.position_embedding", squeezed),
        *block_rules(r"vision_model.encoder.layers.\1", _IMAGE_BLOCK, tower="image."),
        Rule(r"image\.neck_norm", "vision_model.post_layernorm"),
    ]
    for tower, theirs in (("text", "text_encoder."), ("decoder", "text_decoder.bert.")):
        rules += [
            Rule(rf"{tower}\.stem_tokens", f"{theirs}embeddings.word_embeddings"),
            Rule(rf"{tower}\.stem_positions", f"{theirs}embeddings.position_embeddings.weight"),
            Rule(rf"{tower}\.stem_norm", f"{theirs}embeddings.LayerNorm"),
            *block_rules(rf"{theirs}encoder.layer.\1", _TEXT_BLOCK, tower=f"{tower}."),
        ]
    rules += [
        Rule("head_transform", "text_decoder.cls.predictions.transform.dense"),
        Rule("head_norm", "text_decoder.cls.predictions.transform.LayerNorm"),
        Rule("head_bias", "text_decoder.cls.predictions"),
        Rule("head_match", "itm_head"),
        Rule(r"image\.head_projection", "vision_proj"),
        Rule(r"text\.head_projection", "text_proj"),
    ]
    table = "text_decoder.bert.embeddings.word_embeddings.weight"
    return Dialect(
        TORCH,
        tuple(rules),
        ignore=(r".*position_ids", r".*\.crossattention\..*"),  # which texts that are only compared do without
        copies=(
            Copy("text_decoder.cls.predictions.decoder.weight", table, "head_bias"),
            Copy("text_decoder.cls.predictions.decoder.bias", "text_decoder.cls.predictions.bias", "head_bias"),
        ),
        towers={
            "image": r"vision_model\..*",
            "text": r"text_encoder\..*",
            "decoder": r"text_decoder\.bert\..*",
        },
    )


_QUESTIONS = "text_encoder.embeddings.word_embeddings.weight"
DIALECTS = {"transformers": _transformers()}
