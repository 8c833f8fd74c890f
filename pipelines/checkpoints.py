"""Checkpoints of a run: written whole or not at all, each with the hashes of its parts, the last few of them kept."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

ARRAYS, BEST, STATE, HASHES = "arrays.safetensors", "best.safetensors", "state.json", "hashes.json"
LOCK = "lock"
_PREFIX = "checkpoint-"
_log = logging.getLogger(__name__)

Arrays = Mapping[str, np.ndarray]
Accepts = Callable[[Mapping[str, Any]], bool]  # of what JSON says in a checkpoint


class CheckpointsError(OSError):
    """Checkpoints cannot be written or read; those that were there before are untouched."""


@dataclass(frozen=True)
class Checkpoint:
    """What a run was at a moment: arrays by name, those of its best weights so far, and what JSON can say."""

    arrays: dict[str, np.ndarray]
    best: dict[str, np.ndarray]
    state: dict[str, Any]


class Checkpoints:
    """The checkpoints in a folder, numbered in the order in which they were written.

    Each is a folder of its own, which gets its name when all in it is on the disk. A process that dies, at whatever
    moment, leaves the ones before as they were.
    """

    def __init__(self, folder: Path, *, keep: int = 3):
        self.folder, self._keep = folder, keep
        self._best: Path | None = None  # the file of the best weights in the newest checkpoint

    def save(
        self, arrays: Arrays, state: Mapping[str, Any], *, best: Arrays | None = None, stay: Sequence[Accepts] = ()
    ) -> Path:
        """Write one, then remove those that are older than the last few; without `best` it is that of the one before.

        Of those with a state that `stay` accepts, the newest stays too, for each of its functions.

        Raises:
            CheckpointsError: it cannot be written, for want of space or permission.
        """
        numbers = self.numbers()
        final = self._path(numbers[-1] + 1 if numbers else 1)
        partial = self.folder / f".partial-{os.getpid()}"
        try:
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
            _write(partial, arrays, state)
            if best is not None:
                save_file(_contiguous(best), partial / BEST)
            elif self._best is not None:
                _link(self._best, partial / BEST)
            hashes = {path.name: _hash(path) for path in partial.iterdir()}
            (partial / HASHES).write_text(json.dumps(hashes, indent=2), encoding="utf-8")
            for path in (*partial.iterdir(), partial):
                _sync(path)
            os.replace(partial, final)
            _sync(self.folder)
        except (OSError, SafetensorError) as error:
            shutil.rmtree(partial, ignore_errors=True)
            kept = "; the earlier ones are intact" if numbers else ""
            raise CheckpointsError(f"A checkpoint cannot be written to '{self.folder}': {error}{kept}.") from error
        self._best = final / BEST if (final / BEST).exists() else None
        kept = {next(self._accepted(accepts), None) for accepts in stay}
        for old in set(self.numbers()[: -self._keep]) - kept:
            shutil.rmtree(self._path(old), ignore_errors=True)
        return final

    def thin_out(self) -> None:
        """Remove all but the newest: enough to conclude a run or go on with it, where many runs lie side by side."""
        for old in self.numbers()[:-1]:
            shutil.rmtree(self._path(old), ignore_errors=True)

    def numbers(self) -> list[int]:
        """The numbers of the checkpoints that there are, ascending."""
        found = (path.name.removeprefix(_PREFIX) for path in self.folder.glob(f"{_PREFIX}*"))
        return sorted(int(name) for name in found if name.isdigit())

    def newest(self, accepts: Accepts) -> Checkpoint | None:
        """The newest that is whole and has a state that is accepted; None where there is none."""
        for number in self._accepted(accepts):
            with contextlib.suppress(OSError, ValueError, SafetensorError):
                found = _read(self._path(number))
                self._best = self._path(number) / BEST if found.best else None
                return found
        return None

    def _accepted(self, accepts: Accepts) -> Iterator[int]:
        """The numbers of those with a state that is accepted, descending."""
        for number in reversed(self.numbers()):
            with contextlib.suppress(OSError, ValueError, KeyError):
                if accepts(json.loads((self._path(number) / STATE).read_text(encoding="utf-8"))):
                    yield number

    def latest(self) -> Checkpoint | None:
        """The newest that is whole, with a warning for each newer one that is damaged; None where there is none.

        Raises:
            CheckpointsError: there are some, and all are damaged.
        """
        problems = []
        for number in reversed(self.numbers()):
            path = self._path(number)
            try:
                found = _read(path)
            except (OSError, ValueError, SafetensorError) as error:
                problems.append(f"'{path.name}' is damaged ({error})")
                _log.warning("%s: %s; going back to the one before.", self.folder, problems[-1])
                continue
            self._best = path / BEST if found.best else None
            return found
        if problems:
            raise CheckpointsError(f"No checkpoint in '{self.folder}' can be read: {'; '.join(problems)}.")
        return None

    def _path(self, number: int) -> Path:
        return self.folder / f"{_PREFIX}{number:06}"

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Keep other processes from the folder; a process that dies lets go of it.

        Raises:
            CheckpointsError: another process has it.
        """
        import fcntl

        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / LOCK).open("w") as stream:
            for wait in (0.1, None):  # who only looks whether a run goes on has the lock for a moment too
                try:
                    fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except OSError as error:
                    if wait is None:
                        raise CheckpointsError(f"Another process is training in '{self.folder.parent}'.") from error
                    time.sleep(wait)
            yield

    def check_free(self) -> None:
        """Refuse a folder in which another process trains; nothing is made or changed there.

        Raises:
            CheckpointsError: there is one.
        """
        if (self.folder / LOCK).exists():
            with self.lock():
                pass


