"""A model that reads images and texts together, with what belongs to it: `zoo caption` in Python."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pipelines import marks, tokenizers, vision_language
from pipelines.image_files import check_there, read_images
from pipelines.marks import Marks
from pipelines.text_checkpoint import vocabulary_of
from pipelines.tokenizers import Tokenizer
from zoo.layers.pixels import pixels_of
from zoo.weights.locate import locate

if TYPE_CHECKING:
    import keras

_DOES = {"caption": "writes captions", "answer": "answers questions", "match": "says whether a text tells of an image"}


@dataclass(frozen=True, eq=False)
class Describer:
    """A model of task="caption", "answer" or "match", its tokenizer, and the tokens around what it writes."""

    model: keras.Model
    tokenizer: Tokenizer
    marks: Marks
    source: str
    prompt: str = ""  # that the captions it learned from begin with

    @classmethod
    def open(cls, source: str | Path) -> Describer:
        """What is in a folder made by zoo fit, in a checkpoint's directory in Hub layout, or at hf://org/repo.

        Raises:
            FileNotFoundError: there is nothing, or no tokenizer with it.
            ValueError: it is a model of another kind, or the tokenizer is another model's.
        """
        import zoo
        from pipelines import bundle

        is_bundle = (Path(source) / "bundle.json").is_file()
        loaded = bundle.load(source) if is_bundle else None
        model = loaded.load_model() if loaded else zoo.from_checkpoint(str(source))
        if vision_language.task_of(model) is None:
            known = ", ".join(_DOES)
            raise ValueError(
                f"'{source}' holds {model.name!r}, which does not read images and texts together. Models that do are "
                f"built for one of the tasks {known}, as blip can."
            )
        tokenizer = tokenizers.open_tokenizer(source)
        vocabulary = vocabulary_of(model) or tokenizer.vocabulary.size
        tokenizers.check_fit(tokenizer, vocabulary, model=model.name, published=not is_bundle)
        folder = Path(source) if is_bundle else locate(str(source))
        prompt = getattr(loaded.run.data, "prompt", "") if loaded else ""
        return cls(model, tokenizer, marks.of_folder(folder, tokenizer, vocabulary), str(source), prompt)

    @property
    def task(self) -> str:
        """caption, answer or match."""
        return vision_language.task_of(self.model) or ""

    def captions(
        self, paths: Sequence[str | Path], *, prompt: str | None = None, beams: int = 1, length: int | None = None
    ) -> list[str]:
        """A caption of each image; see `vision_language.caption`. The prompt is what the model learned with, if any.

        Raises:
            FileNotFoundError: an image is not there.
            ValueError: an image cannot be decoded, or the model does not write captions.
        """
        self._check("caption")
        options = {
            "prompt": self.prompt if prompt is None else prompt,
            "beams": beams,
            "length": length,
            "marks": self.marks,
        }
        return vision_language.caption(self.model, self.read(paths), self.tokenizer, **options)  # type: ignore[arg-type]

    def answers(
        self, paths: Sequence[str | Path], question: str, *, beams: int = 1, length: int | None = None
    ) -> list[str]:
        """The answer to a question about each image.

        Raises:
            FileNotFoundError: an image is not there.
            ValueError: an image cannot be decoded, or the model answers no questions.
        """
        self._check("answer")
        images = self.read(paths)
        options = {"beams": beams, "length": length, "marks": self.marks}
        return vision_language.ask(self.model, images, [question] * len(images), self.tokenizer, **options)  # type: ignore[arg-type]

    def matches(self, paths: Sequence[str | Path], texts: Sequence[str]) -> np.ndarray:
        """How probable it is that each text tells of each image: (images, texts).

        Raises:
            FileNotFoundError: an image is not there.
            ValueError: an image cannot be decoded, or the model does not match texts.
        """
        self._check("match")
        return vision_language.match(self.model, self.read(paths), texts, self.tokenizer)

    def read(self, paths: Sequence[str | Path]) -> np.ndarray:
        """Image files as the model takes them."""
        return read_images(check_there(paths), pixels_of(self.model))

    def _check(self, task: str) -> None:
        if self.task != task:
            needed = {"answer": "a question (--question)", "match": "texts (--match)", "caption": "images alone"}
            raise ValueError(
                f"'{self.source}' holds a model that {_DOES[self.task]} (task={self.task!r}); it takes "
                f"{needed[self.task]}. What was asked for takes one of task={task!r}."
            )
