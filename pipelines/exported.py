"""Runs exported models: RGB 0..255 in, logits out, whatever the file computes in.

Needs ai-edge-litert for .tflite files and TensorFlow for SavedModels, but neither Keras nor the zoo's
layers. As a program it answers for a SavedModel in a process that has never seen the Keras model:

    python -m pipelines.exported DIRECTORY
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from pipelines.latency import THREADS, median_milliseconds

BATCH = 32


def predict_file(path: str | Path, images: np.ndarray) -> np.ndarray:
    """The logits of a .tflite file: (N, H, W, 3) RGB 0..255 -> (N, classes) float32.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the images have another size than the file takes.
    """
    answer = open_file(path)
    return np.stack([answer(image) for image in images])


def open_file(path: str | Path) -> Callable[[np.ndarray], np.ndarray]:
    """The function that a .tflite file computes: an image (H, W, 3) RGB 0..255 -> logits (classes,) float32."""
    from ai_edge_litert.interpreter import Interpreter

    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no .tflite file at '{path}'. Write one with zoo export.")
    interpreter = Interpreter(str(path), num_threads=THREADS)
    interpreter.allocate_tensors()
    (source,), (sink,) = interpreter.get_input_details(), interpreter.get_output_details()

    def answer(image: np.ndarray) -> np.ndarray:
        if image.shape != tuple(source["shape"][1:]):
            raise ValueError(f"'{path}' takes images of shape {tuple(source['shape'][1:])}, got {image.shape}.")
        interpreter.set_tensor(source["index"], _quantized(image, source)[np.newaxis])
        interpreter.invoke()
        return _dequantized(interpreter.get_tensor(sink["index"])[0], sink)

    return answer


def predict_saved_model(directory: str | Path, images: np.ndarray) -> np.ndarray:
    """The logits of a SavedModel: (N, H, W, 3) RGB 0..255 -> (N, classes) float32.

    Raises:
        FileNotFoundError: there is no SavedModel.
    """
    call = open_saved_model(directory)
    batches = (np.asarray(images[start : start + BATCH], np.float32) for start in range(0, len(images), BATCH))
    return np.concatenate([call("serving_default", batch)["logits"] for batch in batches])


def open_saved_model(directory: str | Path) -> Callable[[str, np.ndarray], dict[str, np.ndarray]]:
    """The function (signature, its one input) -> its named outputs of a SavedModel."""
    import tensorflow as tf

    if not (Path(directory) / "saved_model.pb").is_file():
        raise FileNotFoundError(f"There is no SavedModel at '{directory}'. Write one with zoo export.")
    loaded = tf.saved_model.load(str(directory))

    def call(signature: str, batch: np.ndarray) -> dict[str, np.ndarray]:
        function = loaded.signatures[signature]
        (name,) = function.structured_input_signature[1]
        return {key: value.numpy() for key, value in function(**{name: tf.constant(batch)}).items()}

    return call


def _quantized(image: np.ndarray, tensor: dict) -> np.ndarray:
    """The image in the numbers of an input tensor."""
    if tensor["dtype"] == np.float32:
        return image.astype(np.float32)
    scale, zero_point = tensor["quantization"]
    bounds = np.iinfo(tensor["dtype"])
    return np.clip(np.rint(image / scale) + zero_point, bounds.min, bounds.max).astype(tensor["dtype"])


def _dequantized(values: np.ndarray, tensor: dict) -> np.ndarray:
    """The numbers that an output tensor stands for."""
    if tensor["dtype"] == np.float32:
        return values
    scale, zero_point = tensor["quantization"]
    return (values.astype(np.float32) - zero_point) * np.float32(scale)


def _answer(directory: Path) -> None:
    """Runs all signatures of `directory`/saved_model on images.npy and bytes.npy there; writes answers.npz."""
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(THREADS)
    images = np.load(directory / "images.npy")
    raw = np.load(directory / "bytes.npy")  # (N, H, W, 3) uint8
    call = open_saved_model(directory / "saved_model")
    served = call("serve_jpeg", np.array([tf.io.encode_png(image).numpy() for image in raw], object))
    one = np.asarray(images[:1], np.float32)
    np.savez(
        directory / "answers.npz",
        logits=predict_saved_model(directory / "saved_model", images),
        bytes_logits=call("serve_uint8", raw)["logits"],
        label=np.array([label.decode() for label in served["label"]]),
        score=served["score"],
        scores=served["scores"],
        milliseconds=median_milliseconds(lambda: call("serving_default", one)),
    )


if __name__ == "__main__":
    _answer(Path(sys.argv[1]))
