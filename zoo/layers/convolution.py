"""Convolution, batch norm and activation as one layer, with the padding of either publisher."""

from __future__ import annotations

from typing import Any, Literal

import keras
from keras import layers, ops

from zoo.layers.batch_norm import BatchNormalization
from zoo.layers.grouped_convolution import GroupedConv2D

Padding = Literal["symmetric", "same", "valid"]


@keras.saving.register_keras_serializable("zoo")
class ConvNorm(layers.Layer):
    """Convolution, batch norm, activation: (B, H, W, C) -> (B, H/stride, W/stride, filters).

    `kernel` is one side of a square or (height, width), odd numbers. `padding` is "symmetric" (kernel // 2
    zeros on each side, as in PyTorch), "same" (as in TensorFlow; they differ only where the stride is over 1) or
    "valid" (none). `scale` is whether the norm has a gamma.

    While the norm's statistics are fixed, in inference and in frozen layers, it is folded into the
    kernel, and costs nothing on the feature map. The layers inside follow the naming grammar too: the
    convolution is called as this layer, the norm the same with its last "conv" as "bn".
    """

    def __init__(
        self,
        filters: int,
        kernel: int | tuple[int, int],
        *,
        name: str,
        stride: int = 1,
        groups: int = 1,
        depthwise: bool = False,
        padding: Padding = "symmetric",
        bias: bool = False,
        scale: bool = True,
        epsilon: float = 1e-5,
        activation: str | None = "relu",
        **kwargs: Any,
    ):
        super().__init__(name=name, **kwargs)
        sides = (kernel, kernel) if isinstance(kernel, int) else tuple(kernel)
        self.depthwise = depthwise
        self.options = {
            "filters": filters,
            "kernel": sides,
            "stride": stride,
            "groups": groups,
            "depthwise": depthwise,
            "padding": padding,
            "bias": bias,
            "scale": scale,
            "epsilon": epsilon,
            "activation": activation,
        }
        pads = padding == "symmetric" and stride > 1
        self.margins = tuple(side // 2 if pads else 0 for side in sides)  # zeros above and below, left and right
        mode = "valid" if pads or padding == "valid" else "same"
        stem, _, rest = name.rpartition("conv")
        inside: dict[str, Any] = {"name": name, "dtype": self.dtype_policy, "use_bias": bias}
        if depthwise:
            self.conv = layers.DepthwiseConv2D(sides, stride, mode, **inside)
        elif groups > 1:
            self.conv = GroupedConv2D(filters, sides, stride, mode, groups=groups, **inside)
        else:
            self.conv = layers.Conv2D(filters, sides, stride, mode, **inside)
        self.norm = BatchNormalization(
            epsilon=epsilon, momentum=0.9, scale=scale, name=f"{stem}bn{rest}", dtype=self.dtype_policy
        )
        self.activation = keras.activations.get(activation)

    @property
    def kernel(self) -> keras.Variable:
        """The convolution's."""
        return self.conv.kernel

    @property
    def strides(self) -> tuple[int, int]:
        """The convolution's, (down, right)."""
        return self.conv.strides

    def build(self, shape):
        self.conv.build(self._padded(shape))
        self.norm.build(self.compute_output_shape(shape))

    def call(self, x, training=None):
        if any(self.margins):
            height, width = self.margins
            x = ops.pad(x, ((0, 0), (height, height), (width, width), (0, 0)))
        if training and self.norm.trainable:
            return self.activation(self.norm(self._between(self.conv(x)), training=True))
        slope, offset = self.norm.line()
        if self.conv.use_bias:
            offset = offset + self.conv.bias * slope
        x = self._between(self._convolve(x, slope))
        return self.activation(ops.add(x, ops.cast(offset, self.compute_dtype)))

    def _between(self, x):
        """What happens to the map between the convolution and its norm: linear, and each channel by itself."""
        return x

    def _convolve(self, x, slope):
        """The convolution without bias, its outputs times `slope`: (B, H, W, C), (filters,) -> (B, H', W', filters)."""
        conv = self.conv
        if not self.depthwise:
            return conv.convolution_op(x, ops.cast(conv.kernel * slope, self.compute_dtype))
        kernel = ops.cast(conv.kernel * slope[:, None], self.compute_dtype)  # (h, w, C, 1)
        return ops.depthwise_conv(x, kernel, conv.strides, conv.padding, conv.data_format)

    def _padded(self, shape):
        height, width = (side and side + 2 * margin for side, margin in zip(shape[1:3], self.margins, strict=True))
        return (shape[0], height, width, shape[3])

    def compute_output_shape(self, shape):
        return self.conv.compute_output_shape(self._padded(shape))

    def get_config(self):
        return {**super().get_config(), **self.options}


def conv_bn(x, filters: int, kernel: int | tuple[int, int], *, name: str, **options: Any):
    """Convolution, batch norm, activation: (B, H, W, C) -> (B, H/stride, W/stride, filters). `options` of ConvNorm."""
    return ConvNorm(filters, kernel, name=name, **options)(x)
