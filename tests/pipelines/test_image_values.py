"""Numbers of images: every image family regresses, and a run goes from its CSV file to its exported files."""

from pathlib import Path

import numpy as np
import pytest

import zoo
from pipelines import bundle, metadata
from pipelines.deliver import export_bundle
from pipelines.evaluate import evaluate_bundle
from pipelines.images import load
from pipelines.predict import Predictor
from pipelines.run import Images, Phase, Run
from pipelines.train import train
from tests.command import zoo_here
from tests.pipelines import squares
from zoo.layers.scale import Scale

TARGET = Scale(("age", "income"), (40.0, 50_000.0), (10.0, 1_500.0))
TINY = {
    "cnn": {"widths": (4,), "hidden": 8, "size": 16},
    "lenet5": {},
    "mlp": {"widths": (4,), "size": 16},
    "resnet18": {"depths": (1, 1), "width": 8, "size": 32},
    "deit_tiny16_distilled": {"depth": 1, "width": 16, "heads": 2, "mlp_width": 32, "size": 32},
}
LARGER = {
    "alexnet": {"filters": (4,) * 5, "hidden": 8, "size": 64},
    "convnext_atto": {"depths": (1, 1), "widths": (4, 6), "size": 32},
    "densenet121": {"depths": (1, 1), "size": 32},
    "efficientnet_b0": {"width": 0.25, "depth": 0.25, "size": 32},
    "inception_v1": {"size": 64},
    "mobilenet_v3_small": {"size": 32},
    "vgg11": {"size": 32, "hidden": 8},
    "vit_tiny16": {"depth": 1, "width": 16, "heads": 2, "mlp_width": 32, "size": 32},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return squares.folder(tmp_path_factory.mktemp("squares"), count=120)


@pytest.fixture(scope="module")
def finished(folder, tmp_path_factory) -> bundle.Bundle:
    """A trained run with a TFLite file."""
    data = Images(str(folder / "values.csv"), target=("age", "income"), size=16, augment="none")
    out = tmp_path_factory.mktemp("run") / "out"
    phases = (Phase(20, 3e-3, unfreeze="all"),)
    made = train(Run("mlp", data, phases, out, loss="huber", overrides={"widths": (64,)}, batch=16), progress=False)
    export_bundle(made.path, ["float32"])
    return made


@pytest.mark.parametrize("name", [*TINY, *(pytest.param(name, marks=pytest.mark.slow) for name in LARGER)])
def test_every_image_family_gives_numbers_and_marks(name):
    options = {**TINY, **LARGER}[name]
    model = zoo.create(name, task="regress", target=TARGET, **options)
    head = model.get_layer("head_units")
    assert (model.output_shape, model.name, head.dtype) == ((None, 2), name, "float32")
    assert list(zoo.layer_groups(model))[-1] == "head"
    marks = zoo.create(name, task="multi_label", classes=2, **options)
    marks.set_weights(model.get_weights())  # the same graph up to the units
    images = np.random.default_rng(0).uniform(0, 255, (2, *model.input_shape[1:])).astype("float32")
    expected = np.asarray(marks(images, training=False)) * TARGET.std + TARGET.mean
    np.testing.assert_allclose(model(images, training=False), expected, rtol=1e-5)


@pytest.mark.slow
def test_published_weights_serve_other_tasks():
    options = {"weights": "bundled", "size": 32}
    model = zoo.create("mobilenet_v2", task="regress", target=TARGET, **options)
    other = zoo.create("mobilenet_v2", task="multi_label", classes=4, **options)
    classifier = zoo.create("mobilenet_v2", **options)
    assert (model.output_shape, other.output_shape) == ((None, 2), (None, 4))
    for each in (model, other):
        pairs = zip(each.get_weights()[:-2], classifier.get_weights()[:-2], strict=True)
        assert all(np.array_equal(a, b) for a, b in pairs)


@pytest.mark.slow
def test_auxiliary_classifiers_give_numbers_in_training_too():
    model = zoo.create("inception_v3", task="regress", target=TARGET, auxiliary=True, size=299)
    assert {name: shape.shape for name, shape in model.output.items()} == dict.fromkeys(model.output, (None, 2))
    assert len(model.output) > 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"classes": 2}, r"takes target=Scale.*classes=2"),
        ({"target": "age"}, r"takes target=Scale\(names, mean, std\).*got target='age'"),
    ],
)
def test_numbers_have_no_classes(options, message):
    with pytest.raises(ValueError, match=message):
        zoo.create("lenet5", task="regress", **options)
    with pytest.raises(ValueError, match="no option 'target'"):
        zoo.create("lenet5", target=TARGET)


