"""Every regularization by name: it reaches the training of a run and of `zoo fit`, and leaves inference alone."""

import functools
import json
from collections.abc import Callable

import numpy as np
import pytest

import zoo
from pipelines.optimization import Optimization
from pipelines.run import Images, Phase, Run
from pipelines.train import train
from tests.command import zoo_here
from tests.pipelines import squares
from zoo.layers.regularization import StochasticDepth, depth_rates
from zoo.layers.transformer_block import TransformerBlock

PHASES = (Phase(3, 5e-3, unfreeze="all"),)
slow = functools.partial(pytest.param, marks=pytest.mark.slow)
TINY = {"resnet18": {"depths": (2, 1), "width": 8}, "mlp": {"widths": (16,)}}


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Images:
    """Pictures with a red square or without."""
    images, marks = squares.pictures(90)
    names = np.array(["none", "red"])[marks[:, 0].astype(int)]
    file = tmp_path_factory.mktemp("squares") / "a.npz"
    return Images.arrays(images, names, file=file, size=16, augment="none")


@pytest.fixture(scope="module")
def plain(data, tmp_path_factory) -> Callable[[str], dict[str, np.ndarray]]:
    """The kernels of a model's run without any."""
    root = tmp_path_factory.mktemp("plain")
    return functools.cache(lambda name: kernels(Run(name, data, PHASES, root / name, overrides=TINY[name], batch=21)))


def kernels(run: Run) -> dict[str, np.ndarray]:
    """What a run ends with, by path."""
    found = train(run, progress=False).load_model().weights
    return {variable.path: np.asarray(variable) for variable in found if len(variable.shape) > 1}


def size(found: dict[str, np.ndarray]) -> float:
    return sum(float(np.square(array).sum()) for array in found.values())


@pytest.mark.parametrize(
    ("name", "model", "options"),
    [
        ("l2", "mlp", {"optimization": Optimization(l2=0.2)}),
        slow("class_weights", "mlp", {"class_weights": {"red": 4.0}}),
        ("dropout", "mlp", {"overrides": {**TINY["mlp"], "dropout": 0.5}}),
        slow("l1", "mlp", {"optimization": Optimization(l1=0.05)}),
        slow("ema", "mlp", {"optimization": Optimization(ema=0.9)}),
        slow("label_smoothing", "mlp", {"label_smoothing": 0.2}),
        slow("stochastic_depth", "resnet18", {"overrides": {**TINY["resnet18"], "stochastic_depth": 0.5}}),
    ],
)
def test_a_run_trains_with_it(data, plain, tmp_path, name, model, options):
    values = {"overrides": TINY[model], "batch": 21, **options}
    found, others = kernels(Run(model, data, PHASES, tmp_path / "out", **values)), plain(model)
    assert found.keys() == others.keys()
    assert all(np.abs(found[path] - others[path]).max() > 1e-5 for path in found)
    if name in ("l1", "l2"):
        assert size(found) < 0.9 * size(others)
    if name == "stochastic_depth":  # seeded
        again = kernels(Run(model, data, PHASES, tmp_path / "again", **values))
        assert all(np.array_equal(found[path], again[path]) for path in found)
    if name == "ema":
        assert "moving average (decay 0.9)" in (tmp_path / "out" / "README.md").read_text()


def test_a_run_ends_early_where_nothing_improves(data, tmp_path):
    phases = (Phase(12, 1e-9, unfreeze="all", warmup=0.0),)
    run = Run("mlp", data, phases, tmp_path / "out", overrides={"widths": (4,)}, batch=21, patience=2)
    train(run, progress=False)
    rows = (tmp_path / "out" / "history.csv").read_text().splitlines()[1:]
    assert 3 <= len(rows) < 12


