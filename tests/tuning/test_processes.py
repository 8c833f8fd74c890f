"""Trials in processes of their own: what they die of, what they may take, and how they are stopped."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipelines import memory
from tests.tuning.bodies import MEGABYTE, job
from tuning.job import Job, Limits
from tuning.processes import Processes, Running

ROOT = Path(__file__).parents[2]
BODY = "tests.tuning.bodies:act"


@pytest.fixture(scope="module")
def processes():
    with Processes(body=BODY, preload=(), grace=1.0) as found:
        yield found


def ended(processes: Processes, asked: Job, limits: Limits = Limits()) -> Running:
    """A trial at its end."""
    running = processes.start(asked, limits)
    assert processes.wait(20) == [running]
    assert processes.running == []
    return running


def until(done, seconds: float = 20.0) -> bool:
    """Whether something comes to pass in time."""
    end = time.monotonic() + seconds
    while not done():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def is_gone(process: int) -> bool:
    """Whether a process has ended; one that nobody has asked about yet has."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def process_of(folder: Path) -> int:
    """What a trial wrote down."""
    assert until(lambda: (folder / "process").is_file() and (folder / "process").read_text())
    return int((folder / "process").read_text())


def test_a_job_is_read_as_it_was_written(tmp_path):
    asked = job(tmp_path / "a", "fine", epochs=3, start=tmp_path / "b", measure=("size",), threads=2, device=1)
    asked.write()
    assert Job.read(tmp_path / "a") == asked
    assert asked.run.out == tmp_path / "a"
    elsewhere = dataclasses.replace(asked, folder=tmp_path / "c", threads=None, cache=tmp_path)
    assert elsewhere.identity == asked.identity != dataclasses.replace(asked, epochs=4).identity
    with pytest.raises(ValueError, match="'speed' is not measured; latency and size are"):
        job(tmp_path, "fine", measure=("speed",))
    with pytest.raises(ValueError, match=r"'int4'\) is not one of 'none', 'float16'"):
        job(tmp_path, "fine", quantize="int4")
    with pytest.raises(ValueError, match="memory=0"):
        Limits(memory=0)


def test_a_trial_that_comes_to_its_end(processes, tmp_path):
    found = ended(processes, job(tmp_path, "fine")).result
    assert (found.status, found.scores, found.epochs) == ("completed", {"val_loss": 0.5}, 3)
    assert found.memory > 5 * MEGABYTE
    assert 0 < found.seconds < 20
    assert json.loads((tmp_path / "result.json").read_text())["result"]["scores"] == {"val_loss": 0.5}


@pytest.mark.parametrize(
    ("act", "reason"),
    [
        ("fail", "No model of 3 layers fits into 2."),
        ("surprise", "KeyError: "),
        ("crash", "Its process ended with SIGSEGV: Fatal Python error: Segmentation fault, in _crash (bodies.py, line"),
        ("leave", "Its process ended with exit code 3: The last words."),
        ("unknown", "KeyError: 'unknown'"),
    ],
)
def test_a_trial_that_fails_says_why(processes, tmp_path, act, reason):
    found = ended(processes, job(tmp_path, act)).result
    assert found.status == "failed"
    assert found.reason.startswith(reason)
    assert "\n" not in found.reason
    assert ended(processes, job(tmp_path / "next", "fine")).result.status == "completed"


def test_a_trial_that_is_killed_by_others(processes, tmp_path):
    running = processes.start(job(tmp_path, "sleep"))
    os.kill(process_of(tmp_path), signal.SIGKILL)
    assert processes.wait(20) == [running]
    assert running.result.reason.startswith("Its process ended with SIGKILL")


@pytest.mark.parametrize("act", ["eat", "feed"])
def test_memory_has_a_limit(processes, tmp_path, act):
    running = ended(processes, job(tmp_path, act), Limits(memory=150 * MEGABYTE))
    assert running.result.status == "failed"
    assert running.result.reason.endswith("GiB of memory (limit 0.15 GiB).")
    assert running.result.memory > 150 * MEGABYTE
    assert is_gone(running.process)


def test_time_has_a_limit(processes, tmp_path):
    running = ended(processes, job(tmp_path, "refuse"), Limits(seconds=0.5))
    assert running.result.reason == "It took longer than 0.5 seconds, the limit."
    assert 0.5 < running.result.seconds < 10
    assert is_gone(running.process)


