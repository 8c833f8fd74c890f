"""What the commands share: where they print, how they fail, and TensorFlow without its talk."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import NoReturn

from rich.console import Console
from rich.markup import escape

out = Console(highlight=False)


def fail(message: str, code: int) -> NoReturn:
    """One line on standard error, then the end of the process."""
    Console(stderr=True, highlight=False).print(f"[red]error:[/] {escape(message)}", soft_wrap=True)
    sys.exit(code)


def run(program: Callable[[], None]) -> None:
    """Run a program; a user's mistake is one line on standard error, not a traceback."""
    try:
        program()
    except KeyboardInterrupt:
        fail("Interrupted.", 130)
    except (ValueError, ArithmeticError, OSError) as error:
        if os.environ.get("ZOO_TRACEBACK"):
            raise
        fail(f"{error}", 1)


def megabytes(size: int) -> str:
    """A number of bytes as '14.0 MB'; kilobytes where it is small."""
    return f"{size / 1e6:,.1f} MB" if size >= 1e6 else f"{size / 1e3:,.0f} kB"


def import_tensorflow() -> None:
    """Import TensorFlow and let it look for its devices, without what its C++ says of them on standard error.

    No setting silences those lines. An import that fails still raises.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.stderr.flush()
    kept, null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    try:
        import tensorflow as tf

        tf.config.list_physical_devices()
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(null)
