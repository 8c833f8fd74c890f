"""How a source is divided: as it says itself, or by a stratified split that depends on names and a seed only."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

T = TypeVar("T")


def undivided(kind: str, part: str, path: str | Path, read: Callable[[Path], Mapping[str, T]]) -> T:
    """What a source holds that is given for one part of data of a kind; `read` gives its own parts by name.

    Raises:
        ValueError: it is itself divided.
    """
    own = read(Path(path))
    if set(own) != {"train"}:
        raise ValueError(
            f"{kind}({part}={str(path)!r}) is itself divided into {', '.join(own)}. "
            f"Give it as {kind}(source=...), or name the {part} part of it."
        )
    return own["train"]


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


def iterative(
    marks: np.ndarray, names: Sequence[str], *, shares: Mapping[str, float], seed: int
) -> dict[str, np.ndarray]:
    """The same where an example has several labels or none: `marks` is (N, labels) of 0 and 1.

    Label by label, the rarest of those left first, each example goes to the part that lacks most of the label, and of
    equals to the one that lacks most examples. A label has an example in each part with a share if it has as many
    examples as there are such parts. What is added or removed may move others.

    Paper: https://doi.org/10.1007/978-3-642-23808-6_10
    """
    parts = [part for part, share in shares.items() if share]
    served = [parts[0], *reversed(parts[1:])]  # in the order in which parts get their first example of a label
    total = sum(shares[part] for part in parts)
    hashes = [_hash(seed, name) for name in names]
    order = sorted(range(len(names)), key=hashes.__getitem__)
    marks = np.asarray(marks) > 0.5
    counts = marks.sum(axis=0)
    room = {part: len(names) * shares[part] / total for part in parts}  # of examples
    lack = {part: counts * (shares[part] / total) for part in parts}  # of each label
    has = {part: np.zeros(marks.shape[1], int) for part in parts}
    indexes: dict[str, list[int]] = {part: [] for part in shares}
    left = np.ones(len(names), bool)

    def put(index: int, label: int | None) -> None:
        def need(part: str) -> tuple[bool, float, float, int]:
            owed = label is not None and counts[label] >= len(parts) and not has[part][label]
            wanted = 0.0 if label is None else round(float(lack[part][label]), 6)
            return owed, 0.0 if owed else wanted, 0.0 if owed else round(room[part], 6), -served.index(part)

        part = max(parts, key=need)
        indexes[part].append(index)
        left[index] = False
        room[part] -= 1
        lack[part] = lack[part] - marks[index]
        has[part] += marks[index]

    while (remaining := marks[left].sum(axis=0)).any():
        label = int(np.where(remaining > 0, remaining, np.iinfo(int).max).argmin())
        for index in [index for index in order if left[index] and marks[index, label]]:
            put(index, label)
    for index in [index for index in order if left[index]]:
        put(index, None)
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
