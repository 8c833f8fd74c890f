"""One reader for each kind of image source; each gives images with class names and says what is wrong."""

from __future__ import annotations

import csv
import os
import zipfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from pipelines.decoding import EXTENSIONS

# The names that folders and CSV files use for the three parts.
PART_OF = {"train": "train", "validation": "validation", "valid": "validation", "val": "validation", "test": "test"}


@dataclass(frozen=True, eq=False)
class Labelled:
    """Images with the names of their classes.

    `images` as in `Examples`; `labels` and `names` hold one str an image, `names` what to call it in
    messages, the same on every machine. `classes` is in the order of the model's outputs. Of images with several labels
    or none, `labels` holds tuples of names; of those with numbers to predict these, (N, targets), and no classes.
    Those without any label have "" and no classes.
    """

    images: np.ndarray
    labels: np.ndarray
    names: tuple[str, ...]
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.names)

    def take(self, indexes: np.ndarray) -> Labelled:
        """Some of them, in the order of `indexes`."""
        names = tuple(self.names[index] for index in indexes)
        return Labelled(self.images[indexes], self.labels[indexes], names, self.classes)

    def identities(self) -> Iterable[str]:
        """What tells whether two images are the same one; nothing for arrays."""
        if self.images.dtype != object:
            return ()
        pairs = zip(self.images, self.names, strict=True)
        return (os.path.realpath(image) if isinstance(image, str) else name for image, name in pairs)


def objects(values: np.ndarray | Iterable) -> np.ndarray:
    """A one-dimensional array of Python objects (numpy's own bytes lose trailing zeros); arrays as they are."""
    if isinstance(values, np.ndarray):
        return values
    values = list(values)
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


def file_parts(path: Path, *, labelled: bool = True) -> dict[str, Callable[[], Labelled]]:
    """The parts that a folder, CSV or npz file is divided into, each with how to read it.

    Unless they must be `labelled`, a folder may hold images alone, and the other files need no labels.

    Raises:
        FileNotFoundError: there is nothing at `path`.
        ValueError: it is a file of another kind, or a CSV without its columns.
    """
    if not path.exists():
        raise FileNotFoundError(
            f"There is no {str(path)!r} (looked in {str(Path.cwd())!r}). Give a folder with one sub-folder a class, "
            "a .csv with the columns path and label, an .npz with images and labels, 'tfds:NAME' or 'digits'."
        )
    if path.is_dir():
        return _folder_parts(path, labelled)
    if path.suffix.lower() == ".csv":
        return _csv_parts(path, labelled)
    if path.suffix.lower() == ".npz":
        return {"train": partial(_npz, path, labelled)}
    raise ValueError(f"{str(path)!r} is neither a folder nor a .csv or .npz file.")


def _folder_parts(path: Path, labelled: bool) -> dict[str, Callable[[], Labelled]]:
    folders = {folder.name.lower(): folder for folder in _visible_folders(path)}
    # Only if every sub-folder is a part: "train" may also be a class, beside "bus" and "tram".
    if "train" not in folders or not folders.keys() <= PART_OF.keys():
        return {"train": partial(_class_folder, path, labelled)}
    parts: dict[str, Callable[[], Labelled]] = {}
    for name, folder in folders.items():
        if PART_OF[name] in parts:
            raise ValueError(
                f"{str(path)!r} has two folders for the {PART_OF[name]} part: {sorted(folders)}. Keep one."
            )
        parts[PART_OF[name]] = partial(_class_folder, folder, labelled)
    return parts


def _class_folder(path: Path, labelled: bool) -> Labelled:
    folders = _visible_folders(path)
    if not folders and not labelled and (alone := image_files(path)):
        return _from_files(path, alone, [""] * len(alone), classes=())
    if not folders and not labelled:
        raise ValueError(f"{str(path)!r} holds no images ({' '.join(EXTENSIONS)}).")
    if not folders:
        raise ValueError(f"{str(path)!r} has no sub-folders. Make one for each class and put its images in it.")
    files = {folder.name: image_files(folder) for folder in folders}
    empty = [name for name, found in files.items() if not found]
    if empty:
        raise ValueError(
            f"{str(path)!r}: no image in the class folders {empty}. "
            f"Add images ({' '.join(EXTENSIONS)}) or remove the folders; {len(files) - len(empty)} others have some."
        )
    found = [(file, name) for name in files for file in files[name]]
    return _from_files(path, [file for file, _ in found], [name for _, name in found], classes=tuple(files))


