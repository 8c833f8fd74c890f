"""Images with captions as data of a run: where they come from, how they are divided, and how both are read."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from pipelines.choices import Split, check_choice, check_split

PairAugmentation = Literal["none", "light"]


@dataclass(frozen=True)
class Pairs:
    """Where images with captions come from, and how they are split and read.

    `source` is a CSV, TSV or JSONL file with a row a caption, or a folder with one: captions.csv, .tsv or .jsonl, or
    the Hub's metadata.jsonl or .csv; or a folder with folders train, validation and test of that kind. Paths of images
    are relative to the file's own folder. The columns are image and caption, or the Hub's file_name and text, unless
    named. Several captions of an image are several rows; an image is in one part with all of them.

    `train`, `validation`, `test` and `split` are as in Images, `tokenizer`, `vocabulary` and `lowercase` as in Texts.
    A caption that is longer than the model takes is refused, unless `length` says after how many tokens to cut.
    Images are not mirrored unless asked: captions say left and right.
    """

    unit: ClassVar[str] = "pairs"  # what an example is called

    source: str
    image_column: str = "image"
    text_column: str = "caption"
    train: str | None = None
    validation: str | None = None
    test: str | None = None
    split: Split = (0.7, 0.15, 0.15)
    size: int | None = None  # pixels; the model's own if not given
    crop: float | None = None  # share of the image that the centre crop keeps; the model's own if not given
    augment: PairAugmentation = "light"
    flip: bool = False
    skip_corrupt: bool = False
    prompt: str = ""  # stands before every caption; a model that writes captions is not asked for it
    length: int | None = None  # tokens; the model's own limit, at most 512, if not given
    tokenizer: str | None = None
    vocabulary: int = 8_000  # tokens of a tokenizer that is trained
    lowercase: bool = True  # of a tokenizer that is trained

    def __post_init__(self) -> None:
        check_split("Pairs", self.split)
        check_choice("Pairs(augment)", self.augment, PairAugmentation)
        if self.size is not None and not 8 <= self.size <= 4096:
            raise ValueError(f"Pairs(size={self.size}) must be between 8 and 4096 pixels.")
        if self.crop is not None and not 0 < self.crop <= 1:
            raise ValueError(f"Pairs(crop={self.crop}) must be over 0 and at most 1.")
        if self.length is not None and not 2 <= self.length <= 1_000_000:
            raise ValueError(f"Pairs(length={self.length}) must be between 2 and 1,000,000 tokens.")
        if not 100 <= self.vocabulary <= 1_000_000:
            raise ValueError(f"Pairs(vocabulary={self.vocabulary}) must be between 100 and 1,000,000 tokens.")
        if not isinstance(self.prompt, str) or "\n" in self.prompt:
            raise ValueError(f"Pairs(prompt={self.prompt!r:.60}) must be a text of one line, such as 'a photo of'.")
        if self.image_column == self.text_column:
            raise ValueError(f"Pairs(image_column={self.image_column!r}) names the column of the captions too.")

    @classmethod
    def lists(
        cls, images: Sequence[str | Path], captions: Sequence[str | Sequence[str]], *, file: str | Path, **options: Any
    ) -> Pairs:
        """Image files with a caption each, or several, from lists that are kept in a JSONL file.

        A run names its data by where they lie, so that it can be run again; `file` is where.
        """
        folder, lines = Path(file).parent, []
        for image, given in zip(images, captions, strict=True):
            path = os.path.relpath(image, folder)
            for caption in [given] if isinstance(given, str) else given:
                lines.append(f"{json.dumps({'image': path, 'caption': caption}, ensure_ascii=False)}\n")
        Path(file).write_text("".join(lines), encoding="utf-8")
        return cls(str(file), **options)
