"""Labels for image files, by a bundle, a SavedModel or a .tflite file alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from zoo.core.family import Pixels


@dataclass(frozen=True)
class Predictor:
    """A trained classifier in any of its forms: paths of images -> probabilities (N, classes)."""

    classes: tuple[str, ...]
    probabilities: Callable[[Sequence[Path]], np.ndarray]

    @classmethod
    def open(cls, path: str | Path) -> Predictor:
        """The classifier in a bundle's folder (its Keras model), in a SavedModel's folder, or in a .tflite file.

        Raises:
            FileNotFoundError: there is nothing, or nothing of these kinds.
            ValueError: a .tflite file without labels inside.
        """
        path = Path(path)
        if path.suffix == ".tflite":
            return cls(*_open_tflite(path))
        if (path / "saved_model.pb").is_file():
            return cls(*_open_saved_model(path))
        return cls(*_open_bundle(path.parent if path.name == "model.keras" else path))

    def best(self, paths: Sequence[Path], *, top: int = 3) -> list[list[tuple[str, float]]]:
        """For each image the most probable classes, best first, with their probabilities.

        Raises:
            FileNotFoundError: an image is not there.
            ValueError: an image cannot be decoded.
        """
        absent = [str(path) for path in paths if not Path(path).is_file()]
        if absent:
            raise FileNotFoundError(f"There is no image at {', '.join(map(repr, absent))}.")
        probabilities = self.probabilities(paths)
        order = np.argsort(-probabilities, axis=-1, kind="stable")[:, :top]
        return [
            [(self.classes[i], float(row[i])) for i in best] for best, row in zip(order, probabilities, strict=True)
        ]


Opened = tuple[tuple[str, ...], Callable[[Sequence[Path]], np.ndarray]]


def _open_bundle(path: Path) -> Opened:
    from pipelines import bundle
    from zoo.layers.pixels import pixels_of

    loaded = bundle.load(path)
    model = loaded.load_model()
    pixels = pixels_of(model)
    return loaded.classes, lambda paths: _softmax(np.asarray(model.predict(_read(paths, pixels), verbose=0)))


def _open_saved_model(path: Path) -> Opened:
    """Through its own serve_jpeg, as a server would: encoded bytes in, scores out."""
    from pipelines import metadata
    from pipelines.exported import open_saved_model

    call = open_saved_model(path)

    def probabilities(paths: Sequence[Path]) -> np.ndarray:
        def scores(path: Path) -> np.ndarray:
            return call("serve_jpeg", np.array([Path(path).read_bytes()], dtype=object))["scores"]

        return np.concatenate([_named(path, scores) for path in paths])

    return metadata.read_labels(path), probabilities


def _open_tflite(path: Path) -> Opened:
    from pipelines import metadata
    from pipelines.exported import predict_file

    pixels = metadata.read_pixels(path)
    return metadata.read_labels(path), lambda paths: _softmax(predict_file(path, _read(paths, pixels)))


def _read(paths: Sequence[Path], pixels: Pixels) -> np.ndarray:
    """Image files as the model takes them: (N, h, w, 3) float32, 0..255."""
    from pipelines import decoding

    def read(path: Path) -> np.ndarray:
        return decoding.resize_and_crop(decoding.decode(Path(path).read_bytes()), pixels).numpy()

    return np.stack([_named(path, read) for path in paths])


def _named(path: Path, read: Callable[[Path], np.ndarray]) -> np.ndarray:
    """What `read` makes of an image; one that TensorFlow cannot decode is named."""
    import tensorflow as tf

    try:
        return read(path)
    except tf.errors.InvalidArgumentError:
        raise ValueError(f"'{path}' cannot be decoded. It may be cut off, or no image at all.") from None


def _softmax(logits: np.ndarray) -> np.ndarray:
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)
