"""BLEU: how many runs of one to four words of written texts are in texts that people wrote.

Paper: https://aclanthology.org/P02-1040. Words are those of `re`'s, in small letters, and marks stand alone.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence

LONGEST = 4  # words in a run
_WORDS = re.compile(r"\w+(?:'\w+)?|[^\w\s]")


def words(text: str) -> list[str]:
    """The words and marks of a text, in small letters."""
    return _WORDS.findall(text.lower())


def bleu(texts: Sequence[str], references: Sequence[Sequence[str]], *, longest: int = LONGEST) -> float:
    """BLEU of all texts together, 0..1: each has one or more references.

    The geometric mean of the shares of their runs of 1 to `longest` words that one of their own references holds, none
    more often than there; texts that are shorter than the nearest of their references in all are punished.

    Raises:
        ValueError: there are not as many texts as lists of references, or a list is empty.
    """
    if len(texts) != len(references) or not all(references):
        raise ValueError(f"{len(texts)} texts need as many lists of references, none empty; got {len(references)}.")
    right, all_runs = [0] * longest, [0] * longest
    written = wanted = 0
    for text, given in zip(texts, references, strict=True):
        found, known = words(text), [words(reference) for reference in given]
        written += len(found)
        wanted += min((abs(len(one) - len(found)), len(one)) for one in known)[1]
        for size in range(1, longest + 1):
            runs, most = _runs(found, size), Counter[tuple[str, ...]]()
            for one in known:
                most |= _runs(one, size)
            right[size - 1] += (runs & most).total()
            all_runs[size - 1] += runs.total()
    if not all(right):
        return 0.0
    mean = sum(math.log(good / count) for good, count in zip(right, all_runs, strict=True)) / longest
    return math.exp(mean + min(0.0, 1 - wanted / written))


def _runs(found: Sequence[str], size: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(found[place : place + size]) for place in range(len(found) - size + 1))
