"""Several labels an image: loss, metrics and scores, and a run from its CSV file to its exported files."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from sklearn import metrics

import zoo
from pipelines import bundle, metadata, objectives
from pipelines.agreement import Limit, same_labels
from pipelines.deliver import export_bundle
from pipelines.evaluate import evaluate_bundle
from pipelines.expected import Expected
from pipelines.export import export
from pipelines.images import load
from pipelines.objectives import labelling
from pipelines.objectives.losses import BinaryCrossEntropy
from pipelines.predict import Predictor
from pipelines.run import Images, Phase, Run
from pipelines.train import train
from tests.command import zoo_here
from tests.pipelines import squares
from tests.pipelines.squares import COLORS

NAMES = ("often", "rare", "never")


def problem(count: int = 200) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    marks = (random.random((count, 3)) < [0.7, 0.2, 0.0]).astype("float32")
    return (random.normal(size=(count, 3)) + 1.5 * marks - 1).astype("float32"), marks


def run(folder: Path, out: Path, **changes) -> Run:
    """An MLP on pictures of squares, a second long."""
    values = {
        "model": "mlp",
        "data": Images(str(folder / "labels.csv"), label_delim="|", size=16, augment="none"),
        "phases": (Phase(12, 3e-3, unfreeze="all"),),
        "out": out,
        "overrides": {"widths": (64,)},
        "batch": 16,
    }
    return Run(**{**values, **changes})


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return squares.folder(tmp_path_factory.mktemp("squares"), count=120)


@pytest.fixture(scope="module")
def finished(folder, tmp_path_factory) -> bundle.Bundle:
    """A trained run with a SavedModel and two TFLite files."""
    made = train(run(folder, tmp_path_factory.mktemp("run") / "out"), progress=False)
    export_bundle(made.path, ["saved_model", "float32", "int8"])
    return made


def test_scores_are_those_of_scikit_learn():
    logits, marks = problem()
    scores = labelling.score(logits, marks, NAMES)
    true, said = marks[:, :2] > 0, logits > 0
    average = metrics.average_precision_score(true, logits[:, :2], average=None)
    assert [row.average_precision for row in scores.classes] == [*map(pytest.approx, average), None]
    assert scores.mean_average_precision == pytest.approx(average.mean())
    assert scores.auroc == pytest.approx(metrics.roc_auc_score(true, logits[:, :2], average="macro"))
    assert scores.macro_f1 == pytest.approx(metrics.f1_score(marks > 0, said, average="macro", zero_division=0))
    assert scores.exact_match == pytest.approx(metrics.accuracy_score(marks > 0, said))
    expected = metrics.jaccard_score(marks > 0, said, average="samples", zero_division=1)
    assert scores.jaccard == pytest.approx(expected)
    assert [row.examples for row in scores.classes] == marks.sum(axis=0).tolist()


def test_scores_of_nothing_and_of_what_is_no_number():
    assert labelling.jaccard(np.zeros((2, 3), bool), np.array([[0, 0, 0], [0, 1, 0]], bool)) == 0.5
    scores = labelling.score(np.full((4, 2), np.nan), np.eye(4)[:, :2], ("a", "b"))
    assert (scores.mean_average_precision, scores.auroc, scores.exact_match) == (None, None, 0.5)
    assert "Mean average precision **-**" in scores.summary("images")


def test_scores_go_to_json_and_into_a_table_and_a_picture(tmp_path):
    scores = labelling.score(*problem(), NAMES)
    assert objectives.read_scores(scores.to_json()) == scores
    text = scores.section("images")
    assert f"Mean average precision **{scores.mean_average_precision:.4g}**" in text and "![Average" in text
    assert "| never | - | - | 0.000 | 0.000 | 0.000 | 0 |" in text
    scores.draw(tmp_path, "images")
    assert (tmp_path / "labels.png").stat().st_size > 5_000


def test_metrics_add_up_over_batches():
    logits, marks = problem()
    exact, f1 = labelling.metrics(3)
    for start in range(0, 200, 64):
        for metric in (exact, f1):
            metric.update_state(marks[start : start + 64], logits[start : start + 64])
    scores = labelling.score(logits, marks, NAMES)
    assert float(exact.result()) == pytest.approx(scores.exact_match)
    assert float(f1.result()) == pytest.approx(scores.macro_f1, abs=1e-6)
    f1.reset_state()
    f1.update_state(marks, logits, sample_weight=np.arange(200) < 50)
    assert float(f1.result()) == pytest.approx(labelling.score(logits[:50], marks[:50], NAMES).macro_f1, abs=1e-6)


def test_positive_weights_multiply_what_holds():
    logits, marks = problem(10)
    positive = np.array([3.0, 1.0, 0.5])
    expected = tf.nn.weighted_cross_entropy_with_logits(marks, logits, positive)
    found = BinaryCrossEntropy(positive=tuple(positive))(marks, logits)
    assert float(found) == pytest.approx(float(tf.reduce_mean(expected)), rel=1e-6)
    plain = BinaryCrossEntropy()(marks, logits)
    assert float(BinaryCrossEntropy(positive=(1.0, 1.0, 1.0))(marks, logits)) == pytest.approx(float(plain), rel=1e-6)


def test_weights_are_counted_on_the_training_part(folder):
    data = load(Images(str(folder / "labels.csv"), label_delim="|"), seed=0)
    marks = data.parts["train"].labels
    counts = marks.sum(axis=0)
    found = objectives.find("multi_label", data, positive_weights="balanced", class_weights={"red": 2.0})
    logits = tf.constant(np.random.default_rng(0).normal(size=(5, 3)), tf.float32)
    parts = tf.nn.weighted_cross_entropy_with_logits(marks[:5], logits, (len(marks) - counts) / counts)
    expected = float(tf.reduce_mean(parts * [1.0, 1.0, 2.0]))
    assert float(found.loss()(marks[:5], logits)) == pytest.approx(expected, rel=1e-5)
    with pytest.raises(ValueError, match=r"^positive_weights: there is no class 'reed'"):
        objectives.find("multi_label", data, positive_weights={"reed": 2.0})
    balanced = objectives.find("multi_label", data, class_weights="balanced").loss()
    shares = counts.sum() / (3 * counts)
    parts = tf.nn.sigmoid_cross_entropy_with_logits(marks[:5], logits) * shares
    assert float(balanced(marks[:5], logits)) == pytest.approx(float(tf.reduce_mean(parts)), rel=1e-5)


def test_losses_of_one_class_an_image_are_refused(folder):
    data = load(Images(str(folder / "labels.csv"), label_delim="|"), seed=0)
    with pytest.raises(ValueError, match="loss='cross_entropy' takes one class an example"):
        objectives.find("multi_label", data, loss="cross_entropy")
    with pytest.raises(ValueError, match="loss='mse' is for the tasks regress and forecast"):
        objectives.find("multi_label", data, loss="mse")
    focal = objectives.find("multi_label", data, loss="focal", label_smoothing=0.1).loss()
    assert isinstance(focal, BinaryCrossEntropy)
    with pytest.raises(ValueError, match=r"positive_weights='balanced' is of binary cross-entropy"):
        objectives.find("classify", load(Images("digits"), seed=0), positive_weights="balanced")


def test_mixup_and_cutmix_mix_the_marks(folder):
    data = load(Images(str(folder / "labels.csv"), label_delim="|", mixup=1.0, cutmix=1.0, augment="none"), seed=0)
    batches = data.training_set(zoo.create("mlp", classes=3, size=16, widths=(4,)), batch=16, seed=0)
    targets = np.concatenate([np.asarray(batch[1]) for batch in batches.epoch()])
    assert ((targets > 0) & (targets < 1)).any() and (targets >= 0).all() and (targets <= 1).all()


def test_it_learns_and_evaluates_again_to_the_same(finished):
    assert finished.task == "multi_label" and finished.classes == ("blue", "green", "red")
    assert finished.scores.mean_average_precision > 0.95 and finished.scores.macro_f1 > 0.8
    assert evaluate_bundle(finished) == finished.scores
    card = (finished.path / "README.md").read_text()
    assert "for 3 labels, any number of them an image" in card and "its sigmoid is the probability" in card
    assert "![Average precision and F1 of each class](labels.png)" in card


def test_every_form_names_the_same_labels(finished, folder):
    files = [folder / f"{index:03}.png" for index in range(8)]
    expected = finished.predict(files)
    _, marks = squares.pictures(120)
    truth = [set(np.array(COLORS)[row > 0]) for row in marks[:8]]
    assert sum({name for name, _ in row} == true for row, true in zip(expected, truth, strict=True)) >= 7
    for form, tolerance in (("saved_model", 1e-5), ("float32.tflite", 1e-5), ("int8.tflite", 0.1)):
        path = finished.path / form
        predictor = Predictor.open(path)
        found = predictor.probabilities(files)
        np.testing.assert_allclose(found, Predictor.open(finished.path).probabilities(files), atol=tolerance)
        assert (metadata.read_task(path), metadata.read_activation(path)) == ("multi_label", "sigmoid")
    assert [len(row) for row in finished.predict(files, threshold=0)] == [3] * 8
    with pytest.raises(ValueError, match="must be a probability"):
        finished.predict(files, threshold=2)


def test_the_report_holds_shares_of_labels(finished):
    report = json.loads((finished.path / "export.json").read_text())
    rows = {row["format"]: row for row in report["rows"]}
    assert rows["float32"]["agreement"] == 1 and rows["int8"]["agreement"] > 0.9
    assert rows["float32"]["accuracy"] == pytest.approx(finished.scores.jaccard)


def test_the_command_predicts_evaluates_and_refuses(finished, folder, tmp_path):
    shutil.copy(folder / "000.png", tmp_path / "a.png")
    ((name, share), *_) = finished.predict([tmp_path / "a.png"], threshold=0)[0]
    assert f"{name} {share:.1%}" in zoo_here("predict", finished.path, "a.png", "--threshold", 0, cwd=tmp_path)
    assert "labels of 50% or more" in zoo_here("predict", finished.path / "float32.tflite", "a.png", cwd=tmp_path)
    assert "average precision" in zoo_here("evaluate", finished.path, cwd=tmp_path)


@pytest.mark.parametrize(
    ("said", "keras", "tolerated", "expected"),
    [
        ([[3, -3], [-3, 3]], [[3, -3], [-3, 3]], 0.0, 1.0),
        ([[-3, -3], [-3, 3]], [[3, -3], [-3, 3]], 0.0, 2 / 3),  # two named by Keras, one of them by both
        ([[-3, -3], [-3, -3]], [[3, -3], [-3, 3]], 0.0, 0.0),
        ([[-3, -3], [-3, -3]], [[-3, -3], [-3, -3]], 0.0, 1.0),
        ([[-0.1, -3], [-3, 3]], [[0.1, -3], [-3, 3]], 0.2, 1.0),  # which Keras leaves open
    ],
)
def test_agreement_is_of_the_labels_that_either_names(said, keras, tolerated, expected):
    assert same_labels(np.array(said), np.array(keras), tolerated) == pytest.approx(expected)


def test_disagreement_says_what_is_not_the_same():
    keras = np.where(np.random.default_rng(0).random((20, 5)) < 0.2, 3.0, -3.0).astype("float32")
    expected = Expected(outputs={"logits": keras}, task="multi_label", labels=keras > 0, unit="images")
    other = keras.copy()
    other[:, 0] = -3.0
    found = expected.compare({"logits": other}, Limit(agreement=0.95))
    assert 0 < found.agreement < 0.95 and found.accuracy < found.keras_accuracy == 1
    assert "of the labels that either names (at least 95%)" in found.problems(Limit(agreement=0.95))[0]


def test_export_refuses_marks_that_are_none_and_models_that_end_in_a_sigmoid(tmp_path):
    import keras

    images = np.full((2, 8, 8, 3), 200.0)
    inputs = keras.Input((8, 8, 3))
    flat = keras.layers.Flatten()(inputs)
    model = keras.Model(inputs, keras.layers.Dense(2)(flat))
    options = {"out": tmp_path, "task": "multi_label", "classes": ("a", "b"), "images": images}
    with pytest.raises(ValueError, match=r"labels must be 0 and 1, \(2, 2\)"):
        export(model, ["float32"], labels=np.array([0, 1]), **options)
    ended = keras.Model(inputs, keras.layers.Dense(2, "sigmoid")(flat))
    with pytest.raises(ValueError, match="ends in a sigmoid"):
        export(ended, ["float32"], **options)
