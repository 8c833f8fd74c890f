"""What the tests know of a variant."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Row:
    """One variant.

    `tiny` are options that keep its structure and make it fast to build. `parameters` counts the
    trainable ones with the usual classes, as timm, torchvision or the paper do. `packs` are the parity
    packs of this variant, each with the options beyond the name that its checkpoint needs.
    """

    variant: str
    parameters: int
    tiny: Mapping[str, Any]
    packs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