def test_it_learns_in_its_own_units(finished, folder):
    age, income = finished.scores.targets
    assert age.r2 > 0.98 and income.r2 > 0.98 and age.mae < 0.3 and income.mae < 300
    assert evaluate_bundle(finished) == finished.scores
    truth = squares.numbers(squares.pictures(120)[1])
    found = finished.predict([folder / f"{index:03}.png" for index in range(3)])
    for row, true in zip(found, truth, strict=False):
        assert list(row) == ["age", "income"]
        assert row["age"] == pytest.approx(true[0], abs=0.5) and row["income"] == pytest.approx(true[1], abs=500)
    card = (finished.path / "README.md").read_text()
    assert "for predicting age, income" in card and "Targets (2): `age`, `income`" in card and "loss `huber`" in card


def test_every_form_gives_the_same_numbers(finished, folder):
    files = [folder / f"{index:03}.png" for index in range(4)]
    expected = Predictor.open(finished.path).values(files)
    path = finished.path / "float32.tflite"
    predictor = Predictor.open(path)
    np.testing.assert_allclose(predictor.values(files), expected, rtol=1e-4)
    assert predictor.targets == metadata.read_targets(path) == ("age", "income")
    assert (metadata.read_task(path), metadata.read_activation(path)) == ("regress", None)
    with pytest.raises(ValueError, match=r"predicts numbers \(age, income\), not classes"):
        predictor.best(files)


@pytest.mark.slow
def test_a_saved_model_gives_numbers_for_encoded_images(finished, folder):
    export_bundle(finished.path, ["saved_model"])
    files = [folder / f"{index:03}.png" for index in range(4)]
    found = Predictor.open(finished.path / "saved_model").values(files)
    np.testing.assert_allclose(found, Predictor.open(finished.path).values(files), rtol=1e-4)


def test_the_command_prints_numbers_and_refuses_a_threshold(finished, folder):
    told = zoo_here("predict", finished.path, "000.png", cwd=folder)
    assert f"{finished.predict([folder / '000.png'])[0]['income']:.4g}" in told and "age" in told
    told = zoo_here("predict", finished.path, "000.png", "--threshold", 0.2, cwd=folder, code=1)
    assert "--threshold is for models of images with several labels" in told


def test_mixup_mixes_numbers_and_images_alike(folder):
    data = load(Images(str(folder / "values.csv"), target="age", mixup=1.0, augment="none", size=16), seed=0)
    model = zoo.create("mlp", task="regress", size=16, widths=(4,))
    plain = load(Images(str(folder / "values.csv"), target="age", augment="none", size=16), seed=0)
    for mixed, whole in zip(
        *(each.training_set(model, batch=16, seed=3).epoch() for each in (data, plain)), strict=True
    ):
        before, images = whole[1].numpy(), whole[0].numpy()
        moved = np.roll(images, 1, axis=0) - images
        share = ((mixed[0].numpy() - images) * moved).sum() / np.square(moved).sum()  # of the partner
        expected = before + share * (np.roll(before, 1, axis=0) - before)
        np.testing.assert_allclose(mixed[1].numpy(), expected, rtol=1e-4)
