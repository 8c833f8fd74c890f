"""Text in, answers out: the same from a bundle, a SavedModel and a .tflite file."""

import dataclasses
import json
from pathlib import Path

import keras
import numpy as np
import pytest
from typer.testing import CliRunner

from pipelines import bundle, predict_text, text_encoding
from pipelines.cli import app
from pipelines.creation import create
from pipelines.data import Texts
from pipelines.export import export
from pipelines.monitor import History
from pipelines.predict import Predictor
from pipelines.recipes import from_scratch
from pipelines.run import Run
from pipelines.texts import load

TINY = {"width": 16, "depth": 1, "heads": 2, "mlp_width": 16, "length": 40}
WORDS = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta"]


def rows(task):
    random = np.random.default_rng(0)
    for number in range(24):
        words = [f"n{number}", *random.choice(WORDS, 3 + number % 9)]
        label = {"classify": "xyz"[number % 3], "tag": " ".join("NO"[i > 0] for i in range(len(words)))}
        yield {"text": " ".join(words), "second": "which?", "label": label.get(task, words[1])}


def make(folder, task, *, pairs=False, **options):
    """A bundle of a model that was never trained: its answers are as good as any to compare."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder.parent / f"{folder.name}.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows(task)), encoding="utf-8")
    second = "second" if pairs or task == "answer" else None
    texts = Texts(str(path), second_column=second, vocabulary=300, **options)
    run = Run("bert_tiny", texts, from_scratch(epochs=1), folder, task=task, overrides=TINY)
    data = load(texts, task=task, model="bert_tiny", weights=None, seed=0)
    keras.utils.set_random_seed(1)
    model = create(run, data)
    model.set_weights([4 * weight for weight in model.get_weights()])  # answers that differ
    bundle.prepare(run, data)
    return bundle.save(model, run, data, task=task, history=History(), scores=None, devices="")


def exported(made, *, length=20):
    """A bundle's SavedModel and .tflite file, exported on its own training texts."""
    model = made.load_model()
    data = load(made.run.data, task=made.task, model="bert_tiny", weights=None, seed=0)
    inputs, *_ = next(iter(data.evaluation_set(model, "train", batch=100)))
    export(
        model,
        ("saved_model", "float32"),
        out=made.path,
        task=made.task,
        classes=made.classes,
        samples={name: np.asarray(values) for name, values in inputs.items()},
        length=length,
        files=data.files(),
    )
    return [made.path / "saved_model", *made.path.glob("*.tflite")]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Bundles by task, made once."""
    root = tmp_path_factory.mktemp("bundles")
    return {task: make(root / task, task) for task in ("classify", "tag", "answer")}


TEXTS = ["alpha beta gamma", "zeta", "delta delta epsilon gamma beta alpha zeta"]


def reference(made, texts):
    """The logits of each text by itself, without padding."""
    model, tokenizer = made.load_model(), Predictor.open(made.path).tokenizer
    for text in texts:
        found = tokenizer.library.encode(*((text,) if isinstance(text, str) else text))
        inputs = {"token_ids": found.ids, "padding_mask": [1] * len(found.ids), "segment_ids": found.type_ids}
        yield found, np.asarray(model({name: np.array([ids], "int32") for name, ids in inputs.items()}))[0]


def test_classes_with_their_probabilities(made):
    found = Predictor.open(made["classify"].path).best(TEXTS, top=2)
    for best, (_, logits) in zip(found, reference(made["classify"], TEXTS), strict=True):
        shares = np.exp(logits) / np.exp(logits).sum()
        order = np.argsort(-shares)[:2]
        assert [name for name, _ in best] == ["xyz"[index] for index in order]
        np.testing.assert_allclose([share for _, share in best], shares[order], rtol=1e-4)


def test_a_tag_for_every_word(made):
    (words, *_), (other, *_) = (Predictor.open(made["tag"].path).tags([text]) for text in ("alpha  n77 beta", "zeta"))
    assert [word for word, _ in words] == ["alpha", "n77", "beta"]
    assert [word for word, _ in other] == ["zeta"]
    ((found, logits),) = reference(made["tag"], ["alpha  n77 beta"])
    firsts = [found.offsets.index(place) for place in ((0, 5), (7, 8) if (7, 8) in found.offsets else (7, 9), (11, 15))]
    assert [tag for _, tag in words] == [made["tag"].classes[logits[place].argmax()] for place in firsts]


def test_an_answer_is_a_part_of_the_text_and_the_likeliest(made):
    pairs = [(text, "which?") for text in TEXTS]
    found = Predictor.open(made["answer"].path).answers(pairs)
    for (answer, probability), (text, _), (encoded, logits) in zip(
        found, pairs, reference(made["answer"], [(question, text) for text, question in pairs]), strict=True
    ):
        inside = np.array([number == 1 for number in encoded.sequence_ids])
        shares = np.exp(logits) * inside[:, None]
        both = np.triu(np.outer(*(shares / shares.sum(axis=0)).T))
        first, last = np.unravel_index(both.argmax(), both.shape)
        assert answer == text[encoded.offsets[first][0] : encoded.offsets[last][1]]
        np.testing.assert_allclose(probability, both.max(), rtol=1e-4)


ASK = {
    "classify": lambda predictor: predictor.probabilities(TEXTS),
    "tag": lambda predictor: predictor.tags(TEXTS),
    "answer": lambda predictor: predictor.answers([(text, "which?") for text in TEXTS]),
}


@pytest.mark.slow
@pytest.mark.parametrize("task", ["classify", "tag", "answer"])
def test_exported_files_answer_as_the_bundle(made, task):
    expected = ASK[task](Predictor.open(made[task].path))
    saved_model, tflite = exported(made[task])
    for path in (saved_model, tflite):
        answers = ASK[task](Predictor.open(path))
        if task == "classify":
            np.testing.assert_allclose(answers, expected, atol=1e-5)
        elif task == "tag":
            assert answers == expected
        else:
            assert [answer for answer, _ in answers] == [answer for answer, _ in expected]
            np.testing.assert_allclose([p for _, p in answers], [p for _, p in expected], atol=1e-4)
    longest = 20 if task != "answer" else 16
    with pytest.raises(ValueError, match=r"longer than the 20 tokens"):
        Predictor.open(tflite)._encoded([("alpha " * longest, "which?") if task == "answer" else "alpha " * longest])
    with pytest.raises(ValueError, match=r"cannot answer for texts of \d+ tokens"):
        text = "alpha " * 50
        predictor = Predictor.open(saved_model)
        {"classify": predictor.probabilities, "tag": predictor.tags, "answer": predictor.answers}[task](
            [(text, "which?") if task == "answer" else text]
        )


def test_a_text_that_is_too_long_is_refused_or_cut(made):
    predictor = Predictor.open(made["classify"].path)
    long = "alpha " * 60
    with pytest.raises(ValueError, match=r"Text 2 of 2 is longer than the 40 tokens.*--cut"):
        predictor.best(["beta", long])
    cut = dataclasses.replace(predictor, cut=True)
    np.testing.assert_allclose(cut.probabilities([long]), cut.probabilities(["alpha " * 38]), rtol=1e-6)
    tagger = dataclasses.replace(Predictor.open(made["tag"].path), cut=True)
    (tags,) = tagger.tags([long])
    assert [tag for _, tag in tags].count("") == 60 - 38


def test_texts_that_make_no_sense_are_refused(made, tmp_path):
    predictor = Predictor.open(made["classify"].path)
    with pytest.raises(ValueError, match="Text 2 of 2 is empty"):
        predictor.best(["alpha", "  "])
    with pytest.raises(ValueError, match="takes one text each"):
        predictor.best([("alpha", "beta")])
    with pytest.raises(ValueError, match="task is 'classify'; ask it with best"):
        predictor.tags(["alpha"])
    with pytest.raises(ValueError, match="takes two texts each"):
        Predictor.open(made["answer"].path).answers(["alpha"])
    pairs = Predictor.open(make(tmp_path / "pairs", "classify", pairs=True).path)
    with pytest.raises(ValueError, match="takes two texts each"):
        pairs.best(["alpha"])
    one, other = pairs.probabilities([("alpha beta", "gamma"), ("gamma", "alpha beta")])
    assert not np.allclose(one, other)


def test_a_damaged_bundle_says_what_is_missing(tmp_path):
    made = make(tmp_path / "b", "classify")
    (made.path / "tokenizer.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"tokenizer\.json"):
        Predictor.open(made.path)


def test_padding_changes_nothing(made):
    predictor = Predictor.open(made["classify"].path)
    together = predictor.probabilities(TEXTS)
    np.testing.assert_allclose(together, np.concatenate([predictor.probabilities([text]) for text in TEXTS]), rtol=1e-4)
    encoded = text_encoding.encode(predictor.tokenizer, TEXTS, None, length=40, task="classify")
    assert len(set(encoded.tokens.lengths)) > 1


def test_the_command(made):
    def said(*arguments):
        result = CliRunner().invoke(app, ["predict", *map(str, arguments)], catch_exceptions=False)
        return " ".join(result.output.split())

    best = Predictor.open(made["classify"].path).best(["alpha beta"], top=1)[0][0]
    assert f"{best[0]} {best[1]:.1%}" in said(made["classify"].path, "alpha beta")
    answer = Predictor.open(made["answer"].path).answers([("alpha beta", "which?")])[0][0]
    assert answer in said(made["answer"].path, "alpha beta", "--second", "which?")
    words = Predictor.open(made["tag"].path).tags(["alpha beta"])[0]
    assert f"alpha/{words[0][1]} beta/{words[1][1]}" in said(made["tag"].path, "alpha beta")


def test_a_task_without_such_an_answer_is_refused(tmp_path, made):
    model = make(tmp_path / "lm", "masked_lm")
    with pytest.raises(ValueError, match=r"task='masked_lm', and zoo predict answers for classify, tag, answer"):
        Predictor.open(model.path)
    assert isinstance(Predictor.open(Path(made["tag"].path)), predict_text.TextPredictor)
