"""What a generative model makes: `zoo sample`, a function for each task."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines import grids
from zoo.core.family import Task

if TYPE_CHECKING:
    from pipelines.bundle import Bundle

MOST = 100_000  # images at a time


@dataclass(frozen=True, kw_only=True)
class Request:
    """What is to be made. What is None was not asked for; a sampler refuses what it knows nothing of.

    `label` names the class of all images; `truncation` is the largest latent number: rarer ones are drawn again.
    `text` is what they are to show. Their codes are drawn with a `temperature`, of the `top_k` or `top_p` most probable
    ones, with a `guidance` over 1 closer to the text; `rank_by` is a model that compares images with texts, by which
    those that fit best come first.
    """

    count: int = 16
    seed: int = 0
    label: str | None = None
    truncation: float | None = None
    text: str | None = None
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    guidance: float | None = None
    rank_by: str | None = None

    def __post_init__(self) -> None:
        if type(self.count) is not int or not 1 <= self.count <= MOST:
            raise ValueError(f"count={self.count!r} must be a whole number from 1 to {MOST:,}.")
        if type(self.seed) is not int or not 0 <= self.seed < 2**32:
            raise ValueError(f"seed={self.seed!r} must be a whole number from 0 on, under 2**32.")
        if self.truncation is not None and not 0 < self.truncation < float("inf"):
            raise ValueError(f"truncation={self.truncation!r} must be over 0; 0.5 to 2 are usual.")
        if self.temperature is not None and not 0 < self.temperature < float("inf"):
            raise ValueError(f"temperature={self.temperature!r} must be over 0; 0.5 to 1 are usual.")

    def refuse(self, task: Task, *, known: Sequence[str]) -> None:
        """Refuse what is asked for besides the count, the seed and what is `known`.

        Raises:
            ValueError: something is.
        """
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name not in ("count", "seed", *known) and value is not None:
                raise ValueError(f"{field.name}={value!r} is nothing that a model for task={task!r} knows of.")


@dataclass(frozen=True, eq=False)
class Sampled:
    """Images that were made, (N, H, W, 1 or 3) uint8, what each is of, and how many stand in a row."""

    images: np.ndarray
    names: tuple[str, ...] = ()
    columns: int | None = None

    def write(self, path: Path) -> list[Path]:
        """Write them as one grid where the path ends in .png, else as files of their own in that folder; the paths."""
        if path.suffix.lower() == ".png":
            grids.write_grid(self.images, path, columns=self.columns)
            return [path]
        return grids.write_each(self.images, path, names=self.names)


Sampler = Callable[["Bundle", Request], Sampled]


def sample(bundle: Bundle | str | Path, text: str | None = None, **asked: Any) -> Sampled:
    """Images made by the model of a bundle, which is given itself or as its folder: `zoo sample` in Python.

    What else can be asked for are the fields of Request: count, seed, ... The same seed gives the same images; those
    of a smaller count are the first of a larger one, but for labels and where a judge ranks them.

    Raises:
        FileNotFoundError: there is no bundle.
        ValueError: the model makes no images, or knows nothing of what is asked for.
    """
    from pipelines.bundle import load

    request = Request(text=text, **asked)
    found = load(bundle) if isinstance(bundle, str | Path) else bundle
    samplers = _samplers()
    if found.task not in samplers:
        raise ValueError(
            f"'{found.path}' is a model for task={found.task!r}, which makes no images. Those for "
            f"{', '.join(samplers)} do."
        )
    return samplers[found.task](found, request)


def _samplers() -> Mapping[Task, Sampler]:
    """What makes the images of each task."""
    from pipelines import drawn, latents, reconstruction

    return {"generate": latents.sampled, "reconstruct": reconstruction.sampled, "text_to_image": drawn.sampled}
