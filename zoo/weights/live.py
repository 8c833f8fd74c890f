"""Live Keras models, such as those of keras.applications, read as checkpoints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.weights.read import Tensors

if TYPE_CHECKING:
    import keras


def from_keras(model: keras.Model) -> Tensors:
    """The weights of a live Keras model as 'layer/variable'."""
    found = {variable.path: variable for variable in model.weights}
    return Tensors({path: tuple(v.shape) for path, v in found.items()}, lambda path: np.asarray(found[path]))


def conventions(model: keras.Model) -> Mapping[str, Any]:
    """The Config fields that the model itself tells."""
    return {}
