"""How a transformer learns to draw images after texts, as data of a run. Paper: https://arxiv.org/abs/2102.12092."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Drawing:
    """Whose codes are written, and what counts how much.

    `codes_from` is the folder of a run that trained a discrete autoencoder (task reconstruct), of one that trained a
    transformer on its codes, or a checkpoint with a config.json, as hf://org/repo or a folder's path; one with folders
    `encoder` and `decoder` holds a checkpoint in each. The autoencoder is not trained any more.

    `image_weight` is the share that codes have in the loss, the text's tokens have the rest. `caption_dropout` is the
    share of captions that are left out in training, without which guidance (`zoo sample --guidance`) knows nothing of
    images without a text.
    """

    codes_from: str
    image_weight: float = 7 / 8
    caption_dropout: float = 0.1

    def __post_init__(self) -> None:
        object.__setattr__(self, "codes_from", str(self.codes_from))
        if not 0 < self.image_weight <= 1:
            raise ValueError(f"Drawing(image_weight={self.image_weight!r}) must be over 0 and at most 1, such as 7/8.")
        if not 0 <= self.caption_dropout < 1:
            raise ValueError(f"Drawing(caption_dropout={self.caption_dropout!r}) must be at least 0 and under 1.")

    def of_bundle(self, folder: Path) -> Drawing:
        """The same from the autoencoder that a finished run keeps."""
        return dataclasses.replace(self, codes_from=str(folder))
