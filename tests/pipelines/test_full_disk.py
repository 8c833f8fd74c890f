"""A disk that is full, a folder that cannot be written to, a folder in which another process trains."""

import contextlib
import resource
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from pipelines.bundle import Bundle
from pipelines.checkpoints import Checkpoints, CheckpointsError
from pipelines.run import Images, Phase, Run
from pipelines.train import resume, train
from tests.command import zoo_here
from tests.pipelines import small


def run(out: Path) -> Run:
    """Checkpoints of 470 kB in the first phase and of 620 kB in the second; the weights take more in an h5 file."""
    return Run(
        "cnn",
        Images("digits", size=16, augment="none"),
        (Phase(1, 1e-3), Phase(1, 1e-3, unfreeze="all")),
        out,
        overrides={"widths": (8, 256), "hidden": 8},
        batch=128,
        save_steps=4,
    )


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Bundle:
    return train(run(tmp_path_factory.mktemp("whole") / "out"), progress=False)


@contextlib.contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Inside, this process cannot write files of more bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def check_resumed(out: Path, whole: Bundle) -> None:
    resumed = resume(out, progress=False)
    for a, b in zip(resumed.load_model().get_weights(), whole.load_model().get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert resumed.scores == whole.scores
    assert {path.name for path in out.iterdir()} == {path.name for path in whole.path.iterdir()}


@pytest.mark.slow
def test_what_cannot_be_written_costs_no_earlier_checkpoint(tmp_path, whole):
    (tmp_path / "run.json").write_text(run(tmp_path / "out").to_json())
    with largest_file(600_000):
        told = zoo_here("fit", "--run", "run.json", "--out", "out", cwd=tmp_path, code=1).splitlines()
    assert told[-1].startswith("error: 'out/best.weights.h5' cannot be written: File too large. What was there before")
    checkpoints = Checkpoints(tmp_path / "out" / "checkpoints")
    assert checkpoints.latest().state["position"]["step"] == 8
    assert {path.name[:11] for path in checkpoints.folder.iterdir()} == {"checkpoint-", "lock"}
    check_resumed(tmp_path / "out", whole)


@pytest.mark.slow
def test_the_first_checkpoint_cannot_be_written(tmp_path, whole):
    (tmp_path / "run.json").write_text(run(tmp_path / "out").to_json())
    with largest_file(300_000):
        told = zoo_here("fit", "--run", "run.json", "--out", "out", cwd=tmp_path, code=1).splitlines()
    assert told[-1].startswith("error: A checkpoint cannot be written to 'out/checkpoints': ")
    assert "File too large" in told[-1]
    check_resumed(tmp_path / "out", whole)


@pytest.mark.slow
@pytest.mark.parametrize("size", [400, 800, 1200, 1600, 2000, 2600, 3200])  # kB; the run takes 3.6 MB
def test_a_disk_that_is_full(tmp_path, whole, size):
    """Whichever file has no room: one clear line, and the run goes on once there is some."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}k", "tmpfs", disk], capture_output=True)
    if mounted.returncode:
        pytest.skip("file systems cannot be mounted here")
    try:
        (tmp_path / "run.json").write_text(run(disk / "out").to_json())
        told = zoo_here("fit", "--run", "run.json", "--out", disk / "out", cwd=tmp_path, code=1)
        assert "No space left on device" in told.splitlines()[-1], told
        subprocess.run(["mount", "-o", "remount,size=64m", disk], check=True)
        check_resumed(disk / "out", whole)
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


def test_a_place_that_cannot_be_written_to_is_refused_before_anything_is_read(tmp_path):
    (tmp_path / "file").write_text("in the way")
    for out in (tmp_path / "file" / "out", Path("/proc/out")):
        with pytest.raises(OSError, match=r"out' cannot be written to: .* Choose another --out"):
            train(small.quick(out, data=Images(str(tmp_path / "nowhere"))), progress=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file"]


@pytest.mark.parametrize("began", [False, True])
def test_a_folder_in_which_another_process_trains_is_refused_untouched(tmp_path, began):
    out = tmp_path / "out"
    with Checkpoints(out / "checkpoints").lock():
        if began:
            (out / "run.json").write_text(small.quick(out).to_json())
            (out / "history.csv").write_text("phase,epoch")
        before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
        with pytest.raises(CheckpointsError, match="Another process is training in"):
            train(small.quick(out), overwrite=True, progress=False)
        assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before


def test_what_a_run_left_that_died_before_it_began_is_no_result(tmp_path):
    out = tmp_path / "out"
    with Checkpoints(out / "checkpoints").lock():
        (out / ".12.partial.run.json").write_text("{")
    train(small.quick(out), progress=False)
    assert (out / "bundle.json").is_file()