class Remembered:
    """The states that a fit can go back to where it writes no checkpoints: in memory, as few as that takes."""

    def __init__(self) -> None:
        self._known: list[Checkpoint] = []

    def save(
        self,
        arrays: Arrays,
        state: Mapping[str, Any],
        *,
        best: Arrays | None = None,
        stay: Sequence[Accepts] = (),
    ) -> None:
        """Take the place of the one before, but for the newest of those that `stay` accepts, of each the newest."""
        latest = self.latest()
        known = dict(best) if best is not None else (latest.best if latest else {})
        self._known.append(Checkpoint(dict(arrays), known, dict(state)))
        kept = [self._known[-1], *(self.newest(accepts) for accepts in stay)]
        self._known = [each for each in self._known if any(each is one for one in kept)]

    def latest(self) -> Checkpoint | None:
        """The newest."""
        return self._known[-1] if self._known else None

    def newest(self, accepts: Accepts) -> Checkpoint | None:
        """The newest with a state that is accepted."""
        return next((each for each in reversed(self._known) if accepts(each.state)), None)


def _write(folder: Path, arrays: Arrays, state: Mapping[str, Any]) -> None:
    save_file(_contiguous(arrays), folder / ARRAYS)
    (folder / STATE).write_text(json.dumps(state, indent=2), encoding="utf-8")


def _read(folder: Path) -> Checkpoint:
    hashes = json.loads((folder / HASHES).read_text(encoding="utf-8"))
    for name, known in hashes.items():
        if _hash(folder / name) != known:
            raise ValueError(f"{name} is not what was written")
    best = load_file(folder / BEST) if BEST in hashes else {}
    state = json.loads((folder / STATE).read_text(encoding="utf-8"))
    return Checkpoint(load_file(folder / ARRAYS), best, state)


def _link(source: Path, target: Path) -> None:
    """The same file under another name, which takes no space; a copy where the file system cannot."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _contiguous(arrays: Arrays) -> dict[str, np.ndarray]:
    return {name: np.ascontiguousarray(array).reshape(np.shape(array)) for name, array in arrays.items()}


def _hash(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
