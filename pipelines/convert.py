"""Turns a saved Keras model into a SavedModel and .tflite files, in a process of its own.

    python -m pipelines.convert DIRECTORY

TensorFlow's converter can end the process that it runs in, without an exception. What is done so far
stands in outcomes.json, so the format that it died of has a name.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from pipelines import bias_correction, bundle, metadata
from zoo.core.family import Pixels
from zoo.layers.pixels import PixelInput

MODEL = "model.keras"
JOB = "job.json"
CALIBRATION = "calibration.npy"
OUTCOMES = "outcomes.json"
HALF = ("mixed_bfloat16", "mixed_float16", "bfloat16", "float16")


@dataclass(frozen=True)
class Job:
    """What to convert; it lies in the same directory as the model, and the results go there.

    `modules` are those that define the model's own layers: Keras finds a layer's class only after
    its module has been imported.
    """

    formats: tuple[str, ...]
    classes: tuple[str, ...]
    modules: tuple[str, ...]

    def write(self, directory: Path) -> None:
        """Writes job.json."""
        (directory / JOB).write_text(json.dumps(dataclasses.asdict(self)), "utf-8")

    @classmethod
    def read(cls, directory: Path) -> Job:
        """The job that `write` wrote."""
        values = json.loads((directory / JOB).read_text("utf-8"))
        return cls(**{name: tuple(value) for name, value in values.items()})


def run(directory: Path) -> None:
    """Converts the model in a directory to every format of the job there."""
    job = Job.read(directory)
    model = float32_twin(_load(directory / MODEL, job.modules))
    done: dict[str, str | None] = {}
    for form in job.formats:
        try:
            if form == "saved_model":
                _write_saved_model(model, directory / form, classes=job.classes)
            else:
                _write_tflite(model, form, directory, classes=job.classes)
            done[form] = None
        except Exception as error:  # whatever one format fails of: the report names the others' failures too
            done[form] = f"{type(error).__name__}: {error}"
        (directory / OUTCOMES).write_text(json.dumps(done), "utf-8")


def outcomes(directory: Path) -> dict[str, str | None]:
    """For every format that `run` finished with: None, or what went wrong."""
    path = directory / OUTCOMES
    return json.loads(path.read_text("utf-8")) if path.exists() else {}


def served_pixels(model: keras.Model) -> Pixels:
    """How the exported model prepares images: as its PixelInput says, else resized without a crop."""
    height, width = model.input_shape[1:3]
    declared = [layer.pixels for layer in model.layers if isinstance(layer, PixelInput)]
    return dataclasses.replace(declared[0] if declared else Pixels(crop=1.0), size=(height, width))


def computes_in_float32(model: keras.Model) -> bool:
    """Whether no layer of the model computes in half precision."""
    layers = (layer for layer in model._flatten_layers() if not isinstance(layer, keras.Model))
    return not any(layer.compute_dtype in HALF for layer in layers)


def float32_twin(model: keras.Model) -> keras.Model:
    """The same graph and weights, computed in float32: half precision has no builtin TFLite convolutions."""
    if computes_in_float32(model):
        return model
    twin = type(model).from_config(_in_float32(model.get_config()))
    values = zip(twin.weights, model.get_weights(), strict=True)
    twin.set_weights([np.asarray(value).astype(variable.dtype) for variable, value in values])
    return twin


def _in_float32(config: Any) -> Any:
    """A model's config with every half-precision dtype and policy replaced."""
    if isinstance(config, dict):
        return {key: _in_float32(value) for key, value in config.items()}
    if isinstance(config, list | tuple):
        return type(config)(_in_float32(value) for value in config)
    return "float32" if isinstance(config, str) and config in HALF else config


def _load(path: Path, modules: tuple[str, ...]) -> keras.Model:
    for module in modules:
        importlib.import_module(module)
    return bundle.load_model(path)


