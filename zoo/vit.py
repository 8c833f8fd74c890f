"""Vision Transformer, and DeiT with its distillation token. Papers: https://arxiv.org/abs/2010.11929, 2012.12877.

Differs from the papers: no hidden layer in the head, and no dropout inside the blocks.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import keras
from keras import layers

from zoo.core.family import Family, HubMatch, Pixels, Task
from zoo.layers.heads import logits
from zoo.layers.pixels import image_input
from zoo.layers.tokens import ClassToken, LearnedPositions, TokenAt
from zoo.layers.transformer_block import HUB_ACTIVATIONS, Activation, TransformerBlock
from zoo.weights import hub
from zoo.weights.dialect import TORCH, Dialect, Rule, squeezed, third
from zoo.weights.errors import CheckpointError

HALF = Pixels(crop=0.9, interpolation="bicubic", mean=(127.5,) * 3, std=(127.5,) * 3)
IMAGENET = Pixels(crop=0.9, interpolation="bicubic")


@dataclass(frozen=True)
class Config:
    """Sizes, and what the publishers differ in."""

    patch: int  # pixels
    width: int
    depth: int  # blocks
    heads: int
    mlp_width: int
    distilled: bool = False  # a second token and a second classifier, averaged with the first
    pooler: int = 0  # units of a tanh layer on the class token of task="features"; 0 for none
    qkv_bias: bool = True
    activation: Activation = "gelu"
    epsilon: float = 1e-6  # of the layer norms
    dropout: float = 0.0  # before the logits
    pixels: Pixels = HALF


def build(config: Config, *, task: Task, classes: int, name: str) -> keras.Model:
    """(B, H, W, 3) -> logits (B, classes), or tokens (B, T, D), and with a pooler a dict of tokens and pooled."""
    patches = _patches(config)
    image, x = image_input(config.pixels)
    x = layers.Conv2D(config.width, config.patch, config.patch, name="stem_patches")(x)
    x = layers.Reshape((patches, config.width), name="stem_tokens")(x)
    if config.distilled:
        x = ClassToken(name="stem_distillation_token")(x)
    x = ClassToken(name="stem_class_token")(x)
    x = LearnedPositions(x.shape[1], name="stem_positions")(x)
    for block in range(config.depth):
        x = TransformerBlock(
            config.heads,
            config.mlp_width,
            activation=config.activation,
            epsilon=config.epsilon,
            qkv_bias=config.qkv_bias,
            name=f"block{block}",
        )(x)
    x = layers.LayerNormalization(epsilon=config.epsilon, name="neck_norm")(x)
    if task == "classify":
        x = _classify(x, config, classes)
    elif config.pooler:
        pooled = layers.Dense(config.pooler, "tanh", name="head_pooler")(TokenAt(0, name="head_token")(x))
        x = {"tokens": x, "pooled": pooled}
    return keras.Model(image, x, name=name)


def _classify(x, config: Config, classes: int):
    """The class token's logits; for distilled models the mean with the distillation token's."""
    first = TokenAt(0, name="head_token")(x)
    if config.dropout:
        first = layers.Dropout(config.dropout, name="head_dropout")(first)
    if not config.distilled:
        return logits(first, classes)
    second = TokenAt(1, name="head_token_distilled")(x)
    if config.dropout:
        second = layers.Dropout(config.dropout, name="head_dropout_distilled")(second)
    second = layers.Dense(classes, dtype="float32", name="head_logits_distilled")(second)
    return layers.Average(dtype="float32", name="head_mean")([logits(first, classes), second])


def _patches(config: Config) -> int:
    height, width = config.pixels.shape
    patches = (height // config.patch) * (width // config.patch)
    if not patches:
        raise ValueError(f"Images of {height} x {width} pixels hold no patch of {config.patch}. Give a larger size.")
    return patches


def _from_hub(config: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]) -> HubMatch | None:
    return (_from_transformers if config.get("model_type") == "vit" else _from_timm)(config, shapes)


_TIMM_NAME = re.compile(
    r"(?:vit_(?P<vit>tiny|small|base|large)|deit_(?P<deit>tiny|small|base)(?P<distilled>_distilled)?)"
    r"_patch(?P<patch>8|14|16|32)_\d+"
)


def _from_timm(config: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]) -> HubMatch | None:
    """Width and patch are in timm's names, the image size is in pretrained_cfg or among the arguments."""
    published = hub.published_image_model(config)
    match = _TIMM_NAME.fullmatch(published.architecture) if published else None
    if published is None or match is None:
        return None
    if config.get("global_pool", "token") not in ("token", ""):
        raise CheckpointError(f"config.json: global_pool={config['global_pool']!r}; only 'token' is known here.")
    net, size, patch = "vit" if match["vit"] else "deit", match["vit"] or match["deit"], int(match["patch"])
    pixels = published.pixels
    given = (config.get("model_args") or {}).get("img_size")
    if given is not None:
        pixels = replace(pixels, size=_sides(given, "img_size"))
    found = _sized(size, patch, distilled=bool(match["distilled"]), pixels=pixels)
    blocks = r"blocks\.(\d+)\.mlp\.fc1\.weight"
    _agree(found, shapes, patches="patch_embed.proj.weight", positions="pos_embed", blocks=blocks)
    variant = f"{net}_{size}{patch}{match['distilled'] or ''}"
    return published.match(variant, found, head=shapes.get("head.weight"))


