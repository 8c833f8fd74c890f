"""Keras builders for classic and modern architectures with published weights; one family a file.

    model = zoo.create("resnet50", weights="hf://timm/resnet50.a1_in1k", classes=37)

Importing this package imports neither Keras nor TensorFlow.
"""

from zoo.core.attention_weights import attention_weights
from zoo.core.naming import layer_groups, taps
from zoo.core.registry import create, from_checkpoint, variants

__all__ = ["attention_weights", "create", "from_checkpoint", "layer_groups", "taps", "variants"]
__version__ = "0.1.0"
