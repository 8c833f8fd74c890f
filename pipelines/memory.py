"""How much memory there is to take, on this machine and in the control group that a container or scheduler sets."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

_UNLIMITED = 1 << 60  # what stands for no limit in control groups of version 1 is above


def available(root: Path = Path("/")) -> int | None:
    """The bytes that can be taken before anything is swapped out or killed; None where the system does not say.

    `root` is the folder with proc/ and sys/.
    """
    found = [_of_machine(root), *_of_groups(root)]
    known = [max(each, 0) for each in found if each is not None]
    return min(known, default=None)


def resident(process: int) -> int:
    """The bytes that a process has in memory; 0 where the system does not say, or once it has ended."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        pages = Path(f"/proc/{process}/statm").read_text(encoding="ascii").split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")
    return 0


def _of_machine(root: Path) -> int | None:
    with contextlib.suppress(OSError, ValueError, KeyError, IndexError):
        lines = (root / "proc/meminfo").read_text(encoding="ascii").splitlines()
        values = {name: rest.split()[0] for name, _, rest in (line.partition(":") for line in lines if ":" in line)}
        return int(values["MemAvailable"]) * 1024
    return None


def _of_groups(root: Path) -> Iterator[int]:
    """What is left in the control groups of this process, and in those around them, of either version."""
    with contextlib.suppress(OSError):
        for line in (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers == "":
                yield from _left(root / "sys/fs/cgroup", path, "memory.max", "memory.current", "inactive_file")
            elif "memory" in controllers.split(","):
                names = "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"
                yield from _left(root / "sys/fs/cgroup/memory", path, *names)


def _left(mount: Path, path: str, limit: str, usage: str, cache: str) -> Iterator[int]:
    """A container sees its own group as the root of all, whatever its path is called outside."""
    inside = mount / path.strip("/")
    for folder in dict.fromkeys((inside, *inside.parents, mount)):
        if folder != mount and mount not in folder.parents:
            continue
        with contextlib.suppress(OSError, ValueError):  # "max": no limit; the file of the outermost group is missing
            allowed, used = (int((folder / name).read_text(encoding="ascii")) for name in (limit, usage))
            if allowed < _UNLIMITED:
                yield allowed - used + _reclaimable(folder / "memory.stat", cache)


def _reclaimable(path: Path, name: str) -> int:
    """Files that are kept in memory as long as nobody else needs it."""
    with contextlib.suppress(OSError, ValueError):
        lines = (line.split() for line in path.read_text(encoding="ascii").splitlines())
        return next((int(parts[1]) for parts in lines if parts[0] == name), 0)
    return 0
