"""What happened in a search, line by line: each is on the disk, with a checksum, before the next thing happens."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from tuning.trial import Result, Trial

NAME = "journal.jsonl"
_log = logging.getLogger(__name__)


class JournalError(OSError):
    """A journal cannot be read or written, or another process has it; what is in it is untouched."""


@dataclass(frozen=True)
class Created:
    """A trial was begun, by one of the hands that carry trials out: a place on this machine, or a worker."""

    trial: str
    hand: str
    values: Mapping[str, Any]


@dataclass(frozen=True)
class Ended:
    """A trial came to its end."""

    trial: str
    result: Result


Event = Created | Ended


def read(folder: Path) -> list[Event]:
    """The events of a search in order; a last line that was not written to its end did not happen.

    Raises:
        JournalError: there is no journal, or a line before the last is damaged.
    """
    return [event for event, _ in _events(_bytes(folder / NAME), folder / NAME)]


def trials(events: list[Event]) -> list[Trial]:
    """The trials of a search in the order in which they began."""
    results = {event.trial: event.result for event in events if isinstance(event, Ended)}
    return [Trial(e.trial, e.values, results.get(e.trial)) for e in events if isinstance(e, Created)]


class Journal:
    """The journal of the search in a folder, held by this process alone; a process that dies lets go of it.

    Raises:
        JournalError: as `read`, or another process holds it.
    """

    def __init__(self, folder: Path):
        self._path = folder / NAME
        try:
            self._file: IO[bytes] = self._path.open("ab")
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.close()
            raise JournalError(f"Another process goes on with the search in '{folder}'.") from None
        except OSError as error:
            raise JournalError(f"The search's journal '{self._path}' cannot be opened: {error}.") from error
        found = list(_events(_bytes(self._path), self._path))
        self.events = [event for event, _ in found]
        whole = found[-1][1] if found else 0
        if whole < self._path.stat().st_size:
            _log.warning("'%s': its last line was cut when a process died; it is taken out.", self._path)
            self._file.truncate(whole)

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, event: Event) -> None:
        """Write an event down; it is on the disk when this returns.

        Raises:
            JournalError: it cannot be written; what was there before is intact.
        """
        before = self._path.stat().st_size
        try:
            self._file.write(_line(event))
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            os.truncate(self._path, before)
            raise JournalError(f"The search's journal '{self._path}' cannot be written: {error}.") from error
        self.events.append(event)

    def clear(self) -> None:
        """Forget all events."""
        os.truncate(self._path, 0)
        self.events = []


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise JournalError(f"'{path.parent}' holds no search: its {NAME} cannot be read ({error}).") from error


def _line(event: Event) -> bytes:
    text = json.dumps({"event": type(event).__name__.lower(), **asdict(event)}, allow_nan=False)
    return f"{zlib.crc32(text.encode()):08x} {text}\n".encode()


def _events(content: bytes, path: Path) -> Iterator[tuple[Event, int]]:
    """Each event, and where its line ends."""
    end = 0
    lines = content.splitlines(keepends=True)
    for number, line in enumerate(lines, start=1):
        event = _event(line)
        if event is None and number == len(lines):
            return
        if event is None:
            raise JournalError(f"'{path}', line {number}, is damaged. Nothing after it is known.")
        end += len(line)
        yield event, end


def _event(line: bytes) -> Event | None:
    """What a line says; None where it is not whole."""
    checksum, _, text = line.partition(b" ")
    if not line.endswith(b"\n") or checksum != b"%08x" % zlib.crc32(text[:-1]):
        return None
    values = json.loads(text)
    kind = values.pop("event")
    if kind == "created":
        return Created(**values)
    return Ended(values["trial"], Result(**values["result"]))
