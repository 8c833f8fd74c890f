"""The same graph and weights built again in a form that can be converted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np

from pipelines.interface import input_tensors

HALF = ("mixed_bfloat16", "mixed_float16", "bfloat16", "float16")
MASK_VALUE = -30.0  # what survives static int8; with -1e9 the other scores get no steps of the 256


def computes_in_float32(model: keras.Model) -> bool:
    """Whether no layer of the model computes in half precision."""
    layers = (layer for layer in model._flatten_layers() if not isinstance(layer, keras.Model))
    return not any(layer.compute_dtype in HALF for layer in layers)


def float32_twin(model: keras.Model) -> keras.Model:
    """The model computed in float32, itself if it is: half precision has no builtin TFLite convolutions."""
    if computes_in_float32(model):
        return model
    return _rebuilt(model, lambda _, value: "float32" if isinstance(value, str) and value in HALF else value)


def int8_twin(model: keras.Model, lengths: Mapping[str, int]) -> keras.Model:
    """The model in the form that static int8 leaves intact, itself if it is in it already.

    Attention adds a small number to what it masks. Recurrent layers are unrolled over `lengths`, the tokens of
    each input: the calibration of rolled ones ends its process.
    """
    config = model.get_config()
    if not _holds(config, "mask_value") and not _holds(config, "unroll"):
        return model
    sizes = {tensor.name: lengths[name] for name, tensor in input_tensors(model).items() if name in lengths}

    def change(key: str, value: Any) -> Any:
        if key == "mask_value":
            return MASK_VALUE
        return True if key == "unroll" else value

    return _rebuilt(model, change, sizes=sizes if _holds(config, "unroll") else {})


def _rebuilt(
    model: keras.Model, change: Callable[[str, Any], Any], *, sizes: Mapping[str, int] | None = None
) -> keras.Model:
    """The model from a config in which every (key, value) is changed, with inputs of fixed sizes, by their names."""
    config = _changed(model.get_config(), change)
    for layer in config["layers"]:
        size = (sizes or {}).get(layer["config"].get("name"))
        if layer["class_name"] == "InputLayer" and size is not None:
            batch, _, *rest = layer["config"]["batch_shape"]
            layer["config"]["batch_shape"] = (batch, size, *rest)
    twin = type(model).from_config(config)
    values = zip(twin.weights, model.get_weights(), strict=True)
    twin.set_weights([np.asarray(value).astype(variable.dtype) for variable, value in values])
    return twin


def _changed(config: Any, change: Callable[[str, Any], Any], key: str = "") -> Any:
    if isinstance(config, dict):
        return {name: _changed(value, change, name) for name, value in config.items()}
    if isinstance(config, list | tuple):
        return type(config)(_changed(value, change, key) for value in config)
    return change(key, config)


def _holds(config: Any, key: str) -> bool:
    """Whether a config, or one within it, has the key."""
    if isinstance(config, dict):
        return key in config or any(_holds(value, key) for value in config.values())
    return isinstance(config, list | tuple) and any(_holds(value, key) for value in config)
