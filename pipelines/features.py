"""A store of what frozen layers answer: arrays by example on disk, read into memory where they fit."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import ml_dtypes
import numpy as np
import tensorflow as tf

from pipelines import memory

FOLDER = "features"  # of a run's folder
_FORMAT = 1
_INDEX = "index.json"
_WAIT = 0.1  # seconds between two looks at a lock
_CHUNK = 1 << 24  # bytes
_MEMORY_UNKNOWN = 4 << 30  # bytes, where the system does not tell what is free
_ROOM = 0.5  # of the disk's free bytes may be taken

Batch = tuple[Sequence[np.ndarray], np.ndarray]


class NoRoom(OSError):
    """The answers do not fit on the disk."""


@dataclass(frozen=True)
class Column:
    """One tensor of every example: its shape without the axis of examples, and without that of tokens if it has one."""

    shape: tuple[int, ...]
    dtype: str
    tokens: bool  # whether the first axis of an example is as long as its text


class Rows:
    """The tensors of all examples, by the numbers of the examples."""

    def __init__(self, folder: Path, columns: Sequence[Column], *, count: int, budget: int | None = None):
        self.columns, self.count = tuple(columns), count
        arrays = [np.memmap(_data(folder, place), _stored(column.dtype), "r") for place, column in enumerate(columns)]
        held = sum(array.nbytes for array in arrays) <= (_free_memory() // 4 if budget is None else budget)
        self._ends = np.fromfile(folder / "ends.bin", np.int64)  # of the examples, in tokens
        self._values = [
            (np.array(array) if held and column.tokens else array).reshape(-1, *column.shape)
            for array, column in zip(arrays, columns, strict=True)
        ]
        with tf.device("CPU:0"):
            self._held = [
                tf.constant(values) if held and not column.tokens else None
                for values, column in zip(self._values, columns, strict=True)
            ]

    def take(self, rows: tf.Tensor, length: tf.Tensor | int = 0) -> list[tf.Tensor]:
        """The tensors (B, ...) of some examples; those of tokens (B, length, ...), padded with 0."""
        return [self._column(place, rows, length) for place in range(len(self.columns))]

    def _column(self, place: int, rows: tf.Tensor, length: tf.Tensor | int) -> tf.Tensor:
        column, held, stored = self.columns[place], self._held[place], _stored(self.columns[place].dtype)
        if held is not None:
            found = tf.gather(held, rows)
        elif column.tokens:
            found = tf.numpy_function(lambda r, n: self._padded(place, r, n), [rows, length], stored, stateful=False)
        else:
            found = tf.numpy_function(lambda r: self._values[place][r], [rows], stored, stateful=False)
        found = tf.ensure_shape(found, [*rows.shape, *([None] if column.tokens else []), *column.shape])
        return tf.bitcast(found, tf.bfloat16) if column.dtype == "bfloat16" else found

    def _padded(self, place: int, rows: np.ndarray, length: int) -> np.ndarray:
        column, values = self.columns[place], self._values[place]
        found = np.zeros((len(rows), length, *column.shape), _stored(column.dtype))
        for target, row in zip(found, rows, strict=True):
            begin, end = (self._ends[row - 1] if row else 0), self._ends[row]
            kept = min(end - begin, length)
            target[:kept] = values[begin : begin + kept]
        return found


def rows(
    folder: Path,
    key: str,
    compute: Callable[[], Iterable[Batch]],
    *,
    tokens: Sequence[bool],
    between: Callable[[], None] = lambda: None,
    budget: int | None = None,
) -> Rows:
    """What is stored under a key, or else what `compute` gives, stored from then on.

    `compute` gives batches: arrays (B, ...), and the lengths (B,) in tokens of the examples; `tokens` says of which
    arrays the second axis is that of tokens. One process computes, others that want the same wait for it; `between` is
    called all the while. What is damaged is computed again. `budget` is the memory in bytes to read it into.

    Raises:
        NoRoom: the disk is full, or would be more than half full of it.
    """
    target = folder / key
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _locked(folder / f"{key}.lock", between):
            found = _open(target, budget)
            if found is None:
                for left in folder.glob(f".*.partial.{key}"):
                    shutil.rmtree(left, ignore_errors=True)
                _write(target, compute(), tokens, between)
                found = _open(target, budget)
            if found is None:
                raise NoRoom(f"'{target}' was written, but reads back otherwise; is the disk in order?")
            return found
    except OSError as error:
        if isinstance(error, NoRoom):
            raise
        raise NoRoom(f"'{target}' cannot be written: {error.strerror or error}.") from error


def keep_only(folder: Path, keys: Iterable[str]) -> None:
    """Remove from a folder of a single run what its present phase does not read."""
    wanted = {name for key in keys for name in (key, f"{key}.lock")}
    for path in folder.iterdir() if folder.is_dir() else ():
        if path.name not in wanted:
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)


def _write(target: Path, batches: Iterable[Batch], tokens: Sequence[bool], between: Callable[[], None]) -> None:
    """All batches into files beside the target, which then take its name at once."""
    partial = target.with_name(f".{os.getpid()}.partial.{target.name}")
    shutil.rmtree(target, ignore_errors=True)
    columns: list[Column] = []
    lengths: list[np.ndarray] = []
    sums = [0] * len(tokens)
    try:
        partial.mkdir(parents=True)
        with contextlib.ExitStack() as stack:
            streams = [stack.enter_context(_data(partial, place).open("wb")) for place in range(len(tokens))]
            for arrays, size in batches:
                columns = columns or [_column(array, each) for array, each in zip(arrays, tokens, strict=True)]
                for place, (array, each) in enumerate(zip(arrays, tokens, strict=True)):
                    part = _flat(array, size) if each else array
                    data = memoryview(np.ascontiguousarray(part).reshape(-1).view(np.uint8))
                    sums[place] = zlib.crc32(data, sums[place])
                    streams[place].write(data)
                lengths.append(size)
                _check_room(partial, sum(stream.tell() for stream in streams))
                between()
            for stream in streams:
                stream.flush()
                os.fsync(stream.fileno())
        ends = np.cumsum(np.concatenate(lengths), dtype=np.int64)
        ends.tofile(partial / "ends.bin")
        index = {"format": _FORMAT, "count": len(ends), "columns": [asdict(c) for c in columns], "sums": sums}
        (partial / _INDEX).write_text(json.dumps(index), encoding="utf-8")
        os.rename(partial, target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _open(target: Path, budget: int | None) -> Rows | None:
    """What is stored there; nothing if it is not there, or not whole."""
    try:
        index = json.loads((target / _INDEX).read_text(encoding="utf-8"))
        columns = [Column(tuple(each["shape"]), each["dtype"], each["tokens"]) for each in index["columns"]]
        if index["format"] != _FORMAT or [_sum(_data(target, i)) for i in range(len(columns))] != index["sums"]:
            return None
        found = Rows(target, columns, count=index["count"], budget=budget)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return found if len(found._ends) == found.count else None


def _column(array: np.ndarray, tokens: bool) -> Column:
    return Column(array.shape[2:] if tokens else array.shape[1:], _name(array.dtype), tokens)


def _flat(array: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """The tokens of all examples one after the other, without their padding."""
    return array[np.arange(array.shape[1]) < lengths[:, np.newaxis]]


def _name(dtype: np.dtype) -> str:
    return "bfloat16" if dtype == ml_dtypes.bfloat16 else dtype.name


def _stored(dtype: str) -> np.dtype:
    """As bytes are read: NumPy itself has no bfloat16."""
    return np.dtype("uint16" if dtype == "bfloat16" else dtype)


def _data(folder: Path, place: int) -> Path:
    return folder / f"{place}.bin"


def _sum(path: Path) -> int:
    found = 0
    with path.open("rb") as stream:
        while part := stream.read(_CHUNK):
            found = zlib.crc32(part, found)
    return found


def _check_room(folder: Path, taken: int) -> None:
    free = shutil.disk_usage(folder).free
    if taken > _ROOM * (free + taken):
        raise NoRoom(f"What frozen layers answer takes over half of what is free at '{folder.parent}'.")


def _free_memory() -> int:
    found = memory.available()
    return _MEMORY_UNKNOWN if found is None else found


@contextlib.contextmanager
def _locked(path: Path, between: Callable[[], None]) -> Iterator[None]:
    """Alone among all processes; one that dies lets go."""
    import fcntl

    with path.open("w") as stream:
        while True:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                between()
                time.sleep(_WAIT)
        yield
