"""DALL-E's discrete autoencoder: images to a grid of codes and back. Paper: https://arxiv.org/abs/2102.12092."""

from __future__ import annotations

from typing import Any

import numpy as np
from keras import layers

from zoo.layers.codebook import CodeVectors
from zoo.layers.text import Bias
from zoo.weights.dialect import TORCH, Dialect, Layout, Rule

STAGES = 4  # three halvings between them
HALVINGS = STAGES - 1


def encoder(x, codes: int, width: int, blocks: int):
    """An image (B, H, W, C) -> logits of the codes (B, H/8, W/8, codes), float32."""
    tower = "encoder."
    x = layers.Conv2D(width, 7, padding="same", name=f"{tower}stem_conv")(x)
    for stage in range(1, STAGES + 1):
        for block in range(1, blocks + 1):
            name = f"{tower}stage{stage}_block{block}"
            x = _block(x, width * 2 ** (stage - 1), kernels=(3, 3, 3, 1), gain=_gain(blocks), name=name)
        if stage < STAGES:
            x = layers.MaxPooling2D(2, name=f"{tower}stage{stage}_pool")(x)
    x = layers.Activation("relu", name=f"{tower}head_act")(x)
    return layers.Conv2D(codes, 1, dtype="float32", name=f"{tower}head_logits")(x)


def decoder(codes, count: int, code_width: int, width: int, blocks: int, channels: int):
    """Codes (B, h, w), or shares of all codes (B, h, w, codes) -> statistics (B, 8 * h, 8 * w, 2 * channels), float32.

    These are the mean of each pixel's logit, then the logarithms of their spread, of a Laplace distribution.
    """
    tower = "decoder."
    x = CodeVectors(count, code_width, name=f"{tower}stem_codes")(codes)  # a 1x1 convolution of one-hot codes
    x = Bias(name=f"{tower}stem_bias")(x)
    for stage in range(1, STAGES + 1):
        for block in range(1, blocks + 1):
            name = f"{tower}stage{stage}_block{block}"
            x = _block(x, width * 2 ** (STAGES - stage), kernels=(1, 3, 3, 3), gain=_gain(blocks), name=name)
        if stage < STAGES:
            x = layers.UpSampling2D(2, interpolation="nearest", name=f"{tower}stage{stage}_upsampled")(x)
    x = layers.Activation("relu", name=f"{tower}head_act")(x)
    return layers.Conv2D(2 * channels, 1, dtype="float32", name=f"{tower}head_statistics")(x)


def _gain(blocks: int) -> float:
    """The factor of each residual branch."""
    return 1.0 / (STAGES * blocks) ** 2


def _block(x, filters: int, *, kernels: tuple[int, ...], gain: float, name: str):
    """Four convolutions, each after a ReLU, and the sum with what came in: (B, H, W, C) -> (B, H, W, filters)."""
    shortcut, last = x, len(kernels)
    if x.shape[-1] != filters:
        shortcut = layers.Conv2D(filters, 1, name=f"{name}_shortcut")(x)
    for number, kernel in enumerate(kernels, start=1):
        x = layers.Activation("relu", name=f"{name}_act{number}")(x)
        width = filters if number == last else filters // 4
        x = layers.Conv2D(width, kernel, padding="same", name=f"{name}_conv{number}")(x)
    x = layers.Rescaling(gain, name=f"{name}_gain")(x)
    return layers.Add(name=f"{name}_sum")([shortcut, x])


def _codes(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    return array[..., 0, 0].T  # (width, codes, 1, 1) -> (codes, width)


def _same(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    return array


_LAYOUT: Layout = {
    ("Conv2D", "kernel"): ("w", TORCH["Conv2D", "kernel"][1]),
    ("Embedding", "embeddings"): ("w", _codes),
    ("*", "bias"): ("b", _same),
}


def openai(encoder: str = "", decoder: str = "") -> Dialect:
    """OpenAI's names; its two files have the same ones, so that a file of both puts something before each."""
    places: tuple[tuple[str, Any], ...] = (("encoder", encoder), ("decoder", decoder))
    rules = [
        rule
        for ours, theirs in places
        for rule in (
            Rule(rf"{ours}\.stem_(?:conv|codes|bias)", f"{theirs}blocks.input"),
            Rule(rf"{ours}\.stage(\d)_block(\d+)_conv(\d)", rf"{theirs}blocks.group_\1.block_\2.res_path.conv_\3"),
            Rule(rf"{ours}\.stage(\d)_block(\d+)_shortcut", rf"{theirs}blocks.group_\1.block_\2.id_path"),
            Rule(rf"{ours}\.head_(?:logits|statistics)", f"{theirs}blocks.output.conv"),
        )
    ]
    return Dialect(_LAYOUT, tuple(rules))
