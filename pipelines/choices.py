"""Values that several kinds of data choose among, and how a wrong one is refused."""

from __future__ import annotations

import math
import typing
from typing import Any, Literal

Augmentation = Literal["none", "light", "standard"]
Split = tuple[float, float, float]  # shares of train, validation, test


def check_choice(what: str, value: Any, choices: Any) -> None:
    """Refuse a value that is none of a Literal's.

    Raises:
        ValueError: the message lists them.
    """
    allowed = typing.get_args(choices)
    if value not in allowed:
        raise ValueError(f"{what}={value!r} is not one of {', '.join(map(repr, allowed))}.")


def check_split(what: str, split: Split) -> None:
    """Refuse shares that are no division.

    Raises:
        ValueError: they are not three that add up to 1.
    """
    if len(split) != 3 or min(split) < 0 or not math.isclose(sum(split), 1, abs_tol=1e-6):
        raise ValueError(
            f"{what}(split={split}) must be three shares that add up to 1: "
            "train, validation, test, such as (0.7, 0.15, 0.15)."
        )
