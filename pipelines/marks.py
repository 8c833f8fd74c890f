"""The tokens with which a text that a model writes begins and ends, as a checkpoint or a bundle tells of them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.tokenizers import Tokenizer
from zoo.weights import hub, hub_pairs

FILE = "generation_config.json"  # the Hub's name for it
_BLIP = {"bos_token_id": 30_522, "sep_token_id": 102}  # what transformers assumes of a BLIP


@dataclass(frozen=True)
class Marks:
    """`start` stands before what is written, `end` after it; None where nothing ends a text but its length."""

    start: int
    end: int | None

    def to_json(self, *, prompt: str = "") -> str:
        """As the Hub's generation_config.json has it, with the prompt that a model learned with, if any."""
        said = {"bos_token_id": self.start, "eos_token_id": self.end, **({"prompt": prompt} if prompt else {})}
        return json.dumps(said) + "\n"


def of_checkpoint(folder: Path | None, tokenizer: Tokenizer, vocabulary: int) -> Marks:
    """Those of the checkpoint of a BLIP in a folder, whose config.json tells; of anything else the tokenizer's own.

    BLIP begins with a token that its tokenizer does not know. `vocabulary` is the number of the model's tokens.
    """
    said = hub.read_config(folder) if folder is not None else None
    own = tokenizer.vocabulary
    marks = Marks(own.start or 0, own.end)
    if not said or said.get("model_type") != "blip":
        return marks
    text = hub_pairs.part(said, "text_config", defaults=_BLIP)
    return Marks(
        _token(text["bos_token_id"], vocabulary, marks.start), _token(text["sep_token_id"], vocabulary, marks.end)
    )


def of_json(text: str, vocabulary: int) -> Marks:
    """What `Marks.to_json` wrote.

    Raises:
        ValueError: it is something else, or not of this model.
    """
    try:
        said = json.loads(text)
        start, end = said["bos_token_id"], said["eos_token_id"]
    except (ValueError, KeyError, TypeError):
        raise ValueError(f"{FILE} does not tell bos_token_id and eos_token_id. Restore it.") from None
    if _token(start, vocabulary, None) is None or (end is not None and _token(end, vocabulary, None) is None):
        raise ValueError(f"{FILE}: {start!r:.20} and {end!r:.20} are no tokens of 0 to {vocabulary - 1:,}. Restore it.")
    return Marks(start, end)


def of_folder(folder: Path, tokenizer: Tokenizer, vocabulary: int) -> Marks:
    """Those of a bundle, or of a checkpoint's directory.

    Raises:
        ValueError: a bundle's file does not tell them.
    """
    file = folder / FILE
    if (folder / "bundle.json").is_file() and file.is_file():
        return of_json(file.read_text(encoding="utf-8"), vocabulary)
    return of_checkpoint(folder, tokenizer, vocabulary)


def of_data(tokenizer_file: str | None, folder: Path | None, tokenizer: Tokenizer, vocabulary: int) -> Marks:
    """Those of captions to learn from: ended as the tokenizer does, begun as the weights in `folder` learned it.

    Where the tokenizer is that of a run which began already, they are that run's.
    """
    beside = None if tokenizer_file is None else Path(tokenizer_file).parent
    if beside is not None and (beside / "run.json").is_file() and (beside / FILE).is_file():
        return of_json((beside / FILE).read_text(encoding="utf-8"), vocabulary)
    return Marks(of_checkpoint(folder, tokenizer, vocabulary).start, tokenizer.vocabulary.end)


def _token(value: Any, vocabulary: int, other: Any) -> Any:
    """A token, if it is one of the vocabulary, else another."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < vocabulary else other
