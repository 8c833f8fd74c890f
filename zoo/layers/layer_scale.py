"""A learned factor for each channel of a residual branch."""

from __future__ import annotations

from keras import initializers, layers, saving


@saving.register_keras_serializable("zoo")
class LayerScale(layers.Layer):
    """Multiplies each channel by a learned factor, small at first: (B, ..., C) -> (B, ..., C).

    Paper: https://arxiv.org/abs/2103.17239. A deep network so starts close to the identity.
    """

    def __init__(self, initial=1e-6, **kwargs):
        super().__init__(**kwargs)
        self.initial = initial

    def build(self, shape):
        self.scale = self.add_weight(name="scale", shape=(shape[-1],), initializer=initializers.Constant(self.initial))

    def call(self, x):
        return x * self.scale

    def compute_output_shape(self, shape):
        return shape

    def get_config(self):
        return {**super().get_config(), "initial": self.initial}
