"""Where an export works, and how its files get their names: all together, beside those that still hold."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from pipelines.agreement import FORMATS
from pipelines.exported_steps import ENCODER, STEP
from pipelines.proof import ExportedFile, file_name
from pipelines.tflite import part_name

REPORT = "export.json"
WORKSPACE = ".export-"  # and the number of the process that works there


@contextlib.contextmanager
def workspace_in(out: Path) -> Iterator[Path]:
    """A directory to work in, on the same disk as `out`; those of dead processes are removed."""
    out.mkdir(parents=True, exist_ok=True)
    for left in out.glob(f"{WORKSPACE}[0-9]*-*"):
        if not _alive(int(left.name.split("-")[1])):
            shutil.rmtree(left, ignore_errors=True)
    directory = Path(tempfile.mkdtemp(prefix=f"{WORKSPACE}{os.getpid()}-", dir=out))
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # alive, and another user's
        return True
    return True


def publish(
    report: str, rows: Sequence[ExportedFile], *, made: Sequence[ExportedFile], out: Path, workspace: Path
) -> None:
    """Gives the new files their names, and removes old ones that none of the report's rows vouches for.

    The report goes first and comes last, so that what has one is whole. Old files are moved away, as
    a directory cannot be replaced in one step.
    """
    kept = {row.file for row in rows} - {row.file for row in made}
    earlier = workspace / "earlier"
    earlier.mkdir()
    parts = (part_name(form, part) for form in FORMATS for part in (STEP, ENCODER))
    for name in (REPORT, *map(file_name, FORMATS), *parts):
        if name not in kept:
            with contextlib.suppress(FileNotFoundError):
                os.replace(out / name, earlier / name)
    for row in made:
        os.replace(workspace / row.file, out / row.file)
    if rows:
        (workspace / REPORT).write_text(report, "utf-8")
        os.replace(workspace / REPORT, out / REPORT)


def earlier_rows(out: Path, identity: str) -> tuple[ExportedFile, ...]:
    """The files of earlier exports with the same identity; none where the report is of another or damaged."""
    try:
        report = json.loads((out / REPORT).read_text("utf-8"))
        same = report["identity"] == identity
        rows = tuple(ExportedFile(**row) for row in report["rows"]) if same else ()
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return ()
    return tuple(row for row in rows if (out / row.file).exists())
