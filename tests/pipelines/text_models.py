"""Small models of texts with weights that matter, texts for them, and their .tflite files, for the tests of export."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np

import zoo
from pipelines import tflite
from pipelines.exported import run_tflite
from pipelines.interface import Interface, fixed_shapes, input_tensors, predict
from zoo.core.family import Task

VOCABULARY = 40
SMALL = {"width": 16, "heads": 2, "mlp_width": 32, "depth": 1, "vocabulary": VOCABULARY}


def shaken(name: str, task: Task, *, scale: float = 0.1, **options: Any) -> keras.Model:
    """A model of the zoo all of whose weights are random, norms and biases too."""
    keras.utils.set_random_seed(0)
    model = zoo.create(name, task=task, **options)
    random = np.random.default_rng(0)
    model.set_weights([w + random.normal(0, scale, w.shape).astype(w.dtype) for w in model.get_weights()])
    return model


def texts(model: keras.Model, *, count: int = 8, length: int = 12, left: bool = False) -> dict[str, np.ndarray]:
    """Random texts of all lengths by the names of the model's inputs, padded at the end or, with `left`, before.

    Other inputs, such as states, are random numbers.
    """
    random = np.random.default_rng(1)
    found = {}
    for prefix, size in (("", length), ("decoder_", length - 1)):
        sizes = random.integers(2, size + 1, count)
        sizes[0] = size
        mask = (np.arange(size) < sizes[:, None]).astype("int32")[:, :: -1 if left else 1]
        found[f"{prefix}token_ids"] = random.integers(1, VOCABULARY, (count, size)).astype("int32") * mask
        found[f"{prefix}padding_mask"] = mask
        found[f"{prefix}segment_ids"] = (np.arange(size) > size // 2).astype("int32") * mask
    for name, tensor in input_tensors(model).items():
        if name not in found:
            found[name] = random.normal(size=(count, *tensor.shape[1:])).astype("float32")
    return {name: found[name] for name in input_tensors(model)}


def converted(
    model: keras.Model, samples: dict[str, np.ndarray], task: Task, directory: Path, form: str = "float32"
) -> Path:
    """The .tflite file of a model, made in this process, calibrated on the samples."""
    classes = tuple("abc") if task in ("classify", "tag") else ()
    lengths = {
        name: samples[name].shape[1] for name, tensor in input_tensors(model).items() if None in tensor.shape[1:]
    }
    assert fixed_shapes(model, lengths) == {name: values.shape[1:] for name, values in samples.items()}
    np.savez(directory / tflite.CALIBRATION, allow_pickle=False, **samples)
    tflite.write(model, form, directory, Interface(task=task, classes=classes, lengths=lengths))
    return directory / f"{form}.tflite"


def differences(model: keras.Model, path: Path, samples: dict[str, np.ndarray], task: Task) -> dict[str, float]:
    """The largest difference of a file's outputs from Keras', as a share of how much these vary, by name.

    What is answered for padding is left out.
    """
    answers, expected = run_tflite(path, samples), predict(model, samples, task)
    mask = samples.get("decoder_padding_mask", samples.get("padding_mask"))
    found = {}
    for name, output in expected.items():
        each = mask is not None and output.ndim > 2 and output.shape[:2] == mask.shape
        counted = mask.astype(bool) if each else np.ones(output.shape[:2], bool)
        found[name] = float(np.abs(answers[name] - output)[counted].max() / output[counted].std())
    return found
