"""Figures of scores, written whole or not at all."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from pipelines.files import replacing
from pipelines.fonts import fonts, short

__all__ = ["figure", "fonts", "short"]


@contextlib.contextmanager
def figure(path: Path, *, panels: int = 1, panel: tuple[float, float] = (4.0, 4.0)) -> Iterator[np.ndarray]:
    """Axes side by side, at most three in a row, of `panel` inches each; at the end they are in the file.

    Names that users gave are shown as they are: a dollar sign begins no formula.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    columns = min(panels, 3)
    rows = -(-panels // columns)
    with matplotlib.rc_context({"text.parse_math": False, "font.family": fonts()}):
        drawn, axes = pyplot.subplots(
            rows, columns, figsize=(panel[0] * columns, panel[1] * rows), layout="constrained", squeeze=False
        )
        for unused in axes.flat[panels:]:
            unused.set_axis_off()
        yield axes.flat[:panels]
        with replacing(path) as temporary:
            drawn.savefig(temporary, dpi=120)
        pyplot.close(drawn)
