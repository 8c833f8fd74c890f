"""The published checkpoints that are known by a tag, from curated.csv."""

from __future__ import annotations

import csv
from pathlib import Path

from zoo.core.family import Pretrained

PATH = Path(__file__).with_name("curated.csv")


def curated(family: str) -> dict[str, Pretrained]:
    """The checkpoints of a family by 'variant.tag', as in create(variant, weights=tag)."""
    with PATH.open(encoding="utf-8", newline="") as stream:
        return {
            f"{row['variant']}.{row['tag']}": Pretrained(
                row["uri"],
                row["licence"],
                dialect=row["dialect"] or None,
                sha256=row["sha256"],
                classes=int(row["classes"]) if row["classes"] else None,
            )
            for row in csv.DictReader(stream)
            if row["family"] == family
        }
