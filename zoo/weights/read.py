"""Checkpoint files as {name: array}, read when asked for. Pickle is never opened."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from zoo.weights.errors import CheckpointError
from zoo.weights.layouts import Shape
from zoo.weights.npz import DAMAGE, open_npz

_PICKLES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt")
_KERAS_FILES = (".keras", ".h5", ".hdf5")
_KINDS = (  # how files begin that are given a wrong name
    (b"PK\x03\x04", "a zip archive, such as npz, .keras or PyTorch's pickles"),
    (b"\x80", "a pickle"),
    (b"\x89HDF", "an HDF5 file"),
    (b"\x1f\x8b", "a gzip file"),
    (b"version https://git-lfs", "a Git LFS pointer: the file itself was not fetched (git lfs pull)"),
    (b"<", "HTML, perhaps the page of an error"),
    (b"{", "JSON text"),
)
_LARGEST_JSON = 16 * 2**20  # bytes; the index of a checkpoint in hundreds of files has 8 MB
_MOST_TENSORS = 100_000
_RESIDENT = 16 * 2**20  # bytes read from a file before it is opened anew


class Tensors(Mapping[str, np.ndarray]):
    """Tensors of a checkpoint by name; `shapes` is known without reading them."""

    def __init__(self, shapes: Mapping[str, Shape], load: Callable[[str], np.ndarray]):
        self.shapes = dict(shapes)
        self._load = load

    @classmethod
    def of(cls, arrays: Mapping[str, np.ndarray]) -> Tensors:
        """Arrays that are in memory already."""
        return cls({name: np.shape(array) for name, array in arrays.items()}, arrays.__getitem__)

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self.shapes:
            raise KeyError(name)
        return self._load(name)

    def __contains__(self, name: object) -> bool:
        return name in self.shapes

    def __iter__(self) -> Iterator[str]:
        return iter(self.shapes)

    def __len__(self) -> int:
        return len(self.shapes)


def open_tensors(path: Path) -> Tensors:
    """The tensors of a safetensors or npz file, or of a directory that holds one (sharded or not).

    Raises:
        FileNotFoundError: there is no such file, or no checkpoint in the directory.
        CheckpointError: the file is damaged, of another kind, or names files outside its directory.
    """
    if os.path.isdir(path):
        return _open_directory(path)
    if not os.path.isfile(path):
        raise FileNotFoundError(f"There is no checkpoint at '{path}'.")
    suffix = path.suffix.lower()
    if suffix == ".safetensors":
        return _open_safetensors(path)
    if suffix == ".npz":
        return _open_npz(path)
    if suffix in _PICKLES:
        raise CheckpointError(
            f"'{path}' is a pickle, and opening one can run any code: it is never opened. "
            "Most publishers offer the same weights as .safetensors; else convert it where you trust it."
        )
    advice = " Load it with Keras, and give the model itself: weights=model." if suffix in _KERAS_FILES else ""
    raise CheckpointError(f"'{path}' is of no kind that can be read: checkpoints are .safetensors and .npz.{advice}")


def beside(folder: Path, name: str) -> Path:
    """The file `name` of a checkpoint's directory, links followed; it need not exist.

    A link may lead out of the directory only as in the Hub's cache, from snapshots/<revision>/ to blobs/.

    Raises:
        CheckpointError: the name or the link leads elsewhere.
    """
    if "\0" in name or Path(name).name != name:
        raise CheckpointError(
            f"'{folder}' refers to {name[:200]!r}; the files of a checkpoint must lie in its directory."
        )
    root, file = (Path(os.path.realpath(place)) for place in (folder, folder / name))
    blobs = Path(os.path.realpath(root.parents[1] / "blobs")) if root.parent.name == "snapshots" else root
    if not file.is_relative_to(root) and not file.is_relative_to(blobs):
        raise CheckpointError(
            f"'{folder / name}' is a link out of its directory, to '{file}'. If you trust that file, give its own path."
        )
    return file


def _open_directory(folder: Path) -> Tensors:
    if os.path.isfile(beside(folder, "model.safetensors.index.json")):
        return _open_shards(folder)
    for pattern in ("model.safetensors", "*.safetensors", "*.npz"):
        found = sorted(file.name for file in folder.glob(pattern))
        if len(found) > 1:
            names = ", ".join(found[:8])
            raise CheckpointError(f"'{folder}' holds {len(found)} checkpoints ({names}); name the one you want.")
        if found:
            return _open_file_of(folder, found[0])
    pickles = sorted(file.name for file in folder.iterdir() if file.suffix in _PICKLES)
    if pickles:
        return open_tensors(folder / pickles[0])  # which says why not
    raise FileNotFoundError(f"There is no model.safetensors, and no other .safetensors or .npz file, in '{folder}'.")


def _open_file_of(folder: Path, name: str) -> Tensors:
    """A file of a directory, by its own name: the blobs of the Hub's cache have no suffix."""
    file = beside(folder, name)
    if not os.path.isfile(file):
        raise FileNotFoundError(f"There is no file '{folder / name}'. The checkpoint is not whole; fetch it again.")
    return _open_npz(file) if name.endswith(".npz") else _open_safetensors(file)


