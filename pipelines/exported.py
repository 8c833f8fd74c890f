"""Runs exported models: arrays by the names of the inputs in, float32 arrays by name out, whatever a file computes in.

Needs ai-edge-litert for .tflite files and TensorFlow for SavedModels, but neither Keras nor the zoo's
layers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from pipelines.latency import THREADS

BATCH = 32

Arrays = Mapping[str, np.ndarray]


def run_tflite(path: str | Path, inputs: Arrays) -> dict[str, np.ndarray]:
    """The outputs of a .tflite file for samples (N, ...) by the names of its inputs.

    Texts shorter than the file's length are padded; what it answers for the padding means nothing.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the inputs are others, or larger, than the file takes.
    """
    answer = open_tflite(path)
    count = len(next(iter(inputs.values())))
    answers = [answer({name: values[index] for name, values in inputs.items()}) for index in range(count)]
    return {name: np.stack([one[name] for one in answers]) for name in answers[0]}


def open_tflite(path: str | Path) -> TFLiteFile:
    """A .tflite file as a function of one sample.

    Raises:
        FileNotFoundError: there is no such file.
    """
    return TFLiteFile(path)


class TFLiteFile:
    """The function that a .tflite file computes: one sample's inputs by name -> its outputs by name.

    One input needs no name.
    """

    def __init__(self, path: str | Path):
        from ai_edge_litert.interpreter import Interpreter

        self.path = Path(path)
        if not self.path.is_file():
            raise FileNotFoundError(f"There is no .tflite file at '{path}'. Write one with zoo export.")
        self._interpreter = Interpreter(str(path), num_threads=THREADS)
        self._interpreter.allocate_tensors()
        runner = self._interpreter.get_signature_runner("serving_default")
        self._sources, self._sinks = runner.get_input_details(), runner.get_output_details()
        self._pads = any(name.endswith("padding_mask") for name in self._sources)

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Of each input, without the batch."""
        return {name: tuple(map(int, source["shape"][1:])) for name, source in self._sources.items()}

    def __call__(self, sample: Arrays | np.ndarray) -> dict[str, np.ndarray]:
        """Texts shorter than the file's length are padded.

        Raises:
            ValueError: the inputs are others, or larger, than the file takes.
        """
        inputs = sample if isinstance(sample, Mapping) else dict.fromkeys(self._sources, sample)
        if set(inputs) != set(self._sources):
            raise ValueError(f"'{self.path}' takes the inputs {', '.join(self._sources)}, got {', '.join(inputs)}.")
        for name, shape in self.shapes.items():
            values = padded(inputs[name], shape) if self._pads else inputs[name]
            if values.shape != shape:
                raise ValueError(f"'{self.path}' takes {name} of shape {shape}, got {values.shape}.")
            source = self._sources[name]
            self._interpreter.set_tensor(source["index"], _quantized(values, source)[np.newaxis])
        self._interpreter.invoke()
        values_of = self._interpreter.get_tensor
        return {name: _dequantized(values_of(sink["index"])[0], sink) for name, sink in self._sinks.items()}


def run_saved_model(
    directory: str | Path, inputs: Arrays, *, signature: str = "serving_default", batch: int = BATCH
) -> dict[str, np.ndarray]:
    """The outputs of a SavedModel for samples (N, ...) by the names of its inputs, of any length that its model takes.

    Raises:
        FileNotFoundError: there is no SavedModel.
    """
    return in_batches(open_saved_model(directory), signature, inputs, batch)


def open_saved_model(directory: str | Path) -> SavedModelFile:
    """A SavedModel as a function of batches.

    Raises:
        FileNotFoundError: there is no SavedModel.
    """
    return SavedModelFile(directory)


