"""Images with captions as a Dataset: images as `pipelines.images` reads them, captions as `pipelines.texts` does."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from pipelines import images, marks, pair_sources, text_batches, text_encoding, texts, tokenizers
from pipelines.captioned import Pairs
from pipelines.data import Texts
from pipelines.datasets import Part, Vocabulary
from pipelines.feed import Feed, as_written
from pipelines.pair_sources import Captions
from pipelines.sources import Examples
from pipelines.text_checkpoint import USUAL_LENGTH, Described, describe, limit_of, vocabulary_of
from pipelines.text_encoding import Encoded
from pipelines.text_files import some
from pipelines.text_sources import Rows, TextParts
from pipelines.tokenizers import Tokenizer
from zoo.core.family import Task
from zoo.layers.pixels import pixels_of

logger = logging.getLogger("zoo")
TASKS: tuple[Task, ...] = ("contrast", "caption", "match", "text_to_image")  # what pairs can be for
WRITTEN: tuple[Task, ...] = ("caption",)  # where a model writes: its tokenizer gives back what it reads


def load(
    pairs: Pairs,
    *,
    task: Task | None,
    model: str,
    weights: str | None,
    overrides: Mapping[str, Any] | None = None,
    seed: int,
) -> PairData:
    """The data set that `pairs` describes, for a model with these weights and overrides; all of it is checked.

    Without a task it is the first of the model's that images with captions can be for.

    Raises:
        FileNotFoundError: the captions, images, weights or the tokenizer are not there.
        ValueError: a row is bad, an image corrupt, a caption longer than the model takes and nothing said of cutting,
            the rows cannot be split, or the tokenizer is not the model's.
    """
    try:
        described = _overridden(describe(model, weights), overrides or {})
    except FileNotFoundError:
        if pairs.tokenizer is None:
            raise
        described = Described(model)  # with a tokenizer of its own, nothing else of the weights is needed here
    task = task or _first_task(described)
    if pairs.length and described.folder and described.limit and pairs.length > described.limit:
        raise ValueError(f"Pairs(length={pairs.length}): {model!r} with these weights takes {described.limit} tokens.")
    parts, skipped = pair_sources.load(pairs, seed=seed)
    if skipped:
        logger.warning("%s: %d images cannot be read and were left out.", pairs.source, len(skipped))
    tokenizer = _tokenizer(pairs, described, parts["train"], task)
    tokenizers.check_specials(tokenizer, task)
    if described.folder is not None:
        tokenizers.check_fit(tokenizer, described.vocabulary, model=model, published=True)
    return PairData(pairs, task, described, parts, tokenizer, skipped)


class PairData:
    """A `pipelines.datasets.TextDataset` of images with captions, an example a caption.

    Batches are dicts: `image` (B, h, w, 3) float32 in 0..255, `token_ids` and `padding_mask` (B, T) int32 with the
    tokenizer's special tokens around each text, `image_number` and `caption_number` (B,) int32: equal where the image
    or the caption, white space aside, is the same. T is the length of the longest caption, rounded up, or what the
    model takes where that is fixed. Which of them is input and which target the objective of the task says.
    """

    classes: tuple[str, ...] = ()

    def __init__(
        self,
        pairs: Pairs,
        task: Task,
        model: Described,
        parts: Mapping[str, Captions],
        tokenizer: Tokenizer,
        skipped: tuple[str, ...] = (),
    ):
        self.task, self.skipped, self.tokenizer = task, skipped, tokenizer
        self.captions = parts  # of each part: files, texts and which images are the same
        self._pairs, self._model = pairs, model
        self._length = pairs.length or min(USUAL_LENGTH, model.limit or USUAL_LENGTH)
        self._encoded: dict[str, tuple[int, Encoded]] = {}
        vocabulary = model.vocabulary or tokenizer.vocabulary.size
        self.marks = marks.of_data(pairs.tokenizer, model.folder, tokenizer, vocabulary)  # of captions to be written
        self.prompt = pairs.prompt.rstrip()
        self.prompt_ids = tokenizer.library.encode(self.prompt, add_special_tokens=False).ids
        for part in parts:
            self._tokens(part)

    @property
    def parts(self) -> Mapping[Part, Captions]:
        return self.captions  # type: ignore[return-value]

    @property
    def vocabulary(self) -> Vocabulary:
        """The tokens."""
        return self.tokenizer.vocabulary

    @property
    def length(self) -> int:
        """Tokens of a caption, at most."""
        return self._length

    @property
    def longest(self) -> int:
        """Tokens of the longest caption to learn from, its end included, the prompt not."""
        return max(1, int(self._tokens("train").tokens.lengths.max()) - 1 - len(self.prompt_ids))

    def options(self) -> dict[str, Any]:
        """The images' size; without weights the vocabulary, its end and the length where the model's is too short."""
        given = {"size": self._pairs.size, "crop": self._pairs.crop}
        found = {name: value for name, value in given.items() if value is not None}
        config = self._model.config
        if self._model.folder is not None or config is None:
            return found
        longer = self._model.limit is not None and self._length > self._model.limit
        tokens = {"vocabulary": self.vocabulary.size, "words": self.vocabulary.size, "end": self.vocabulary.end}
        tokens |= {"length": self._length, "text_length": self._length} if longer else {}
        return found | {name: value for name, value in tokens.items() if hasattr(config, name)}

    def training_set(self, model: keras.Model, *, batch: int, seed: int) -> Feed:
        """Shuffled batches of one size, as the class says.

        Raises:
            ValueError: the model takes no images or shorter texts, or has not the tokenizer's vocabulary.
        """
        asked = self._pairs
        numbered = images.training_set(
            self._examples("train"),
            images.color(pixels_of(model)),
            batch=batch,
            seed=seed,
            augment=asked.augment,
            flip=asked.flip,
        )
        complete = self._completer(model, "train")
        return numbered.map(lambda found, number: complete(*found))

    def evaluation_set(self, model: keras.Model, part: Part, *, batch: int, cached: bool = False) -> tf.data.Dataset:
        """Batches in order; the last one may be smaller. `cached` is for sets that are read every epoch."""
        pixels = images.color(pixels_of(model))
        budget = None if cached else 0
        numbered = images.evaluation_set(self._examples(part), pixels, batch=batch, cache_budget=budget)
        complete = as_written(self._completer(model, part))
        made = numbered.map(complete, num_parallel_calls=tf.data.AUTOTUNE)
        return made.prefetch(tf.data.AUTOTUNE).with_options(numbered.options())

    def files(self) -> Mapping[str, str]:
        """The tokenizer; of captions to be written, also the tokens around them."""
        written = {marks.FILE: self.marks.to_json(prompt=self.prompt)} if self.task in WRITTEN else {}
        return {tokenizers.FILE: self.tokenizer.to_json(), **written}

    def names(self, part: Part, numbers: Iterable[int]) -> list[str]:
        """What examples are called: their images and rows."""
        rows = self.captions[part]
        return [f"{rows.names[number]} ({rows.places[number]})" for number in numbers]

    def references(self, part: Part) -> Sequence[Sequence[str]]:
        """Of each example all captions of its image."""
        return self.captions[part].of_image()

    def spans(self, part: Part, spans: np.ndarray) -> Sequence[str]:
        """Captions are no answers in a text.

        Raises:
            ValueError: always.
        """
        raise ValueError("Captions have no spans: task='answer' is for texts with questions.")

    def _examples(self, part: str) -> Examples:
        """The image of each row, with the row's number in place of a label."""
        return Examples(self.captions[part].images, np.arange(len(self.captions[part])))

    def _completer(self, model: keras.Model, part: str) -> Callable[[tf.Tensor, tf.Tensor], dict[str, tf.Tensor]]:
        """The function (images, rows) -> a batch."""
        self._fit(model)
        inputs: Any = model.input if isinstance(model.input, dict) else {}
        gather = text_batches.gatherer(
            text_encoding.Examples(self._tokens(part)),
            self.task,
            set(inputs),
            padding=self.vocabulary.padding,
            length=self._length,
        )
        rows = self.captions[part]
        same: dict[str, int] = {}
        captions = [same.setdefault(" ".join(text.split()), len(same)) for text in rows.texts]
        numbers = {"image_number": rows.numbers, "caption_number": np.array(captions)}
        kept = {name: tf.constant(values, tf.int32) for name, values in numbers.items()}
        fixed = inputs["token_ids"].shape[1] if "token_ids" in inputs else None

        def complete(image: tf.Tensor, row: tf.Tensor) -> dict[str, tf.Tensor]:
            made = gather(row)
            if fixed is not None:
                fill = {"token_ids": self.vocabulary.padding}
                made = {name: _widened(each, fixed, fill.get(name, 0)) for name, each in made.items()}
            return {"image": image, **made, **{name: tf.gather(values, row) for name, values in kept.items()}}

        return complete

    def _fit(self, model: keras.Model) -> None:
        """Take the length of a model, unless one was asked for."""
        tokenizers.check_fit(self.tokenizer, vocabulary_of(model), model=model.name, published=False)
        limit = limit_of(model) if self._model.limit is None else self._model.limit
        if self._pairs.length and limit and self._pairs.length > limit and self._model.folder is not None:
            raise ValueError(f"Pairs(length={self._pairs.length}): {model.name!r} takes at most {limit} tokens.")
        self._length = self._pairs.length or min(USUAL_LENGTH, limit or USUAL_LENGTH)

    def _tokens(self, part: str) -> Encoded:
        """The captions of a part, tokenized once for a length.

        Raises:
            ValueError: one is longer, and nothing was said of cutting; or one has no tokens of its own.
        """
        length, found = self._encoded.get(part, (0, None))
        if found is None or length != self._length:
            rows = self.captions[part]
            texts = [f"{self.prompt} {text}" for text in rows.texts] if self.prompt else rows.texts
            found = text_encoding.encode(self.tokenizer, texts, None, length=self._length, task=self.task)
            self._check_cut(rows, found)
            self._encoded[part] = self._length, found
        return found

    def _check_cut(self, rows: Captions, found: Encoded) -> None:
        cut = [f"{rows.places[row]} ({rows.texts[row][:40]!r}...)" for row in np.flatnonzero(found.cut)]
        if cut and self._pairs.length is None:
            raise ValueError(
                f"{rows.source!r}: {len(cut)} of {len(rows)} captions have more than the {self._length} tokens that "
                f"{self._model.name!r} takes: {some(cut, 4)}. Shorten them, or have them cut: "
                f"--length {self._length} (Pairs(length={self._length}))."
            )
        if cut:
            message = "%d of %d captions are longer than %d tokens and were cut."
            logger.warning(message, len(cut), len(rows), self._length)
        special = self.tokenizer.library.num_special_tokens_to_add(False)
        if bare := [rows.places[row] for row in np.flatnonzero(found.tokens.lengths <= special)]:
            raise ValueError(f"{rows.source!r}: the tokenizer finds nothing in the caption of {some(bare)}.")


