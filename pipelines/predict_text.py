"""Answers for texts: their classes, a tag for each word, or the answer to a question about them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipelines import text_encoding
from pipelines.bundle import Bundle
from pipelines.data import Texts
from pipelines.predict import Predictor, softmax
from pipelines.text_encoding import Encoded
from pipelines.tokenizers import Tokenizer
from zoo.core.family import Task

Arrays = Mapping[str, np.ndarray]
Text = str | tuple[str, str]  # a text, or a pair; to answer: the text, and the question to it
TASKS: tuple[Task, ...] = ("classify", "tag", "answer")
_BATCH = 32


@dataclass(frozen=True)
class TextPredictor(Predictor):
    """A trained text model with its tokenizer. `run` computes its logits from its `inputs`.

    It takes up to `length` tokens; `cut` lets longer texts be cut as in training, instead of being refused. `pairs`
    says whether it takes two texts at once; None where that is not known.
    """

    task: Task
    classes: tuple[str, ...]
    tokenizer: Tokenizer
    run: Callable[[Arrays], np.ndarray]
    inputs: tuple[str, ...]
    length: int  # tokens
    pairs: bool | None = None
    cut: bool = False

    def probabilities(self, inputs: Sequence[Text]) -> np.ndarray:
        """The probability of each class, (N, classes), for texts, or for pairs of them.

        Raises:
            ValueError: the model is for another task, or a text is empty or longer than the model takes.
        """
        self._expect("classify")
        return softmax(np.stack(self._logits(self._encoded(inputs))))

    def tags(self, texts: Sequence[str]) -> list[list[tuple[str, str]]]:
        """For each text its words, each with its tag.

        Words that are cut off, or that the tokenizer drops, have the tag "".

        Raises:
            ValueError: as `probabilities`.
        """
        self._expect("tag")
        encoded = self._encoded(texts)
        found = []
        for index, logits in enumerate(self._logits(encoded)):
            best = logits.argmax(axis=-1)
            starts = text_encoding.word_starts(encoded, index)
            tags = ["" if start is None else self.classes[best[start]] for start in starts]
            found.append(list(zip(encoded.texts[index].split(), tags, strict=True)))
        return found

    def answers(self, texts: Sequence[tuple[str, str]]) -> list[tuple[str, float]]:
        """For each text and the question to it the answer, a part of the text, with its probability.

        Raises:
            ValueError: as `probabilities`.
        """
        from pipelines.objectives.answering import best_spans

        self._expect("answer")
        encoded = self._encoded(texts)
        found = []
        for index, logits in enumerate(self._logits(encoded)):
            inside = encoded.places[index][:, :1] >= 0  # type: ignore[index]  # answers have places
            logits = np.where(inside, logits[: len(inside)], -np.inf)
            ((first, last),) = best_spans(logits[None], np.where(inside, 0, -1).repeat(2, axis=1)[None])
            shares = softmax(logits.astype(np.float64).T)
            probability = float(shares[0, first] * shares[1, last])
            found.append((text_encoding.between(encoded, index, first, last), probability))
        return found

    def _expect(self, task: Task) -> None:
        if self.task != task:
            ways = {"classify": "best", "tag": "tags", "answer": "answers"}
            raise ValueError(
                f"This model's task is {self.task!r}; ask it with {ways.get(self.task, 'zoo generate')}()."
            )

    def _encoded(self, texts: Sequence[Text]) -> Encoded:
        """The texts as tokens; every one is checked before any is answered."""
        pairs = [(text,) if isinstance(text, str) else tuple(text) for text in texts]
        wanted = {True: {2}, False: {1}, None: {2} if self.task == "answer" else {1, 2}}[self.pairs]
        counts = {len(pair) for pair in pairs}
        if not counts <= wanted or len(counts) > 1:
            what = "two texts each: a text and the second one beside it" if 2 in wanted else "one text each"
            raise ValueError(f"This model takes {what}; some of the {len(pairs)} inputs are otherwise.")
        for number, pair in enumerate(pairs, start=1):
            if not all(isinstance(text, str) and text.strip() for text in pair):
                raise ValueError(f"Text {number} of {len(pairs)} is empty.")
        firsts, seconds = [pair[0] for pair in pairs], [pair[1] for pair in pairs] if counts == {2} else None
        encoded = text_encoding.encode(self.tokenizer, firsts, seconds, length=self.length, task=self.task)
        if encoded.cut.any() and not self.cut:
            index = int(encoded.cut.argmax())
            raise ValueError(
                f"Text {index + 1} of {len(pairs)} is longer than the {self.length} tokens that this model takes: "
                f"{firsts[index][:60]!r}... Shorten it, or have it cut as in training (--cut, "
                "dataclasses.replace(predictor, cut=True))."
            )
        return encoded

    def _logits(self, encoded: Encoded) -> list[np.ndarray]:
        """Logits of each text, those of padding included."""
        found: list[np.ndarray] = []
        for start in range(0, len(encoded), _BATCH):
            found.extend(self.run(self._batch(encoded, range(start, min(start + _BATCH, len(encoded))))))
        return found

    def _batch(self, encoded: Encoded, indexes: range) -> Arrays:
        """What the model takes: (B, T) int32 each, padded to the longest."""
        longest = max(len(encoded.tokens[index]) for index in indexes)
        made = {name: np.zeros((len(indexes), longest), np.int32) for name in self.inputs}
        made["token_ids"] += self.tokenizer.vocabulary.padding
        for row, index in enumerate(indexes):
            ids = encoded.tokens[index]
            made["token_ids"][row, : len(ids)] = ids
            made["padding_mask"][row, : len(ids)] = 1
            if "segment_ids" in made and encoded.segments is not None:
                made["segment_ids"][row, : len(ids)] = encoded.segments[index]
        return made


def open_bundle(bundle: Bundle, texts: Texts) -> TextPredictor:
    """The predictor of a bundle with its Keras model; `texts` are what it was trained on.

    Raises:
        ValueError: its task has no answer of this kind.
    """
    from pipelines.text_checkpoint import USUAL_LENGTH, limit_of
    from pipelines.tokenizers import FILE, open_tokenizer

    _check_task(bundle.task, bundle.path)
    model = bundle.load_model()
    length = texts.length or min(USUAL_LENGTH, limit_of(model) or USUAL_LENGTH)
    return TextPredictor(
        bundle.task,
        bundle.classes,
        open_tokenizer(bundle.path / FILE),
        lambda inputs: np.asarray(model.predict_on_batch(dict(inputs)), np.float32),
        tuple(model.input),
        length,
        pairs=texts.second_column is not None,
    )


def open_exported(path: Path, tokenizer: str) -> TextPredictor:
    """The predictor of a .tflite file, or of a SavedModel's folder, with the tokenizer inside it.

    Raises:
        ValueError: its task has no answer of this kind.
    """
    from pipelines import metadata
    from pipelines.text_checkpoint import USUAL_LENGTH

    task = metadata.read_task(path)
    _check_task(task, path)
    lengths = metadata.read_lengths(path)
    tflite = path.suffix == ".tflite"
    return TextPredictor(
        task,
        () if task == "answer" else metadata.read_labels(path),
        Tokenizer.from_json(tokenizer, source=str(path)),
        _tflite(path) if tflite else _saved_model(path),
        tuple(lengths),
        lengths["token_ids"] if tflite else max(USUAL_LENGTH, lengths["token_ids"]),
    )


def _tflite(path: Path) -> Callable[[Arrays], np.ndarray]:
    from pipelines.exported import open_tflite

    answer = open_tflite(path)

    def run(inputs: Arrays) -> np.ndarray:
        count = len(inputs["token_ids"])
        return np.stack(
            [answer({name: rows[index] for name, rows in inputs.items()})["logits"] for index in range(count)]
        )

    return run


def _saved_model(path: Path) -> Callable[[Arrays], np.ndarray]:
    """A SavedModel does not say how long a text may be: TensorFlow fails on one that is too long."""
    import tensorflow as tf

    from pipelines.exported import open_saved_model

    call = open_saved_model(path)

    def run(inputs: Arrays) -> np.ndarray:
        try:
            return call("serving_default", inputs)["logits"]
        except tf.errors.InvalidArgumentError:
            raise ValueError(
                f"'{path}' cannot answer for texts of {inputs['token_ids'].shape[1]} tokens, "
                "more than its model takes. Shorten them."
            ) from None

    return run


def _check_task(task: Task, path: Path) -> None:
    if task not in TASKS:
        raise ValueError(f"'{path}' was trained for task={task!r}, and zoo predict answers for {', '.join(TASKS)}.")
