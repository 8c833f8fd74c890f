"""The picture of learning rates shows those that the optimizer had, step by step."""

import math
import operator

import numpy as np
import pytest
from PIL import Image

from pipelines import rate_picture
from pipelines.feed import feed
from pipelines.freezing import find_groups
from pipelines.keeper import Keeper
from pipelines.loop import Loop, Settings
from pipelines.monitor import Epoch, Watcher
from pipelines.objectives.losses import CrossEntropy
from pipelines.optimization import Optimization
from pipelines.run import Phase
from pipelines.tensorboard import optimizer_of
from tests.pipelines import toy

STEPS = 3
PHASES = (Phase(2, 1e-3), Phase(9, 1.0, unfreeze=3, layer_decay=0.5, warmup=0.2))
SCHEDULE = operator.attrgetter("schedule")
GROUPS = {name: [] for name in ("stem", *(f"block{i}" for i in range(23)), "head")}


class Seen(Watcher):
    """The rate that each group's optimizer has for each step, (group, step) -> rate."""

    def __init__(self, model, groups):
        self._model, self._groups, self.rates, self._at = model, groups, {}, 1

    def begin_phase(self, number, phase, groups):
        self._learning = groups

    def begin_epoch(self, number, steps, done):
        self._note()

    def after_step(self, number, step):
        self._at = number + 1
        self._note()

    def _note(self):
        for name in self._learning:
            variable = next(v for layer in self._groups[name] for v in layer.trainable_variables)
            self.rates[name, self._at] = float(optimizer_of(self._model.optimizer, variable).learning_rate)


@pytest.mark.parametrize("chosen", [Optimization(), Optimization(schedule="plateau", wait=1, factor=0.5)], ids=SCHEDULE)
def test_they_are_those_of_the_optimizer(chosen):
    """The second phase is too fast to improve: the plateau lowers its rates, and it ends early."""
    model = toy.model(dropout=0.0)
    groups, keeper = find_groups(model), Keeper(model, patience=4, folder=None)
    seen = Seen(model, groups)
    batches, test = feed(toy.dataset(16 * STEPS)), toy.dataset(32, seed=1)
    settings = Settings(optimization=chosen)
    options = {"loss": CrossEntropy(), "metrics": list, "keeper": keeper, "settings": settings, "watchers": [seen]}
    Loop(model, groups, PHASES, batches, test, **options).run()
    epochs = keeper.history.epochs
    assert 2 + 4 <= len(epochs) < 2 + 9
    found = rate_picture.rates(groups, PHASES, chosen, epochs, steps=STEPS)
    assert list(found.groups) == ["head", "stage2", "stage1"]
    assert found.begins == (1, 2 * STEPS + 1)
    np.testing.assert_array_equal(found.steps, np.arange(1, len(epochs) * STEPS + 1))
    for name, values in found.groups.items():
        expected = [seen.rates.get((name, step), math.nan) for step in found.steps]
        np.testing.assert_allclose(values, expected, rtol=1e-5, atol=1e-9)
    if chosen.schedule == "plateau":
        assert found.groups["head"][-1] < 0.3


def epochs(phase, count, rate):
    return [Epoch(phase, number, rate, {"loss": 1.0}, 1.0) for number in range(1, count + 1)]


def test_a_phase_that_was_slowed_down_shows():
    done = [*epochs(1, 1, 1e-2), *epochs(1, 2, 5e-3)[1:]]
    chosen = Optimization(schedule="constant")
    found = rate_picture.rates(GROUPS, [Phase(2, 1e-2, warmup=0)], chosen, done, steps=2)
    np.testing.assert_allclose(found.groups["head"], [1e-2, 1e-2, 5e-3, 5e-3], rtol=1e-6)


def test_long_runs_of_many_groups_have_few_points_and_a_picture(tmp_path):
    phases = (Phase(1, 1e-3), Phase(9, 3e-4, unfreeze="all", layer_decay=0.75))
    done = [*epochs(1, 1, 1e-3), *epochs(2, 9, 3e-4)]
    found = rate_picture.rates(GROUPS, phases, Optimization(), done, steps=100_000)
    assert found.begins == (1, 100_001) and found.steps[-1] == 1_000_000 and len(found.steps) <= 1_000
    assert np.nanmax(found.groups["stem"]) == pytest.approx(3e-4 * 0.75**24, rel=1e-2)
    found.draw(tmp_path / "rates.png")
    with Image.open(tmp_path / "rates.png") as picture:
        assert picture.size == (960, 504)
        assert len(np.unique(np.asarray(picture.convert("RGB")).reshape(-1, 3), axis=0)) > 1_000
