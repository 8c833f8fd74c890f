"""With the answers of frozen layers stored, a run learns what it learns without; and goes on from anywhere as ever."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from pipelines import datasets, frozen, images, objectives, shortcut
from pipelines.checkpoints import Checkpoints
from pipelines.creation import create
from pipelines.data import Images, Texts
from pipelines.features import FOLDER
from pipelines.optimization import Optimization
from pipelines.recipes import feature_extraction
from pipelines.run import Hardware, Phase, Run
from pipelines.train import CHECKPOINTS, advanced
from tests.pipelines import small
from tests.pipelines.feeds import image_examples
from zoo.core.family import Pixels

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


@pytest.mark.slow
def test_a_recipe_of_several_phases_learns_the_same(tmp_path, plain, cuts):
    phases = Phase(2, 1e-2), Phase(1, 1e-2, unfreeze=2, batch_norm="train"), Phase(1, 1e-2, unfreeze="all")
    check_equal(tmp_path, plain, cuts, phases=2, recipe=phases)


def test_epochs_take_the_views_in_turn():
    examples, pixels = image_examples(10), Pixels(size=16)
    options = {"seed": 3, "augment": "standard", "flip": True, "views": 2}
    feed = images.training_set(examples, pixels, batch=4, **options)
    (whole, labels), *more = images.view_set(examples, pixels, batch=20, **options)
    assert (len(whole), more) == (20, [])
    assert np.abs(whole[:10] - whole[10:]).max() > 10  # other crops and colors
    for number, (batch, targets) in enumerate(feed.start(0).take(3 * feed.steps)):
        numbers = next(iter(feed.numbers(number).take(1))).numpy() + 10 * (number // feed.steps % 2)
        np.testing.assert_array_equal(batch, whole.numpy()[numbers])
        np.testing.assert_array_equal(targets, labels.numpy()[numbers])


@pytest.mark.slow
def test_with_views_it_learns_the_same(tmp_path, plain, cuts):
    data = dataclasses.replace(plain, augment="light", views=2, balance=True)
    check_equal(tmp_path, data, cuts, recipe=feature_extraction(epochs=3), class_weights="balanced")


@pytest.mark.slow
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


def test_where_examples_look_otherwise_each_time_it_is_not_and_says_so(tmp_path, plain, caplog):
    for changes, reason in (
        ({"augment": "light"}, "augmented anew"),
        ({"mixup": 0.2}, "mix other images"),
        ({"augment": "light", "views": 2, "cutmix": 1.0}, "mix other images"),
    ):
        caplog.clear()
        for cache in (None, False, True):
            asked = run(tmp_path / "run", dataclasses.replace(plain, **changes), cache=cache)
            data = datasets.load(asked)
            assert frozen.source(asked, data, create(asked, data), objectives.of_run(asked, data), folder=None) is None
            assert any(reason in message for message in caplog.messages) == bool(cache)


@pytest.mark.slow
def test_where_little_is_saved_it_is_not(tmp_path, plain, cuts):
    trained(run(tmp_path / "little", plain, cache=None))
    assert not cuts


@pytest.mark.slow
@pytest.mark.parametrize("name", ["removed", "kept", "shared"])
def test_it_goes_on_bit_for_bit(tmp_path, plain, cuts, name):
    options = {"recipe": (Phase(2, 1e-2), Phase(1, 1e-2, unfreeze=2)), "save_steps": 1}
    whole, told, _ = trained(run(tmp_path / "whole", plain, **options))
    trained(run(tmp_path / "begun", plain, **options), epochs=1)
    assert list((tmp_path / "begun" / FOLDER).glob("*/index.json"))
    for number in Checkpoints(tmp_path / "begun" / CHECKPOINTS).numbers()[-2:]:  # killed within the epoch
        shutil.rmtree(tmp_path / "begun" / CHECKPOINTS / f"checkpoint-{number:06}")
    if name != "kept":
        shutil.rmtree(tmp_path / "begun" / FOLDER)
    cache = tmp_path / "cache" if name == "shared" else None
    weights, metrics, _ = trained(run(tmp_path / "begun", plain, **options), cache=cache)
    assert metrics == told
    for one, other in zip(weights, whole, strict=True):
        np.testing.assert_array_equal(one, other)
    assert len(cuts) == 2 + 1 + 2


@pytest.mark.slow
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


@pytest.mark.slow
def test_runs_share_what_frozen_layers_answer(tmp_path, plain, cuts, monkeypatch):
    folder, passes, known = tmp_path / "cache", [], shortcut._computing
    monkeypatch.setattr(shortcut, "_computing", lambda *a, **o: lambda: passes.append(1) or known(*a, **o)())
    once = (Phase(1, 1e-2),)
    trained(run(tmp_path / "one", plain, recipe=once), cache=folder)
    trained(run(tmp_path / "two", plain, recipe=once, batch=4, class_weights="balanced"), cache=folder)
    assert (len(cuts), len(passes)) == (2, 2)  # training and validation images, once
    trained(run(tmp_path / "other", plain, recipe=once, seed=1), cache=folder)  # other weights, and another split
    assert len(passes) == 4
