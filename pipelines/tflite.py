"""Writes .tflite files of a Keras model, for use by pipelines.convert in a process of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import keras
import numpy as np

from pipelines import bias_correction, metadata, writers
from pipelines.interface import IMAGE, Interface, call, fixed_shapes, input_tensors, takes_images
from pipelines.twins import int8_twin

CALIBRATION = "calibration.npz"


def write(model: keras.Model, form: str, directory: Path, interface: Interface) -> None:
    """The .tflite file of a format with labels inside and, where the interface has `steps`, those of its parts.

    int8 is calibrated on the arrays in calibration.npz, by the names of the inputs; it has no parts.
    """
    _write_whole(model, form, directory, interface)
    if interface.steps and form != "int8":
        for name, (part, its_interface) in writers.parts(model, interface).items():
            frozen = directory / f"frozen_{name}"
            path = directory / part_name(form, name)
            path.write_bytes(_converted(part, form, frozen, its_interface))
            metadata.write(path, its_interface, name=part.name)


def part_name(form: str, part: str) -> str:
    """What the file of a part of a language model is called."""
    return f"{form}_{part}.tflite"


def _write_whole(model: keras.Model, form: str, directory: Path, interface: Interface) -> None:
    twin = int8_twin(model, interface.lengths) if form == "int8" else model
    frozen = directory / ("frozen" if twin is model else f"frozen_{form}")
    path = directory / f"{form}.tflite"
    path.write_bytes(_converted(twin, form, frozen, interface))
    if form == "int8" and interface.task in ("classify", "multi_label") and takes_images(model):
        images = np.load(directory / CALIBRATION)[IMAGE]
        bias_correction.correct(path, images, model.predict(images.astype(np.float32), verbose=0))
    metadata.write(path, interface, name=model.name)


def _converted(model: keras.Model, form: str, frozen: Path, interface: Interface) -> bytes:
    """A model in a format; what the converter reads is made once for all formats."""
    if not frozen.exists():
        write_frozen(model, frozen, interface)
    return converter(form, frozen, frozen.parent / CALIBRATION, images=takes_images(model)).convert()


def write_frozen(model: keras.Model, directory: Path, interface: Interface) -> None:
    """A SavedModel for the converter only: one sample, weights as constants.

    The converter reads a SavedModel twice for every format; without variables that takes a fourth of
    the time. A fixed batch of one keeps Flex operators out of recurrent models.
    """
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    dtypes = {name: tensor.dtype for name, tensor in input_tensors(model).items()}
    shapes = fixed_shapes(model, interface.lengths)
    specs = {name: tf.TensorSpec((1, *shape), dtypes[name], name=name) for name, shape in shapes.items()}
    names: list[str] = []

    def answer(**inputs):
        outputs = call(model, inputs, interface.task)
        names[:] = sorted(outputs)  # the order in which TensorFlow flattens a dict
        return outputs

    constant = convert_variables_to_constants_v2(tf.function(answer).get_concrete_function(**specs))

    @tf.function
    def serve(**inputs):
        return dict(zip(names, constant(**inputs), strict=True))

    signature = serve.get_concrete_function(**specs)
    tf.saved_model.save(tf.Module(), str(directory), signatures={"serving_default": signature})


def converter(form: str, frozen: Path, calibration: Path, *, images: bool):
    """The TFLite converter, set up for a format; `images`: int8 takes them as the bytes that they are.

    It may use TensorFlow's own (Flex) operators, so that it does not stop at the first one that TFLite
    lacks: the exporter reads the file's operators and refuses it with all of their names.
    """
    import tensorflow as tf

    made = tf.lite.TFLiteConverter.from_saved_model(str(frozen))
    operators = tf.lite.OpsSet.TFLITE_BUILTINS_INT8 if form == "int8" else tf.lite.OpsSet.TFLITE_BUILTINS
    made.target_spec.supported_ops = [operators, tf.lite.OpsSet.SELECT_TF_OPS]
    if form != "float32":
        made.optimizations = [tf.lite.Optimize.DEFAULT]
    if form == "float16":
        made.target_spec.supported_types = [tf.float16]
    if form == "int8":
        made.representative_dataset = _calibration_samples(calibration)
        if images:
            made.inference_input_type, made.inference_output_type = tf.uint8, tf.int8
    return made


def _calibration_samples(path: Path) -> Callable[[], Iterator[dict[str, np.ndarray]]]:
    """What the converter measures the ranges on, one sample at a time.

    The first image gets a black and a white pixel: the input's range is then exactly 0..255, so its
    scale is 1 and a client's bytes go in as they are.
    """
    samples = dict(np.load(path))

    def each() -> Iterator[dict[str, np.ndarray]]:
        for index in range(len(next(iter(samples.values())))):
            sample = {name: _one(values, index) for name, values in samples.items()}
            if index == 0 and IMAGE in sample:
                sample[IMAGE][0, 0, 0], sample[IMAGE][0, -1, -1] = 0, 255
            yield sample

    return each


def _one(values: np.ndarray, index: int) -> np.ndarray:
    """A batch of one, in the dtype that the frozen model takes."""
    whole = np.issubdtype(values.dtype, np.signedinteger)
    return np.array(values[index : index + 1], np.int32 if whole else np.float32)
