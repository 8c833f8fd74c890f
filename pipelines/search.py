"""Search in a folder of images by a text or an image: their embeddings are computed once, and kept beside them."""

from __future__ import annotations

import logging
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pipelines.files import replacing
from pipelines.readers import image_files

if TYPE_CHECKING:
    from pipelines.matching import Matcher

logger = logging.getLogger("zoo")
_NAMES = ("names", "stamps", "known", "embeddings")


@dataclass(frozen=True, eq=False)
class Index:
    """The images below a folder, by name, and their embeddings (N, P), of length 1."""

    folder: Path
    names: tuple[str, ...]
    embeddings: np.ndarray

    def nearest(self, query: np.ndarray, *, top: int = 10) -> list[tuple[str, float]]:
        """The images nearest to an embedding (P,), with its cosine to theirs, best first."""
        alike = self.embeddings @ np.asarray(query, "float32")
        best = np.argsort(-alike, kind="stable")[:top]
        return [(self.names[place], float(alike[place])) for place in best]


def build(matcher: Matcher, folder: str | Path, *, tell: Callable[[int], None] | None = None) -> Index:
    """The index of all images below a folder; only those that are new, or have changed, are looked at.

    It is kept in the folder, in a hidden file for each model; where nothing can be written there, it is not kept. An
    image has changed if its size or time has. Those that cannot be decoded are left out, and named once. `tell` is
    called with the number of images to look at, if there are any.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: it holds no images, or none that can be decoded.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"There is no folder '{folder}' (looked in '{Path.cwd()}'). Give a folder of images.")
    files = {file.relative_to(folder).as_posix(): file for file in image_files(folder)}
    if not files:
        raise ValueError(f"There is no image in '{folder}' or below it.")
    path = index_path(matcher, folder)
    stamps = {name: _stamp(file) for name, file in files.items()}
    before = _read(path)
    kept = {name: found for name, found in before.items() if found[0] == stamps.get(name)}
    missing = [name for name in files if name not in kept]
    if missing and tell:
        tell(len(missing))
    for start in range(0, len(missing), _AT_ONCE):
        chunk = missing[start : start + _AT_ONCE]
        for name, embedding in zip(chunk, _embedded(matcher, [files[name] for name in chunk]), strict=True):
            kept[name] = stamps[name], embedding
    if missing or len(kept) < len(before):
        _write(path, kept)
    broken = [name for name in missing if kept[name][1] is None]
    if broken:
        logger.warning("%d images cannot be decoded and are left out: %s.", len(broken), ", ".join(broken[:10]))
    found = {name: kept[name][1] for name in files if kept[name][1] is not None}
    if not found:
        raise ValueError(f"None of the {len(files)} images in '{folder}' can be decoded.")
    return Index(folder, tuple(found), np.stack([value for value in found.values() if value is not None]))


_AT_ONCE = 32  # images
Known = Mapping[str, tuple[tuple[int, int], np.ndarray | None]]  # by name: a stamp, and the embedding if it has one


def index_path(matcher: Matcher, folder: Path) -> Path:
    """Where the index of a folder by a model is kept."""
    return folder / f".zoo-index-{matcher.digest[:16]}.npz"


def _stamp(file: Path) -> tuple[int, int]:
    known = file.stat()
    return known.st_size, known.st_mtime_ns


def _embedded(matcher: Matcher, files: Sequence[Path]) -> list[np.ndarray | None]:
    """An embedding each; none of an image that cannot be decoded."""
    try:
        return list(matcher.images(files))
    except ValueError:
        return [_embedded(matcher, [file])[0] for file in files] if len(files) > 1 else [None]


def _read(path: Path) -> Known:
    """What an index holds; nothing where there is none, or it is damaged."""
    try:
        with np.load(path, allow_pickle=False) as file:
            names, stamps, known, embeddings = (file[name] for name in _NAMES)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return {}
    if not len(names) == len(stamps) == len(known) == len(embeddings):
        return {}
    rows = zip(names.tolist(), stamps.tolist(), known.tolist(), embeddings, strict=True)
    return {name: ((size, time), embedding if fine else None) for name, (size, time), fine, embedding in rows}


def _write(path: Path, kept: Known) -> None:
    width = next((len(embedding) for _, embedding in kept.values() if embedding is not None), 0)
    arrays = {
        "names": np.array(list(kept), str),
        "stamps": np.array([stamp for stamp, _ in kept.values()], np.int64).reshape(-1, 2),
        "known": np.array([embedding is not None for _, embedding in kept.values()], bool),
        "embeddings": np.array([np.zeros(width) if e is None else e for _, e in kept.values()], np.float32),
    }
    try:
        with replacing(path) as temporary:
            np.savez(temporary, **arrays, allow_pickle=False)
    except OSError as error:
        logger.warning("The index is not kept, and is made anew the next time: %s.", error)
