"""A fit that goes on from any of its checkpoints ends as the one that was not disturbed, bit for bit."""

import shutil
from pathlib import Path

import keras
import numpy as np
import pytest

from pipelines.checkpoints import Checkpoints
from pipelines.loop import Settings
from pipelines.optimization import Optimization
from pipelines.run import Phase
from pipelines.train import fit
from tests.pipelines import toy

EVERY = 1_000  # checkpoints are kept
# The second phase ruins what the first has learned.
PHASES = (Phase(2, 1e-2, unfreeze=2), Phase(2, 5.0, unfreeze="all", warmup=0.0, batch_norm="train"))
USUAL = Optimization()
AVERAGED = Optimization(optimizer="sgd", momentum=0.9, schedule="plateau", clip=0.5, ema=0.9, l2=1e-3)


def trained(folder: Path, chosen: Optimization, *, go_on: bool = False) -> tuple[list[np.ndarray], str]:
    """The weights and the history (without seconds) of a fit whose checkpoints are in a folder."""
    keras.utils.set_random_seed(0)
    model = toy.model()
    checkpoints = Checkpoints(folder, keep=EVERY)
    history = fit(
        model,
        PHASES,
        toy.dataset(64),
        toy.dataset(48, seed=1),
        progress=False,
        checkpoints=checkpoints,
        resumed=checkpoints.latest() if go_on else None,
        settings=Settings(optimization=chosen, save_steps=1),
    )
    lines = [(e.phase, e.epoch, *e.metrics.values(), e is history.best) for e in history.epochs]
    return model.get_weights(), str(lines)


def cut(folder: Path, target: Path, last: int) -> None:
    """The checkpoints of a run that was killed after so many of them."""
    shutil.copytree(folder, target)
    for number in Checkpoints(target).numbers():
        if number > last:
            shutil.rmtree(target / f"checkpoint-{number:06}")


def test_it_ends_the_same_from_anywhere(tmp_path):
    weights, history = trained(tmp_path / "whole", AVERAGED)
    last = Checkpoints(tmp_path / "whole").numbers()[-1]
    assert last == 2 * (1 + 2 * (4 + 1))  # one as a phase begins, one a step, one an epoch
    for number in (3, 5, last - 4):  # in an epoch, before its validation, in a phase whose best was before it
        cut(tmp_path / "whole", tmp_path / f"{number}", number)
        found, told = trained(tmp_path / f"{number}", AVERAGED, go_on=True)
        assert told == history
        for again, once in zip(found, weights, strict=True):
            np.testing.assert_array_equal(again, once)


def test_a_fit_that_goes_on_twice_still_knows_its_best(tmp_path):
    weights, history = trained(tmp_path / "whole", USUAL)
    last = Checkpoints(tmp_path / "whole").numbers()[-1]
    cut(tmp_path / "whole", tmp_path / "once", last - 4)
    trained(tmp_path / "once", USUAL, go_on=True)
    cut(tmp_path / "once", tmp_path / "twice", last - 2)
    found, told = trained(tmp_path / "twice", USUAL, go_on=True)
    assert told == history
    for again, once in zip(found, weights, strict=True):
        np.testing.assert_array_equal(again, once)


def test_a_checkpoint_of_another_model_is_refused(tmp_path):
    trained(tmp_path / "whole", USUAL)
    with pytest.raises(ValueError, match="is of another run"):
        trained(tmp_path / "whole", AVERAGED, go_on=True)
