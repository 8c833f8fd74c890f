"""A trial goes on from another one's checkpoints, in a folder of its own: Hyperband's next round."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from pipelines.checkpoints import LOCK
from pipelines.files import write_text
from tuning.job import LOG, NAME, RESULT

_OWN = (NAME, RESULT, LOG, "run.json")
_GROWING = "tensorboard"  # its files are written on, and are copied; all others are replaced, never changed


def adopt(start: Path, folder: Path) -> None:
    """Take over the state of a run, unless it has been; the files take no space twice where the system can link them.

    run.json comes last: what was taken over without it, by a process that died, is taken over anew.

    Raises:
        FileNotFoundError: no run began at the start.
    """
    if (folder / "run.json").is_file():
        return
    if not (start / "run.json").is_file():
        raise FileNotFoundError(f"'{start}' holds no run to go on from: there is no run.json.")
    for source in start.iterdir():
        target = folder / source.name
        if source.name in _OWN or ".partial" in source.name:
            continue
        if target.is_dir():
            shutil.rmtree(target)
        copy = shutil.copy2 if source.name == _GROWING else _link
        if source.is_dir():
            shutil.copytree(source, target, copy_function=copy, ignore=shutil.ignore_patterns(LOCK, ".partial*"))
        else:
            target.unlink(missing_ok=True)
            copy(str(source), str(target))
    write_text(folder / "run.json", (start / "run.json").read_text(encoding="utf-8"))


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
