"""The largest batch that fits: by few trials, in a process that may die of them, without harm to the machine."""

import contextlib
import dataclasses
from types import SimpleNamespace

import pytest

from pipelines import batch_size, memory
from pipelines.batch_size import Trials, largest, settled
from pipelines.batch_trial import STEPS, largest_phase, longest
from pipelines.feed import Feed
from pipelines.freezing import find_groups
from pipelines.recovery import OutOfMemory
from pipelines.run import Images, Phase, Run, Tables
from pipelines.train import resume, train
from tests.pipelines import small, toy


def tried(limit: int, *, unit: int = 1, most: int = 10_000) -> tuple[int, list[int]]:
    sizes = []

    def fits(size: int) -> bool:
        sizes.append(size)
        return size <= limit

    return largest(fits, unit=unit, most=most), sizes


@pytest.mark.parametrize(
    ("limit", "options", "found", "sizes"),
    [
        (100, {}, 96, [8, 16, 32, 64, 128, 96, 112]),
        (8, {}, 8, [8, 16, 12, 10]),
        (3, {}, 3, [8, 4, 2, 3]),
        (1, {}, 1, [8, 4, 2, 1]),
        (100, {"most": 50}, 50, [8, 16, 32, 50]),
        (100, {"most": 5}, 5, [5]),
        (100, {"unit": 6}, 96, [12, 24, 48, 96, 192, 144, 120]),
        (7, {"unit": 6}, 6, [12, 6]),
    ],
)
def test_doubling_then_between(limit, options, found, sizes):
    assert tried(limit, **options) == (found, sizes)


def test_nothing_fits():
    with pytest.raises(OutOfMemory, match="Not even a batch of 4 fits"):
        tried(3, unit=4)


def test_the_phase_in_which_most_numbers_learn():
    model = toy.model()
    phases = (Phase(3, 1e-2), Phase(4, 1e-2, unfreeze="all"), Phase(5, 1e-2, unfreeze=2))
    chosen = largest_phase(model, find_groups(model), phases)
    assert (chosen.unfreeze, chosen.epochs) == ("all", 1)
    assert chosen.learning_rate < 1e-9
    assert all(layer.trainable for layer in model.layers)


def test_of_texts_the_longest_batch_is_tried():
    import tensorflow as tf

    lengths = [3, 9, 4, 7]

    def start(number: int) -> tf.data.Dataset:
        made = tf.data.Dataset.from_tensor_slices(lengths).map(lambda length: tf.zeros((2, length)))
        return made.repeat().skip(number)

    found = longest(Feed(4, start))
    assert found.steps == STEPS
    assert [batch.shape[1] for batch in found.epoch()] == [9] * STEPS


def test_the_memory_that_is_left_is_that_of_the_narrowest_group(tmp_path):
    files = {
        "proc/meminfo": "MemTotal: 9000 kB\nMemFree: 1 kB\nMemAvailable: 8000 kB\n",
        "proc/self/cgroup": "4:cpu,memory:/job/step\n0::/slice/box\n",
        "sys/fs/cgroup/slice/box/memory.max": "max\n",
        "sys/fs/cgroup/slice/box/memory.current": "900000\n",
        "sys/fs/cgroup/slice/memory.max": "6000000\n",
        "sys/fs/cgroup/slice/memory.current": "1000000\n",
        "sys/fs/cgroup/slice/memory.stat": "anon 5\ninactive_file 400000\n",
        "sys/fs/cgroup/memory/job/memory.limit_in_bytes": "9223372036854771712\n",
        "sys/fs/cgroup/memory/job/memory.usage_in_bytes": "5000\n",
    }
    assert memory.available(tmp_path) is None
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert memory.available(tmp_path) == 5_400_000
    (tmp_path / "sys/fs/cgroup/memory/memory.limit_in_bytes").write_text("3000000")  # as a container sees its own
    (tmp_path / "sys/fs/cgroup/memory/memory.usage_in_bytes").write_text("1000000")
    assert memory.available(tmp_path) == 2_000_000
    (tmp_path / "sys/fs/cgroup/slice/memory.max").unlink()
    (tmp_path / "sys/fs/cgroup/memory/memory.limit_in_bytes").unlink()
    assert memory.available(tmp_path) == 8_000 * 1024


@pytest.mark.slow
def test_a_mistake_is_told_as_without_a_trial(tmp_path):
    run = small.quick(tmp_path / "out", data=Images(str(tmp_path / "nowhere")), batch="auto")
    with pytest.raises(FileNotFoundError, match="nowhere"):
        settled(run)


@pytest.mark.slow
def test_a_run_finds_its_batch_and_keeps_it(tmp_path):
    found = train(small.quick(tmp_path / "out", batch="auto"), progress=False)
    assert found.run.batch == 157  # eight steps an epoch of 1,260 images
    assert Run.from_json((tmp_path / "out" / "run.json").read_text()).batch == 157


@pytest.mark.slow
def test_a_trial_that_takes_too_much_memory_is_ended(tmp_path):
    """Every image takes 4 MB in each of the first convolutions."""
    run = small.run(
        tmp_path / "out",
        model="cnn",
        data=Images("digits", size=128, augment="none"),
        overrides={"widths": (64,), "hidden": 8},
        phases=(Phase(1, 1e-3, unfreeze="all"),),
        batch="auto",
    )
    with Trials(run) as trials:
        assert trials.fits(1)
        base = memory.resident(trials._process.pid)
    with Trials(run, limit=base + 300_000_000) as trials:
        assert trials.fits(2)
        process = trials._process
        assert not trials.fits(157)
        assert process.poll() is not None
        assert "GiB of memory" in trials.told(2)
        assert trials.fits(3)  # in another process


def test_the_largest_that_fits_becomes_the_batch_of_the_run(tmp_path, monkeypatch, caplog):
    known = SimpleNamespace(unit=2, most=50, fits=lambda size: size <= 20, told=lambda found: f"{found} is told")
    monkeypatch.setattr(batch_size, "Trials", lambda run: contextlib.nullcontext(known))
    assert settled(small.quick(tmp_path, batch="auto")).batch == 20
    assert "A batch of 20: 20 is told." in caplog.text


def test_a_run_of_any_batch_that_has_no_checkpoint_yet_is_begun(tmp_path, monkeypatch):
    run = Run("mlp", Tables("wine"), (Phase(1, 1e-2),), tmp_path, batch="auto", overrides={"widths": [4]})
    (tmp_path / "run.json").write_text(run.to_json())
    monkeypatch.setattr(batch_size, "settled", lambda run: dataclasses.replace(run, batch=24))
    assert resume(tmp_path, progress=False).run.batch == 24


def test_what_a_run_may_say_of_its_batch(tmp_path):
    assert Run.from_json(small.quick(tmp_path, batch="auto").to_json()).batch == "auto"
    for wrong in (0, -1, 1.5, "most", True):
        with pytest.raises(ValueError, match="both must be at least 1, or the batch 'auto'"):
            small.quick(tmp_path, batch=wrong)
    assert settled(small.quick(tmp_path, batch=7)).batch == 7
