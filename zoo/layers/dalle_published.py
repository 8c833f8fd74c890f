"""What OpenAI and dalle-pytorch call the parts of DALL-E, and what their arguments say."""

from __future__ import annotations

import re
from collections.abc import Mapping
from reprlib import repr as short
from typing import Any, NamedTuple

import numpy as np

from zoo.core.family import Task
from zoo.layers.dvae import openai
from zoo.weights.dialect import TORCH, Dialect, Layout, Rule, third
from zoo.weights.errors import CheckpointError
from zoo.weights.hub import agree, arguments, whole
from zoo.weights.hub_text import flag, sides
from zoo.weights.layouts import Shape

_ATTENTION = ("full", "axial_row", "axial_col")


class Found(NamedTuple):
    """What a config.json tells: the task, and fields of the Config; "grid" are the codes of an image."""

    task: Task
    fields: dict[str, Any]


def _flat(array: np.ndarray, shape: Shape) -> np.ndarray:
    """A vector or table saved with axes of one: (1, 1, D) -> (D,), (1, h, 1, D) -> (h, D)."""
    if array.size != np.prod(shape) or array.shape[-1:] != shape[-1:]:
        raise ValueError("a reshape would hide that this is another table")
    return array.reshape(shape)


def _half(index: int):
    """The value (0) or the gate (1) of a fused layer: (2 * D, ...) -> (D, ...)."""
    return lambda array: np.split(array, 2, axis=0)[index]


def _both(*tables: np.ndarray) -> np.ndarray:
    return np.concatenate(tables, axis=0)


_LAYOUT: Layout = {
    **TORCH,
    ("*", "text"): ("text_pos_emb.weight", _flat),
    ("*", "rows"): ("image_pos_emb.weights_0", _flat),
    ("*", "columns"): ("image_pos_emb.weights_1", _flat),
    ("*", "attention_scale"): ("0.scale", _flat),
    ("*", "mlp_scale"): ("1.scale", _flat),
}


def _dalle_pytorch(attention: str, mlp: str) -> Dialect:
    """`attention` and `mlp` are what its wrappers around both make of their names."""
    block = r"transformer.layers.layers.\1"
    rules = (
        Rule("stem_tokens", ("text_emb", "image_emb"), _both),
        Rule("stem_positions", ""),
        Rule(r"block(\d+)", block),
        Rule(r"block(\d+)/attention_norm", f"{block}.0.fn.norm"),
        Rule(r"block(\d+)/mlp_norm", f"{block}.1.fn.norm"),
        *(
            Rule(rf"block(\d+)/attention/{name}", f"{block}.0.{attention}.to_qkv", third(index))
            for index, name in enumerate(("query", "key", "value"))
        ),
        Rule(r"block(\d+)/attention/output", f"{block}.0.{attention}.to_out.0"),
        Rule(r"block(\d+)/mlp_gate", f"{block}.1.{mlp}.net.0", _half(0)),
        Rule(r"block(\d+)/mlp_up", f"{block}.1.{mlp}.net.0", _half(1)),
        Rule(r"block(\d+)/mlp_down", f"{block}.1.{mlp}.net.3"),
        Rule("neck_norm", "to_logits.0"),
        Rule("head_vocabulary", "to_logits.1"),
    )
    return Dialect(_LAYOUT, rules, ignore=(r"vae\..*",))  # the autoencoder that it was trained with


DIALECTS = {
    "dalle_pytorch": _dalle_pytorch("fn.fn.fn", "fn.fn"),
    "dalle_pytorch_shifted": _dalle_pytorch("fn.fn.fn.fn.fn", "fn.fn.fn.fn"),
    "openai": openai(),
    "openai_both": openai("encoder.", "decoder."),
    "openai_vae": openai("vae.enc.", "vae.dec."),  # inside of a dalle-pytorch checkpoint
}


def read(config: Mapping[str, Any], shapes: Mapping[str, Shape]) -> Found | None:
    """What a config.json says, if it is of one of the three networks.

    Raises:
        CheckpointError: a value is out of range, unknown here, or other than the tensors tell.
    """
    readers = {
        "dall_e.Encoder": _encoder,
        "dall_e.Decoder": _decoder,
        "dalle_pytorch.DALLE": _transformer,
    }
    reader = readers.get(str(config.get("architecture")))
    return reader(config, shapes) if reader else None


