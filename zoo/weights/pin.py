"""Ask the Hub for the revisions and hashes that curated.csv lacks, and write them into it.

    python -m zoo.weights.pin

A line that has a revision is left as it is: pinning says what the table's readers get from now on, so it is
a change to look at before it is committed.
"""

from __future__ import annotations

import dataclasses
import os
import tempfile
from pathlib import Path

from zoo.weights.curated import PATH, Published, published, to_csv
from zoo.weights.errors import CheckpointError

_WEIGHTS = "model.safetensors"


def pin(path: Path = PATH) -> tuple[Published, ...]:
    """Pin every line of the table that is not; the new lines are returned. The file changes whole, or not at all.

    Raises:
        OSError: the Hub could not be asked.
        CheckpointError: the Hub's file has another hash than the table says, or is not there.
    """
    lines = published(path)
    pinned = {line.name: _pinned(line) for line in lines if not line.is_pinned}
    if pinned:
        _replace(path, to_csv(pinned.get(line.name, line) for line in lines))
        published.cache_clear()
    return tuple(pinned.values())


def _pinned(line: Published) -> Published:
    import huggingface_hub

    repository = line.uri.removeprefix("hf://")
    said = huggingface_hub.HfApi().model_info(repository, files_metadata=True)
    hashes = {file.rfilename: file.lfs.sha256 for file in said.siblings or () if file.lfs}
    if _WEIGHTS not in hashes or said.sha is None:
        raise CheckpointError(f"{line.uri!r} has no {_WEIGHTS} now, so {line.name!r} cannot be pinned.")
    if line.sha256 not in ("", hashes[_WEIGHTS]):
        raise CheckpointError(
            f"{line.uri!r}: {_WEIGHTS} has the sha256 {hashes[_WEIGHTS]} now, and {line.sha256} in the table. "
            "Its publisher replaced it, or the table is wrong; look at it before you change the line."
        )
    return dataclasses.replace(line, revision=said.sha, sha256=hashes[_WEIGHTS])


def _replace(path: Path, text: str) -> None:
    with tempfile.NamedTemporaryFile("w", dir=path.parent, encoding="utf-8", newline="", delete=False) as partial:
        partial.write(text)
    os.chmod(partial.name, path.stat().st_mode)
    os.replace(partial.name, path)


if __name__ == "__main__":
    for line in pin():
        print(f"{line.name}: {line.revision}")
