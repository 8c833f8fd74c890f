"""Writes the SavedModel of a Keras model, for use by pipelines.convert in a process of its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import keras

from pipelines import metadata, writers
from pipelines.interface import IMAGE, Interface, call, input_tensors
from pipelines.objectives.labelling import THRESHOLD


def write(model: keras.Model, directory: Path, interface: Interface) -> None:
    """A SavedModel with the signature serving_default, and labels as text.

    For images there are serve_uint8 and serve_jpeg too, for language models step and, where they have one, encoder.
    They take any batch and, where the model does, any length. Written by TensorFlow itself: keras.export.ExportArchive
    traces the model once more for every signature, which takes twice as long.
    """
    import tensorflow as tf

    tensors = input_tensors(model)
    specs = {
        name: tf.TensorSpec((None, *tensor.shape[1:]), tensor.dtype, name=name) for name, tensor in tensors.items()
    }
    if interface.pixels:
        specs = {IMAGE: tf.TensorSpec(specs[IMAGE].shape, tf.float32, name=IMAGE)}

    @tf.function
    def answer(**inputs):
        return call(model, inputs, interface.task)

    def serve(**inputs):
        outputs = answer(**inputs)
        if interface.activation:
            outputs["probability"] = getattr(tf.nn, interface.activation)(outputs["logits"])
        return outputs

    signatures = {"serving_default": tf.function(serve).get_concrete_function(**specs)}
    if interface.pixels:
        signatures |= _image_signatures(serve, specs[IMAGE], interface)
    if interface.steps:
        signatures |= _writing_signatures(model, interface)
    module = tf.Module()
    module.model_variables = [variable.value for variable in model.variables]
    tf.saved_model.save(module, str(directory), signatures=signatures)
    (directory / "assets.extra").mkdir()  # TensorFlow's place for files that the graph does not read
    for name, text in metadata.associated_files(interface).items():
        (directory / "assets.extra" / name).write_text(text, "utf-8")


def _image_signatures(serve: Callable, image, interface: Interface) -> dict:
    """The signatures for bytes and for encoded images of any size; `image` is the spec of a batch of images."""
    import tensorflow as tf

    from pipelines.decoding import decode, seen

    def serve_uint8(image):
        return serve(image=tf.cast(image, tf.float32))

    def serve_jpeg(encoded):
        pictures = tf.map_fn(
            lambda one: tf.ensure_shape(seen(decode(one), interface.pixels), image.shape[1:]),
            encoded,
            fn_output_signature=tf.TensorSpec(image.shape[1:], tf.float32),
        )
        outputs = serve(image=pictures)
        if interface.task not in ("classify", "multi_label"):
            return outputs
        scores = outputs["probability"]
        if interface.task == "multi_label":
            return {"labels": tf.where(scores >= THRESHOLD, tf.constant(interface.classes), ""), "scores": scores}
        label = tf.gather(tf.constant(interface.classes), tf.argmax(scores, axis=-1))
        return {"label": label, "score": tf.reduce_max(scores, axis=-1), "scores": scores}

    as_bytes = tf.TensorSpec(image.shape, tf.uint8, name=IMAGE)
    encoded = tf.TensorSpec((None,), tf.string, name="encoded")
    return {
        "serve_uint8": tf.function(serve_uint8).get_concrete_function(as_bytes),
        "serve_jpeg": tf.function(serve_jpeg, autograph=False).get_concrete_function(encoded),
    }


def _writing_signatures(model: keras.Model, interface: Interface) -> dict:
    """The parts of a language model, for any batch."""
    import tensorflow as tf

    def signature(part: keras.Model):
        tensors = input_tensors(part)
        specs = {name: tf.TensorSpec(tensor.shape, tensor.dtype, name=name) for name, tensor in tensors.items()}
        return tf.function(lambda **inputs: call(part, inputs, interface.task)).get_concrete_function(**specs)

    return {name: signature(part) for name, (part, _) in writers.parts(model, interface, batch=None).items()}
