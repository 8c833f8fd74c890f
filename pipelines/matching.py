"""Models that compare images with texts, at work: embeddings of image files and of texts, and classes told in words."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines.image_files import check_there, read_images
from pipelines.zero_shot import TEMPLATES, class_embeddings, text_batch, tower

if TYPE_CHECKING:
    import keras

    from pipelines.tokenizers import Tokenizer
    from zoo.core.family import Pixels

BATCH = 32


@dataclass(frozen=True, eq=False)
class Matcher:
    """A model of task="contrast" with its tokenizer."""

    model: keras.Model
    tokenizer: Tokenizer

    @classmethod
    def open(cls, source: str | Path) -> Matcher:
        """The model of a run's folder, or of a checkpoint in Hub layout: a directory, or hf://org/repo.

        Raises:
            FileNotFoundError: there is none, or no tokenizer beside it.
            ValueError: it does not compare images with texts.
        """
        import zoo
        from pipelines import bundle
        from pipelines.tokenizers import FILE, open_tokenizer

        path = Path(source).parent if Path(source).name == "model.keras" else Path(source)
        if (path / "config.json").is_file() or not path.exists():
            return cls(zoo.from_checkpoint(_uri(source), task="contrast"), open_tokenizer(_uri(source)))
        loaded = bundle.load(path)
        if loaded.task != "contrast":
            raise ValueError(
                f"'{path}' was trained for task={loaded.task!r}; only contrast compares images with texts."
            )
        return cls(loaded.load_model(), open_tokenizer(path / FILE))

    @property
    def pixels(self) -> Pixels:
        """How images must look."""
        from zoo.layers.pixels import pixels_of

        return pixels_of(self.model)

    @cached_property
    def digest(self) -> str:
        """A hash of all that decides an image's embedding."""
        from keras.saving import serialize_keras_object

        found = hashlib.sha256()
        for layer in self._look.layers:
            described = serialize_keras_object(layer)
            found.update(json.dumps([described["class_name"], described["config"]], default=str).encode())
            for weight in layer.get_weights():
                found.update(np.ascontiguousarray(weight).tobytes())
        return found.hexdigest()

    def images(self, paths: Sequence[str | Path]) -> np.ndarray:
        """The embeddings of image files, (N, P), of length 1.

        Raises:
            FileNotFoundError: an image is not there.
            ValueError: an image cannot be decoded.
        """
        files = check_there(paths)
        found = [self._looked_at(read_images(chunk, self.pixels)) for chunk in _chunks(files)]
        return np.concatenate(found) if found else np.zeros((0, self._look.output.shape[-1]), "float32")

    def pictures(self, images: np.ndarray) -> np.ndarray:
        """The embeddings of images (N, H, W, 1 or 3) in 0..255, grey or in color, of any size: (N, P), of length 1."""
        from pipelines import decoding

        colored = np.repeat(images, 3, axis=-1) if images.shape[-1] == 1 else images
        found = [
            self._looked_at(np.stack([decoding.resize_and_crop(image, self.pixels) for image in chunk]))
            for chunk in _chunks(colored)
        ]
        return np.concatenate(found)

    def texts(self, texts: Sequence[str]) -> np.ndarray:
        """The embeddings of texts, (N, P), of length 1.

        Raises:
            ValueError: a text is empty, or longer than the model takes.
        """
        if any(not text.strip() for text in texts):
            raise ValueError("A text is empty. Say in words what to look for.")
        read = tower(self.model, "text")
        return np.asarray(read(text_batch(self.model, texts, self.tokenizer), training=False))

    def probabilities(
        self, paths: Sequence[str | Path], classes: Sequence[str], *, templates: Sequence[str] = TEMPLATES
    ) -> np.ndarray:
        """How probable each class is for each image file: (N, C), rows adding up to 1.

        Raises:
            FileNotFoundError: an image is not there.
            ValueError: as `pipelines.zero_shot.class_embeddings`.
        """
        import keras

        from pipelines.objectives.contrast import similarity_of

        wanted = class_embeddings(self.model, classes, self.tokenizer, templates=templates)
        return np.asarray(keras.ops.softmax(similarity_of(self.model)(self.images(paths), wanted)))

    @cached_property
    def _look(self) -> keras.Model:
        return tower(self.model, "image")

    def _looked_at(self, images: np.ndarray) -> np.ndarray:
        return np.asarray(self._look.predict_on_batch({"image": images}), "float32")


def images_and_classes(inputs: Iterable[str], classes: Sequence[str]) -> tuple[list[str], list[str]]:
    """Which of the words of a command are image files and which are classes, where none are named as such.

    What is a file, ends like an image's name or holds a "/" is an image.

    Raises:
        ValueError: there is nothing of one kind.
    """
    from pipelines.decoding import EXTENSIONS

    words = list(inputs)
    images = words
    if not classes:
        images = [w for w in words if Path(w).is_file() or "/" in w or Path(w).suffix.lower() in EXTENSIONS]
        classes = [word for word in words if word not in images]
    if not images or not classes:
        missing = "classes" if images else "images"
        raise ValueError(
            f"--zero-shot needs images and classes, and there are no {missing}: "
            'zoo predict MODEL cat.jpg --zero-shot "a photo of a {}" --class cat --class dog.'
        )
    return images, list(classes)


def _uri(source: str | Path) -> str:
    """A directory's path as a checkpoint is named."""
    text = str(source)
    return f"./{text}" if "/" not in text else text


def _chunks(items: Any) -> Iterator[Any]:
    return (items[start : start + BATCH] for start in range(0, len(items), BATCH))
