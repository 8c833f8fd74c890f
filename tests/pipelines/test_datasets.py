"""What all data have in common."""

from __future__ import annotations

import numpy as np
import pytest

from pipelines import datasets
from pipelines.data import Images
from pipelines.recipes import from_scratch
from pipelines.run import Run


@pytest.mark.parametrize("name", ["two\nlines", "ends\n", "old\rmac"])
def test_names_of_several_lines_are_refused(tmp_path, name):
    pixels = np.zeros((12, 8, 8, 3), "uint8") + np.arange(12, dtype="uint8")[:, None, None, None]
    data = Images.arrays(pixels, [0, 1] * 6, classes=["plain", name], file=tmp_path / "images.npz", size=8)
    with pytest.raises(ValueError, match="a name of several lines"):
        datasets.load(Run("mlp", data, from_scratch(epochs=1), tmp_path / "out"))