def _open_shards(folder: Path) -> Tensors:
    """A checkpoint in several files, each tensor's file named by model.safetensors.index.json."""
    index = folder / "model.safetensors.index.json"
    files = read_json(index).get("weight_map")
    if not isinstance(files, dict) or not all(isinstance(file, str) for file in files.values()):
        raise CheckpointError(f"'{index}' has no 'weight_map' of tensor names to file names.")
    strange = next((file for file in files.values() if not file.endswith(".safetensors")), None)
    if strange is not None:
        raise CheckpointError(f"'{index}' names {strange[:200]!r}, which is no .safetensors file.")
    shards = {file: _open_file_of(folder, file) for file in sorted(set(files.values()))}
    held = {name: file for file, shard in shards.items() for name in shard}
    wrong = [name for name in {**files, **held} if name not in held or name not in shards.get(files.get(name, ""), ())]
    if wrong:
        raise CheckpointError(
            f"'{index}' and its files disagree about {len(wrong)} tensors, such as {wrong[0][:200]!r}. "
            "They are not of one checkpoint; fetch it again."
        )
    return Tensors(
        {name: shards[file].shapes[name] for name, file in files.items()}, lambda name: shards[files[name]][name]
    )


def _open_safetensors(path: Path) -> Tensors:
    import ml_dtypes  # noqa: F401 (registers bfloat16 with numpy)
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as file:
            names = file.keys()
            if len(names) > _MOST_TENSORS:
                raise CheckpointError(f"'{path}' holds {len(names):,} tensors; no model here has so many.")
            shapes = {name: tuple(file.get_slice(name).get_shape()) for name in names}
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"'{path}' is not a whole safetensors file{_looks_like(path)} ({error}).") from None

    handle: Any = None
    taken = 0

    def load(name: str) -> np.ndarray:
        nonlocal handle, taken
        try:
            if handle is None or taken > _RESIDENT:  # what one handle has read stays resident; opening reads all names
                handle, taken = safe_open(path, framework="np"), 0
            array = handle.get_tensor(name)
            taken += array.nbytes
            return array
        except (SafetensorError, TypeError, ValueError, AttributeError) as error:  # AttributeError: 8-bit floats
            raise CheckpointError(f"'{path}': {name[:200]!r} is of a kind that cannot be read ({error}).") from None

    return Tensors(shapes, load)


def _open_npz(path: Path) -> Tensors:
    try:
        shapes, read = open_npz(path)
    except DAMAGE as error:
        raise CheckpointError(
            f"'{path}' is not a whole npz file of plain arrays{_looks_like(path)} ({error})."
        ) from None

    def load(name: str) -> np.ndarray:
        try:
            return read(name)
        except DAMAGE as error:
            raise CheckpointError(f"'{path}': {name[:200]!r} is damaged ({error}).") from None

    return Tensors(shapes, load)


def _looks_like(path: Path) -> str:
    """': it is a pickle', where the first bytes tell; else that it may be cut off."""
    try:
        with path.open("rb") as stream:
            start = stream.read(32).lstrip()
    except OSError:
        return ""
    kind = next((kind for begin, kind in _KINDS if start.startswith(begin)), None)
    named_so = path.suffix == ".npz" and start.startswith(b"PK")
    return f": it is {kind}" if kind and not named_so else ", but damaged, cut off or of another kind; fetch it again"


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file of reasonable size in a checkpoint's directory.

    Raises:
        FileNotFoundError: there is no such file.
        CheckpointError: it is too large, not JSON, no object, or a link out of its directory.
    """
    file = beside(path.parent, path.name)
    if not os.path.isfile(file):
        raise FileNotFoundError(f"There is no '{path}'.")
    if file.stat().st_size > _LARGEST_JSON:
        raise CheckpointError(f"'{path}' has {file.stat().st_size:,} bytes, too many for a description of a model.")
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError, OSError) as error:
        raise CheckpointError(f"'{path}' is not readable as JSON ({error}).") from None
    if not isinstance(values, dict):
        raise CheckpointError(f"'{path}' holds a JSON {type(values).__name__}, not an object.")
    return values
