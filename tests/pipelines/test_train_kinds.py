"""Runs on texts, tables and series: from data to bundle, and from the bundle to the same scores."""

import csv
import dataclasses
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pipelines import bundle, datasets
from pipelines.evaluate import evaluate_bundle
from pipelines.run import Images, Phase, Run, Series, Tables, Texts
from pipelines.train import train
from tests.pipelines import small

TINY_BERT = {"width": 16, "depth": 1, "heads": 2, "mlp_width": 32, "length": 32}
PHASES = (Phase(4, 1e-2, unfreeze="all"),)


def reviews(path: Path, *, count: int = 80) -> Path:
    """Short texts of different lengths with the word that decides the label at their end."""
    random = np.random.default_rng(0)
    words = {"good": ["superb", "lovely", "moving"], "bad": ["dull", "awful", "weak"]}
    with path.open("w", newline="") as stream:
        table = csv.writer(stream)
        table.writerow(["id", "text", "label"])
        for number in range(count):
            label = random.choice(list(words))
            filler = random.choice(["the", "film", "was", "and", "so"], random.integers(1, 9))
            table.writerow([number, f"{number} {' '.join(filler)} {random.choice(words[label])}", label])
    return path


def power(path: Path, *, count: int = 300) -> Path:
    """A daily wave and a temperature."""
    steps = np.arange(count)
    load = 100 + 20 * np.sin(steps / 12 * np.pi) + np.random.default_rng(0).normal(0, 1, count)
    with path.open("w", newline="") as stream:
        table = csv.writer(stream)
        table.writerow(["load", "temperature"])
        table.writerows(zip(load.round(3), (15 + steps % 24).round(1), strict=True))
    return path


