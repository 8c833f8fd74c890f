"""A stratified split that depends on names and a seed only."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence

import numpy as np


def stratified(
    labels: Iterable[str], names: Sequence[str], *, shares: Mapping[str, float], seed: int
) -> dict[str, np.ndarray]:
    """Indexes of the examples of each part, ascending; every example is in exactly one.

    Every class is cut by itself, and has an example in each part with a share if it has as many
    examples as there are such parts. The first part is served first, then the last.

    Within a class the examples are ordered by a hash of name and seed. So neither the order of the
    files nor their folder matters, and adding or removing a few moves hardly any other.
    """
    members: dict[str, list[int]] = {}
    for index, label in enumerate(labels):
        members.setdefault(label, []).append(index)
    indexes: dict[str, list[int]] = {part: [] for part in shares}
    for label, found in members.items():
        ordered = sorted(found, key=lambda index: _hash(seed, names[index]))
        counts = _counts(len(found), list(shares.values()), nudge=_hash(seed, label) / 2**64)
        for part, group in zip(shares, np.split(ordered, np.cumsum(counts)[:-1]), strict=True):
            indexes[part].extend(group)
    return {part: np.array(sorted(group), dtype=np.int64) for part, group in indexes.items()}


def _counts(size: int, shares: Sequence[float], *, nudge: float) -> list[int]:
    """How many of `size` examples each part gets: its share, rounded up or down, but not to nothing.

    `nudge` in 0..1 decides which way: as it differs from class to class, the roundings of many
    small classes cancel out.
    """
    first, *others = np.flatnonzero(shares)
    order = [first, *reversed(others)]
    if size <= len(order):
        return [int(part in order[:size]) for part in range(len(shares))]
    limits = np.concatenate([[0], np.cumsum(shares) / np.sum(shares)]) * size
    counts = np.diff(np.floor(np.round(limits, 6) + nudge).astype(int))
    for part in order:
        if counts[part] == 0:
            counts[counts.argmax()] -= 1
            counts[part] = 1
    return counts.tolist()


def _hash(seed: int, name: str) -> int:
    """64 bits that look random."""
    return int.from_bytes(hashlib.blake2b(f"{seed}/{name}".encode(errors="surrogateescape"), digest_size=8).digest())
