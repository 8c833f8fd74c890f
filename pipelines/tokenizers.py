"""Tokenizers as the `tokenizers` library runs them: read from files, and asked what their special tokens are for."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines import clip_tokenizer
from pipelines.datasets import Vocabulary
from zoo.weights.locate import locate
from zoo.weights.read import beside, read_json

if TYPE_CHECKING:
    from tokenizers import Tokenizer as Library

FILE = "tokenizer.json"
_LARGEST = 2**28  # bytes; the largest published ones have 35 MB
# How publishers name the tokens that stand for no text.
_NAMES: Mapping[str, tuple[str, ...]] = {
    "padding": ("[PAD]", "<pad>", "<|pad|>"),
    "mask": ("[MASK]", "<mask>"),
    "start": ("[CLS]", "<s>", "<|startoftext|>"),
    "end": ("[SEP]", "</s>", "<|endoftext|>"),
}


@dataclass(frozen=True, eq=False)
class Tokenizer:
    """A tokenizer of the library, which neither cuts nor pads. `source` is what messages call it."""

    library: Library
    source: str

    @classmethod
    def from_json(cls, text: str, *, source: str) -> Tokenizer:
        """The tokenizer that the text of a tokenizer.json describes; what it says of cutting and padding is dropped.

        Raises:
            ValueError: the library cannot read it.
        """
        from tokenizers import Tokenizer as Library

        try:
            library = Library.from_str(text)
        except Exception as error:  # the library raises nothing more special
            raise ValueError(f"'{source}' is no {FILE}: {str(error)[:200]}.") from None
        library.no_truncation()
        library.no_padding()
        return cls(library, source)

    def to_json(self) -> str:
        """The text of its tokenizer.json."""
        return self.library.to_str(pretty=True)

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """How many ids there are, and the special ones by what they are for; padding is the end where there is none."""
        ids = self.library.get_vocab(with_added_tokens=True)
        found = {role: next((ids[name] for name in names if name in ids), None) for role, names in _NAMES.items()}
        added = self.library.get_added_tokens_decoder()
        padding = next((i for i in (found["padding"], found["end"]) if i is not None), 0)
        return Vocabulary(
            size=max(ids.values(), default=-1) + 1,
            padding=padding,
            specials=tuple(sorted(number for number, token in added.items() if token.special)),
            mask=found["mask"],
            start=padding if found["start"] is None else found["start"],  # T5 starts with padding
            end=found["end"],
        )

    def cut(self, length: int, *, pair: bool = False, only_second: bool = False) -> Library:
        """The library's tokenizer that cuts to `length` tokens, special ones included; of a pair the longer text.

        Raises:
            ValueError: there is no room for more than the special tokens.
        """
        from tokenizers import Tokenizer as Library

        special = self.library.num_special_tokens_to_add(pair)
        if length < special + 1 + pair:
            raise ValueError(f"A length of {length} tokens is too short: {special} of them are special ones.")
        library = Library.from_str(self.library.to_str())
        library.enable_truncation(length, strategy="only_second" if only_second else "longest_first")
        return library

    def decode(self, ids: Sequence[int]) -> str:
        """The text of some tokens, without the special ones."""
        return self.library.decode([int(number) for number in ids], skip_special_tokens=True)


def open_tokenizer(uri: str | Path) -> Tokenizer:
    """The tokenizer in a tokenizer.json, in a directory in Hub layout, or of hf://org/repo.

    Of a directory without tokenizer.json it is built from vocab.txt (WordPiece), or vocab.json and merges.txt (BPE
    of bytes).

    Raises:
        FileNotFoundError: there is none.
        ValueError: it cannot be read.
    """
    try:
        path = locate(uri)
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"No tokenizer at {str(uri)!r}: {error} Give a {FILE}, a directory or hf://org/repo, "
            "or have one trained: wordpiece, bpe or unigram."
        ) from None
    tokenizer = in_folder(path) if path.is_dir() else _from_file(path)
    if tokenizer is None:
        raise FileNotFoundError(
            f"There is no tokenizer in '{path}': no {FILE}, no vocab.txt, no vocab.json with merges.txt. "
            "Give one with Texts(tokenizer=...), or train one: wordpiece, bpe or unigram."
        )
    return tokenizer


def in_folder(folder: Path) -> Tokenizer | None:
    """The tokenizer of a directory in Hub layout; None if it has none.

    Raises:
        ValueError: its files cannot be read, or are of a kind that must be converted first.
    """

    def has(name: str) -> bool:
        return os.path.isfile(beside(folder, name))

    if has(FILE):
        return _from_file(beside(folder, FILE))
    settings = read_json(folder / "tokenizer_config.json") if has("tokenizer_config.json") else {}
    if has("vocab.txt"):
        return _wordpiece(_read(beside(folder, "vocab.txt")), settings, source=str(folder / "vocab.txt"))
    if has("vocab.json") and has("merges.txt"):
        merges = _read(beside(folder, "merges.txt"))
        return _byte_bpe(read_json(folder / "vocab.json"), merges, settings, source=str(folder / "vocab.json"))
    sentencepiece = [name for name in ("spiece.model", "sentencepiece.bpe.model", "tokenizer.model") if has(name)]
    if sentencepiece:
        raise ValueError(
            f"'{folder / sentencepiece[0]}' is a SentencePiece model without a {FILE} beside it. Most publishers offer "
            f"one; transformers' AutoTokenizer.from_pretrained(...).save_pretrained(...) writes it."
        )
    return None


def _read(path: Path) -> str:
    if path.stat().st_size > _LARGEST:
        raise ValueError(f"'{path}' has {path.stat().st_size:,} bytes; no tokenizer is larger than {_LARGEST:,}.")
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"'{path}' is not UTF-8 text: {error}.") from None


def _from_file(path: Path) -> Tokenizer:
    return Tokenizer.from_json(_read(path), source=str(path))


def _wordpiece(lines: str, settings: Mapping[str, Any], *, source: str) -> Tokenizer:
    """BERT's tokenizer, from a token a line."""
    from tokenizers import Tokenizer as Library
    from tokenizers import decoders, models, normalizers, pre_tokenizers

    tokens = [line.rstrip("\r") for line in lines.rstrip("\n").split("\n")]
    ids = {token: number for number, token in enumerate(tokens)}
    library = Library(models.WordPiece(ids, unk_token="[UNK]"))
    library.normalizer = normalizers.BertNormalizer(
        lowercase=settings.get("do_lower_case", True) is True,
        strip_accents=settings.get("strip_accents"),
        handle_chinese_chars=settings.get("tokenize_chinese_chars", True) is True,
    )
    library.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    library.decoder = decoders.WordPiece()
    finish(library, start="[CLS]", end="[SEP]", others=("[PAD]", "[UNK]", "[MASK]"), source=source)
    return Tokenizer(library, source)


