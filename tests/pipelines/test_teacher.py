"""A run with a teacher: what it leaves, what it refuses, and that the teacher is no part of it."""

import dataclasses
import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest

import zoo
from pipelines import bundle
from pipelines.batch_trial import Trial
from pipelines.checkpoints import Checkpoints
from pipelines.datasets import load
from pipelines.distillation import Distillation
from pipelines.recipes import RECIPES, distill, from_scratch
from pipelines.run import Run, Tables, Texts
from pipelines.taught import Taught
from pipelines.teacher import learner
from pipelines.train import CHECKPOINTS, resume, train
from tests.pipelines import small

WINE = Tables("wine")


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    """The folder of a run on a table of three classes."""
    out = tmp_path_factory.mktemp("runs") / "teacher"
    phases = from_scratch(epochs=8, learning_rate=1e-2)
    train(Run("mlp", WINE, phases, out, overrides={"widths": (32, 32)}), progress=False)
    return out


def student(out, teacher, **changes) -> Run:
    values = {
        "data": WINE,
        "phases": distill(epochs=12, learning_rate=2e-2),
        "overrides": {"widths": [8]},
        "distillation": Distillation(teacher, features=True),
    }
    return Run("mlp", out=out, **{**values, **changes})


def test_what_is_left_is_the_student_and_says_who_taught_it(teacher, tmp_path):
    run = student(tmp_path / "student", teacher)
    before = {path.name: path.read_bytes() for path in teacher.iterdir() if path.is_file()}
    made = train(run, progress=False)
    assert {path.name: path.read_bytes() for path in teacher.iterdir() if path.is_file()} == before
    assert [layer.name for layer in made.load_model().layers if layer.weights] == ["block0_dense", "head_logits"]
    info = json.loads((made.path / "bundle.json").read_text())["teacher"]
    assert info["pairs"] == ["block0=block1"]
    assert info["agreement"] >= 0.8
    card = (made.path / "README.md").read_text()
    assert f"Teacher: `{teacher}`, a `mlp` of 1," in card
    assert "0.1 of the loss from the labels, 0.9 from its answers at temperature 4" in card
    assert f"{info['agreement']:.2%} of the answers are the teacher's" in card
    assert "may flatter" not in card
    assert "val_agreement" in (made.path / "history.csv").read_text()
    assert Run.from_json((made.path / "run.json").read_text()) == run
    assert Run.from_json(run.to_json().replace('"distillation"', '"focus": 2.0, "distillation"')) == run


@pytest.mark.slow
def test_another_split_of_the_same_data_is_told(teacher, tmp_path, caplog):
    made = train(student(tmp_path / "run", teacher, seed=1, phases=distill(epochs=1)), progress=False)
    assert "was trained with seed 0, so perhaps on examples that the student is tested on" in caplog.text
    assert "may flatter" in (made.path / "README.md").read_text()


@pytest.mark.slow
def test_a_run_that_goes_on_has_the_same_teacher(teacher, tmp_path):
    mine = tmp_path / "teacher"
    shutil.copytree(teacher, mine)
    run = student(tmp_path / "whole", mine, save_steps=1)
    whole = train(run, progress=False)
    stopped = _stopped(dataclasses.replace(run, out=tmp_path / "stopped"))
    for found, wanted in zip(resume(stopped).load_model().get_weights(), whole.load_model().get_weights(), strict=True):
        np.testing.assert_array_equal(found, wanted)
    again = _stopped(dataclasses.replace(run, out=tmp_path / "again"))
    model = bundle.load(mine).load_model()
    model.set_weights([weight + 0.1 for weight in model.get_weights()])
    bundle.save_model(model, mine / "model.keras")
    with pytest.raises(ValueError, match="The teacher has changed since the run"):
        resume(again, progress=False)
    shutil.rmtree(mine)
    with pytest.raises(FileNotFoundError, match="There is no teacher"):
        resume(again, progress=False)


def test_a_batch_is_tried_with_the_teacher_beside_the_student(teacher, tmp_path):
    trial = Trial(student(tmp_path / "run", teacher, batch="auto"))
    assert isinstance(trial._model, Taught)
    trial.train(8)


def test_the_report_takes_smaller_batches_where_memory_does_not_suffice(teacher, tmp_path, monkeypatch):
    likeness, tried = Taught.likeness, []

    def narrow(self, batches):
        tried.append(len(next(iter(batches))[1]))
        if tried[-1] > 7:
            raise MemoryError("OOM when allocating a tensor")
        return likeness(self, batches)

    monkeypatch.setattr(Taught, "likeness", narrow)
    made = train(student(tmp_path / "run", teacher, phases=distill(epochs=1), batch=20), progress=False)
    assert 0 < made.info["teacher"]["agreement"] <= 1
    assert tried == [20, 10, 5]


