"""Where images with captions come from: tables of them, checked and divided so that no image is in two parts."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from pipelines import audit, splits
from pipelines.captioned import Pairs
from pipelines.readers import PART_OF, objects
from pipelines.text_files import KINDS, Table, file_parts, some

PARTS = ("train", "validation", "test")
FILES = tuple(f"{name}{kind}" for name in ("captions", "metadata") for kind in KINDS)
_HUB = {"image_column": "file_name", "text_column": "text"}  # what the Hub's folders of images call the columns
_USUAL = {name: field.default for name, field in Pairs.__dataclass_fields__.items()}


@dataclass(frozen=True, eq=False)
class Captions:
    """Captions and the files of their images, a row a caption; `numbers` is the same where the image is the same.

    The first captions of all images come before the second ones, so that a batch in order holds many images. `names`
    are those of the images and `places` those of the rows, as messages have them.
    """

    source: str
    images: np.ndarray
    texts: Sequence[str]
    numbers: np.ndarray
    names: Sequence[str]
    places: Sequence[str]

    def __len__(self) -> int:
        return len(self.texts)

    def take(self, rows: Iterable[int]) -> Captions:
        """Some of the rows, in the order of `rows`."""
        rows = np.fromiter(rows, np.int64)
        texts, names, places = ([each[row] for row in rows] for each in (self.texts, self.names, self.places))
        return Captions(self.source, self.images[rows], texts, self.numbers[rows], names, places)

    def of_image(self) -> list[tuple[str, ...]]:
        """Of each row all captions of its image."""
        found: dict[int, list[str]] = {}
        for number, text in zip(self.numbers, self.texts, strict=True):
            found.setdefault(int(number), []).append(text)
        return [tuple(found[int(number)]) for number in self.numbers]


def load(pairs: Pairs, *, seed: int) -> tuple[dict[str, Captions], tuple[str, ...]]:
    """The captions of each part, every image there and readable, and the names of the corrupt ones left out.

    Images are the same if their files are, by what is in them: copies under other names stay in one part too.

    Raises:
        FileNotFoundError: there is no such source, or rows name images that do not exist.
        ValueError: the source is not what its kind asks for, a cell is empty, an image is corrupt or in two parts, or
            there are too few to split.
    """
    parts = {part: _captions(read(), folder, pairs) for part, (folder, read) in _readers(pairs).items()}
    parts, skipped = _readable(_numbered(parts), skip=pairs.skip_corrupt)
    _refuse_overlap(parts, pairs.source)
    divided = _divided(parts, pairs, seed=seed)
    return {part: _in_turn(captions) for part, captions in divided.items()}, skipped


def _readers(pairs: Pairs) -> dict[str, tuple[Path, Callable[[], Table]]]:
    """How to read each part that the source has, and the folder that its images are named from."""
    parts_of = partial(_parts_of, pairs=pairs)
    given = {part: path for part in PARTS if (path := getattr(pairs, part)) is not None}
    readers = parts_of(Path(pairs.source))
    readers |= {part: splits.undivided("Pairs", part, path, parts_of) for part, path in given.items()}
    if "train" not in readers:
        raise ValueError(f"{pairs.source!r} has nothing to train on; it has {', '.join(readers)}.")
    return readers


def _parts_of(path: Path, pairs: Pairs) -> dict[str, tuple[Path, Callable[[], Table]]]:
    if not path.exists():
        raise FileNotFoundError(
            f"There is no {str(path)!r} (looked in {str(Path.cwd())!r}). Give a .csv, .tsv or .jsonl file with the "
            f"columns image and caption, or a folder with one of {', '.join(FILES)}."
        )
    if path.is_dir():
        found = _file_in(path)
        if found is None:
            return _folder_parts(path, pairs)
        path = found
    divided = file_parts(path, text=pairs.text_column, label=None)
    return {part: (path.parent, read) for part, read in divided.items()}


def _file_in(folder: Path) -> Path | None:
    found = [folder / name for name in FILES if (folder / name).is_file()]
    if len(found) > 1:
        raise ValueError(f"{str(folder)!r} has several files of captions: {some([f.name for f in found])}. Name one.")
    return found[0] if found else None


def _folder_parts(path: Path, pairs: Pairs) -> dict[str, tuple[Path, Callable[[], Table]]]:
    """Folders train, validation and test, each with a file of captions of its own."""
    parts: dict[str, tuple[Path, Callable[[], Table]]] = {}
    for folder in sorted(entry for entry in path.iterdir() if entry.is_dir() and entry.name.lower() in PART_OF):
        part, file = PART_OF[folder.name.lower()], _file_in(folder)
        if part in parts:
            raise ValueError(f"{str(path)!r} has two folders for the {part} part. Keep one.")
        if file is not None:
            parts[part] = folder, partial(_whole, file, pairs.text_column)
    if not parts:
        raise ValueError(
            f"{str(path)!r} has no file of captions: none of {', '.join(FILES)}, beside the images or in folders "
            "train, validation and test. Write one with the columns image and caption, a row a caption."
        )
    return parts


def _whole(file: Path, text: str) -> Table:
    parts = file_parts(file, text=text, label=None)
    if set(parts) != {"train"}:
        raise ValueError(f"{str(file)!r} is itself divided into {', '.join(parts)}, in a folder that is one part.")
    return parts["train"]()


def _captions(table: Table, folder: Path, pairs: Pairs) -> Captions:
    """The two columns of a table, each cell filled, each image there; a list of captions is as many rows."""
    files, cells = (_filled(table, _column(table, pairs, name)) for name in _HUB)
    rows = [
        (str(folder / file), file, caption, place)
        for file, cell, place in zip(files, cells, table.places, strict=True)
        for caption in (cell if isinstance(cell, list) else [cell])
    ]
    missing = [f"{place} ({file})" for path, file, _, place in rows if not os.path.isfile(path)]
    if missing:
        raise FileNotFoundError(
            f"{table.source!r}: {len(missing)} of {len(rows)} rows name images that do not exist: {some(missing)}. "
            f"Paths are taken relative to the file's own folder, {str(folder)!r}."
        )
    images, names, texts, places = (list(values) for values in zip(*rows, strict=True))
    return Captions(table.source, objects(images), texts, np.zeros(len(rows), np.int64), names, places)


def _column(table: Table, pairs: Pairs, name: str) -> str:
    """The column that is asked for, or what the Hub calls it where no other is named."""
    asked = getattr(pairs, name)
    return _HUB[name] if asked == _USUAL[name] and asked not in table.columns and _HUB[name] in table.columns else asked


def _filled(table: Table, column: str) -> list[Any]:
    """The cells of a column, each a text or a list of them.

    Raises:
        ValueError: there is no such column, or a cell is empty or none of these.
    """
    cells = table.cells(column)
    lists = [cell if isinstance(cell, list) else [cell] for cell in cells]
    placed = list(zip(lists, table.places, strict=True))
    wrong = [place for texts, place in placed if not all(isinstance(text, str) for text in texts)]
    if wrong:
        raise ValueError(f"{table.source!r}: column {column!r} holds no text in {len(wrong)} rows: {some(wrong)}.")
    empty = [place for texts, place in placed if not texts or not all(text.strip() for text in texts)]
    if empty:
        raise ValueError(
            f"{table.source!r}: column {column!r} is empty in {len(empty)} of {len(table)} rows: {some(empty)}. "
            "Fill the cells or remove the rows."
        )
    return cells


def _numbered(parts: Mapping[str, Captions]) -> dict[str, Captions]:
    """With a number for each image, the same for the same file and for files of the same bytes."""
    files = sorted({os.path.realpath(path) for captions in parts.values() for path in captions.images})
    sizes: dict[int, list[str]] = {}
    for file in files:
        sizes.setdefault(os.path.getsize(file), []).append(file)
    same: dict[tuple[int, bytes], int] = {}
    number = {}
    for size, group in sizes.items():
        for file in group:
            # What alone has its size is no copy of another, and need not be read.
            content = _digest(file) if len(group) > 1 else b""
            number[file] = same.setdefault((size, content), len(same))
    return {
        part: Captions(
            captions.source,
            captions.images,
            captions.texts,
            np.array([number[os.path.realpath(path)] for path in captions.images], np.int64),
            captions.names,
            captions.places,
        )
        for part, captions in parts.items()
    }


def _digest(path: str) -> bytes:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "blake2b").digest()


def _readable(parts: Mapping[str, Captions], *, skip: bool) -> tuple[dict[str, Captions], tuple[str, ...]]:
    """The parts without their corrupt images, and the names of those; each image is decoded once."""
    whole = {part: np.unique(captions.numbers, return_index=True) for part, captions in parts.items()}
    bad = {
        part: {int(whole[part][0][i]) for i in audit.unreadable(parts[part].images[whole[part][1]])} for part in whole
    }
    corrupt = [
        f"{captions.names[row]} ({captions.places[row]})"
        for part, captions in parts.items()
        for number, row in zip(*whole[part], strict=True)
        if int(number) in bad[part]
    ]
    if corrupt and not skip:
        raise ValueError(
            f"{len(corrupt)} of {sum(len(found[0]) for found in whole.values())} images cannot be decoded: "
            f"{some(corrupt)}. Repair or remove them, or leave them out with --skip-corrupt (Pairs(skip_corrupt=True))."
        )
    kept = {
        part: captions.take(row for row, number in enumerate(captions.numbers) if int(number) not in bad[part])
        for part, captions in parts.items()
    }
    if gone := [part for part, captions in kept.items() if not len(captions)]:
        raise ValueError(f"None of the images for {' and '.join(gone)} can be decoded: {some(corrupt)}.")
    return kept, tuple(corrupt)


def _refuse_overlap(parts: Mapping[str, Captions], source: str) -> None:
    seen: dict[int, tuple[str, str]] = {}
    for part, captions in parts.items():
        for number, name, place in zip(captions.numbers, captions.names, captions.places, strict=True):
            other, where = seen.setdefault(int(number), (part, f"{name!r} ({place})"))
            if other != part:
                raise ValueError(
                    f"{source!r}: the image {name!r} ({place}) of {part} is also in {other}: {where}. All captions of "
                    "an image belong into one part: the test would measure memory otherwise."
                )


def _divided(parts: Mapping[str, Captions], pairs: Pairs, *, seed: int) -> dict[str, Captions]:
    """Splits off "train" what is not there yet, whole images with all their captions."""
    whole = parts["train"]
    wanted = {
        part: share for part, share in zip(PARTS, pairs.split, strict=True) if part == "train" or part not in parts
    }
    if not any(wanted.values()):
        wanted["train"] = 1.0  # all other parts are given, so their shares do not matter
    members: dict[int, list[int]] = {}
    for row, number in enumerate(whole.numbers):
        members.setdefault(int(number), []).append(row)
    groups = list(members.values())
    names = [min(Path(whole.names[row]).as_posix() for row in rows) for rows in groups]
    cut = splits.stratified([""] * len(groups), names, shares=wanted, seed=seed)
    found = {part: whole.take(sorted(row for group in chosen for row in groups[group])) for part, chosen in cut.items()}
    for part, share in wanted.items():
        if share and not len(found[part]):
            raise ValueError(
                f"{pairs.source!r} has too few images to split: none of {len(groups)} is left for {part}. "
                f"Add images, or change Pairs(split={pairs.split})."
            )
    return {part: {**parts, **found}[part] for part in PARTS}


def _in_turn(captions: Captions) -> Captions:
    """The first captions of all images, then the second ones."""
    before: dict[int, int] = {}
    turns = []
    for number in captions.numbers:
        turns.append(before.get(int(number), 0))
        before[int(number)] = turns[-1] + 1
    return captions.take(np.argsort(turns, kind="stable"))
