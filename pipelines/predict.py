"""Answers for images and texts, by a bundle, a SavedModel or a .tflite file alike."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.image_files import check_there, named, read_images
from zoo.core.family import Task


class Predictor(ABC):
    """A trained model in any of its forms. `classes` is in the order of its outputs; none where it gives numbers."""

    classes: tuple[str, ...]

    @staticmethod
    def open(path: str | Path) -> Predictor:
        """What is in a bundle's folder (its Keras model), in a SavedModel's folder, or in a .tflite file.

        An ImagePredictor, or a `pipelines.predict_text.TextPredictor`.

        Raises:
            FileNotFoundError: there is nothing, or nothing of these kinds.
            ValueError: a .tflite file without labels inside, or a model of neither images nor texts.
        """
        path = Path(path)
        if path.suffix == ".tflite":
            return _open_exported(path, _open_tflite)
        if (path / "saved_model.pb").is_file():
            return _open_exported(path, _open_saved_model)
        return _open_bundle(path.parent if path.name == "model.keras" else path)

    @abstractmethod
    def probabilities(self, inputs: Sequence[Any]) -> np.ndarray:
        """The probability of each class, (N, classes), for paths of images or for texts."""

    def best(self, inputs: Sequence[Any], *, top: int = 3) -> list[list[tuple[str, float]]]:
        """For each input the most probable classes, best first, with their probabilities.

        Raises:
            FileNotFoundError: an image is not there.
            ValueError: an image cannot be decoded; a text is empty or too long.
        """
        probabilities = self.probabilities(inputs)
        order = np.argsort(-probabilities, axis=-1, kind="stable")[:, :top]
        return [
            [(self.classes[i], float(row[i])) for i in best] for best, row in zip(order, probabilities, strict=True)
        ]


@dataclass(frozen=True)
class ImagePredictor(Predictor):
    """A model of images: paths -> probabilities (N, classes), or, for task="regress", numbers (N, targets)."""

    classes: tuple[str, ...]
    answer: Callable[[Sequence[Path]], np.ndarray]
    task: Task = "classify"
    targets: tuple[str, ...] = ()  # the names of the numbers

    def probabilities(self, inputs: Sequence[Any]) -> np.ndarray:
        """The probability of each class, (N, classes), for paths of images; of several labels each by itself.

        Raises:
            ValueError: the model predicts numbers.
        """
        if self.task == "regress":
            raise ValueError(f"This model predicts numbers ({', '.join(self.targets)}), not classes: values(images).")
        return self._answers(inputs)

    def values(self, inputs: Sequence[Any]) -> np.ndarray:
        """The numbers of `targets` in their own units, (N, targets), for paths of images.

        Raises:
            ValueError: the model tells classes apart.
        """
        if self.task != "regress":
            raise ValueError(f"This model tells {len(self.classes)} classes apart; for their shares probabilities().")
        return self._answers(inputs)

    def labels(self, inputs: Sequence[Any], *, threshold: float = 0.5) -> list[list[tuple[str, float]]]:
        """For each image all labels with a probability of at least `threshold`, the most probable first.

        Raises:
            ValueError: the model gives one class an image, or the threshold is no probability.
        """
        if self.task != "multi_label":
            raise ValueError(f"A threshold is for models of several labels an image; this one is for {self.task!r}.")
        if not 0 <= threshold <= 1:
            raise ValueError(f"The threshold {threshold} must be a probability, 0 to 1.")
        ranked = self.best(inputs, top=len(self.classes))
        return [[(name, share) for name, share in row if share >= threshold] for row in ranked]

    def _answers(self, inputs: Sequence[Any]) -> np.ndarray:
        return self.answer(check_there(inputs))


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities from logits, over the last axis."""
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


def _shares(task: Task) -> Callable[[np.ndarray], np.ndarray]:
    """What makes the answers of a task of a model's outputs: probabilities, or numbers as they are."""
    if task == "regress":
        return np.asarray
    from pipelines.objectives.labelling import sigmoid

    return sigmoid if task == "multi_label" else softmax


def _open_bundle(path: Path) -> Predictor:
    from pipelines import bundle
    from pipelines.data import Images, Texts
    from zoo.layers.pixels import pixels_of

    loaded = bundle.load(path)
    if isinstance(loaded.run.data, Texts):
        from pipelines.predict_text import open_bundle

        return open_bundle(loaded, loaded.run.data)
    if loaded.task == "contrast":
        raise ValueError(
            f"'{path}' compares images with texts. Tell it classes in words: zoo predict {path} image.jpg "
            '--zero-shot "a photo of a {}" --class cat --class dog; or look for images: zoo search.'
        )
    if loaded.task == "caption":
        raise ValueError(f"'{path}' writes captions: zoo caption {path} image.jpg.")
    if not isinstance(loaded.run.data, Images):
        raise ValueError(f"'{path}' answers for {loaded.run.data.unit}; zoo predict is for images and texts.")
    if loaded.task == "generate":
        raise ValueError(f"'{path}' makes images, and says nothing of any: zoo sample '{path}' shows them.")
    if loaded.task == "reconstruct":
        raise ValueError(
            f"'{path}' names nothing in images: it gives them back. Ask it with zoo reconstruct {path} IMAGE..."
        )
    model = loaded.load_model()
    pixels, shares = pixels_of(model), _shares(loaded.task)

    def answer(paths: Sequence[Path]) -> np.ndarray:
        return shares(np.asarray(model.predict(read_images(paths, pixels), verbose=0), "float32"))

    return ImagePredictor(loaded.classes, answer, loaded.task, tuple(loaded.info.get("targets", ())))


def _open_exported(path: Path, open_images: Callable[[Path], Predictor]) -> Predictor:
    from pipelines import metadata
    from pipelines.tokenizers import FILE

    try:
        tokenizer = metadata.read_file(path, FILE)
    except ValueError:  # it holds no tokenizer, so it is a model of images
        return open_images(path)
    from pipelines.predict_text import open_exported

    return open_exported(path, tokenizer)


def _open_saved_model(path: Path) -> Predictor:
    """Through its own serve_jpeg, as a server would: encoded bytes in, scores or values out."""
    from pipelines.exported import open_saved_model

    call, (task, classes, targets) = open_saved_model(path), _described(path)

    def answer(paths: Sequence[Path]) -> np.ndarray:
        def one(path: Path) -> np.ndarray:
            answers = call("serve_jpeg", np.array([Path(path).read_bytes()], dtype=object))
            return answers["values" if task == "regress" else "scores"]

        return np.concatenate([named(path, one) for path in paths])

    return ImagePredictor(classes, answer, task, targets)


def _open_tflite(path: Path) -> Predictor:
    from pipelines import metadata
    from pipelines.exported import predict_file

    pixels, (task, classes, targets) = metadata.read_pixels(path), _described(path)
    shares = _shares(task)
    return ImagePredictor(classes, lambda paths: shares(predict_file(path, read_images(paths, pixels))), task, targets)


def _described(path: Path) -> tuple[Task, tuple[str, ...], tuple[str, ...]]:
    """What an exported model of images says of itself: its task, classes and targets."""
    from pipelines import metadata

    try:
        task = metadata.read_task(path)
    except ValueError:  # the first files held classifiers only, and did not say so
        task = "classify"
    if task == "regress":
        return task, (), metadata.read_targets(path)
    return task, metadata.read_labels(path), ()
