"""The command line in tests: in a process of its own, as a user meets it, or in this one, which is sooner done."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
from pathlib import Path
from unittest import mock

from pipelines.cli import main

ROOT = Path(__file__).parents[1]


def zoo(*arguments, cwd: Path | None = None, code: int = 0, columns: int = 160, **environment: str) -> str:
    """Standard output of a command that ends with `code`; standard error if it is not 0."""
    done = subprocess.run(
        [sys.executable, "-m", "pipelines.cli", *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": str(columns), **environment},
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == code, f"{done.returncode}\n{done.stdout}\n{done.stderr}"
    assert "Traceback" not in done.stderr
    assert "absl" not in done.stderr
    return done.stderr if code else done.stdout


def zoo_here(*arguments, cwd: Path, code: int = 0) -> str:
    """The same without a process of its own, so that TensorFlow is not imported again."""
    written, told, ended = io.StringIO(), io.StringIO(), 0
    command = mock.patch.object(sys, "argv", ["zoo", *map(str, arguments)])
    wide = mock.patch.dict(os.environ, {"COLUMNS": "160"})
    with command, wide, contextlib.chdir(cwd), contextlib.redirect_stdout(written), contextlib.redirect_stderr(told):
        try:
            main()
        except SystemExit as end:
            ended = end.code or 0
    assert ended == code, f"{ended}\n{written.getvalue()}\n{told.getvalue()}"
    return told.getvalue() if code else written.getvalue()
