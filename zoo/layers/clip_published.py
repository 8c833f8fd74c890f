"""What the publishers of CLIP say in config.json, and what they call the tensors."""

from __future__ import annotations

from collections.abc import Mapping
from reprlib import repr as short
from typing import Any

import numpy as np

from zoo.core.family import Task
from zoo.layers.transformer_block import BlockNames, block_rules
from zoo.weights import hub_pairs
from zoo.weights.dialect import TORCH, Dialect, Rule
from zoo.weights.errors import CheckpointError
from zoo.weights.hub import agree, whole
from zoo.weights.hub_text import Shapes

_TEXT = {
    **{"hidden_size": 512, "num_hidden_layers": 12, "num_attention_heads": 8, "intermediate_size": 2_048},
    **{"vocab_size": 49_408, "max_position_embeddings": 77, "eos_token_id": 49_407},
    **{"hidden_act": "quick_gelu", "layer_norm_eps": 1e-5},
}
_VISION = {
    **{"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3_072},
    **{"image_size": 224, "patch_size": 32, "hidden_act": "quick_gelu", "layer_norm_eps": 1e-5},
}
_SAVED: dict[str, tuple[Task, str]] = {  # by the model types of transformers: the task, and what its classes begin with
    "clip": ("contrast", "CLIPModel"),
    "clip_text_model": ("text_features", "CLIPTextModel"),
    "clip_vision_model": ("image_features", "CLIPVisionModel"),
}


def read(config: Mapping[str, Any], shapes: Shapes) -> tuple[Task, dict[str, Any]] | None:
    """The task and the Config fields that transformers' config.json says of a CLIP or one of its towers, if it is one.

    Raises:
        CheckpointError: it is of a kind that is not built here, a value is out of range, or the tensors disagree.
    """
    kind = config.get("model_type")
    if not isinstance(kind, str) or kind not in _SAVED:
        return None
    saved = hub_pairs.saved_class(config) or _SAVED[kind][1]
    tasks = [task for task, name in _SAVED.values() if saved in (name, f"{name}WithProjection")]
    if not tasks:
        known = ", ".join(name for _, name in _SAVED.values())
        raise CheckpointError(f"config.json: {short(saved)} is not built here. Known: {known}, also WithProjection.")
    ask = hub_pairs.asking(DIALECTS.values(), shapes)
    fields = {**_image_fields(config, kind, ask), **_text_fields(config, kind, ask)}
    if not fields["width"] and not fields["text_width"]:
        raise CheckpointError(f"config.json describes {kind!r}, but no tensors of such a tower are beside it.")
    sides = [side for tower in ("image", "text") for side in ask(f"{tower}.head_projection", "Dense", "kernel")[1:]]
    if sides:
        agree("projection_dim", whole(config, "projection_dim", 1, 16_384, default=512), sides[0])
    return tasks[0], {**fields, "projection": sides[0] if sides else 0}


def _image_fields(config: Mapping[str, Any], kind: str, ask: hub_pairs.Ask) -> dict[str, Any]:
    if kind == "clip_text_model" or not ask("image.stem_class_token", "", "token"):
        return {"width": 0}
    part = "" if kind == "clip_vision_model" else "vision_config"
    return hub_pairs.image_tower(hub_pairs.part(config, part, defaults=_VISION), config.get("preprocessor") or {}, ask)


def _text_fields(config: Mapping[str, Any], kind: str, ask: hub_pairs.Ask) -> dict[str, Any]:
    if kind == "clip_vision_model" or not ask("text.stem_tokens", "Embedding", "embeddings"):
        return {"text_width": 0}
    values = hub_pairs.part(config, "" if kind == "clip_text_model" else "text_config", defaults=_TEXT)
    found = hub_pairs.text_tower(values, ask)
    names = {key: key if key in ("vocabulary", "length") else f"text_{key}" for key in found}
    end = whole(values, "eos_token_id", 0, 2_000_000)
    # Configs from before transformers 4.31 say 2, whatever the tokenizer's end token is; it has the largest id.
    return {**{names[key]: value for key, value in found.items()}, "end": None if end == 2 else end}


def _transformers(image: str, text: str) -> Dialect:
    """The names of transformers, with what stands before those of each tower."""
    names = BlockNames(
        tuple(f"self_attn.{name}_proj" for name in "qkv"),
        "self_attn.out_proj",
        norms=("layer_norm1", "layer_norm2"),
        mlp=("mlp.fc1", "mlp.fc2"),
    )
    rules = (
        Rule(r"image\.stem_patches", f"{image}embeddings.patch_embedding"),
        Rule(r"image\.stem_class_token", f"{image}embeddings.class_embedding", _token),
        Rule(r"image\.stem_positions", f"{image}embeddings.position_embedding.weight"),
        Rule(r"image\.stem_norm", f"{image}pre_layrnorm"),  # so misspelt there
        *block_rules(rf"{image}encoder.layers.\1", names, tower="image."),
        Rule(r"image\.neck_norm", f"{image}post_layernorm"),
        Rule(r"image\.head_projection", "visual_projection"),
        Rule(r"text\.stem_tokens", f"{text}embeddings.token_embedding"),
        Rule(r"text\.stem_positions", f"{text}embeddings.position_embedding.weight"),
        *block_rules(rf"{text}encoder.layers.\1", names, tower="text."),
        Rule(r"text\.neck_norm", f"{text}final_layer_norm"),
        Rule(r"text\.head_projection", "text_projection"),
        Rule("head_similarity", "logit_scale"),
    )
    towers = {"image": r"vision_model\..*", "text": r"text_model\..*"} if image else {}
    return Dialect(TORCH, rules, ignore=(r".*position_ids",), towers=towers)


def _open_clip() -> Dialect:
    """The names of OpenAI and of open_clip, whose projections are bare matrices, (in, out)."""
    names = BlockNames(("attn.in_proj_",), "attn.out_proj", norms=("ln_1", "ln_2"), mlp=("mlp.c_fc", "mlp.c_proj"))
    rules = (
        Rule(r"image\.stem_patches", "visual.conv1"),
        Rule(r"image\.stem_class_token", "visual.class_embedding", _token),
        Rule(r"image\.stem_positions", "visual.positional_embedding"),
        Rule(r"image\.stem_norm", "visual.ln_pre"),
        *block_rules(r"visual.transformer.resblocks.\1", names, tower="image."),
        Rule(r"image\.neck_norm", "visual.ln_post"),
        Rule(r"image\.head_projection", "visual.proj", np.transpose, leaf=""),
        Rule(r"text\.stem_tokens", "token_embedding"),
        Rule(r"text\.stem_positions", "positional_embedding"),
        *block_rules(r"transformer.resblocks.\1", names, tower="text."),
        Rule(r"text\.neck_norm", "ln_final"),
        Rule(r"text\.head_projection", "text_projection", np.transpose, leaf=""),
        Rule("head_similarity", "logit_scale"),
    )
    text = r"(transformer|token_embedding|ln_final)\..*|positional_embedding"
    towers = {"image": r"visual\..*", "text": text}
    return Dialect(TORCH, rules, ignore=("input_resolution|context_length|vocab_size|attn_mask",), towers=towers)


def _token(array: np.ndarray) -> np.ndarray:
    return array.reshape(1, 1, -1)


DIALECTS = {
    "transformers": _transformers("vision_model.", "text_model."),
    "transformers_bare": _transformers("", ""),
    "open_clip": _open_clip(),
}
