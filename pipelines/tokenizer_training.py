"""Trains tokenizers on texts, the same ones for the same texts."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence, Set
from typing import TYPE_CHECKING

from pipelines.tokenizers import Tokenizer, finish

if TYPE_CHECKING:
    from tokenizers import Tokenizer as Library

SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
BYTES = 256
_LONGEST_PIECE = 16  # characters of a Unigram piece, as the library has it
_ROUNDS = 3  # of segmenting and counting; the counts hardly change after that


def train(texts: Sequence[str], *, kind: str, vocabulary: int, lowercase: bool) -> Tokenizer:
    """A tokenizer of at most `vocabulary` tokens: "wordpiece", "bpe" (of bytes) or "unigram".

    It puts [CLS] and [SEP] around one text or two. The same texts give the same tokenizer, in whatever order and on
    whatever machine; the library's own trainers do so for BPE alone.

    The rarest characters are unknown to WordPiece and Unigram where they would take more than half of the vocabulary.

    Raises:
        ValueError: the vocabulary is too small for BPE's bytes.
    """
    make = {"wordpiece": _wordpiece, "bpe": _byte_bpe, "unigram": _unigram}[kind]
    library = make(sorted(texts), vocabulary, lowercase)
    source = f"{kind} trained on the data"
    finish(library, start="[CLS]", end="[SEP]", others=("[PAD]", "[UNK]", "[MASK]"), source=source)
    return Tokenizer(library, source)


def _wordpiece(texts: Sequence[str], vocabulary: int, lowercase: bool) -> Library:
    """WordPiece, on the text as BERT cleans it.

    The library numbers characters in the order of a hash table and breaks ties by number, so they are given to it
    in order, as if they were special tokens.
    """
    from tokenizers import Tokenizer as Library
    from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

    normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    normal, alphabet = _common([normalizer.normalize_str(text) for text in texts], (vocabulary - len(SPECIALS)) // 2)

    def model(ids: Mapping[str, int]) -> Library:
        library = Library(models.WordPiece(dict(ids), unk_token="[UNK]"))
        library.normalizer, library.pre_tokenizer = normalizer, pre_tokenizers.BertPreTokenizer()
        library.decoder = decoders.WordPiece()
        return library

    library = model({})
    characters = [*alphabet, *(f"##{character}" for character in alphabet)]
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocabulary, special_tokens=[*SPECIALS, *characters], show_progress=False
    )
    library.train_from_iterator(normal, trainer)
    return model(json.loads(library.to_str())["model"]["vocab"])


def _byte_bpe(texts: Sequence[str], vocabulary: int, lowercase: bool) -> Library:
    from tokenizers import Tokenizer as Library
    from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

    if vocabulary < BYTES + len(SPECIALS):
        raise ValueError(
            f"Texts(vocabulary={vocabulary}) is too small for tokenizer='bpe': its {BYTES} bytes and {len(SPECIALS)} "
            f"special tokens take {BYTES + len(SPECIALS)}."
        )
    library = Library(models.BPE())
    if lowercase:
        library.normalizer = normalizers.Lowercase()
    library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    library.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=list(SPECIALS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    library.train_from_iterator(texts, trainer)
    return library


def _unigram(texts: Sequence[str], vocabulary: int, lowercase: bool) -> Library:
    """Unigram: the library chooses the pieces, their scores are counted anew.

    The library adds scores up in the order of a hash table: they differ from one training to the next in the fourth
    digit, and the order of the pieces with them.
    """
    from tokenizers import Tokenizer as Library
    from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

    normalizer = normalizers.Sequence([normalizers.NFKC(), *([normalizers.Lowercase()] if lowercase else [])])
    normal, alphabet = _common([normalizer.normalize_str(text) for text in texts], (vocabulary - len(SPECIALS)) // 2)

    def model(pieces: Sequence[tuple[str, float]]) -> Library:
        library = Library(models.Unigram([*((name, 0.0) for name in SPECIALS), *pieces], SPECIALS.index("[UNK]")))
        library.normalizer, library.pre_tokenizer = normalizer, pre_tokenizers.Metaspace()
        library.decoder = decoders.Metaspace()
        return library

    library = model([])
    trainer = trainers.UnigramTrainer(
        vocab_size=vocabulary,
        special_tokens=list(SPECIALS),
        unk_token="[UNK]",
        initial_alphabet=alphabet,
        max_piece_length=_LONGEST_PIECE,
        show_progress=False,
    )
    library.train_from_iterator(normal, trainer)
    pieces = {piece for piece, _ in json.loads(library.to_str())["model"]["vocab"]} - set(SPECIALS)
    words = Counter(word for text in normal for word, _ in pre_tokenizers.Metaspace().pre_tokenize_str(text))
    counts: Counter[str] = Counter()
    for word, count in words.items():
        counts.update({part: count * times for part, times in _parts(word, pieces).items()})
    for _ in range(_ROUNDS):
        library = model(_scores(pieces, counts))
        counts = Counter()
        for count, found in zip(words.values(), library.encode_batch(list(words)), strict=True):
            counts.update({part: count * times for part, times in Counter(found.tokens).items()})
    return model(_scores(pieces, counts))


def _parts(word: str, pieces: Set[str]) -> Counter[str]:
    """How often each piece is a part of a word."""
    spans = ((a, b) for a in range(len(word)) for b in range(a + 1, min(a + _LONGEST_PIECE, len(word)) + 1))
    return Counter(word[a:b] for a, b in spans if word[a:b] in pieces)


def _scores(pieces: Set[str], counts: Mapping[str, int]) -> list[tuple[str, float]]:
    """Pieces with the logarithms of their shares, most frequent first; one that is never used counts a half."""
    total = sum(counts[piece] for piece in pieces) or 1
    ordered = sorted(pieces, key=lambda piece: (-counts[piece], piece))
    return [(piece, math.log((counts[piece] or 0.5) / total)) for piece in ordered]


def _common(texts: Sequence[str], most: int) -> tuple[list[str], list[str]]:
    """The texts without their rarest characters, and the characters left, `most` of them, in order."""
    counts = Counter(character for text in texts for character in text if not character.isspace())
    alphabet = sorted(sorted(counts, key=lambda character: (-counts[character], character))[:most])
    rare = str.maketrans({character: " " for character in counts.keys() - set(alphabet)})
    return [text.translate(rare) for text in texts] if rare else list(texts), alphabet