@pytest.mark.parametrize("act", ["sleep", "refuse"])  # refuse: it is killed after the grace
def test_a_trial_that_is_stopped_has_no_result(processes, tmp_path, act):
    running = processes.start(job(tmp_path, act))
    process_of(tmp_path)
    processes.stop(running)
    assert processes.wait(20) == [running]
    assert running.result is None
    assert not (tmp_path / "result.json").exists()
    assert is_gone(running.process)
    assert ended(processes, job(tmp_path, "fine")).result.status == "completed"


def test_a_trial_that_has_its_result_does_not_run_again(processes, tmp_path):
    first = ended(processes, job(tmp_path, "fine")).result
    (tmp_path / "log.txt").unlink()
    again = ended(processes, job(tmp_path, "fine", threads=1))
    assert again.result == first
    assert not (tmp_path / "log.txt").exists()
    assert ended(processes, job(tmp_path, "fine", epochs=9)).process  # another job
    assert (tmp_path / "log.txt").exists()


def test_several_at_a_time(processes, tmp_path):
    slow = processes.start(job(tmp_path / "slow", "sleep"))
    quick = [processes.start(job(tmp_path / str(number), "fine")) for number in range(2)]
    found = []
    while len(found) < 2:
        found += processes.wait(20)
    assert {id(each) for each in found} == {id(each) for each in quick}
    assert processes.wait(0.0) == []
    assert processes.running == [slow]
    processes.stop(slow)
    assert processes.wait(20) == [slow]


def test_what_a_trial_leaves_behind_is_ended(processes, tmp_path):
    assert ended(processes, job(tmp_path, "bear")).result.status == "completed"
    assert until(lambda: is_gone(process_of(tmp_path)))


def test_a_server_that_died_is_started_anew(tmp_path):
    with Processes(body=BODY, preload=()) as processes:
        before = processes.start(job(tmp_path / "before", "sleep"))
        process_of(tmp_path / "before")
        processes.server._process.kill()
        assert ended_among(processes, job(tmp_path / "after", "fine")).result.status == "completed"
        assert processes.running == [before]
    assert before.result is None
    with pytest.raises(OSError, match=r"ended before it could start one.*No module named 'tests.nowhere'"):
        Processes(body=BODY, preload=("tests.nowhere",)).start(job(tmp_path / "never", "fine"))


def ended_among(processes: Processes, asked: Job) -> Running:
    running = processes.start(asked)
    assert processes.wait(20) == [running]
    return running


SEARCH = f"""
import sys, time
from pathlib import Path
from tests.tuning.bodies import job
from tuning.processes import Processes

processes = Processes(body={BODY!r}, preload=(), grace=1.0)
processes.start(job(Path(sys.argv[1]), "sleep"))
processes.wait()
"""  # without a guard of its main module, as users' scripts are


def test_a_trial_whose_search_is_killed_ends_itself_and_can_be_gone_on_with(processes, tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    (tmp_path / "search.py").write_text(SEARCH)
    search = subprocess.Popen([sys.executable, str(tmp_path / "search.py"), str(tmp_path / "0000")], env=environment)
    try:
        process = process_of(tmp_path / "0000")
        assert not is_gone(process)
    finally:
        search.kill()
        search.wait()
    assert ended(processes, job(tmp_path / "0000", "fine")).result.status == "completed"
    assert is_gone(process)  # the next one has waited for it
    assert "SIGTERM" in (tmp_path / "0000" / "log.txt").read_text()


@pytest.mark.parametrize("trials", [20, pytest.param(200, marks=pytest.mark.slow)])
def test_many_trials_leave_no_memory_and_no_files_behind(processes, tmp_path, trials):
    def taken() -> tuple[int, int]:
        return memory.resident(os.getpid()), len(os.listdir("/proc/self/fd"))

    for number in range(3):
        ended(processes, job(tmp_path / f"first{number}", "fine"))
    before = taken()
    for number in range(trials):
        ended(processes, job(tmp_path / f"{number}", "fine"))
    grown, files = (after - first for after, first in zip(taken(), before, strict=True))
    assert files == 0
    assert grown < 5 * MEGABYTE
