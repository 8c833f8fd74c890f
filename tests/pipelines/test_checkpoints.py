"""Checkpoints: whole or not there, numbered, the last few kept, and a damaged one passed over."""

import json

import numpy as np
import pytest

from pipelines.checkpoints import ARRAYS, BEST, HASHES, STATE, Checkpoints, CheckpointsError

ARRAYS_OF = {
    "model.weights": np.arange(6, dtype="float32").reshape(2, 3).T,
    "model.seed": np.array([1, 2**32 - 1], "uint32"),
    "optimizer.iterations": np.array(7, "int64"),
}


def saved(folder, *, count: int = 1, keep: int = 3) -> Checkpoints:
    checkpoints = Checkpoints(folder, keep=keep)
    for number in range(1, count + 1):
        best = {"0": np.full(3, number, "float32")} if number % 2 else None
        checkpoints.save(ARRAYS_OF, {"number": number}, best=best)
    return checkpoints


def test_what_is_read_is_what_was_written(tmp_path):
    found = Checkpoints(saved(tmp_path).folder).latest()
    assert found.state == {"number": 1}
    assert found.arrays.keys() == ARRAYS_OF.keys()
    for name, array in ARRAYS_OF.items():
        assert found.arrays[name].dtype == array.dtype
        np.testing.assert_array_equal(found.arrays[name], array)
    np.testing.assert_array_equal(found.best["0"], np.ones(3))


def test_the_last_few_are_kept_and_the_best_goes_with_each(tmp_path):
    checkpoints = saved(tmp_path, count=6, keep=2)
    assert checkpoints.numbers() == [5, 6]
    assert (tmp_path / "checkpoint-000005" / BEST).samefile(tmp_path / "checkpoint-000006" / BEST)
    np.testing.assert_array_equal(checkpoints.latest().best["0"], np.full(3, 5))


def test_of_a_run_that_goes_on_the_best_goes_with_the_next(tmp_path):
    saved(tmp_path)
    again = Checkpoints(tmp_path)
    again.latest()
    again.save({}, {"number": 2})
    np.testing.assert_array_equal(Checkpoints(tmp_path).latest().best["0"], np.ones(3))


@pytest.mark.parametrize("name", [ARRAYS, BEST, STATE, HASHES])
@pytest.mark.parametrize("damage", ["changed", "cut", "gone"])
def test_a_damaged_one_is_passed_over(tmp_path, name, damage):
    checkpoints = saved(tmp_path, count=3)
    file = tmp_path / "checkpoint-000003" / name
    content = file.read_bytes()
    file.unlink()  # the best is the same file in several
    if damage == "changed":
        file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    elif damage == "cut":
        file.write_bytes(content[: len(content) // 2])
    assert checkpoints.latest().state == {"number": 2}


def test_if_all_are_damaged_nothing_is_begun_anew(tmp_path):
    checkpoints = saved(tmp_path, count=2)
    for number in (1, 2):
        (tmp_path / f"checkpoint-{number:06}" / STATE).write_text(json.dumps({"number": 99}))
    with pytest.raises(CheckpointsError, match=r"No checkpoint in .* can be read: 'checkpoint-000002' is damaged"):
        checkpoints.latest()


def test_what_a_dead_process_left_is_none(tmp_path):
    checkpoints = saved(tmp_path)
    (tmp_path / ".partial-1").mkdir()
    (tmp_path / "checkpoint-").mkdir()
    assert checkpoints.numbers() == [1]
    assert Checkpoints(tmp_path / "nothing").latest() is None


def test_where_it_cannot_write_the_earlier_ones_stay(tmp_path, monkeypatch):
    checkpoints = saved(tmp_path)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pipelines.checkpoints.save_file", full)
    with pytest.raises(CheckpointsError, match="No space left on device; the earlier ones are intact"):
        checkpoints.save(ARRAYS_OF, {"number": 2})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-000001"]
    assert checkpoints.latest().state == {"number": 1}


def test_two_processes_do_not_train_in_one_folder(tmp_path):
    first, second = Checkpoints(tmp_path), Checkpoints(tmp_path)
    with first.lock(), pytest.raises(CheckpointsError, match="Another process"), second.lock():
        pass
    with second.lock():
        assert (tmp_path / "lock").exists()
