"""Make a bundle: a directory of checkpoints for machines without a network. It appears whole, or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from zoo.weights.curated import Published, find_tag, published
from zoo.weights.download import hash_of
from zoo.weights.errors import CheckpointError
from zoo.weights.locate import TOKENIZER, locate
from zoo.weights.offline import MANIFEST, Bundled, BundledFile, manifest
from zoo.weights.read import beside

_MODEL, _CONFIG = "model.safetensors", "config.json"
_PARTS_OF_A_CHECKPOINT = (
    _CONFIG,
    "preprocessor_config.json",
    *TOKENIZER,
    "model.safetensors.index.json",
    "*.safetensors",
)


def fetch(name: str) -> Path:
    """The checkpoint of a tag such as 'resnet50.a1_in1k' on this machine, downloaded if need be.

    Raises:
        ValueError: no such tag, or one whose weights only Keras itself can fetch.
        FileNotFoundError: it is not there, and could not be fetched.
        CheckpointError: it is another file than the one published.
    """
    line = find_tag(name)
    if line.uri.startswith("keras://"):
        others = [other.name for other in published() if other.variant == line.variant and other is not line]
        instead = f" Of the same model there is also {', '.join(others)}." if others else ""
        raise ValueError(
            f"{name!r} is fetched and kept by Keras, when the model is created: "
            f"zoo.create({line.variant!r}, weights={line.tag!r}).{instead}"
        )
    return locate(line.address, sha256=line.sha256)


def bundle(names: Sequence[str], folder: Path) -> tuple[Bundled, ...]:
    """A new directory with the checkpoints of these tags, a note on the licence of each, and a manifest.

    Raises:
        FileExistsError: there is something in its place.
        ValueError, FileNotFoundError, CheckpointError: as for `fetch`.
    """
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise FileExistsError(
            f"'{folder}' is there already. Choose another folder: ZOO_WEIGHTS can name several, as PATH does."
        )
    lines = [find_tag(name) for name in dict.fromkeys(names)]
    sources = [fetch(line.name) for line in lines]
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.partial-") as partial:
        whole = Path(partial, "bundle")
        entries = tuple(_copy(line, source, whole / line.name) for line, source in zip(lines, sources, strict=True))
        (whole / MANIFEST).write_text(manifest(entries), encoding="utf-8")
        os.replace(whole, folder)
    return entries


def _copy(line: Published, source: Path, target: Path) -> Bundled:
    """Copy a checkpoint as a directory in the Hub's layout, and hash what was written."""
    target.mkdir(parents=True)
    for name, file in _parts(source).items():
        shutil.copyfile(file, target / name)
    if line.sha256 and hash_of(target / _MODEL) != line.sha256:
        raise CheckpointError(f"'{source}' changed while it was copied: its sha256 is no longer {line.sha256}.")
    (target / "LICENCE.txt").write_text(_licence(line, source), encoding="utf-8")
    files = (BundledFile(path.name, path.stat().st_size, hash_of(path)) for path in sorted(target.iterdir()))
    return Bundled(line.name, line.uri, line.revision or _revision(source), line.licence, tuple(files))


def _parts(source: Path) -> dict[str, Path]:
    """The files that make up a checkpoint, by their names in a directory of the Hub."""
    if source.is_dir():
        names = {file.name for pattern in _PARTS_OF_A_CHECKPOINT for file in source.glob(pattern)}
        return {name: beside(source, name) for name in sorted(names)}
    described = source.with_suffix(".json")
    return {_MODEL: source} | ({_CONFIG: described} if described.is_file() else {})


def _licence(line: Published, source: Path) -> str:
    """A note on the licence, with its text where that lies beside the weights."""
    revision = line.revision or _revision(source)
    note = (
        f"The weights {line.name} are published at {line.uri}{f', revision {revision}' if revision else ''}.\n"
        f"Their licence is {line.licence} (https://spdx.org/licenses/{line.licence}.html).\n"
    )
    texts = [] if source.is_dir() else sorted(source.parent.glob("LICENSE*"))
    return "\n".join([note, *(text.read_text(encoding="utf-8") for text in texts)])


def _revision(source: Path) -> str:
    """The commit that a snapshot in the Hub's cache is of; empty for what comes from elsewhere."""
    return source.name if source.parent.name == "snapshots" else ""