def _from_transformers(config: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]) -> HubMatch:
    """ViTForImageClassification, whose names begin with "vit.", or ViTModel with or without its pooler."""
    prefix = "vit." if any(name.startswith("vit.") for name in shapes) else ""
    for key, known in (("hidden_act", tuple(HUB_ACTIVATIONS)), ("pooler_act", ("tanh",)), ("num_channels", (3,))):
        if config.get(key, known[0]) not in known:
            raise CheckpointError(f"config.json: {key}={config[key]!r} is unknown here. Known: {known}.")
    found = Config(
        patch=hub.whole(config, "patch_size", 1, 512, default=16),
        width=hub.whole(config, "hidden_size", 1, 16_384, default=768),
        depth=hub.whole(config, "num_hidden_layers", 1, 1_000, default=12),
        heads=hub.whole(config, "num_attention_heads", 1, 1_024, default=12),
        mlp_width=hub.whole(config, "intermediate_size", 1, 65_536, default=3_072),
        pooler=_side(shapes, f"{prefix}pooler.dense.weight", 0) or 0,
        qkv_bias=bool(config.get("qkv_bias", True)),
        activation=HUB_ACTIVATIONS[config.get("hidden_act", "gelu")],
        epsilon=hub.number(config, "layer_norm_eps", 0.0, 1.0, default=1e-12),
        pixels=hub.transformers_pixels(config, _sides(config.get("image_size", 224), "image_size")),
    )
    if found.width % found.heads:
        raise CheckpointError(f"config.json: hidden_size={found.width} does not split into {found.heads} heads.")
    stem = f"{prefix}embeddings."
    blocks = re.escape(prefix) + r"encoder\.layer\.(\d+)\.intermediate\.dense\.weight"
    patches, positions = f"{stem}patch_embeddings.projection.weight", f"{stem}position_embeddings"
    _agree(found, shapes, patches=patches, positions=positions, blocks=blocks)
    classes = _side(shapes, "classifier.weight", 0)
    classifies = classes or "ViTForImageClassification" in (config.get("architectures") or ())
    return HubMatch("vit", found, "classify" if classifies else "features", classes)


def _agree(config: Config, shapes: Mapping[str, tuple[int, ...]], *, patches: str, positions: str, blocks: str) -> None:
    """Refuse a description that the tensors do not bear out, before anything of that size is built."""
    found = {int(match[1]): _side(shapes, name, 0) for name in shapes if (match := re.fullmatch(blocks, name))}
    hub.agree("width", config.width, _side(shapes, patches, 0))  # (width, 3, patch, patch)
    hub.agree("patch", config.patch, _side(shapes, patches, 3))
    hub.agree("blocks", config.depth, len(found))
    hub.agree("width of the MLP", config.mlp_width, found.get(0))
    hub.agree("positions", _patches(config) + 1 + config.distilled, _side(shapes, positions, 1))


