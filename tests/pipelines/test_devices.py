"""Any number of devices and of micro-batches computes what one device computes of the whole batch."""

import itertools
import subprocess
import sys

import numpy as np
import pytest

from tests.pipelines import devices as program

# Largest difference of a weight between one order of summation and another; docs/field-notes.md, section 1.
NOISE = {"float32": 6e-7, "bfloat16": 1e-4, "float16": 3e-5}
# A loss, a metric or a gradient norm is known to about so many parts.
PARTS = {"float32": 2e-6, "bfloat16": 2e-2, "float16": 2e-3}

FEW = (
    "auxiliary/bfloat16/4/global_norm",
    "tokens/float32/4/norm",
    "normalized/float32/1/none",
    "overflow/float16/1/value",
    "taught/float32/4/none",
    "ragged/float32/4/none",
    "contrast/float32/4/norm",
    "contrast_ragged/float32/1/none",
)
PRECISIONS, ACCUMULATE, CLIPS = tuple(NOISE), (1, 4), ("none", *program.LIMITS)
MATRIX = [
    *itertools.product(["plain"], PRECISIONS, ACCUMULATE, CLIPS),
    *itertools.product(
        ["tokens", "auxiliary", "weighted_mean", "taught", "taught_tokens", "contrast"],
        PRECISIONS,
        ACCUMULATE,
        ["none"],
    ),
    *itertools.product(
        ["weighted", "weighted_sum_over_batch", "regularized", "ragged", "taught_ragged", "contrast_ragged"],
        ["float32"],
        ACCUMULATE,
        ["none"],
    ),
    *itertools.product(["normalized", "taught_normalized"], PRECISIONS, [1], ["none", "global_norm"]),
    *itertools.product(program.OPTIMIZERS, ["float32"], [1], ["none", "global_norm"]),
    *itertools.product(["overflow"], ["float16"], ACCUMULATE, CLIPS),
]
ALL = ["/".join(map(str, case)) for case in MATRIX]


def results(folder, devices, cases):
    command = [sys.executable, "-m", "tests.pipelines.devices", str(folder), str(devices), *cases]
    done = subprocess.run(command, capture_output=True, text=True, timeout=3600)
    assert done.returncode == 0, done.stderr[-3000:]
    cases = (*cases, "masks")
    return {case: dict(np.load(folder / f"{case.replace('/', '-')}.npz")) for case in cases}


def check(case, found, devices):
    """A case on so many devices ended as on one, each as far from float32 as half precision takes one device."""
    kind, precision, _, _ = case.split("/")
    one = {key.removeprefix("one/"): value for key, value in found.items() if key.startswith("one/")}
    assert (int(one["replicas"]), int(found["replicas"])) == (1, devices)
    assert found["same_config"]
    for key in ("weights", "losses", "norms", "metrics"):
        usual = NOISE[precision] if key == "weights" else PARTS[precision] * (1 + np.abs(one[key]))
        bound = np.maximum(usual, 2 * found[f"own/{key}"])
        np.testing.assert_array_equal(np.isnan(found[key]), np.isnan(one[key]))  # the loss of what overflows
        assert (np.nan_to_num(np.abs(found[key] - one[key])) <= np.nan_to_num(bound)).all(), key
        if key == "weights":
            assert one["moved"].sum() > 4 * bound
    np.testing.assert_array_equal(found["skipped"], one["skipped"])
    assert (found["moved"] > 0).sum() == len(one["skipped"]) - one["skipped"].sum()
    if kind == "overflow":  # in the third step, where one replica's gradient alone was infinite
        np.testing.assert_array_equal(np.flatnonzero(found["skipped"]), [2])
        assert found["moved"][2] == 0


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    return results(tmp_path_factory.mktemp("devices"), 2, FEW)


@pytest.mark.parametrize("case", FEW)
def test_two_devices_equal_one(case, two):
    check(case, two[case], 2)


def test_two_devices_drop_different_units(two):
    masks, states = two["masks"]["masks"], two["masks"]["states"]  # (steps, replicas, ...)
    assert masks.shape[:2] == (2, 2)
    assert not np.array_equal(masks[0, 0], masks[0, 1])
    assert not np.array_equal(masks[0, 0], masks[1, 0])
    assert 0.2 < (masks == 0).mean() < 0.8
    np.testing.assert_array_equal(states[:, 0], states[:, 1])


@pytest.fixture(scope="module", params=[1, 2, 4])
def everything(request, tmp_path_factory):
    return request.param, results(tmp_path_factory.mktemp("devices"), request.param, ALL)


@pytest.mark.slow
@pytest.mark.parametrize("case", ALL)
def test_any_number_of_devices_and_micro_batches_equals_one(case, everything):
    devices, found = everything
    check(case, found[case], devices)
