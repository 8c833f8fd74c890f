"""How the arrays of a publisher are laid out: what a variable of ours is called there, and its transpose."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

Shape = tuple[int, ...]
Arrange = Callable[[np.ndarray, Shape], np.ndarray]  # their array, our shape -> our array
Layout = Mapping[tuple[str, str], tuple[str, Arrange]]  # (layer class, our variable) -> their leaf name, transpose


def _same(array: np.ndarray, shape: Shape) -> np.ndarray:
    return array


def _transpose(array: np.ndarray, shape: Shape) -> np.ndarray:
    return array.T  # (out, in) -> (in, out)


def _convolution(array: np.ndarray, shape: Shape) -> np.ndarray:
    return array.transpose(
        2, 3, 1, 0
    )  # (out, in, h, w) -> (h, w, in, out), and transposed (in, out, h, w) -> (h, w, out, in)


def _depthwise(array: np.ndarray, shape: Shape) -> np.ndarray:
    """(C * m, 1, h, w) -> (h, w, C, m): torch keeps the m outputs of one channel side by side."""
    height, width, channels, multiplier = shape
    if array.shape != (channels * multiplier, 1, height, width):
        raise ValueError("a reshape would hide that this is another kernel")
    return array.transpose(2, 3, 0, 1).reshape(shape)


def _dense(array: np.ndarray, shape: Shape) -> np.ndarray:
    """A Linear, or a 1x1 convolution that works as one: (out, in[, 1, 1]) -> (in, out)."""
    return (array[..., 0, 0] if array.shape[2:] == (1, 1) else array).T


TORCH: Layout = {
    ("Conv2D", "kernel"): ("weight", _convolution),
    ("Conv2DTranspose", "kernel"): ("weight", _convolution),
    ("DepthwiseConv2D", "kernel"): ("weight", _depthwise),
    ("Dense", "kernel"): ("weight", _dense),
    ("Embedding", "embeddings"): ("weight", _same),
    ("BatchNormalization", "gamma"): ("weight", _same),
    ("BatchNormalization", "beta"): ("bias", _same),
    ("BatchNormalization", "moving_mean"): ("running_mean", _same),
    ("BatchNormalization", "moving_variance"): ("running_var", _same),
    ("LayerNormalization", "gamma"): ("weight", _same),
    ("LayerNormalization", "beta"): ("bias", _same),
    ("RMSNormalization", "scale"): ("weight", _same),
    ("ReversibleEmbedding", "embeddings"): ("weight", _same),
    ("*", "bias"): ("bias", _same),
}
TORCH_LEGACY: Layout = {  # the first BERT files, whose layer norms still had TensorFlow's names
    **TORCH,
    ("LayerNormalization", "gamma"): ("gamma", _same),
    ("LayerNormalization", "beta"): ("beta", _same),
}
KERAS: Layout = {
    ("*", leaf): (leaf, _same)
    for leaf in ("kernel", "bias", "gamma", "beta", "moving_mean", "moving_variance", "embeddings")
}