def _write_saved_model(model: keras.Model, directory: Path, *, classes: tuple[str, ...]) -> None:
    """A SavedModel with the signatures serving_default, serve_uint8 and serve_jpeg, and the labels as text.

    Written by TensorFlow itself: keras.export.ExportArchive traces the model once more for every signature,
    which takes twice as long.
    """
    import tensorflow as tf

    from pipelines.decoding import decode, resize_and_crop

    pixels = served_pixels(model)
    shape = (None, *model.input_shape[1:])

    @tf.function(input_signature=[tf.TensorSpec(shape, tf.float32)])
    def logits(image):
        return model(image, training=False)

    def serve(image):
        answer = logits(tf.cast(image, tf.float32))
        return {"logits": answer, "probability": tf.nn.softmax(answer)}

    def serve_jpeg(encoded):
        image = tf.map_fn(
            lambda one: tf.ensure_shape(resize_and_crop(decode(one), pixels), shape[1:]),
            encoded,
            fn_output_signature=tf.TensorSpec(shape[1:], tf.float32),
        )
        scores = tf.nn.softmax(logits(image))
        label = tf.gather(tf.constant(classes), tf.argmax(scores, axis=-1))
        return {"label": label, "score": tf.reduce_max(scores, axis=-1), "scores": scores}

    signatures = {
        "serving_default": (serve, tf.TensorSpec(shape, tf.float32, name="image")),
        "serve_uint8": (serve, tf.TensorSpec(shape, tf.uint8, name="image")),
        "serve_jpeg": (serve_jpeg, tf.TensorSpec((None,), tf.string, name="encoded")),
    }
    module = tf.Module()
    module.model_variables = [variable.value for variable in model.variables]
    functions = {name: tf.function(call, input_signature=[spec]) for name, (call, spec) in signatures.items()}
    tf.saved_model.save(module, str(directory), signatures=functions)
    (directory / "assets.extra").mkdir()  # TensorFlow's place for files that the graph does not read
    for name, text in metadata.associated_files(classes, pixels).items():
        (directory / "assets.extra" / name).write_text(text, "utf-8")


def _write_tflite(model: keras.Model, form: str, directory: Path, *, classes: tuple[str, ...]) -> None:
    """A .tflite file with labels inside; what the converter reads is made once for all formats."""
    frozen = directory / "frozen"
    if not frozen.exists():
        _write_frozen(model, frozen)
    path = directory / f"{form}.tflite"
    path.write_bytes(_converter(form, frozen, directory / CALIBRATION).convert())
    if form == "int8":
        images = np.load(directory / CALIBRATION)
        bias_correction.correct(path, images, model.predict(images.astype(np.float32), verbose=0))
    metadata.write(path, classes=classes, pixels=served_pixels(model), name=model.name)


def _write_frozen(model: keras.Model, directory: Path) -> None:
    """A SavedModel for the converter only: one image, weights as constants.

    The converter reads a SavedModel twice for every format; without variables that takes a fourth of
    the time. A fixed batch of one keeps Flex operators out of recurrent models.
    """
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    spec = tf.TensorSpec((1, *model.input_shape[1:]), tf.float32, name="image")
    traced = tf.function(lambda image: model(image, training=False)).get_concrete_function(spec)
    constant = convert_variables_to_constants_v2(traced)

    @tf.function(input_signature=[spec])
    def serve(image):
        return {"logits": constant(image)[0]}

    tf.saved_model.save(tf.Module(), str(directory), signatures={"serving_default": serve})


def _converter(form: str, frozen: Path, calibration: Path):
    """The TFLite converter, set up for a format.

    It may use TensorFlow's own (Flex) operators, so that it does not stop at the first one that TFLite
    lacks: the exporter reads the file's operators and refuses it with all of their names.
    """
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_saved_model(str(frozen))
    operators = tf.lite.OpsSet.TFLITE_BUILTINS_INT8 if form == "int8" else tf.lite.OpsSet.TFLITE_BUILTINS
    converter.target_spec.supported_ops = [operators, tf.lite.OpsSet.SELECT_TF_OPS]
    if form != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if form == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if form == "int8":
        converter.representative_dataset = _calibration_images(calibration)
        converter.inference_input_type, converter.inference_output_type = tf.uint8, tf.int8
    return converter


def _calibration_images(path: Path) -> Callable[[], Iterator[list[np.ndarray]]]:
    """What the converter measures the ranges on, one image at a time.

    The first image gets a black and a white pixel: the input's range is then exactly 0..255, so its
    scale is 1 and a client's bytes go in as they are.
    """
    images = np.load(path, mmap_mode="r")

    def each() -> Iterator[list[np.ndarray]]:
        for index, image in enumerate(images):
            batch = np.array(image, np.float32)[np.newaxis]
            if index == 0:
                batch[0, 0, 0], batch[0, -1, -1] = 0, 255
            yield [batch]

    return each


if __name__ == "__main__":
    run(Path(sys.argv[1]))