def _widened(tokens: tf.Tensor, length: int, fill: int) -> tf.Tensor:
    """(B, T) -> (B, length)."""
    return tf.pad(tokens, [[0, 0], [0, length - tf.shape(tokens)[1]]], constant_values=fill)


def _overridden(described: Described, overrides: Mapping[str, Any]) -> Described:
    """With what the run says of the model's vocabulary and length."""
    names = {"vocabulary", "words", "length", "text_length", "end"} & set(overrides)
    known = {name: overrides[name] for name in names if hasattr(described.config, name)}
    return dataclasses.replace(described, config=dataclasses.replace(described.config, **known)) if known else described


def _first_task(described: Described) -> Task:
    """The first task of a model that images with captions can be for.

    Raises:
        ValueError: it has none.
    """
    if described.family is None:
        return TASKS[0]
    for task in described.family.tasks:
        if task in TASKS:
            return task
    known = ", ".join(described.family.tasks)
    raise ValueError(f"{described.name!r} has no task for images with captions ({', '.join(TASKS)}). It has: {known}.")


def _tokenizer(pairs: Pairs, described: Described, train: Captions, task: Task) -> Tokenizer:
    """The one that is asked for, the one beside the weights, or one that is trained on the captions to train on."""
    asked = Texts(
        pairs.source,
        label_column=None,
        tokenizer=pairs.tokenizer or ("bpe" if task in WRITTEN and described.folder is None else None),
        vocabulary=pairs.vocabulary,
        lowercase=pairs.lowercase,
    )
    rows = Rows(train.source, train.texts, None, None, train.places)
    return texts.tokenizer_for(asked, described, TextParts((), {"train": rows}), task)
