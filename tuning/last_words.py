"""Why a trial's process ended without a result, as far as its end and its log tell."""

from __future__ import annotations

import contextlib
import re
import signal
from pathlib import Path

_TAIL = 20_000  # bytes of the log that are read
_FATAL = "Fatal Python error"
_PLACE = re.compile(r'File "(?P<file>[^"]+)", line (?P<line>\d+) in (?P<function>\S+)')


def of(log: Path, code: int | None) -> str:
    """In a sentence: the signal or exit code, and the last line that it printed, or where in Python it crashed."""
    said = ""
    with contextlib.suppress(OSError), log.open("rb") as stream:
        stream.seek(max(0, log.stat().st_size - _TAIL))
        said = _said(stream.read().decode(errors="replace"))
    return f"Its process ended {_how(code)}{f': {said}' if said else '.'}"


def _how(code: int | None) -> str:
    if code is None:
        return "without a result"
    if code >= 0:
        return f"with exit code {code}"
    name = signal.Signals(-code).name
    return f"with {name}{', as it does when the system runs out of memory' if name == 'SIGKILL' else ''}"


def _said(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    fatal = next((place for place, line in reversed([*enumerate(lines)]) if line.startswith(_FATAL)), None)
    if fatal is None:
        return lines[-1] if lines else ""
    found = next(filter(None, map(_PLACE.search, lines[fatal:])), None)
    where = f", in {found['function']} ({Path(found['file']).name}, line {found['line']})" if found else ""
    return lines[fatal] + where