def _side(shapes: Mapping[str, tuple[int, ...]], tensor: str, axis: int) -> int | None:
    shape = shapes.get(tensor, ())
    return shape[axis] if axis < len(shape) else None


def _sides(value: Any, key: str) -> int | tuple[int, int]:
    sides = value if isinstance(value, (list, tuple)) else (value, value)
    if len(sides) != 2:
        raise CheckpointError(f"config.json: {key}={value!r} must be one number or (height, width).")
    height, width = (hub.whole({key: side}, key, 1, 4096) for side in sides)
    return height if height == width else (height, width)


_TIMM = Dialect(
    TORCH,
    (
        Rule("stem_patches", "patch_embed.proj"),
        Rule("stem_class_token", "cls_token"),
        Rule("stem_distillation_token", "dist_token"),
        Rule("stem_positions", "pos_embed", squeezed),
        *(
            Rule(rf"block(\d+)/attention/{name}", r"blocks.\1.attn.qkv", third(index))
            for index, name in enumerate(("query", "key", "value"))
        ),
        Rule(r"block(\d+)/attention/output", r"blocks.\1.attn.proj"),
        Rule(r"block(\d+)/attention_norm", r"blocks.\1.norm1"),
        Rule(r"block(\d+)/mlp_norm", r"blocks.\1.norm2"),
        Rule(r"block(\d+)/mlp_up", r"blocks.\1.mlp.fc1"),
        Rule(r"block(\d+)/mlp_down", r"blocks.\1.mlp.fc2"),
        Rule("neck_norm", "norm"),
        Rule("head_logits", "head"),
        Rule("head_logits_distilled", "head_dist"),
    ),
)


def _transformers(prefix: str) -> Dialect:
    block = rf"{prefix}encoder.layer.\1."
    return Dialect(
        TORCH,
        (
            Rule("stem_patches", f"{prefix}embeddings.patch_embeddings.projection"),
            Rule("stem_class_token", f"{prefix}embeddings.cls_token"),
            Rule("stem_positions", f"{prefix}embeddings.position_embeddings", squeezed),
            Rule(r"block(\d+)/attention/(query|key|value)", block + r"attention.attention.\2"),
            Rule(r"block(\d+)/attention/output", block + "attention.output.dense"),
            Rule(r"block(\d+)/attention_norm", block + "layernorm_before"),
            Rule(r"block(\d+)/mlp_norm", block + "layernorm_after"),
            Rule(r"block(\d+)/mlp_up", block + "intermediate.dense"),
            Rule(r"block(\d+)/mlp_down", block + "output.dense"),
            Rule("neck_norm", f"{prefix}layernorm"),
            Rule("head_pooler", f"{prefix}pooler.dense"),
            Rule("head_logits", "classifier"),
        ),
        overrides={"epsilon": 1e-12},
    )


_SIZES = {"tiny": (192, 12, 3), "small": (384, 12, 6), "base": (768, 12, 12), "large": (1024, 24, 16)}


def _sized(size: str, patch: int, *, distilled: bool = False, pixels: Pixels = HALF) -> Config:
    """One of the published sizes: width, depth and heads, and an MLP four times as wide."""
    width, depth, heads = _SIZES[size]
    return Config(patch, width, depth, heads, 4 * width, distilled=distilled, pixels=pixels)


_PATCHES = {"tiny": (16,), "small": (8, 16, 32), "base": (8, 16, 32), "large": (14, 16, 32)}
_DEIT = ("tiny", "small", "base")

FAMILY = Family(
    paper="https://arxiv.org/abs/2010.11929",
    build=build,
    variants={
        **{f"vit_{size}{patch}": _sized(size, patch) for size, patches in _PATCHES.items() for patch in patches},
        **{f"deit_{size}16": _sized(size, 16, pixels=IMAGENET) for size in _DEIT},
        **{f"deit_{size}16_distilled": _sized(size, 16, distilled=True, pixels=IMAGENET) for size in _DEIT},
    },
    conventions=("pixels", "qkv_bias", "activation", "epsilon", "pooler"),
    dialects={"timm": _TIMM, "transformers": _transformers("vit."), "transformers_base": _transformers("")},
    from_hub=_from_hub,
)
