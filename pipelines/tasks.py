"""The task of a family whose models are trained for one that data alone do not say."""

from __future__ import annotations

from zoo.core.family import Task

UNLABELLED: tuple[Task, ...] = ("generate", "reconstruct")  # for which an image needs no class, but may have one
_FIRST: dict[str, Task] = {"gan": "generate", "vae": "reconstruct"}


def usual(model: str) -> Task | None:
    """What a model of this name is trained for, whatever the data; None where they say it."""
    return _FIRST.get(model.partition("_")[0])