def _encoder(config: Mapping[str, Any], shapes: Mapping[str, Shape]) -> Found:
    values = arguments(config, known=("n_hid", "n_blk_per_group", "vocab_size", "group_count", "input_channels"))
    found = _autoencoder(values)
    agree("vocab_size", found["codes"], sides(shapes, "blocks.output.conv.w")[0])
    agree("n_hid", found["channels_width"], sides(shapes, "blocks.input.w")[0])
    _agree_on_blocks(found["blocks"], shapes)
    return Found("encode", found)


def _decoder(config: Mapping[str, Any], shapes: Mapping[str, Shape]) -> Found:
    known = ("n_init", "n_hid", "n_blk_per_group", "vocab_size", "group_count", "output_channels")
    values = arguments(config, known=known)
    found = {**_autoencoder(values), "code_width": whole(values, "n_init", 1, 65_536, default=128)}
    agree("vocab_size", found["codes"], sides(shapes, "blocks.input.w")[1])
    agree("n_init", found["code_width"], sides(shapes, "blocks.input.w")[0])
    agree("n_hid", found["channels_width"], sides(shapes, "blocks.output.conv.w")[1])
    _agree_on_blocks(found["blocks"], shapes)
    return Found("decode", found)


def _autoencoder(values: Mapping[str, Any]) -> dict[str, Any]:
    for key, built in (("group_count", 4), ("input_channels", 3), ("output_channels", 3)):
        if values.get(key, built) != built:
            raise CheckpointError(f"config.json: {key}={short(values[key])} is not built here; only {built} is.")
    return {
        "codes": whole(values, "vocab_size", 2, 1_000_000, default=8192),
        "channels_width": whole(values, "n_hid", 4, 16_384, default=256),
        "blocks": whole(values, "n_blk_per_group", 1, 64, default=2),
    }


def _agree_on_blocks(blocks: int, shapes: Mapping[str, Shape]) -> None:
    found = [re.search(r"group_1\.block_(\d+)\.res_path\.conv_1\.w$", name) for name in shapes]
    agree("n_blk_per_group", blocks, sum(match is not None for match in found))


def _transformer(config: Mapping[str, Any], shapes: Mapping[str, Shape]) -> Found:
    sizes = ("dim", "num_text_tokens", "text_seq_len", "depth", "heads", "dim_head", "image_fmap_size")
    known = (*sizes, "num_image_tokens", "rotary_emb", "shift_tokens", "attn_types", "attn_dropout", "ff_dropout")
    values = arguments(config, known=known)
    if flag(values, "rotary_emb", default=True):
        raise CheckpointError("config.json: rotary_emb=True is not built here; only learned positions are.")
    kinds = values.get("attn_types") or ["full"]
    if not isinstance(kinds, list) or not set(map(str, kinds)) <= set(_ATTENTION):
        raise CheckpointError(
            f"config.json: attn_types={short(kinds)} is unknown here. Known: {', '.join(_ATTENTION)}."
        )
    side = whole(values, "image_fmap_size", 1, 512)
    found = {
        "width": whole(values, "dim", 4, 16_384),
        "words": whole(values, "num_text_tokens", 2, 2_000_000, default=10_000),
        "text_length": whole(values, "text_seq_len", 1, 65_536, default=256),
        "depth": whole(values, "depth", 1, 256),
        "heads": whole(values, "heads", 1, 256, default=8),
        "head_width": whole(values, "dim_head", 1, 16_384, default=64),
        "codes": whole(values, "num_image_tokens", 2, 1_000_000),
        "attention": tuple(map(str, kinds)),
        "shift": flag(values, "shift_tokens", default=True),
        "grid": (side, side),
    }
    agree("dim", found["width"], sides(shapes, "text_emb.weight")[1])
    agree(
        "num_text_tokens and text_seq_len", found["words"] + found["text_length"], sides(shapes, "text_emb.weight")[0]
    )
    agree("num_image_tokens", found["codes"], sides(shapes, "image_emb.weight")[0])
    agree("image_fmap_size", side, next(iter(shapes.get("image_pos_emb.weights_0", ())[1:]), None))
    depth = sum(bool(re.fullmatch(r"transformer\.layers\.layers\.\d+\.0\.scale", name)) for name in shapes)
    agree("depth", found["depth"], depth)
    fused = f"0.{'fn.fn.fn.fn.fn' if found['shift'] else 'fn.fn.fn'}.to_qkv.weight"
    agree("heads and dim_head", 3 * found["heads"] * found["head_width"], sides(shapes, fused)[0])
    return Found("text_to_image", found)
