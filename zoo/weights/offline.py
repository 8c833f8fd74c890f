"""Bundles: directories of checkpoints for machines without a network. They are found by ZOO_WEIGHTS.

DIR/manifest.json                         what is in it: names, URIs, revisions, sizes and hashes of all files
DIR/resnet50.a1_in1k/model.safetensors    and config.json, LICENCE.txt: a directory in the Hub's layout
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zoo.weights.download import hash_of
from zoo.weights.errors import CheckpointError
from zoo.weights.read import beside, read_json

MANIFEST = "manifest.json"
VARIABLE = "ZOO_WEIGHTS"  # bundles that are looked in before any cache; several as in PATH


@dataclass(frozen=True)
class BundledFile:
    """One file of a checkpoint: its name, its size in bytes, its hash."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Bundled:
    """One checkpoint of a bundle; its files lie in a folder of its name."""

    name: str
    uri: str
    revision: str
    licence: str
    files: tuple[BundledFile, ...]


def bundles() -> tuple[Path, ...]:
    """The bundles that ZOO_WEIGHTS names."""
    return tuple(Path(place).expanduser() for place in os.environ.get(VARIABLE, "").split(os.pathsep) if place)


def find(uri: str) -> Path | None:
    """The folder of a checkpoint in the first of the bundles that has it, or None.

    A URI with a revision asks for that revision.

    Raises:
        FileNotFoundError: ZOO_WEIGHTS names a directory that is no bundle.
        CheckpointError: a manifest is damaged.
    """
    wanted, _, revision = uri.partition("@")
    for folder in bundles():
        for entry in read_manifest(folder):
            if entry.uri == wanted and revision in ("", entry.revision):
                return folder / entry.name
    return None


def read_manifest(folder: Path) -> tuple[Bundled, ...]:
    """What a bundle says that it holds.

    Raises:
        FileNotFoundError: the directory is no bundle.
        CheckpointError: its manifest is damaged.
    """
    if not (folder / MANIFEST).is_file():
        raise FileNotFoundError(
            f"'{folder}' is no bundle of weights: there is no {MANIFEST} in it. Make one: zoo bundle TAG -o {folder}"
        )
    try:
        return tuple(_entry(row) for row in read_json(folder / MANIFEST)["checkpoints"])
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"'{folder / MANIFEST}' is damaged: {error}.") from None


def manifest(entries: tuple[Bundled, ...]) -> str:
    """The text of a manifest."""
    rows = [
        {**vars(entry), "files": {file.name: {"size": file.size, "sha256": file.sha256} for file in entry.files}}
        for entry in entries
    ]
    return json.dumps({"checkpoints": rows}, indent=2) + "\n"


def damaged(folder: Path) -> Iterator[str]:
    """What is wrong with the files of a bundle, a line for each file.

    Raises:
        FileNotFoundError: the directory is no bundle.
        CheckpointError: its manifest is damaged.
    """
    for entry in read_manifest(folder):
        for file in entry.files:
            path = beside(folder / entry.name, file.name)
            if not path.is_file():
                yield f"'{path}' is missing"
            elif path.stat().st_size != file.size:
                yield f"'{path}' is damaged: it has {path.stat().st_size:,} bytes, not {file.size:,}"
            elif (found := hash_of(path)) != file.sha256:
                yield f"'{path}' is damaged: its sha256 is {found}, not {file.sha256}"


def _entry(row: Mapping[str, Any]) -> Bundled:
    name = row["name"]
    if not isinstance(name, str) or Path(name).name != name or name == "..":
        raise ValueError(f"{name!r} is no name of a checkpoint")
    files = (BundledFile(file, int(said["size"]), str(said["sha256"])) for file, said in row["files"].items())
    return Bundled(name, str(row["uri"]), str(row["revision"]), str(row["licence"]), tuple(files))
