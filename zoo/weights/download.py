"""Fetch one file by URL: it is there whole and verified, or not at all."""

from __future__ import annotations

import hashlib
import http.client
import os
import shutil
import tempfile
import urllib.request
from pathlib import Path

from zoo.weights.errors import CheckpointError

_PATIENCE = 60  # seconds without a byte


def download(address: str, target: Path, *, sha256: str) -> None:
    """Fetch `address` to `target`, which appears only when the file is whole and its hash is right.

    Several processes may do so at once: each fetches its own copy, and the last one stays.

    Raises:
        FileNotFoundError: it could not be fetched.
        CheckpointError: its hash is another.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".partial-") as folder:
        partial = Path(folder, target.name)
        try:
            with urllib.request.urlopen(address, timeout=_PATIENCE) as response, partial.open("wb") as stream:
                shutil.copyfileobj(response, stream, 2**20)
        except (OSError, http.client.HTTPException, ValueError) as error:  # ValueError: a malformed address
            raise FileNotFoundError(f"{address!r} could not be fetched: {error}.") from None
        verify(partial, sha256)
        os.replace(partial, target)


def verify(path: Path, sha256: str) -> None:
    """Refuse a file whose hash is another.

    Raises:
        CheckpointError: it is.
    """
    found = hash_of(path)
    if found != sha256:
        raise CheckpointError(f"'{path.name}' has the sha256 {found}, not {sha256}: it is damaged or another file.")


def hash_of(path: Path) -> str:
    """The sha256 of a file, as 64 hexadecimal digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
