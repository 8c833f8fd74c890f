"""The cache of the Hub's own client, read without that client: what was fetched, and whether it is still whole."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from zoo.weights.download import hash_of

_COMMIT = re.compile(r"[0-9a-f]{40}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Fetched:
    """One revision of a repository, as it lies in the cache."""

    revision: str
    folder: Path


def hub_cache() -> Path:
    """Where the Hub's client keeps what it fetches; its own variables decide."""
    home = os.environ.get("HF_HOME") or os.path.join(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "huggingface")
    place = os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE") or os.path.join(home, "hub")
    return Path(os.path.expandvars(place)).expanduser()


def fetched(uri: str) -> Fetched | None:
    """What the cache holds of 'hf://org/repo' or 'hf://org/repo@revision', or None.

    Without a revision it is the one that a fetch found last.
    """
    repository, _, revision = uri.removeprefix("hf://").partition("@")
    place = _place(repository)
    named = place / "refs" / (revision or "main")
    if not _COMMIT.fullmatch(revision):
        revision = named.read_text(encoding="utf-8").strip() if named.is_file() else ""
    folder = place / "snapshots" / revision
    return Fetched(revision, folder) if revision and folder.is_dir() else None


def damaged(uri: str) -> Iterator[str]:
    """What is wrong with the cached files of a repository, a line for each file.

    The client calls a file by its hash: a large one by its sha256, a small one by git's own hash.
    """
    snapshots = _place(uri.removeprefix("hf://").partition("@")[0]) / "snapshots"
    for file in sorted(snapshots.glob("*/*")):
        blob = Path(os.path.realpath(file))
        if not blob.is_file():
            yield f"'{file}' is missing"
        elif (found := _hash_like(blob.name, blob)) != blob.name:
            yield f"'{file}' is damaged: its hash is {found}, not {blob.name}"


def _place(repository: str) -> Path:
    return hub_cache() / f"models--{repository.replace('/', '--')}"


def _hash_like(name: str, file: Path) -> str:
    """The hash of a file in the form of its name; the name itself where that is no hash, and tells nothing."""
    if _SHA256.fullmatch(name):
        return hash_of(file)
    if _COMMIT.fullmatch(name):
        content = file.read_bytes()
        return hashlib.sha1(b"blob %d\0%b" % (len(content), content), usedforsecurity=False).hexdigest()
    return name