def _visible_folders(path: Path) -> list[Path]:
    return sorted(entry for entry in path.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def image_files(folder: Path) -> list[Path]:
    """The images below a folder, in order, but for hidden ones."""
    return sorted(
        file
        for file in folder.rglob("*")
        if file.suffix.lower() in EXTENSIONS
        and not any(part.startswith(".") for part in file.relative_to(folder).parts)
        and file.is_file()
    )


def _from_files(root: Path, files: Sequence[Path], labels: Sequence[str], *, classes: tuple[str, ...]) -> Labelled:
    names = tuple(Path(os.path.relpath(file, root)).as_posix() for file in files)
    return Labelled(objects(str(file) for file in files), np.array(labels, dtype=object), names, classes)


def _csv_parts(path: Path, labelled: bool) -> dict[str, Callable[[], Labelled]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, skipinitialspace=True)
            columns, rows = tuple(reader.fieldnames or ()), list(reader)
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{str(path)!r} is not a CSV file in UTF-8: {error}.") from error
    named = labelled or "label" in columns
    if not {"path", *(["label"] if named else [])} <= set(columns):
        raise ValueError(
            f"{str(path)!r} needs a header with path and label (and split, if any), its first line is {columns}."
        )
    divided = "split" in columns
    parts: dict[str, list[tuple[Path, str]]] = {}
    for line, row in enumerate(rows, start=2):
        part = PART_OF.get(row["split"] or "") if divided else "train"
        image, label = row["path"], row["label"] if named else ""
        if not image or (named and not label) or part is None:
            raise ValueError(
                f"{str(path)!r}, row {line}: path {image!r}, label {label!r}, split {row.get('split')!r}. "
                f"The first two may not be empty; split, where there is one, is one of {', '.join(PART_OF)}."
            )
        parts.setdefault(part, []).append((path.parent / image, label))
    if "train" not in parts:
        raise ValueError(f"{str(path)!r} has {len(rows)} rows, none of them to train on; it has {sorted(parts)}.")
    return {part: partial(_csv_part, path, found) for part, found in parts.items()}


def _csv_part(path: Path, rows: Sequence[tuple[Path, str]]) -> Labelled:
    missing = [str(file) for file, _ in rows if not file.is_file()]
    if missing:
        raise FileNotFoundError(
            f"{str(path)!r} names {len(missing)} files that do not exist, such as {missing[:10]}. "
            f"Paths are taken relative to the CSV's own folder."
        )
    files, labels = zip(*rows, strict=True)
    return _from_files(path.parent, files, labels, classes=ordered(filter(None, labels)))


def ordered(labels: Iterable[str]) -> tuple[str, ...]:
    """Class names in order; numbers by value, so that "10" comes after "9"."""
    names = sorted(set(labels))  # so that "01" and "1", which are of one value, are in an order too
    return tuple(sorted(names, key=int) if all(name.isdecimal() for name in names) else names)


def _npz(path: Path, labelled: bool) -> Labelled:
    values = npz_arrays(path, needed=("images", "labels") if labelled else ("images",))
    if "labels" not in values:
        images, names = image_arrays(values["images"], source=str(path))
        return Labelled(images, objects("" for _ in names), names, ())
    return arrays(values["images"], values["labels"], classes=values.get("classes"), source=str(path))


def npz_arrays(path: Path, *, needed: Sequence[str] = ("images", "labels")) -> dict[str, np.ndarray]:
    """The arrays images and labels of an .npz file, and classes where it has them.

    Raises:
        ValueError: it is no such file.
    """
    if not zipfile.is_zipfile(path):
        raise ValueError(
            f"{str(path)!r} is not an .npz file; write one with numpy.savez(path, images=..., labels=...)."
        )
    try:
        with np.load(path, allow_pickle=False) as file:
            values = {name: file[name] for name in ("images", "labels", "classes") if name in file.files}
            known = sorted(file.files)
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{str(path)!r} cannot be read: {error}. Arrays of objects are never opened.") from error
    if not set(needed) <= values.keys():
        raise ValueError(
            f"{str(path)!r} needs the arrays {' and '.join(needed)} (and classes, if you like), it has {known}."
        )
    return values


def digits() -> Labelled:
    """scikit-learn's 1,797 handwritten digits: 8 x 8 pixels, 0..16 there, 0..255 here."""
    from sklearn.datasets import load_digits

    found = load_digits()
    return arrays(np.round(found.images * (255 / 16)), found.target, classes=None, source="digits")


def arrays(
    images: np.ndarray, labels: Sequence | np.ndarray, *, classes: Sequence[str] | None, source: str
) -> Labelled:
    """Images (N, H, W) or (N, H, W, 1 or 3) in 0..255 with class names or numbers.

    Raises:
        ValueError: shapes, ranges or numbers of examples do not fit.
    """
    pictures, numbers = image_arrays(images, source=source)
    labels = np.asarray(labels)
    if labels.size != len(pictures):
        raise ValueError(
            f"{source!r}: {len(pictures)} images but labels of shape {labels.shape}; give one an image, or say "
            "task='multi_label' (0 and 1 a class) or task='regress' (numbers)."
        )
    names, classes = _class_names(labels.reshape(-1), classes, source)
    return Labelled(pictures, names, numbers, classes)


def image_arrays(images: np.ndarray, *, source: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """Images (N, H, W) or (N, H, W, 1 or 3) in 0..255 as uint8 with channels, and a name for each.

    Raises:
        ValueError: shapes or ranges do not fit.
    """
    images = np.asarray(images)
    images = images[..., np.newaxis] if images.ndim == 3 else images
    if images.ndim != 4 or images.shape[-1] not in (1, 3) or not images.size:
        raise ValueError(f"{source!r}: images must be (N, H, W) or (N, H, W, 1 or 3), got {images.shape}.")
    if images.dtype.kind not in "buif" or not 0 <= images.min() <= images.max() <= 255:
        raise ValueError(f"{source!r}: images must hold numbers in 0..255, got {_range(images)}.")
    if images.max() <= 1:
        raise ValueError(
            f"{source!r}: images look like 0..1 ({_range(images)}); models of the zoo take 0..255. Multiply by 255."
        )
    return np.round(images).astype(np.uint8), tuple(map(str, range(len(images))))


def _range(images: np.ndarray) -> str:
    return f"{images.dtype} from {images.min()} to {images.max()}" if images.dtype.kind in "buif" else str(images.dtype)


def _class_names(labels: np.ndarray, classes: Sequence[str] | None, source: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """A class name for each label, and all of them in order."""
    if labels.dtype.kind not in "iuU":
        raise ValueError(f"{source!r}: labels must be whole numbers or names, got {labels.dtype}.")
    if classes is None:
        names = np.array([str(label) for label in labels], dtype=object)
        return names, ordered(names)
    table = tuple(map(str, classes))
    if len(set(table)) != len(table):
        raise ValueError(f"{source!r}: classes holds a name twice: {table}.")
    if labels.dtype.kind == "U":
        unknown = sorted(set(labels.tolist()) - set(table))
        if unknown:
            raise ValueError(f"{source!r}: labels {unknown[:10]} are not among the classes {table}.")
        return labels.astype(object), table
    if labels.min() < 0 or labels.max() >= len(table):
        raise ValueError(
            f"{source!r}: labels go from {labels.min()} to {labels.max()}, but classes has {len(table)} names: {table}."
        )
    return np.array(table, dtype=object)[labels], table