@pytest.mark.slow
def test_the_command_has_them_all(data, tmp_path):
    given = {
        "--l1": 1e-5, "--l2": 1e-4, "--ema": 0.9, "--label-smoothing": 0.1, "--class-weights": "balanced",
        "--patience": 3, "--dropout": 0.1, "--stochastic-depth": 0.2, "--mixup": 0.2, "--cutmix": 1.0,
    }  # fmt: skip
    arguments = [str(part) for pair in given.items() for part in pair]
    fixed = ["--images", data.source, "--size", 32, "--recipe", "feature_extraction", "--epochs", 1, "--out", "out"]
    zoo_here("fit", "resnet18", *fixed, *arguments, "--no-deterministic", cwd=tmp_path)
    run = json.loads((tmp_path / "out" / "run.json").read_text())
    assert (run["optimization"]["l1"], run["optimization"]["l2"], run["optimization"]["ema"]) == (1e-5, 1e-4, 0.9)
    assert (run["label_smoothing"], run["class_weights"], run["patience"]) == (0.1, "balanced", 3)
    assert run["overrides"] == {"dropout": 0.1, "stochastic_depth": 0.2}
    assert run["hardware"]["deterministic"] is False
    assert (run["data"]["mixup"], run["data"]["cutmix"]) == (0.2, 1.0)
    told = zoo_here("fit", "lenet5", *fixed[:-1], "no", "--stochastic-depth", 0.2, cwd=tmp_path, code=1)
    assert "There is no option 'stochastic_depth' here" in told


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("resnet18", {"depths": (1, 2), "width": 8}),
        ("resnet50", {"depths": (1, 2), "width": 8}),
        ("convnext_atto", {"depths": (1, 2), "widths": (4, 6)}),
        ("vit_tiny16", {"depth": 3, "width": 16, "heads": 2, "mlp_width": 32}),
    ],
)
def test_blocks_are_skipped_ever_more_often_and_in_training_alone(name, options):
    plain, deep = (zoo.create(name, classes=2, size=32, stochastic_depth=rate, **options) for rate in (0.0, 0.6))
    skipped = [layer for layer in deep._flatten_layers() if isinstance(layer, StochasticDepth) and layer.rate]
    assert [layer.rate for layer in skipped] == pytest.approx([0.3, 0.6])  # of three blocks the first is never skipped
    assert not [one for one in plain._flatten_layers() if isinstance(one, StochasticDepth) and one.rate]
    values = {variable.path: variable for variable in plain.weights}
    assert values.keys() == {variable.path for variable in deep.weights}
    for variable in deep.weights:
        variable.assign(values[variable.path])
    images = np.random.default_rng(0).uniform(0, 255, (4, 32, 32, 3)).astype("float32")
    np.testing.assert_array_equal(deep(images, training=False), plain(images, training=False))


def test_a_transformer_skips_attention_and_mlp_for_whole_examples():
    """A skipped branch leaves the tokens as they are; one that is kept counts 1 / (1 - rate)."""
    block = TransformerBlock(2, 16, stochastic_depth=0.5)
    tokens = np.random.default_rng(0).normal(size=(200, 3, 8)).astype("float32")
    block(tokens)
    block.mlp_down.kernel.assign(np.zeros((16, 8)))  # so that attention alone moves anything
    moved = np.asarray(block(tokens, training=True)) - tokens
    whole = np.asarray(block(tokens, training=False)) - tokens
    kept = np.abs(moved).max(axis=(1, 2)) > 1e-6
    assert 60 < kept.sum() < 140
    np.testing.assert_allclose(moved[kept], 2 * whole[kept], rtol=1e-4, atol=1e-5)
    again = TransformerBlock.from_config(block.get_config())
    assert again.stochastic_depth == 0.5


@pytest.mark.parametrize("name", ["resnet18", "convnext_atto", "vit_tiny16"])
def test_a_share_of_all_is_refused(name):
    with pytest.raises(ValueError, match=r"stochastic_depth=1\.0 must be at least 0 and under 1"):
        zoo.create(name, stochastic_depth=1.0)
    assert depth_rates(0.2, 1) == [0.0] and depth_rates(0.2, 3) == pytest.approx([0, 0.1, 0.2])
