"""With the answers of frozen layers stored, a run learns what it learns without; and goes on from anywhere as ever."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from pipelines import shortcut
from pipelines.checkpoints import Checkpoints
from pipelines.data import Images, Texts
from pipelines.features import FOLDER
from pipelines.optimization import Optimization
from pipelines.recipes import feature_extraction
from pipelines.run import Hardware, Phase, Run
from pipelines.train import CHECKPOINTS, advanced
from tests.pipelines import small

SGD = Optimization(optimizer="sgd")  # whose steps are as exact as the gradients
BERT = {"width": 16, "depth": 2, "heads": 2, "mlp_width": 16}
PART = ("precision", "accumulate")  # of the hardware


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> Images:
    """24 images to train on, in three classes."""
    return Images(str(small.folder(tmp_path_factory.mktemp("images"))), augment="none")


def run(out: Path, data, *, cache: bool | None = True, recipe: tuple[Phase, ...] = (Phase(2, 1e-2),), **changes) -> Run:
    """Two epochs of the head on stored answers."""
    hardware = Hardware(cache=cache, **{name: changes.pop(name) for name in PART if name in changes})
    return Run(
        **{"model": "lenet5", "batch": 8, "optimization": SGD, **changes},
        data=data,
        phases=recipe,
        out=out,
        hardware=hardware,
    )


def texts(path: Path) -> Texts:
    random = np.random.default_rng(0)
    lines = [f"{' '.join(map(str, random.integers(0, 50, random.integers(2, 40))))},{'ab'[i % 2]}" for i in range(60)]
    path.write_text("\n".join(["text,label", *lines]) + "\n", encoding="utf-8")
    return Texts(str(path), vocabulary=200)


def trained(asked: Run, *, epochs: int | None = None, cache: Path | None = None):
    """(weights, metrics of each epoch, notes) of a run."""
    with advanced(asked, epochs=epochs, cache=cache) as found:
        history = found.history
        metrics = [epoch.metrics for epoch in history.epochs]
        return [np.asarray(weight) for weight in found.model.weights], metrics, history.notes


@pytest.fixture
def cuts(monkeypatch) -> list[int]:
    """An entry for each phase that takes a shortcut."""
    made, known = [], shortcut.shortcut

    def counted(*arguments, **options):
        found = known(*arguments, **options)
        made.append(1)
        return found

    monkeypatch.setattr(shortcut, "shortcut", counted)
    return made


def check_equal(tmp_path: Path, data, cuts: list[int], *, phases: int = 1, tolerance: float = 1e-6, **changes) -> None:
    without, told, _ = trained(run(tmp_path / "without", data, **{**changes, "cache": False}))
    assert not cuts
    weights, metrics, notes = trained(run(tmp_path / "with", data, **changes))
    assert (len(cuts), notes) == (phases, [])
    for one, other in zip(weights, without, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=tolerance * max(1, np.abs(other).max()))
    for one, other in zip(metrics, told, strict=True):
        assert one == pytest.approx(other, rel=tolerance, abs=tolerance)


def test_a_recipe_of_several_phases_learns_the_same(tmp_path, plain, cuts):
    phases = Phase(2, 1e-2), Phase(1, 1e-2, unfreeze=2, batch_norm="train"), Phase(1, 1e-2, unfreeze="all")
    check_equal(tmp_path, plain, cuts, phases=2, recipe=phases)


def test_views_are_taken_in_turn(tmp_path, plain, cuts):
    data = dataclasses.replace(plain, augment="light", views=2, balance=True)
    check_equal(tmp_path, data, cuts, recipe=feature_extraction(epochs=3), class_weights="balanced")


def test_texts_keep_their_mask_and_their_length(tmp_path, cuts):
    data = texts(tmp_path / "texts.csv")
    check_equal(tmp_path, data, cuts, model="bert_tiny", overrides=BERT, recipe=(Phase(2, 1e-2, unfreeze=2),))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "tolerance"),
    [
        ({"accumulate": 2, "class_weights": "balanced", "label_smoothing": 0.1}, 1e-6),
        ({"precision": "float16"}, 1e-3),
        ({"precision": "bfloat16"}, 1e-2),
        ({"optimization": Optimization(optimizer="sgd", ema=0.9, clip=0.5, l2=1e-3)}, 1e-6),
    ],
)
def test_other_ways_to_train_learn_the_same(tmp_path, plain, cuts, changes, tolerance):
    check_equal(tmp_path, plain, cuts, tolerance=tolerance, **changes)


def test_where_it_cannot_be_it_is_not_and_says_so(tmp_path, plain, cuts, caplog):
    anew = {"augmented anew": {"augment": "light"}, "mix other images": {"mixup": 0.2}}
    for reason, changes in anew.items():
        trained(run(tmp_path / reason, dataclasses.replace(plain, **changes), recipe=(Phase(1, 1e-2),)))
        assert not cuts
        assert any(reason in message for message in caplog.messages)
    trained(run(tmp_path / "never", plain, cache=False))
    trained(run(tmp_path / "little", plain, cache=None))
    assert not cuts


def test_it_goes_on_bit_for_bit(tmp_path, plain, cuts):
    options = {"recipe": (Phase(2, 1e-2), Phase(1, 1e-2, unfreeze=2)), "save_steps": 1}
    whole, told, _ = trained(run(tmp_path / "whole", plain, **options))
    trained(run(tmp_path / "begun", plain, **options), epochs=1)
    assert list((tmp_path / "begun" / FOLDER).glob("*/index.json"))
    for name in ("kept", "removed", "shared"):
        shutil.copytree(tmp_path / "begun", tmp_path / name)
        for number in Checkpoints(tmp_path / name / CHECKPOINTS).numbers()[-2:]:  # killed within the epoch
            shutil.rmtree(tmp_path / name / CHECKPOINTS / f"checkpoint-{number:06}")
        if name != "kept":
            shutil.rmtree(tmp_path / name / FOLDER)
        cache = tmp_path / "cache" if name == "shared" else None
        weights, metrics, _ = trained(run(tmp_path / name, plain, **options), cache=cache)
        assert metrics == told
        for one, other in zip(weights, whole, strict=True):
            np.testing.assert_array_equal(one, other)
    assert len(cuts) == 2 + 1 + 3 * 2


def test_a_run_of_before_goes_on_as_it_began(tmp_path, plain, cuts):
    options = {"recipe": (Phase(2, 1e-2), Phase(2, 1e-2, unfreeze=2))}
    whole, told, _ = trained(run(tmp_path / "whole", plain, cache=False, **options))
    trained(run(tmp_path / "begun", plain, cache=False, **options), epochs=1)
    checkpoints = Checkpoints(tmp_path / "begun" / CHECKPOINTS)
    known = checkpoints.latest()
    del known.state["course"]["cached"]
    checkpoints.save(known.arrays, known.state, best=known.best)
    path = tmp_path / "begun" / "run.json"
    values = json.loads(path.read_text())
    del values["hardware"]["cache"], values["data"]["views"]
    assert Run.from_json(json.dumps(values)).hardware.cache is None
    values["hardware"]["cache"] = True  # as a large one would have it
    path.write_text(json.dumps(values))
    weights, metrics, _ = trained(run(tmp_path / "begun", plain, **options))
    assert (cuts, metrics) == ([], told)
    for one, other in zip(weights, whole, strict=True):
        np.testing.assert_array_equal(one, other)


def test_runs_share_what_frozen_layers_answer(tmp_path, plain, cuts, monkeypatch):
    folder, passes = tmp_path / "cache", []
    known = shortcut._computing
    monkeypatch.setattr(shortcut, "_computing", lambda *a, **o: lambda: passes.append(1) or known(*a, **o)())
    for number, changes in enumerate(({}, {"batch": 4}, {"class_weights": "balanced", "optimization": SGD})):
        trained(run(tmp_path / f"{number}", plain, recipe=(Phase(1, 1e-2),), **changes), cache=folder)
    assert (len(cuts), len(passes)) == (3, 2)  # training and validation images, once
    trained(
        run(tmp_path / "other", plain, recipe=(Phase(1, 1e-2),), seed=1), cache=folder
    )  # other weights, another split
    assert len(passes) == 4