def _stopped(run: Run):
    """The folder of a run that was killed in its fifth step."""
    save, steps = Checkpoints.save, []

    def killed(self, *arguments, **options):
        path = save(self, *arguments, **options)
        steps.append(path)
        if len(steps) == 6:
            raise KeyboardInterrupt
        return path

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Checkpoints, "save", killed)
        with pytest.raises(KeyboardInterrupt):
            train(run, progress=False)
    assert (run.out / CHECKPOINTS).is_dir()
    return run.out


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"data": Tables("iris")}, "tells other classes apart: 'class_0', 'class_1', 'class_2'; 'iris' has 'setosa'"),
        ({"data": Tables("wine", ignore=("ash",))}, "other columns, or other categories of them: 'ash'"),
        ({"data": Tables("diabetes"), "distillation": {}}, "task='classify', and the student is for task='regress'"),
        ({"distillation": {"weights": "bundled"}}, "is a run, whose weights are its own"),
        ({"distillation": {"features": (("block0", "block7"),)}}, "has no features 'block7'. Did you mean 'block"),
        ({"distillation": {"teacher": "mlp"}}, "'mlp' would know nothing: give its weights"),
    ],
)
def test_a_teacher_of_something_else_is_refused_before_training(changes, problem, teacher, tmp_path):
    given = changes.pop("distillation", {}) if "distillation" in changes else {}
    run = student(tmp_path / "run", teacher, **changes, distillation=Distillation(**{"teacher": teacher, **given}))
    with pytest.raises(ValueError) as error:
        train(run, progress=False)
    assert problem in str(error.value)
    assert not run.out.exists()


def test_a_teacher_of_another_kind_of_data_is_refused(teacher, tmp_path):
    run = small.quick(tmp_path / "run", distillation=Distillation(teacher))
    with pytest.raises(ValueError, match="was trained on tables, and the student is to learn from images"):
        train(run, progress=False)


def test_a_published_teacher_needs_the_same_head(tmp_path):
    asked = Distillation("mobilenet_v2", weights="bundled")
    run = small.quick(tmp_path / "run", distillation=asked)
    with pytest.raises(ValueError, match="tells 1000 classes apart, and 'digits' has 10"):
        train(run, progress=False)
    model = zoo.create("resnet18", size=16, depths=(1,), width=8, classes=1000)
    data = SimpleNamespace(task="classify", classes=tuple(map(str, range(1000))))
    made = learner(model, run, data)
    answer = made.lesson.answer(np.zeros((1, 16, 16, 3), "float32"))["answer"]
    wanted = zoo.create("mobilenet_v2", weights="bundled")(np.zeros((1, 224, 224, 3), "float32"))
    np.testing.assert_allclose(answer, wanted, atol=1e-5)


def test_a_run_cannot_be_written_over_its_teacher(teacher):
    for out in (teacher, teacher.parent):
        with pytest.raises(ValueError, match="which the run is to write anew"):
            train(student(out, teacher), overwrite=True, progress=False) if out == teacher else _learner(out, teacher)
    assert (teacher / "bundle.json").is_file()


def _learner(out, teacher):
    run = student(out, teacher)
    data = load(run)
    return learner(bundle.load(teacher).load_model(), run, data)


def test_a_teacher_that_is_not_there_is_named(tmp_path):
    run = student(tmp_path / "run", "runs/techer")
    with pytest.raises(FileNotFoundError, match="There is no teacher 'runs/techer': no folder made by zoo fit"):
        train(run, progress=False)
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "run.json").write_text("{}")
    with pytest.raises(FileNotFoundError, match="did not finish"):
        train(student(tmp_path / "run", tmp_path / "half"), progress=False)


@pytest.mark.slow
def test_texts_are_read_as_the_teacher_reads_them(tmp_path):
    words = ["good fine happy", "bad poor sad"]
    texts = [f"{words[i % 2]} number {i} of many" for i in range(60)]
    data = Texts.lists(texts, [("no", "yes")[i % 2] for i in range(60)], file=tmp_path / "texts.jsonl", vocabulary=100)
    tiny = {"width": 16, "depth": 1, "heads": 2, "mlp_width": 32, "length": 32}
    base = Run("bert_tiny", data, from_scratch(epochs=1), tmp_path / "teacher", overrides=tiny)
    train(base, progress=False)
    asked = Distillation(tmp_path / "teacher")
    pupil = dataclasses.replace(base, model="distilbert_base", out=tmp_path / "student", distillation=asked, seed=5)
    assert load(pupil).tokenizer.source == str(tmp_path / "teacher" / "tokenizer.json")
    other = dataclasses.replace(pupil, data=dataclasses.replace(data, tokenizer="wordpiece", vocabulary=110))
    with pytest.raises(ValueError, match="reads other tokens than the student"):
        train(other, progress=False)
    longer = dataclasses.replace(pupil, data=dataclasses.replace(data, length=48), overrides={**tiny, "length": 64})
    with pytest.raises(ValueError, match="takes 32 tokens, and the texts have up to 48"):
        train(longer, progress=False)
    made = train(pupil, progress=False)
    assert (made.path / "tokenizer.json").read_text() == (tmp_path / "teacher" / "tokenizer.json").read_text()


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"temperature": 0}, "temperature=0"),
        ({"label_share": 1.5}, "must be 0 to 1"),
        ({"label_share": 1}, "learns nothing of its teacher"),
        ({"feature_weight": 2.0}, "needs features=True"),
        ({"features": ("stage1", "stage2")}, "pairs of layer groups"),
        ({"features": "stage1"}, "pairs of layer groups"),
        ({"teacher": ""}, "names no teacher"),
    ],
)
def test_a_distillation_that_makes_no_sense_is_refused(options, problem):
    with pytest.raises(ValueError, match=problem):
        Distillation(**{"teacher": "runs/teacher", **options})


def test_the_recipe_trains_everything():
    (phase,) = RECIPES["distill"](epochs=3)
    assert (phase.unfreeze, phase.batch_norm, phase.epochs) == ("all", "train", 3)