def run(kind: str, folder: Path, **changes) -> Run:
    """A few seconds on data of a kind, written into the folder."""
    tokenizer = {"tokenizer": "wordpiece", "vocabulary": 120, "length": 16}
    make = {
        "classify": lambda: (
            "bert_tiny",
            Texts(str(reviews(folder / "reviews.csv", count=240)), **tokenizer),
            TINY_BERT,
        ),
        "masked_lm": lambda: (
            "bert_tiny",
            Texts(str(reviews(folder / "reviews.csv")), label_column=None, **tokenizer),
            TINY_BERT,
        ),
        "table": lambda: ("mlp", Tables("iris"), {"widths": (16,)}),
        "regress": lambda: ("mlp", Tables("diabetes"), {"widths": (16,)}),
        "forecast": lambda: (
            "mlp",
            Series(str(power(folder / "power.csv")), target=("load",), window=24, horizon=3),
            {"widths": (32,)},
        ),
    }
    model, data, overrides = make[kind]()
    task = "masked_lm" if kind == "masked_lm" else None
    values = {"task": task, "overrides": overrides, "batch": 16, **changes}
    return Run(model, data, PHASES, folder / "out", **values)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A bundle of each kind, made when it is asked for."""
    made: dict[str, bundle.Bundle] = {}

    def get(kind: str) -> bundle.Bundle:
        if kind not in made:
            made[kind] = train(run(kind, tmp_path_factory.mktemp(kind)), progress=False)
        return made[kind]

    return get


def good(kind: str, scores) -> bool:
    match kind:
        case "classify" | "table":
            return scores.accuracy > 0.7
        case "masked_lm":
            return scores.perplexity < 60  # of 120 tokens
        case "regress":
            return scores.targets[0].r2 > 0.3
        case _:
            return scores.targets[0].mae < scores.targets[0].naive_mae / 2


KINDS = {
    "classify": ("texts", "classify", {"confusion.png", "labels.txt", "tokenizer.json"}),
    "masked_lm": ("texts", "masked_lm", {"tokenizer.json"}),
    "table": ("rows", "classify", {"confusion.png", "labels.txt"}),
    "regress": ("rows", "regress", {"predictions.png"}),
    "forecast": ("windows", "forecast", {"forecast.png"}),
}


@pytest.mark.parametrize("kind", KINDS)
def test_it_learns_and_its_bundle_scores_the_same_again(kind, finished):
    unit, task, own = KINDS[kind]
    made = finished(kind)
    assert good(kind, made.scores), made.scores
    assert made.task == task
    assert bool(made.classes) == (task == "classify")
    assert made.info[unit]["test"] == made.scores.examples
    usual = {"README.md", "bundle.json", "evaluation.json", "history.csv", "history.json", "model.keras", "run.json"}
    assert {path.name for path in made.path.iterdir()} == usual | own | {"tensorboard", "learning_rates.png"}
    again = bundle.load(made.path)
    assert again == made
    assert evaluate_bundle(again) == made.scores
    card = (made.path / "README.md").read_text()
    assert f"{made.scores.examples:,} {unit}" in card and "image" not in card


@pytest.mark.parametrize("kind", [pytest.param("masked_lm", marks=pytest.mark.slow), "forecast"])
def test_the_same_run_from_its_json_gives_the_same_weights(kind, finished, tmp_path):
    made = finished(kind)
    text = (made.path / "run.json").read_text()
    again = train(dataclasses.replace(Run.from_json(text), out=tmp_path / "again"), progress=False)
    for a, b in zip(made.load_model().get_weights(), again.load_model().get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert again.scores == made.scores


def test_a_changed_tokenizer_is_refused(finished, tmp_path):
    made = finished("classify")
    shutil.copytree(made.path, tmp_path, dirs_exist_ok=True)
    vocabulary = datasets.load(made.run, folder=tmp_path).vocabulary
    (tmp_path / "tokenizer.json").write_text(made.path.joinpath("tokenizer.json").read_text() + " ")
    with pytest.raises(ValueError, match=r"tokenizer\.json' is not the file that the model was trained with"):
        bundle.load(tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"needs 'tokenizer\.json', which is not there"):
        bundle.load(tmp_path)
    assert vocabulary.size <= 120


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "resnet18", "overrides": {}}, "'resnet18' .* texts. Models that do: bert_"),
        ({"model": "bert_tiny", "data": Images("digits")}, "'bert_tiny' does not take images. Models that do: "),
        ({"model": "resnet18", "data": Tables("iris")}, "'resnet18' does not take tables. Models that do: mlp"),
        ({"task": "regress"}, "regress"),
        ({"loss": "mae"}, "loss='mae' is for the tasks regress and forecast"),
        ({"data": Tables("iris"), "task": "seq2seq"}, "seq2seq"),
        ({"data": Images("digits"), "task": "tag"}, "task='tag' is none of images; those are classify"),
    ],
)
def test_what_does_not_fit_together_is_refused_and_leaves_no_folder(changes, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        train(dataclasses.replace(run("classify", tmp_path), **changes), progress=False)
    assert not (tmp_path / "out").exists()


def test_a_task_unknown_is_refused():
    with pytest.raises(ValueError, match="'dream' is not one of 'classify'"):
        small.run(Path("out"), task="dream")
    with pytest.raises(ValueError, match="'l3' is not one of 'mse'"):
        small.run(Path("out"), loss="l3")


@pytest.mark.slow
def test_two_devices_weigh_tokens_as_one_does(tmp_path):
    """Batches whose halves have different numbers of tokens: the mean is over all of them."""
    found = []
    for devices in (1, 2):
        command = [
            sys.executable,
            "-m",
            "tests.pipelines.token_devices",
            str(devices),
            str(tmp_path / f"{devices}.npz"),
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr[-3000:]
        found.append(np.load(tmp_path / f"{devices}.npz"))
    one, two = found
    assert (int(one["replicas"]), int(two["replicas"])) == (1, 2)
    assert max(float(np.abs(one[name] - two[name]).max()) for name in one.files if name.startswith("arr_")) <= 2e-6
    np.testing.assert_allclose(one["metrics"], two["metrics"], rtol=1e-5)
