"""The command line from data to exported files, and what it says of mistakes."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipelines import bundle
from tests.command import ROOT, zoo, zoo_here
from tests.pipelines import small
from tests.pipelines.test_train_kinds import power, reviews


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """A bundle made by the command line from a folder of images, in a process of its own."""
    root = tmp_path_factory.mktemp("cli")
    small.folder(root / "colours")
    options = ["--epochs", 12, "--learning-rate", 1e-2, "--batch", 8, "--size", 32]
    text = zoo("fit", "lenet5", "--images", root / "colours", "--out", root / "out", *options)
    assert "Accuracy" in text
    return root / "out"


def test_help_names_every_command(tmp_path):
    text = zoo("--help")
    for command in ("list", "show", "fit", "resume", "evaluate", "predict", "export", "fetch", "bundle", "verify"):
        assert command in text
        assert "Usage" in zoo_here(command, "--help", cwd=tmp_path)


def test_evaluate_gives_the_logged_scores(finished, tmp_path):
    assert f"{bundle.load(finished).scores.accuracy:.2%}" in zoo_here("evaluate", finished, cwd=tmp_path)


@pytest.mark.slow
def test_published_weights_are_fine_tuned(tmp_path):
    """The bundled ones of MobileNetV2, which are taken unless others are asked for; evaluated in another process."""
    small.folder(tmp_path / "colours")
    options = ["--recipe", "feature_extraction", "--epochs", 6, "--learning-rate", 1e-2, "--batch", 8, "--size", 32]
    zoo("fit", "mobilenet_v2", "--images", "colours", "--out", "out", *options, cwd=tmp_path)
    made = bundle.load(tmp_path / "out")
    assert (made.run.weights, made.scores.accuracy) == ("bundled", 1.0)
    assert "100.00%" in zoo("evaluate", "out", cwd=tmp_path)


def test_predict_names_the_classes(finished, tmp_path):
    for channel, name in enumerate(("red", "green", "blue")):
        pixels = np.full((40, 30, 3), 60, "uint8")
        pixels[..., channel] = 220
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
    names = ["red.png", "green.png", "blue.png"]
    lines = [line for line in zoo_here("predict", finished, *names, cwd=tmp_path).splitlines() if ".png" in line]
    assert len(lines) == 3
    for line, name in zip(lines, names, strict=True):
        assert name in line
        assert "%" in line
    assert len(zoo_here("predict", finished, *names, "--top", 1, cwd=tmp_path).splitlines()[1].split("┃")) == 4


@pytest.mark.slow
def test_every_exported_form_predicts_the_same(finished, tmp_path):
    text = zoo_here("export", finished, cwd=tmp_path)
    forms = ["saved_model", "float32.tflite", "float16.tflite", "dynamic.tflite", "int8.tflite"]
    assert all(form in text for form in forms)
    assert all(f"`{form}`" in (finished / "README.md").read_text() for form in forms)
    image = next((finished.parent / "colours" / "red").iterdir())
    best = []
    for form in (finished, *(finished / name for name in forms)):
        row = next(
            line
            for line in zoo_here("predict", form, image, "--top", 1, cwd=tmp_path).splitlines()
            if image.name in line
        )
        best.append(row.split("│")[2].split()[0])
    assert best == ["red"] * 6


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("fit",), "needs a model and --images, --texts, --tables, --series or --pairs, one of them"),
        (("fit", "mlp"), "needs a model and --images, --texts, --tables, --series or --pairs, one of them"),
        (("fit", "--images", "digits"), "needs a model before its data"),
        (("fit", "mlp", "--images", "digits", "--tables", "iris"), "one of them; got --images and --tables"),
        (("fit", "mlp", "--images", "digits", "--window", "9"), "--window is for --series, not for --images"),
        (
            ("fit", "mlp", "--tables", "iris", "--test", "x.csv", "--size", "9"),
            "--size is for --images and --pairs, not for --tables",
        ),
        (
            ("fit", "mlp", "--series", "x.csv", "--skip-corrupt"),
            "--skip-corrupt is for --images and --pairs, not for --series",
        ),
        (("fit", "mlp", "--series", "x.csv", "--target", "a", "--test", "y.csv"), "--test is for --images and --texts"),
        (("fit", "mlp", "--series", "x.csv"), "--series needs the option --target"),
        (("fit", "mlp", "--tables", "iris", "--target", "a", "--target", "b"), "--tables predicts one --target, got 2"),
        (("fit", "mlp", "--tables", "nowhere.csv"), "nowhere.csv"),
        (("fit", "mlp", "--tables", "iris", "--loss", "l3"), "'l3' is not one of 'mse', 'mae', 'huber'"),
        (("fit", "mlp", "--tables", "iris", "--task", "dream"), "'dream' is not one of 'classify'"),
        (("fit", "resnet18", "--tables", "iris"), "does not take tables. Models that do: mlp"),
        (("fit", "resnet5O", "--images", "digits"), "Did you mean 'resnet50'"),
        (("fit", "resnet18", "--images", "nowhere"), "nowhere"),
        (("fit", "resnet18", "--images", "digits", "--recipe", "magic"), "No recipe 'magic'"),
        (("fit", "resnet18", "--images", "digits", "--augment", "heavy"), "'heavy' is not one of"),
        (("fit", "resnet18", "--images", "digits", "--precision", "int4"), "'int4' is not one of"),
        (("fit", "resnet18", "--images", "digits", "--weights", "imagenet"), "Tags of 'resnet18': a1_in1k, tv_in1k"),
        (("fit", "resnet18", "--images", "digits", "--epochs", "0"), "epochs=0"),
        (("evaluate", "nowhere"), "is no bundle"),
        (("resume", "nowhere"), "holds no run"),
        (("predict", "nowhere", "x.png"), "nowhere"),
        (("export", "nowhere"), "is no bundle"),
    ],
)
def test_mistakes_are_one_clear_line(arguments, message, tmp_path):
    error = zoo_here(*arguments, cwd=tmp_path, code=1)
    assert message in " ".join(error.split())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_tables_texts_and_series_are_fitted_and_evaluated(tmp_path):
    """What `zoo fit` prints of the test part, `zoo evaluate` finds again."""
    reviews(tmp_path / "reviews.csv")
    power(tmp_path / "power.csv")
    commands = {
        "rows": "fit mlp --tables diabetes --loss huber --ignore s6 --epochs 2",
        "windows": "fit mlp --series power.csv --target load --column temperature --window 12 --horizon 2 --epochs 1",
        "texts": "fit bert_tiny --texts reviews.csv --weights none --tokenizer wordpiece --vocabulary 120 --epochs 1",
    }
    for unit, command in commands.items():
        text = zoo(*command.split(), "--out", unit, cwd=tmp_path)
        (told,) = (line for line in text.splitlines() if f" {unit} never trained on" in line)
        assert told in zoo("evaluate", unit, cwd=tmp_path)
    run = bundle.load(tmp_path / "rows").run
    assert (run.data.ignore, run.data.target, run.loss) == (("s6",), "target", "huber")
    run = bundle.load(tmp_path / "windows").run
    assert (run.data.target, run.data.columns, run.data.window, run.data.horizon) == (
        ("load",),
        ("temperature",),
        12,
        2,
    )
    assert bundle.load(tmp_path / "texts").run.data.text_column == "text"


def test_a_corrupt_file_is_named_and_can_be_skipped(tmp_path):
    small.folder(tmp_path / "colours")
    (tmp_path / "colours" / "red" / "broken.JPG").write_bytes(b"\xff\xd8\xff\xe0 not a picture")
    command = ["fit", "lenet5", "--images", "colours", "--out", "out", "--size", 32, "--epochs", 1]
    error = zoo_here(*command, cwd=tmp_path, code=1)
    assert "broken.JPG" in error and "--skip-corrupt" in error
    assert not (tmp_path / "out").exists()
    zoo_here(*command, "--skip-corrupt", cwd=tmp_path)
    assert bundle.load(tmp_path / "out").info["skipped"] == ["red/broken.JPG"]
    assert "broken.JPG" in (tmp_path / "out" / "README.md").read_text()


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow)]
)
def test_a_signal_saves_the_state_and_says_how_to_go_on(tmp_path, number, code):
    """What was interrupted ends with the weights of a run that was not."""
    command = ["fit", "mlp", "--images", "digits", "--size", 8, "--epochs", 6, "--seed", 3]
    child = subprocess.Popen(
        [sys.executable, "-m", "pipelines.cli", *map(str, command), "--out", "out"],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "160"},
        stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a test run in the background ignores it
    )  # fmt: skip
    deadline = time.monotonic() + 180
    while not (tmp_path / "out" / "best.weights.h5").exists() and child.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    child.send_signal(number)
    _, error = child.communicate(timeout=60)
    assert child.returncode == code, error
    assert "Interrupted. What is done is saved. Go on with: zoo resume out" in error
    assert "Traceback" not in error and not (tmp_path / "out" / "bundle.json").exists()
    assert "Accuracy" in zoo_here("resume", "out", cwd=tmp_path)
    zoo_here(*command, "--out", "undisturbed", cwd=tmp_path)
    models = [bundle.load(tmp_path / name).load_model() for name in ("out", "undisturbed")]
    for resumed, undisturbed in zip(*(model.get_weights() for model in models), strict=True):
        np.testing.assert_array_equal(resumed, undisturbed)
    assert "Accuracy" in zoo_here("resume", "out", cwd=tmp_path)  # a finished run is not run again
