"""CLIP's tokenizer: BPE of the bytes of lower-cased words, whose last piece is marked.

Texts are cut into words as OpenAI's published tokenizer does it, https://github.com/openai/CLIP (MIT).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tokenizers import Tokenizer

START, END = "<|startoftext|>", "<|endoftext|>"
_WORD_ENDS = "</w>"
_SUFFIXES = "'s|'t|'re|'ve|'m|'ll|'d"
_WORDS = rf"<\|startoftext\|>|<\|endoftext\|>|{_SUFFIXES}|[\p{{L}}]+|[\p{{N}}]|[^\s\p{{L}}\p{{N}}]+"


def is_clips(ids: Mapping[str, int]) -> bool:
    """Whether a vocabulary is of this kind."""
    return {START, END} <= set(ids) and any(token.endswith(_WORD_ENDS) for token in ids)


def clip_tokenizer(ids: Mapping[str, int], merges: Sequence[tuple[str, str]]) -> Tokenizer:
    """The tokenizer of a vocabulary and its merges, which puts a start and an end token around each text."""
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

    library = Tokenizer(models.BPE(dict(ids), list(merges), unk_token=END, end_of_word_suffix=_WORD_ENDS))
    spaces = normalizers.Replace(Regex(r"\s+"), " ")
    library.normalizer = normalizers.Sequence([normalizers.NFC(), spaces, normalizers.Lowercase()])
    words = pre_tokenizers.Split(Regex(_WORDS), behavior="removed", invert=True)
    library.pre_tokenizer = pre_tokenizers.Sequence([words, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    # "Ġ" stands for the byte of a space, so that the bytes of a character in several tokens stay together.
    marks = decoders.Replace(_WORD_ENDS, "Ġ")
    library.decoder = decoders.Sequence([marks, decoders.ByteLevel(), decoders.Replace(Regex(" $"), "")])
    library.add_special_tokens([START, END])
    library.post_processor = processors.TemplateProcessing(
        single=f"{START} $A {END}", special_tokens=[(name, ids[name]) for name in (START, END)]
    )
    return library