class SavedModelFile:
    """The function (signature, its inputs by name) -> its outputs by name of a SavedModel; one input needs no name."""

    def __init__(self, directory: str | Path):
        import tensorflow as tf

        self.path = Path(directory)
        if not (self.path / "saved_model.pb").is_file():
            raise FileNotFoundError(f"There is no SavedModel at '{directory}'. Write one with zoo export.")
        self._loaded = tf.saved_model.load(str(directory))

    @property
    def signatures(self) -> tuple[str, ...]:
        """Their names."""
        return tuple(self._loaded.signatures)

    def shapes(self, signature: str) -> dict[str, tuple[int | None, ...]]:
        """Of each input of a signature, without the batch."""
        return {name: tuple(spec.shape[1:]) for name, spec in self._specs(signature).items()}

    def __call__(self, signature: str, batch: Arrays | np.ndarray) -> dict[str, np.ndarray]:
        """The outputs of a batch.

        Raises:
            ValueError: the inputs are others than the signature takes.
        """
        import tensorflow as tf

        specs = self._specs(signature)
        inputs = batch if isinstance(batch, Mapping) else dict.fromkeys(specs, batch)
        if set(inputs) != set(specs):
            raise ValueError(f"'{self.path}' takes the inputs {', '.join(specs)}, got {', '.join(inputs)}.")
        given = {name: tf.cast(tf.constant(values), specs[name].dtype) for name, values in inputs.items()}
        return {key: value.numpy() for key, value in self._loaded.signatures[signature](**given).items()}

    def _specs(self, signature: str) -> dict:
        return self._loaded.signatures[signature].structured_input_signature[1]


def predict_file(path: str | Path, samples: np.ndarray) -> np.ndarray:
    """What a .tflite file with one input and one output answers: (N, ...) -> (N, ...), images RGB 0..255 -> logits.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the samples have another size than the file takes, or it has several inputs or outputs.
    """
    answer = open_file(path)
    return np.stack([answer(sample) for sample in samples])


def open_file(path: str | Path) -> Callable[[np.ndarray], np.ndarray]:
    """The function that a .tflite file with one input and one output computes, on one sample."""
    run = open_tflite(path)

    def answer(sample: np.ndarray) -> np.ndarray:
        (output,) = run(sample).values()
        return output

    return answer


def predict_saved_model(directory: str | Path, samples: np.ndarray) -> np.ndarray:
    """The logits of a SavedModel with one input: (N, ...) -> (N, classes) float32, images RGB 0..255.

    Raises:
        FileNotFoundError: there is no SavedModel.
    """
    call = open_saved_model(directory)
    starts = range(0, len(samples), BATCH)
    return np.concatenate([call("serving_default", samples[start : start + BATCH])["logits"] for start in starts])


def in_batches(call: SavedModelFile, signature: str, inputs: Arrays, size: int = BATCH) -> dict[str, np.ndarray]:
    """The outputs for samples (N, ...), so many at a time."""
    starts = range(0, len(next(iter(inputs.values()))), size)
    batches = ({name: values[start : start + size] for name, values in inputs.items()} for start in starts)
    answers = [call(signature, batch) for batch in batches]
    return {name: np.concatenate([answer[name] for answer in answers]) for name in answers[0]}


def padded(values: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """A sequence (T, ...) shorter than `shape` says, with 0 at its end up to that length; anything else as it is."""
    short = len(shape) == values.ndim and values.ndim and values.shape[0] < shape[0]
    return np.pad(values, [(0, shape[0] - len(values))] + [(0, 0)] * (values.ndim - 1)) if short else values


def _quantized(values: np.ndarray, tensor: dict) -> np.ndarray:
    """The values in the numbers of an input tensor."""
    scale, zero_point = tensor["quantization"]
    if scale == 0:  # not quantized: floats, or whole numbers such as token ids
        return values.astype(tensor["dtype"])
    bounds = np.iinfo(tensor["dtype"])
    return np.clip(np.rint(values / scale) + zero_point, bounds.min, bounds.max).astype(tensor["dtype"])


def _dequantized(values: np.ndarray, tensor: dict) -> np.ndarray:
    """The numbers that an output tensor stands for."""
    scale, zero_point = tensor["quantization"]
    return values if scale == 0 else (values.astype(np.float32) - zero_point) * np.float32(scale)
