"""Runs on tables and series from the source to the bundle, and from a bundle to an answer."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pipelines.data import Series, Tables
from pipelines.recipes import from_scratch
from pipelines.run import Run
from pipelines.train import train
from zoo.layers.series import windows_of
from zoo.layers.table import columns_of


def trained(out: Path, data: Tables | Series, **options):
    phases = from_scratch(epochs=options.pop("epochs"), learning_rate=0.02)
    return train(Run("mlp", data, phases, out, overrides={"widths": (32,)}, **options), progress=False)


def test_an_mlp_learns_iris_and_its_bundle_knows_what_the_columns_mean(tmp_path):
    bundle = trained(tmp_path / "iris", Tables("iris"), epochs=15, batch=16)
    assert bundle.scores.accuracy >= 0.93
    model = bundle.load_model()
    flower = {"sepal length (cm)": "5.1", "sepal width (cm)": "", "petal length (cm)": "1.4", "petal width (cm)": "0.2"}
    logits = model(columns_of(model).encode([flower]))
    assert bundle.classes[int(np.argmax(logits))] == "setosa"


def test_an_mlp_predicts_a_table_with_categories_and_gaps_in_its_own_units(tmp_path):
    random = np.random.default_rng(0)
    size, town = random.uniform(20, 200, 400), random.choice(["Ulm", "Köln", ""], 400)
    price = 1e5 + 2e3 * size + 5e4 * (town == "Köln") + random.normal(0, 2e3, 400)
    cells = np.where(random.random(400) < 0.1, "", size.round(1).astype(str))
    rows = "".join(f"{a};{b};{c:.0f}\n" for a, b, c in zip(cells, town, price, strict=True))
    (tmp_path / "homes.csv").write_text(f"size;town;price\n{rows}", encoding="utf-8")
    bundle = trained(tmp_path / "homes", Tables(str(tmp_path / "homes.csv"), target="price"), epochs=15)
    (score,) = bundle.scores.targets
    assert score.r2 > 0.75  # the size is unknown of a tenth
    model = bundle.load_model()
    known = columns_of(model).encode([{"size": "100", "town": "Köln"}, {"size": "100", "town": "Rome"}])
    np.testing.assert_allclose(model(known), [[3.5e5], [3e5]], rtol=0.05)


def test_a_trend_with_a_season_is_forecast_beyond_the_range_of_training(tmp_path):
    steps = np.arange(500)
    values = 100 + 0.2 * steps + 10 * np.sin(steps / 4) + np.random.default_rng(0).normal(0, 0.5, 500)
    (tmp_path / "a.csv").write_text("load\n" + "".join(f"{value:.3f}\n" for value in values))
    data = Series(str(tmp_path / "a.csv"), target=("load",), window=26, horizon=4)
    bundle = trained(tmp_path / "run", data, epochs=12)
    (score,) = bundle.scores.targets
    assert score.mae < 0.3 * score.naive_mae
    assert min(score.truth) > max(values[:350])
    assert windows_of(bundle.load_model()).window == 26
