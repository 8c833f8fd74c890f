"""Texts as token ids, and as targets beside them: what each task needs of the tokenizer, in arrays."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pipelines.text_sources import UNLABELLED, Rows
from pipelines.tokenizers import Tokenizer
from zoo.core.family import Task

_CHUNK = 4096  # texts that are tokenized at once: the library's own objects take a hundred times the ids


@dataclass(frozen=True, eq=False)
class Ragged:
    """Rows of different lengths in one array: `values` one after the other, (rows + 1,) `starts` where each begins."""

    values: np.ndarray
    starts: np.ndarray

    @classmethod
    def of(
        cls, rows: Sequence[Sequence[int] | np.ndarray], dtype: str = "int32", *, shape: tuple[int, ...] = ()
    ) -> Ragged:
        """From a sequence a row; `shape` is that of one value."""
        starts = np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int64)
        values = np.zeros((starts[-1], *shape), dtype)
        for start, row in zip(starts, rows, strict=False):
            values[start : start + len(row)] = row
        return cls(values, starts)

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __getitem__(self, index: int | np.integer) -> np.ndarray:
        return self.values[self.starts[index] : self.starts[index + 1]]

    @property
    def lengths(self) -> np.ndarray:
        """The length of each row, (rows,)."""
        return np.diff(self.starts)


@dataclass(frozen=True, eq=False)
class Encoded:
    """Texts as tokens, a row an example.

    `cut` says of each whether tokens were cut off. `segments` is there for pairs. `places`, for tag and answer, says of
    each token where in its text of `texts` it stands, (first character, the one after the last), or (-1, -1).
    """

    tokens: Ragged
    cut: np.ndarray
    segments: Ragged | None = None
    places: Ragged | None = None
    texts: Sequence[str] = ()

    def __len__(self) -> int:
        return len(self.tokens)


@dataclass(frozen=True, eq=False)
class Examples:
    """Encoded texts with their targets by name, in the form that the task has them; `kept` are those to train on.

    `shortened` is how many texts to write were cut.
    """

    encoded: Encoded
    labels: np.ndarray | None = None  # classify: (N,)
    targets: Mapping[str, Ragged] = field(default_factory=dict)
    kept: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    shortened: int = 0

    def __len__(self) -> int:
        return len(self.encoded)


def encode(
    tokenizer: Tokenizer, texts: Sequence[str], seconds: Sequence[str] | None, *, length: int, task: Task
) -> Encoded:
    """Tokens of texts or pairs, special ones around them, at most `length` of them.

    Of a pair the longer text is cut; for task="answer", where the question comes first, the text alone.

    Raises:
        ValueError: a question leaves no room for its text.
    """
    if task == "answer" and seconds is not None:
        return _encode(tokenizer, seconds, texts, length=length, placed=1, texts=texts)
    return _encode(tokenizer, texts, seconds, length=length, placed=0 if task == "tag" else None, texts=texts)


def blocks(tokenizer: Tokenizer, texts: Sequence[str], *, length: int, task: Task) -> Encoded:
    """For language models: all tokens of every text, a long text in several rows.

    masked_lm: special tokens stand around each block. causal_lm: the end token stands after each text, no other; blocks
    share a token with the one before, so that every token but a text's first is predicted once.
    """
    rows: list[Sequence[int]] = []
    if task == "masked_lm":
        library = tokenizer.cut(length)
        for encodings in _batches(library, texts):
            rows.extend(part.ids for found in encodings for part in (found, *found.overflowing))
        return Encoded(Ragged.of(rows), np.zeros(len(rows), bool))
    end = tokenizer.vocabulary.end
    for chunk in _chunks(texts):
        for found in tokenizer.library.encode_batch_fast(list(chunk), add_special_tokens=False):
            ids = found.ids if end is None else [*found.ids, end]
            rows.extend(ids[start : start + length] for start in range(0, max(len(ids) - 1, 1), length - 1))
    return Encoded(Ragged.of(rows), np.zeros(len(rows), bool))


def examples(tokenizer: Tokenizer, rows: Rows, *, classes: tuple[str, ...], length: int, task: Task) -> Examples:
    """The rows as tokens and targets.

    Raises:
        ValueError: a row cannot be encoded; the message names it.
    """
    if task in UNLABELLED:
        found = blocks(tokenizer, rows.texts, length=length, task=task)
        return Examples(found, kept=np.arange(len(found)))
    encoded = encode(tokenizer, rows.texts, rows.seconds, length=length, task=task)
    bare = np.flatnonzero(encoded.tokens.lengths == 0)
    if len(bare):
        raise ValueError(
            f"{rows.source!r}, {rows.places[int(bare[0])]}: the text has no tokens: {rows.texts[int(bare[0])][:80]!r}."
        )
    everything, labels = np.arange(len(encoded)), rows.labels or ()
    number = {name: index for index, name in enumerate(classes)}
    if task == "classify":
        return Examples(encoded, labels=np.array([number[label] for label in labels], np.int32), kept=everything)
    if task == "seq2seq":
        written, shortened = _written(tokenizer, labels, length=length)
        return Examples(encoded, targets={"written": written}, kept=everything, shortened=shortened)
    if task == "tag":
        return Examples(encoded, targets={"tags": _tags(encoded, labels, number)}, kept=everything)
    spans = _spans(encoded, [answers[0] for answers in labels])
    kept = np.array([index for index in everything if (spans[index] == 1).any()], np.int64)
    return Examples(encoded, targets={"span": spans}, kept=kept)


def word_starts(encoded: Encoded, index: int) -> list[int | None]:
    """For each word of a text its first token; None for words that were cut off or have none."""
    assert encoded.places is not None
    places, text = encoded.places[index], encoded.texts[index]
    word_of, words = _word_numbers(text)
    starts: list[int | None] = [None] * words
    for token, (first, last) in enumerate(places):
        # Some tokenizers count the space before a word as part of its first token.
        word = next((word_of[place] for place in range(first, last) if word_of[place] >= 0), -1)
        if word >= 0 and starts[word] is None:
            starts[word] = token
    return starts


def _encode(
    tokenizer: Tokenizer,
    firsts: Sequence[str],
    seconds: Sequence[str] | None,
    *,
    length: int,
    placed: int | None,
    texts: Sequence[str],
) -> Encoded:
    library = tokenizer.cut(length, pair=seconds is not None, only_second=placed == 1)
    pairs: Sequence[Any] = firsts if seconds is None else list(zip(firsts, seconds, strict=True))
    tokens, segments, places, cut = [], [], [], []
    for encodings in _batches(library, pairs, fast=placed is None):
        for found in encodings:
            tokens.append(found.ids)
            cut.append(bool(found.overflowing))
            if seconds is not None:
                segments.append(found.type_ids)
            if placed is not None:
                inside = np.array([number == placed for number in found.sequence_ids], bool)
                places.append(np.where(inside[:, None], np.array(found.offsets, np.int32).reshape(-1, 2), -1))
    return Encoded(
        Ragged.of(tokens),
        np.array(cut, bool),
        Ragged.of(segments) if seconds is not None else None,
        Ragged.of(places, shape=(2,)) if placed is not None else None,
        texts,
    )


def _batches(library: Any, texts: Sequence[Any], *, fast: bool = True) -> Iterator[list[Any]]:
    encode_batch = library.encode_batch_fast if fast else library.encode_batch  # the fast one knows no places
    for chunk in _chunks(texts):
        try:
            yield encode_batch(list(chunk))
        except Exception as error:  # the library raises nothing more special
            raise ValueError(
                f"{error}: a question is so long that no room is left for its text. Give more room with "
                "Texts(length=...), or shorten the questions."
            ) from None


def _chunks(texts: Sequence[Any]) -> Iterable[Sequence[Any]]:
    return (texts[start : start + _CHUNK] for start in range(0, len(texts), _CHUNK))


def _written(tokenizer: Tokenizer, texts: Sequence[str], *, length: int) -> tuple[Ragged, int]:
    """What a decoder is to write, and how many texts were cut: tokens and the end, which is kept, at most `length`."""
    end = [tokenizer.vocabulary.end] if tokenizer.vocabulary.end is not None else []
    rows: list[list[int]] = []
    cut = 0
    for chunk in _chunks(texts):
        for found in tokenizer.library.encode_batch_fast(list(chunk), add_special_tokens=False):
            rows.append([*found.ids[: length - 1], *end])
            cut += len(found.ids) > length - 1
    return Ragged.of(rows), cut


def _tags(encoded: Encoded, labels: Sequence[Sequence[str]], number: Mapping[str, int]) -> Ragged:
    """The tag's number at the first token of each word, -1 at all other tokens."""
    found = Ragged(np.full_like(encoded.tokens.values, -1), encoded.tokens.starts)
    for index, tags in enumerate(labels):
        row = found[index]
        for tag, start in zip(tags, word_starts(encoded, index), strict=True):
            if start is not None:
                row[start] = number[tag]
    return found


