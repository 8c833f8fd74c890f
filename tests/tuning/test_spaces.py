"""The ready-made spaces: each of their points is a run, and a model can be made of it."""

from __future__ import annotations

import dataclasses
import random
from pathlib import Path
from types import SimpleNamespace

import pytest

from pipelines import recipes
from pipelines.creation import create
from pipelines.run import Images, Pairs, Run, Series, Tables, Texts
from tuning import spaces
from tuning.space import Choice, Space
from zoo.layers.series import Windows
from zoo.layers.table import Columns, Number

DATA = {
    "transfer_images": Images("digits"),
    "from_scratch_images": Images("digits"),
    "mobile": Images("digits"),
    "transfer_text": Texts("a.csv"),
    "from_scratch_text": Texts("a.csv"),
    "transfer_pairs": Pairs("a.csv"),
    "from_scratch_pairs": Pairs("a.csv"),
    "tables": Tables("a.csv", target="y"),
    "series": Series("a.csv", target="y"),
}


def base(name: str, **options) -> Run:
    model = spaces.SPACES[name]().defaults()["model"]
    return Run(options.pop("model", model), DATA[name], recipes.from_scratch(), Path("out"), **options)


@pytest.mark.parametrize("name", spaces.SPACES)
def test_every_point_is_a_run_and_every_range_matters(name):
    space = spaces.SPACES[name](epochs=2)
    run = base(name)
    space.check(run)
    assert Space.from_json(space.to_json()) == space
    seen: dict[str, set] = {}
    for number in range(200):
        values = space.draw(random.Random(number))
        made = space.run(run, values)
        assert Run.from_json(made.to_json()).phases == made.phases
        for own, value in values.items():
            seen.setdefault(own, set()).add(value)
    assert set(seen) == set(space.ranges)
    for own, values in seen.items():
        points = [point for asked in space.asked() if asked.name == own for point in asked.range.points or (0.1, 0.2)]
        assert len(values) >= len(set(points)), own


@pytest.mark.parametrize("name", spaces.SPACES)
def test_the_first_point_is_the_usual_recipe(name):
    space = spaces.SPACES[name]()
    first = space.run(base(name), space.defaults(base(name)))
    if name in ("transfer_images", "transfer_pairs", "mobile"):
        assert first.phases == recipes.progressive_unfreezing()
        known = ("hf://openai/clip-vit-base-patch32", None) if "pairs" in name else ("mobilenet_v2", "bundled")
        assert (first.model, first.weights) == known
    elif name != "transfer_text":
        assert (first.phases, first.weights) == (recipes.from_scratch(), None)
    if name != "transfer_text":
        assert first.batch == 32 and first.label_smoothing == 0 and first.optimization.optimizer == "adam"


@pytest.mark.parametrize(
    ("name", "options", "asks"),
    [
        ("from_scratch_images", {"size": 32}, "classify"),
        ("tables", {"columns": Columns((Number("a"), Number("b")))}, "classify"),
        ("series", {"series": Windows(window=6, horizon=2)}, "forecast"),
        ("from_scratch_text", {"vocabulary": 100}, "classify"),
    ],
)
def test_a_model_can_be_made_of_points(name, options, asks):
    space = spaces.SPACES[name]()
    data = SimpleNamespace(options=lambda: options, task=asks, classes=("a", "b"))
    small = {"widths": {(64,), (32, 64)}, "width": {64}, "hidden": {128}}
    made = 0
    for number in range(1000):
        values = space.draw(random.Random(number))
        if all(values.get(f"overrides.{own}", next(iter(few))) in few for own, few in small.items()):
            model = create(space.run(base(name), values), data)
            assert model.count_params() > 0
            made += 1
        if made == 3:
            return
    raise AssertionError(f"only {made} small points")


def test_small_models_without_published_weights_are_trained_from_scratch():
    space = spaces.mobile()
    for number in range(50):
        run = space.run(base("mobile"), space.draw(random.Random(number)))
        assert (run.weights == "bundled") == (run.model == "mobilenet_v2") == (len(run.phases) > 1)
        assert run.data.size in (96, 128, 160, 192, 224)


def test_models_with_a_tag_have_its_weights():
    space = spaces.transfer_images(("resnet50.a1_in1k", "mobilenet_v2"))
    pairs = {(values["model"], values["weights"]) for values in (space.draw(random.Random(n)) for n in range(30))}
    assert pairs == {("resnet50", "a1_in1k"), ("mobilenet_v2", "bundled")}
    with pytest.raises(ValueError, match="Did you mean 'a1_in1k'"):
        spaces.transfer_images(("resnet50.a1_in1",))
    with pytest.raises(ValueError, match=r"published of 'cnn'.*from scratch"):
        spaces.transfer_images(("cnn",))


def test_a_checkpoint_is_a_model_with_weights_of_its_own():
    space = spaces.transfer_text(("hf://some/bert",))
    assert space.defaults()["model"] == "hf://some/bert" and space.defaults()["weights"] is None
    space.check(Run("hf://some/bert", Texts("a.csv"), recipes.lora(), Path("out")))


@pytest.mark.parametrize(
    ("name", "model"), [("tables", "mlp"), ("transfer_images", "resnet18"), ("mobile", "resnet18")]
)
def test_a_space_of_a_run_has_its_model_and_weights(name, model):
    weights = None if name == "tables" else "hf://someone/weights"
    run = base(name, model=model, weights=weights)
    space = spaces.of_run(name, run, epochs=3)
    space.check(run)
    made = space.run(run, space.draw(random.Random(0)))
    assert (made.model, made.weights, made.phases[-1].epochs) == (model, weights, 3)


def test_labels_that_are_numbers_are_not_smoothed():
    run = base("from_scratch_images")
    numbers = dataclasses.replace(run, data=Images("a.csv", target="age"))
    assert "label_smoothing" in spaces.of_run("from_scratch_images", run).ranges
    assert "label_smoothing" not in spaces.of_run("from_scratch_images", numbers).ranges


def test_an_unknown_space_is_told_with_the_nearest():
    with pytest.raises(ValueError, match="Did you mean 'transfer_images'"):
        spaces.find("transfer_image")


def test_a_space_is_changed_like_any_other():
    space = spaces.tables() | Space({"batch": 16, "overrides.widths": Choice((4,), (2,))})
    assert space.defaults()["batch"] == 16 and space.defaults()["overrides.widths"] == (4,)