def _byte_bpe(ids: Mapping[str, Any], merges: str, settings: Mapping[str, Any], *, source: str) -> Tokenizer:
    """GPT-2's tokenizer, or RoBERTa's or CLIP's where the vocabulary has their special tokens."""
    from tokenizers import AddedToken, decoders, models, pre_tokenizers, processors
    from tokenizers import Tokenizer as Library

    lines = [line.rstrip("\r") for line in merges.split("\n") if line.strip() and not line.startswith("#version")]
    pairs = [line.partition(" ")[::2] for line in lines]
    known = all(isinstance(number, int) and not isinstance(number, bool) for number in ids.values())
    if not known or any("".join(pair) not in ids for pair in pairs):
        raise ValueError(f"'{source}' and the merges.txt beside it do not belong together, or are damaged.")
    if clip_tokenizer.is_clips(ids):
        return Tokenizer(clip_tokenizer.clip_tokenizer(ids, pairs), source)
    library = Library(models.BPE(dict(ids), pairs))
    spaced = settings.get("add_prefix_space", False) is True
    library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=spaced)
    library.decoder = decoders.ByteLevel()
    if {"<s>", "</s>", "<mask>"} <= set(ids):
        start, end = (("<s>", ids["<s>"]), ("</s>", ids["</s>"]))
        library.add_special_tokens([name for name in ("<s>", "<pad>", "</s>", "<unk>") if name in ids])
        library.add_special_tokens([AddedToken("<mask>", lstrip=True)])
        library.post_processor = processors.RobertaProcessing(end, start, add_prefix_space=spaced)
    else:
        library.add_special_tokens([name for name in ("<|endoftext|>",) if name in ids])
        library.post_processor = processors.ByteLevel(trim_offsets=True)
    return Tokenizer(library, source)


def finish(library: Library, *, start: str, end: str, others: Sequence[str], source: str) -> None:
    """Registers special tokens, and has them put around one text and two as BERT does: start A end, start A end B end.

    Raises:
        ValueError: the vocabulary lacks one that is needed.
    """
    from tokenizers import processors

    missing = [name for name in (start, end, *others[:2]) if library.token_to_id(name) is None]
    if missing:
        raise ValueError(f"'{source}' lacks the special tokens {', '.join(missing)}; it is no tokenizer of this kind.")
    library.add_special_tokens([name for name in (*others, start, end) if library.token_to_id(name) is not None])
    library.post_processor = processors.TemplateProcessing(
        single=f"{start} $A {end}",
        pair=f"{start} $A {end} $B:1 {end}:1",
        special_tokens=[(name, library.token_to_id(name)) for name in (start, end)],
    )


def check_fit(tokenizer: Tokenizer, vocabulary: int | None, *, model: str, published: bool) -> None:
    """Refuse a tokenizer that is not the one of a model's weights. `vocabulary` is the model's number of tokens.

    Raises:
        ValueError: it has more ids than the model, or, with published weights, far fewer.
    """
    size = tokenizer.vocabulary.size
    if vocabulary is None:
        return
    known = f"The tokenizer '{tokenizer.source}' has {size:,} tokens, {model!r} {vocabulary:,}"
    if size > vocabulary:
        raise ValueError(
            f"{known}: it does not belong to this model. Give the one that was published with the weights."
        )
    if published and size < 0.9 * vocabulary and vocabulary - size > 256:  # tables are rounded up to multiples of 64
        raise ValueError(
            f"{known}: these weights were trained with another tokenizer. Give the one published with them."
        )


def check_specials(tokenizer: Tokenizer, task: str) -> None:
    """Refuse a tokenizer without the special tokens that a task needs.

    Raises:
        ValueError: the message names them.
    """
    found = tokenizer.vocabulary
    needed = {"masked_lm": ("mask",), "causal_lm": ("end",), "seq2seq": ("end",)}.get(task, ())
    for role in needed:
        if getattr(found, role) is None:
            names = " or ".join(_NAMES[role])
            raise ValueError(f"The tokenizer '{tokenizer.source}' has no {names}, which task={task!r} needs.")
    ids = tokenizer.library.get_vocab(with_added_tokens=True)
    if {"[CLS]", "[SEP]"} <= set(ids) and not tokenizer.library.num_special_tokens_to_add(False):
        raise ValueError(
            f"The tokenizer '{tokenizer.source}' has [CLS] and [SEP] but does not put them around a text: its "
            "post_processor is missing. Save it anew with tokenizers.processors.TemplateProcessing."
        )
