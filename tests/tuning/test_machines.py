"""A search by a chief and two workers, each a process of its own, one of which is killed."""

import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from tuning import journal

SPACE = """\
recipe: from_scratch
recipe.epochs: 4
recipe.learning_rate: {float: [1e-4, 1e-2], sampling: log}
"""


def zoo(folder, name, *arguments):
    with (folder / f"{name}.log").open("w") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "pipelines.cli", "tune", *arguments],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)},
            stdout=log,
            stderr=log,
            cwd=folder,
        )


def until(done, *, seconds):
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end
        time.sleep(0.05)


def scores(search):
    return {trial.id: dict(trial.result.scores) for trial in journal.trials(journal.read(search))}


@pytest.mark.slow
def test_a_killed_worker_gives_its_trial_back_and_the_search_ends_as_on_one_machine(tmp_path):
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{found.getsockname()[1]}"
    (tmp_path / "space.yaml").write_text(SPACE)
    asked = (
        "lenet5",
        "--images",
        "digits",
        "--space",
        "space.yaml",
        "--oracle",
        "random",
        "--trials",
        "4",
        "--seed",
        "3",
    )
    alone = zoo(tmp_path, "alone", *asked, "--out", "alone")
    assert alone.wait(timeout=600) == 0, (tmp_path / "alone.log").read_text()[-2000:]
    running = [zoo(tmp_path, "chief", *asked, "--out", "search", "--chief", "--listen", address, "--lease", "10s")]
    running += [zoo(tmp_path, f"worker{number}", "--worker", address) for number in range(2)]
    try:
        chief, killed, other = running
        begun = [tmp_path / "search" / "trials" / name / "history.json" for name in ("0000", "0001")]
        until(lambda: all(path.is_file() for path in begun) or chief.poll() is not None, seconds=300)
        killed.send_signal(signal.SIGKILL)
        assert chief.wait(timeout=600) == 0, (tmp_path / "chief.log").read_text()[-2000:]
        assert other.wait(timeout=60) == 0, (tmp_path / "worker1.log").read_text()[-2000:]
    finally:
        for process in running:
            process.kill()
    assert "is lost; trial 000" in (tmp_path / "chief.log").read_text()
    assert "4 of its trials were carried out here" not in (tmp_path / "worker0.log").read_text()
    assert scores(tmp_path / "search") == scores(tmp_path / "alone")
    assert len(scores(tmp_path / "search")) == 4
    assert (tmp_path / "search" / "best" / "bundle.json").is_file()
