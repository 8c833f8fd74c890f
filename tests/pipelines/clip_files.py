"""A small tokenizer as CLIP's publishers lay it out."""

from __future__ import annotations

import json
from pathlib import Path

from tokenizers import pre_tokenizers

MERGES = ["c a", "ca t</w>", "d o", "do g</w>", "p h", "ph o", "t o</w>", "pho to</w>", "' s</w>"]


def files(folder: Path) -> Path:
    """vocab.json and merges.txt of a small CLIP."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    merged = [merge.replace(" ", "") for merge in MERGES]
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), *merged, "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({token: number for number, token in enumerate(tokens)}))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(MERGES) + "\n")
    return folder