def _spans(encoded: Encoded, answers: Sequence[str]) -> Ragged:
    """(tokens, 2): 1 at the first and at the last token of the answer, 0 at other tokens of the text, -1 elsewhere.

    There is no 1 where the answer was cut off.
    """
    assert encoded.places is not None
    values = np.where(encoded.places.values[:, :1] >= 0, 0, -1).repeat(2, axis=1).astype(np.int32)
    found = Ragged(values, encoded.tokens.starts)
    for index, answer in enumerate(answers):
        start = encoded.texts[index].index(answer)
        stop, places = start + len(answer), encoded.places[index]
        within = np.flatnonzero((places[:, 0] < stop) & (places[:, 1] > start) & (places[:, 0] >= 0))
        if len(within) and places[within[-1], 1] >= stop:
            found[index][within[0], 0] = found[index][within[-1], 1] = 1
    return found


def _word_numbers(text: str) -> tuple[np.ndarray, int]:
    """For each character the number of its word, -1 for white space; and how many words there are."""
    spaces = np.array([character.isspace() for character in text], bool)
    begins = ~spaces & np.concatenate([[True], spaces[:-1]])
    return np.where(spaces, -1, np.cumsum(begins) - 1), int(begins.sum())


def between(encoded: Encoded, index: int, first: int, last: int) -> str:
    """The text from token `first` to token `last` of example `index`; nothing where they are none of the text's."""
    assert encoded.places is not None
    places = encoded.places[index]
    if not 0 <= first <= last < len(places) or places[first, 0] < 0 or places[last, 0] < 0:
        return ""
    return encoded.texts[index][places[first, 0] : places[last, 1]].strip()
