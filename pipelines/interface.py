"""What a model takes and gives, by name, as its exported files declare it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np

from zoo.core.family import Pixels, Task
from zoo.layers.pixels import PixelInput
from zoo.layers.scale import scale_of

IMAGE = "image"  # the input of every image model
LATENT = "latent"  # the input of every generator
CODES = "codes"  # that of a decoder that takes them
PADDING = "padding_mask"
TOKENS = "token_ids"
BATCH = 32
ACTIVATIONS: dict[Task, str] = {"classify": "softmax", "multi_label": "sigmoid", "tag": "softmax"}  # of logits
# Of all other tasks it is logits.
OUTPUTS: dict[Task, str] = {
    "features": "features", "regress": "values", "forecast": "values", "generate": "image", "decode": "image",
    "encode": "codes",
}  # fmt: skip

Inputs = Mapping[str, Any]  # tensors or arrays by the names of a model's inputs


@dataclass(frozen=True, kw_only=True)
class Interface:
    """What an exported form says about itself.

    `pixels` are given for images. `lengths` says, for each input of any length, how many tokens of it a .tflite file
    takes. `files` are texts that belong to the model, by file name: tokenizer.json. `steps` are the tokens that the
    step files of a language model keep; 0: there are none. `targets` are the names of the numbers of a regression.
    """

    task: Task = "classify"
    classes: tuple[str, ...] = ()
    pixels: Pixels | None = None
    lengths: Mapping[str, int] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    steps: int = 0
    targets: tuple[str, ...] = ()

    @property
    def activation(self) -> str | None:
        """What makes probabilities of the logits; None where they are none of classes."""
        return ACTIVATIONS.get(self.task)


def input_tensors(model: keras.Model) -> dict[str, keras.KerasTensor]:
    """A model's inputs by name: the keys of its dict of inputs, else the names of its tensors, with "_" for a "."."""
    if takes_images(model):
        return {IMAGE: model.inputs[0]}
    if isinstance(model.input, Mapping):
        return {_plain(name): tensor for name, tensor in model.input.items()}
    return {_plain(tensor.name): tensor for tensor in model.inputs}


def call(model: keras.Model, inputs: Inputs, task: Task) -> dict[str, Any]:
    """What the model answers, by name: tensors by the names of inputs -> tensors by those of outputs, in float32."""
    outputs = _named(model(_arranged(model, inputs), training=False), task)
    return {name: _in_float32(output) for name, output in outputs.items()}


def predict(model: keras.Model, samples: Mapping[str, np.ndarray], task: Task) -> dict[str, np.ndarray]:
    """The same for arrays (N, ...), in batches."""
    typed = {name: np.asarray(samples[name], tensor.dtype) for name, tensor in input_tensors(model).items()}
    outputs = _named(model.predict(_arranged(model, typed), batch_size=BATCH, verbose=0), task)
    return {name: np.asarray(output, np.float32) for name, output in outputs.items()}


def output_shapes(model: keras.Model, task: Task) -> dict[str, tuple[int | None, ...]]:
    """The shapes (None, ...) of what `call` gives."""
    return {name: tuple(output.shape) for name, output in _named(model.output, task).items()}


def _arranged(model: keras.Model, inputs: Inputs) -> Any:
    """Inputs by name in the form that the model takes them."""
    if isinstance(model.input, Mapping):
        return {name: inputs[_plain(name)] for name in model.input}
    given = [inputs[name] for name in input_tensors(model)]
    return given if len(given) > 1 else given[0]


def _in_float32(output: Any) -> Any:
    floating = "float" in keras.backend.standardize_dtype(output.dtype)
    return keras.ops.cast(output, "float32") if floating else output


def _named(outputs: Any, task: Task) -> dict[str, Any]:
    if isinstance(outputs, Mapping):
        return {_plain(name): output for name, output in outputs.items()}
    return {OUTPUTS.get(task, "logits"): outputs}


def _plain(name: str) -> str:
    """A name that TensorFlow's signatures leave as it is."""
    return name.replace(".", "_")


def takes_images(model: keras.Model) -> bool:
    """Whether the model's only input is (B, H, W, channels)."""
    return len(model.inputs) == 1 and len(model.inputs[0].shape) == 4


def unit_of(model: keras.Model) -> str:
    """What one sample of a model is called: image, latent, text, series or row."""
    if takes_images(model) or any(tensor.name == IMAGE for tensor in model.inputs):
        return "image"
    if any(tensor.name in (LATENT, CODES) for tensor in model.inputs):
        return LATENT
    if any(np.issubdtype(tensor.dtype, np.integer) for tensor in model.inputs):
        return "text"
    return "series" if len(model.inputs[0].shape) == 3 else "row"


def served_pixels(model: keras.Model) -> Pixels | None:
    """How the exported model prepares images: as its PixelInput says, else resized without a crop; None for others."""
    if not takes_images(model):
        return None
    height, width = model.input_shape[1:3]
    declared = [layer.pixels for layer in model.layers if isinstance(layer, PixelInput)]
    return dataclasses.replace(declared[0] if declared else Pixels(crop=1.0), size=(height, width))


def named_targets(model: keras.Model) -> tuple[str, ...]:
    """The names of the numbers that a regression gives; none of other models."""
    scale = scale_of(model)
    return () if scale is None else scale.names


def fixed_shapes(model: keras.Model, lengths: Mapping[str, int]) -> dict[str, tuple[int, ...]]:
    """The shape of each input without the batch, as a .tflite file takes it."""
    return {
        name: tuple(lengths[name] if size is None else size for size in tensor.shape[1:])
        for name, tensor in input_tensors(model).items()
    }


def outputs_of_tokens(model: keras.Model, task: Task) -> frozenset[str]:
    """The outputs that have a vector for every token that is answered for."""
    tokens = sequence_of(input_tensors(model))
    shapes = output_shapes(model, task)
    return frozenset(name for name, shape in shapes.items() if len(shape) > 2 and shape[1] == tokens.shape[1])


def sequence_of(inputs: Inputs) -> Any:
    """The input that is answered for: the decoder's first one where there is a decoder, else tokens, else the first."""
    first = next(iter(inputs.values()))
    return next((values for name, values in inputs.items() if name.startswith("decoder_")), inputs.get(TOKENS, first))


def mask_of(inputs: Inputs) -> np.ndarray | None:
    """The padding mask of the tokens that are answered for: the decoder's, where there is one."""
    return inputs.get(f"decoder_{PADDING}", inputs.get(PADDING))


def fit_length(inputs: Mapping[str, np.ndarray], lengths: Mapping[str, int]) -> dict[str, np.ndarray]:
    """Sequences (N, T, ...) cut or padded with 0 at their end to the given lengths."""
    return {name: _fit(array, lengths.get(name), fill=0) for name, array in inputs.items()}


def _fit(array: np.ndarray, length: int | None, *, fill: int) -> np.ndarray:
    if length is None or array.shape[1] == length:
        return array
    cut = array[:, :length]
    padding = [(0, 0), (0, length - cut.shape[1])] + [(0, 0)] * (array.ndim - 2)
    return np.pad(cut, padding, constant_values=fill)
