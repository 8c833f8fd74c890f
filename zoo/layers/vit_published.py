"""What the publishers of Vision Transformers say in config.json, and what they call the tensors."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from reprlib import repr as short  # values of a stranger's file can be of any length
from typing import Any, NamedTuple

from zoo.core.family import Task
from zoo.layers.transformer_block import HUB_ACTIVATIONS, BlockNames, block_rules
from zoo.weights import hub
from zoo.weights.dialect import TORCH, Dialect, Rule, squeezed
from zoo.weights.errors import CheckpointError

Shapes = Mapping[str, tuple[int, ...]]

SIZES = {  # by the names of timm: width, depth, heads, width of the MLP
    "xsmall": (256, 10, 4, 1024),
    "tiny": (192, 12, 3, 768),
    "small": (384, 12, 6, 1536),
    "medium": (512, 12, 8, 2048),
    "betwixt": (640, 12, 10, 2560),
    "base": (768, 12, 12, 3072),
    "large": (1024, 24, 16, 4096),
    "huge": (1280, 32, 16, 5120),
    "giant": (1408, 40, 16, 6144),
    "gigantic": (1664, 48, 16, 8192),
}
CLIP = {"stem_norm": True, "patch_bias": False, "epsilon": 1e-5}


class Description(NamedTuple):
    """What a config.json says of a checkpoint."""

    variant: str
    fields: Mapping[str, Any]  # of the family's Config
    task: Task
    classes: int | None


def sized(size: str, patch: int) -> dict[str, int]:
    """The Config fields of one of the published sizes."""
    return {"patch": patch, **dict(zip(("width", "depth", "heads", "mlp_width"), SIZES[size], strict=True))}


def read(config: Mapping[str, Any], shapes: Shapes) -> Description | None:
    """What timm, torchvision or transformers say of a Vision Transformer, or None if it is something else.

    Raises:
        CheckpointError: it is of a kind that is not built here, a value is out of range, or the tensors disagree.
    """
    if config.get("model_type") in ("vit", "deit"):
        return _read_transformers(config, shapes)
    published = hub.published_image_model(config)
    if published is None or not published.architecture.startswith(("vit_", "deit_")):
        return None
    if published.library == "torchvision":
        variant, fields = _named_by_torchvision(published.architecture)
        size = hub.torchvision_arguments(config, known=("image_size",)).get("image_size")
    else:
        variant, fields = _named_by_timm(published.architecture)
        size = (config.get("model_args") or {}).get("img_size")
    if config.get("global_pool", "token") not in ("token", ""):
        raise CheckpointError(f"config.json: global_pool={short(config['global_pool'])}; only 'token' is known here.")
    pixels = published.pixels if size is None else replace(published.pixels, size=hub.sides(size, "img_size"))
    fields = {**fields, "pixels": pixels}
    dialect = _agree(fields, shapes)
    match = published.match(variant, fields, head=shapes.get(_tensor(dialect, "head_logits", "kernel")))
    return Description(variant, fields, match.task, match.classes)


_TIMM_NAME = re.compile(
    r"(?P<net>vit|deit)_(?P<size>[a-z]+)(?P<distilled>_distilled)?_patch(?P<patch>\d{1,2})"
    r"(?P<clip>_clip(?P<quick>_quickgelu)?)?_\d+(?P<miil>_miil)?"
)


def _named_by_timm(architecture: str) -> tuple[str, dict[str, Any]]:
    """(variant, fields) of a name such as vit_base_patch32_clip_224."""
    match = _TIMM_NAME.fullmatch(architecture)
    if match is None or match["size"] not in SIZES:
        raise CheckpointError(
            f"{short(architecture)} is a Vision Transformer with parts that are not built here. Known are timm's names "
            f"vit_SIZE_patchN[_clip[_quickgelu]]_N and deit_SIZE[_distilled]_patchN_N; SIZE: {', '.join(SIZES)}."
        )
    fields = {
        **sized(match["size"], int(match["patch"])),
        **(CLIP if match["clip"] else {}),
        "distilled": bool(match["distilled"]),
        "activation": "quick_gelu" if match["quick"] else "gelu",
        "qkv_bias": not match["miil"],
    }
    variant = f"{match['net']}_{match['size']}{match['patch']}"
    return f"{variant}{match['distilled'] or ''}{'_clip' if match['clip'] else ''}", fields


def _named_by_torchvision(architecture: str) -> tuple[str, dict[str, Any]]:
    """(variant, fields) of a name such as vit_b_16."""
    match = re.fullmatch(r"vit_(?P<size>[blh])_(?P<patch>14|16|32)", architecture)
    if match is None:
        raise CheckpointError(
            f"config.json: torchvision has no {short(architecture)}, but vit_b_16, vit_l_32 and so on."
        )
    size = next(size for size in ("base", "large", "huge") if size.startswith(match["size"]))
    return f"vit_{size}{match['patch']}", sized(size, int(match["patch"]))


def _read_transformers(config: Mapping[str, Any], shapes: Shapes) -> Description:
    """ViT or DeiT: with a classifier, with another for its teacher, or without, then with its pooler or not."""
    for key, known in (("hidden_act", tuple(HUB_ACTIVATIONS)), ("pooler_act", ("tanh",))):
        if config.get(key, known[0]) not in known:
            raise CheckpointError(f"config.json: {key}={short(config[key])} is unknown here. Known: {known}.")
    fields = {
        "patch": hub.whole(config, "patch_size", 1, 512, default=16),
        "width": hub.whole(config, "hidden_size", 1, 16_384, default=768),
        "depth": hub.whole(config, "num_hidden_layers", 1, 1_000, default=12),
        "heads": hub.whole(config, "num_attention_heads", 1, 1_024, default=12),
        "mlp_width": hub.whole(config, "intermediate_size", 1, 65_536, default=3_072),
        "distilled": config["model_type"] == "deit",
        "teacher_head": "distillation_classifier.weight" in shapes,
        "qkv_bias": bool(config.get("qkv_bias", True)),
        "activation": HUB_ACTIVATIONS[config.get("hidden_act", "gelu")],
        "epsilon": hub.number(config, "layer_norm_eps", 0.0, 1.0, default=1e-12),
        "pixels": hub.transformers_pixels(
            config, hub.sides(config.get("image_size", 224), "image_size"), resize="squash"
        ),
    }
    if fields["width"] % fields["heads"]:
        raise CheckpointError(
            f"config.json: hidden_size={fields['width']} does not split into {fields['heads']} heads."
        )
    dialect = _agree(fields, shapes)
    pooler = _side(shapes, _tensor(dialect, "head_pooler", "kernel"), 0) or 0
    classes = _side(shapes, _tensor(dialect, "head_logits", "kernel"), 0)
    classifies = classes or any("ForImageClassification" in str(name) for name in config.get("architectures") or ())
    task: Task = "classify" if classifies else "features"
    return Description(config["model_type"], {**fields, "pooler": pooler}, task, classes)


def _agree(fields: Mapping[str, Any], shapes: Shapes) -> Dialect:
    """Refuse a description that the tensors do not bear out, before anything of that size is built; their dialect."""

    def known(dialect: Dialect) -> int:
        return sum(_tensor(dialect, layer, "kernel") in shapes for layer in ("block0/mlp_up", "head_logits"))

    dialect = max(DIALECTS.values(), key=known)
    patches, positions = _tensor(dialect, "stem_patches", "kernel"), _tensor(dialect, "stem_positions", "table")
    blocks = [_tensor(dialect, f"block{block}/mlp_up", "kernel") for block in range(fields["depth"] + 1)]
    height, width = (side // fields["patch"] for side in fields["pixels"].shape)
    if not height * width:
        raise CheckpointError(f"config.json: an image of {fields['pixels'].shape} holds no patch of {fields['patch']}.")
    hub.agree("width", fields["width"], _side(shapes, patches, 0))  # (width, channels, patch, patch)
    hub.agree("num_channels", fields["pixels"].channels, _side(shapes, patches, 1))
    hub.agree("patch", fields["patch"], _side(shapes, patches, 3))
    hub.agree("blocks", fields["depth"], sum(name in shapes for name in blocks))
    hub.agree("width of the MLP", fields["mlp_width"], _side(shapes, blocks[0], 0))
    hub.agree("positions", height * width + 1 + fields.get("distilled", False), _side(shapes, positions, 1))
    return dialect


def _tensor(dialect: Dialect, layer: str, variable: str) -> str:
    """What a dialect calls a variable; nothing where it has no such layer."""
    source = dialect.source(layer, "Conv2D" if layer == "stem_patches" else "Dense", variable)
    return source.names[0] if source else ""


def _side(shapes: Shapes, tensor: str, axis: int) -> int | None:
    shape = shapes.get(tensor, ())
    return shape[axis] if axis < len(shape) else None


_TIMM = (
    Rule("stem_patches", "patch_embed.proj"),
    Rule("stem_class_token", "cls_token"),
    Rule("stem_distillation_token", "dist_token"),
    Rule("stem_positions", "pos_embed", squeezed),
    Rule("stem_norm", "norm_pre"),
    *block_rules(
        r"blocks.\1", BlockNames(("attn.qkv",), "attn.proj", norms=("norm1", "norm2"), mlp=("mlp.fc1", "mlp.fc2"))
    ),
    Rule("neck_norm", "norm"),
    Rule("head_logits", "head"),
    Rule("head_logits_distilled", "head_dist"),
)


def _torchvision(*mlp: str) -> Dialect:
    names = BlockNames(("self_attention.in_proj_",), "self_attention.out_proj", norms=("ln_1", "ln_2"), mlp=mlp)
    rules = (
        Rule("stem_patches", "conv_proj"),
        Rule("stem_class_token", "class_token"),
        Rule("stem_positions", "encoder.pos_embedding", squeezed),
        *block_rules(r"encoder.layers.encoder_layer_\1", names),
        Rule("neck_norm", "encoder.ln"),
        Rule("head_logits", "heads.head"),
    )
    return Dialect(TORCH, rules)


def _transformers(prefix: str, *, classifier: str = "classifier") -> Dialect:
    names = BlockNames(
        tuple(f"attention.attention.{name}" for name in ("query", "key", "value")),
        "attention.output.dense",
        norms=("layernorm_before", "layernorm_after"),
        mlp=("intermediate.dense", "output.dense"),
    )
    rules = (
        Rule("stem_patches", f"{prefix}embeddings.patch_embeddings.projection"),
        Rule("stem_class_token", f"{prefix}embeddings.cls_token"),
        Rule("stem_distillation_token", f"{prefix}embeddings.distillation_token"),
        Rule("stem_positions", f"{prefix}embeddings.position_embeddings", squeezed),
        *block_rules(rf"{prefix}encoder.layer.\1", names),
        Rule("neck_norm", f"{prefix}layernorm"),
        Rule("head_pooler", f"{prefix}pooler.dense"),
        Rule("head_logits", classifier),
        Rule("head_logits_distilled", "distillation_classifier"),
    )
    return Dialect(TORCH, rules, overrides={"epsilon": 1e-12})


DIALECTS = {
    "timm": Dialect(TORCH, _TIMM),
    "torchvision": _torchvision("mlp.0", "mlp.3"),
    "torchvision_early": _torchvision("mlp.linear_1", "mlp.linear_2"),  # the published files, from before 0.13
    "transformers": _transformers("vit."),
    "transformers_base": _transformers(""),
    "transformers_deit": _transformers("deit."),
    "transformers_deit_teacher": _transformers("deit.", classifier="cls_classifier"),
}
