"""Two devices compute what one computes, in every precision."""

import subprocess
import sys

import numpy as np
import pytest

# Largest difference of a weight between one order of summation and another; docs/field-notes.md, section 1.
NOISE = {"float32": 6e-7, "bfloat16": 1e-4, "float16": 3e-5}


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    """Folders with what one and two devices made of the same problem."""
    folders = {}
    for devices in (1, 2):
        folders[devices] = tmp_path_factory.mktemp(f"devices{devices}")
        command = [sys.executable, "-m", "tests.pipelines.devices", str(devices), str(folders[devices])]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr[-3000:]
    return folders


@pytest.mark.parametrize("precision", NOISE)
def test_two_devices_equal_one(precision, fitted):
    one, two = (np.load(fitted[devices] / f"{precision}.npz") for devices in (1, 2))
    assert (int(one["replicas"]), int(two["replicas"])) == (1, 2)
    assert str(one["policy"]) == ("float32" if precision == "float32" else f"mixed_{precision}")
    worst = max(float(np.abs(one[name] - two[name]).max()) for name in one.files if name.startswith("arr_"))
    assert worst <= NOISE[precision]
    np.testing.assert_allclose(one["losses"], two["losses"], rtol=100 * NOISE[precision])
