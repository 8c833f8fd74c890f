"""Convolution, batch norm and activation as one piece, with the padding of either publisher."""

from __future__ import annotations

from typing import Literal

from keras import layers

Padding = Literal["symmetric", "same"]


def conv_bn(
    x,
    filters: int,
    kernel: int,
    *,
    name: str,
    stride: int = 1,
    groups: int = 1,
    depthwise: bool = False,
    padding: Padding = "symmetric",
    bias: bool = False,
    epsilon: float = 1e-5,
    activation: str | None = "relu",
):
    """Convolution, batch norm, activation: (B, H, W, C) -> (B, H/stride, W/stride, filters).

    The layers are called name, and name with its last "conv" as "bn" and "act". `padding` is
    "symmetric" (kernel // 2 zeros on each side, as in PyTorch) or "same" (as in TensorFlow); they
    differ only where the stride is over 1.
    """
    stem, _, rest = name.rpartition("conv")
    mode = "same"
    if stride > 1 and kernel > 1 and padding == "symmetric":
        x = layers.ZeroPadding2D(kernel // 2, name=f"{stem}pad{rest}")(x)
        mode = "valid"
    if depthwise:
        x = layers.DepthwiseConv2D(kernel, stride, mode, use_bias=bias, name=name)(x)
    else:
        x = layers.Conv2D(filters, kernel, stride, mode, groups=groups, use_bias=bias, name=name)(x)
    x = layers.BatchNormalization(epsilon=epsilon, momentum=0.9, name=f"{stem}bn{rest}")(x)
    return layers.Activation(activation, name=f"{stem}act{rest}")(x) if activation else x
