"""The folder of a search: refused where something else is, and cleared where another search was."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from pipelines.files import write_text
from tuning import journal as journals
from tuning import plan
from tuning.journal import Journal
from tuning.plan import Plan


def check_room(folder: Path, *, overwrite: bool) -> None:
    """Refuse to search where something else is.

    Raises:
        FileExistsError: something is there already, and `overwrite` is not set, or it is no search.
    """
    if (folder / plan.NAME).is_file():
        if not overwrite:
            raise FileExistsError(
                f"'{folder}' holds a search already. Go on with it: zoo tune --resume {folder}. "
                "Or choose another --out, or --overwrite it."
            )
    elif folder.exists() and not (folder.is_dir() and all(map(_is_trace, folder.iterdir()))):
        raise FileExistsError(f"'{folder}' holds something that is no search. Choose another --out.")


def check_writable(folder: Path) -> None:
    """Make the folder.

    Raises:
        OSError: it cannot be made, or nothing can be written into it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".", suffix=".partial."):
            pass
    except OSError as error:
        raise OSError(f"'{folder}' cannot be written to: {error.strerror or error}. Choose another --out.") from error


def _is_trace(path: Path) -> bool:
    """Whether it is left of a search that ended before it began."""
    partial = path.name.startswith(".") and ".partial." in path.name
    return partial or (path.name == journals.NAME and path.stat().st_size == 0)


def prepare(folder: Path, given: Plan, journal: Journal) -> None:
    """Take away what another search left, and write the plan of this one.

    A process that dies within leaves a search without trials, the other one's or this one's.
    """
    journal.clear()
    for path in list(folder.iterdir()):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.name not in (journals.NAME, plan.NAME):
            path.unlink()
    write_text(folder / plan.NAME, given.to_json())
