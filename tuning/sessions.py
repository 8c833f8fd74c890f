"""Which processes belong together."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import Path

_SESSION = 3  # among what stands in /proc/PROCESS/stat after the name, which may hold spaces and brackets


def members(leaders: Iterable[int]) -> dict[int, list[int]]:
    """The processes in the sessions of these leaders; none where the system does not say."""
    found: dict[int, list[int]] = {leader: [] for leader in leaders}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError, IndexError):  # one that has ended meanwhile
            session = int(path.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[_SESSION])
            if session in found:
                found[session].append(int(path.parent.name))
    return found
