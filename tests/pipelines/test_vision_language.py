"""Captions, answers and matches of BLIP: as the reference writes them, cached or not, and what is refused."""

from __future__ import annotations

import json

import keras
import numpy as np
import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

import zoo
from pipelines import marks, vision_language
from pipelines.commands.captioning import caption as command
from pipelines.describer import Describer
from pipelines.export import export
from pipelines.tokenizers import open_tokenizer
from tests.parity import packs
from tests.parity.answers import feed
from tests.rows import ROWS

TINY = ROWS["blip_base"].tiny
WORDS = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "[MASK]", *(f"w{number}" for number in range(5, 120))]


def checkpoint(folder, pack, words=WORDS):
    """A pack's checkpoint with a tokenizer in which almost every token is a word."""
    path = packs.load(pack).write(folder)
    (path / "vocab.txt").write_text("".join(f"{word}\n" for word in words), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return checkpoint(tmp_path_factory.mktemp("caption"), "hf_blip_caption")


@pytest.fixture(scope="module")
def opened(folder):
    return Describer.open(folder)


@pytest.fixture
def photos(tmp_path):
    random = np.random.default_rng(0)
    for name, shape in (("a.png", (20, 90, 3)), ("b.jpg", (64, 64, 3))):
        Image.fromarray(random.integers(0, 256, shape, "uint8")).save(tmp_path / name)
    return [str(tmp_path / name) for name in ("a.png", "b.jpg")]


def pictures(pack, model):
    """The pack's images as the model takes them; normalizing leaves a little below 0 and above 255."""
    given = packs.arrays(pack.generation["inputs"])
    tokens = {} if "input_ids" in given else {"input_ids": np.zeros((2, 1), int)}
    extra = {"decoder_input_ids": np.zeros((2, 1), int)} if "decoder_token_ids" in model.input else {}
    return feed(model, {**given, **tokens, **extra})["image"]


def scrambled(task, **options):
    """A small model whose weights are large enough for every token to matter."""
    model = zoo.create("blip_base", task=task, **{**TINY, "vocabulary": 125, **options})
    random = np.random.default_rng(1)
    for variable in model.weights:
        variable.assign(random.standard_normal(variable.shape) * (1 if "norm" in variable.path else 0.3))
    return model


def test_captions_are_those_of_the_reference(opened, monkeypatch):
    pack = packs.load("hf_blip_caption")
    monkeypatch.setattr(vision_language, "checked_images", lambda model, images: images)  # some are below 0
    images = pictures(pack, opened.model)
    wanted = packs.arrays({"": pack.generation["sequences"]})[""]
    assert opened.marks == marks.Marks(125, 2)  # of its config.json
    told = [" ".join(f"w{token}" for token in row[1:]) for row in wanted]
    found = vision_language.caption(opened.model, images, opened.tokenizer, length=12, marks=opened.marks)
    assert found == told
    prompted = {"prompt": ["", " ".join(told[1].split()[:3])], "length": 9, "marks": opened.marks}
    found = vision_language.caption(opened.model, images, opened.tokenizer, **prompted)
    assert found == [" ".join(told[0].split()[:9]), told[1]]


@pytest.mark.slow
@pytest.mark.parametrize("beams", [2, 3])
def test_a_cache_changes_no_caption_that_a_search_finds(opened, beams):
    images = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), "uint8")
    images[1] //= 4
    options = {"prompt": "w7 w9", "beams": beams, "length": 2 * beams, "marks": opened.marks}
    ways = [
        vision_language.caption(opened.model, images, opened.tokenizer, cached=cached, **options)
        for cached in (True, False)
    ]
    assert ways[0] == ways[1]
    assert all(text.startswith("w7 w9") for text in ways[0])
    greedy = vision_language.caption(opened.model, images, opened.tokenizer, **{**options, "beams": 1})
    assert ways[0] != greedy


@pytest.mark.slow
def test_the_end_token_ends_a_caption(opened):
    images = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), "uint8")
    options = {"length": 6, "prompt": "w7"}
    whole = vision_language.caption(opened.model, images, opened.tokenizer, marks=marks.Marks(125, None), **options)
    words = whole[0].split()[1:]
    end = opened.tokenizer.library.token_to_id(words[-1])
    found = vision_language.caption(opened.model, images, opened.tokenizer, marks=marks.Marks(125, end), **options)
    assert found[0].split()[1:] == words[: words.index(words[-1])]


def test_a_question_is_answered_as_the_reference_answers_it(tmp_path, monkeypatch):
    pack = packs.load("extra_hf_blip_vqa")
    monkeypatch.setattr(vision_language, "checked_images", lambda model, images: images)
    opened = Describer.open(checkpoint(tmp_path, pack.name, WORDS[:90]))
    assert opened.task == "answer" and opened.marks == marks.Marks(88, 2)
    given = packs.arrays(pack.generation["inputs"])["input_ids"]
    opened.tokenizer.library.post_processor = None  # the pack's questions have no special tokens around them
    questions = [" ".join(f"w{token}" if token > 4 else WORDS[token] for token in row) for row in given]
    wanted = packs.arrays({"": pack.generation["sequences"]})[""][:, 1:]
    images = pictures(pack, opened.model)
    found = vision_language.ask(opened.model, images, questions, opened.tokenizer, length=8, marks=opened.marks)
    assert found == [" ".join(f"w{token}" for token in row) for row in wanted]


def test_matches_are_the_softmax_of_the_whole_model(opened):
    model = scrambled("match")
    images = np.random.default_rng(0).integers(0, 256, (2, 16, 32, 3), "uint8")
    texts = ["w7 w9", "w20 w21 w22 w23 w24", "w8"]
    found = vision_language.match(model, images, texts, opened.tokenizer, batch=2)
    assert found.shape == (2, 3)
    for row, image in enumerate(images):
        for column, text in enumerate(texts):
            ids = np.array([opened.tokenizer.library.encode(text).ids])
            logits = model({"image": image[None], "token_ids": ids, "padding_mask": np.ones_like(ids)})
            assert abs(float(keras.ops.softmax(logits)[0, 1]) - found[row, column]) < 1e-5


def test_marks_of_a_bundle_are_read_and_checked(tmp_path, opened):
    (tmp_path / "bundle.json").write_text("{}", encoding="utf-8")
    file = tmp_path / marks.FILE
    file.write_text(marks.Marks(7, None).to_json(), encoding="utf-8")
    assert marks.of_folder(tmp_path, opened.tokenizer, 130) == marks.Marks(7, None)
    for text in ("{}", "[]", "x", json.dumps({"bos_token_id": 130, "eos_token_id": 2})):
        file.write_text(text, encoding="utf-8")
        with pytest.raises(ValueError, match="Restore it"):
            marks.of_folder(tmp_path, opened.tokenizer, 130)


@pytest.mark.slow
@pytest.mark.parametrize("task", ["match", "answer"])
def test_models_of_several_inputs_are_exported(task, tmp_path):
    random = np.random.default_rng(0)
    texts = {"token_ids": random.integers(3, 120, (3, 8)), "padding_mask": np.ones((3, 8), int)}
    texts["padding_mask"][1, 5:] = 0
    samples = {"image": random.integers(0, 256, (3, 16, 32, 3)).astype("float32"), **texts}
    if task == "answer":
        samples |= {f"decoder_{name}": array for name, array in texts.items()}
    report = export(
        scrambled(task),
        ("saved_model", "float32"),
        out=tmp_path,
        task=task,
        samples=samples,
        steps=8 if task == "answer" else 0,
        apart=False,
    )
    parts = {"float32_step.tflite", "float32_encoder.tflite"} if task == "answer" else set()
    assert {row.file for row in report.rows} == {"saved_model", "float32.tflite", *parts}
    assert max(row.logit_difference for row in report.rows) < 1e-3


def run(*arguments) -> str:
    app = typer.Typer()
    app.command()(command)
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.mark.slow
def test_the_command_says_what_images_show(folder, opened, photos):
    wanted = opened.captions(photos, prompt="w9", beams=2, length=4)
    told = run(folder, *photos, "--prompt", "w9", "--beams", 2, "--length", 4)
    assert told == "".join(f"{path}: {text}\n" for path, text in zip(photos, wanted, strict=True))
    assert run(folder, photos[0], "--length", 3) == f"{opened.captions(photos[:1], length=3)[0]}\n"


def test_mistakes_are_told(folder, opened, photos, tmp_path):
    text = tmp_path / "text.png"
    text.write_text("no image")
    for function, message in (
        (lambda: opened.captions([text]), "cannot be decoded"),
        (lambda: opened.answers(photos, "w9 w8"), r"task='caption'.*takes one of task='answer'"),
        (lambda: opened.matches(photos, ["w9"]), r"task='caption'.*takes one of task='match'"),
        (lambda: opened.captions(photos, length=40), "takes 32 tokens"),
        (lambda: opened.captions(photos, prompt="w9 " * 40), "takes 32 tokens"),
        (lambda: opened.captions(photos, length=0), "at least 1"),
        (lambda: run(folder, tmp_path / "absent.png"), "There is no image at"),
        (lambda: run(folder, photos[0], "--question", "w9", "--prompt", "w9"), "--prompt is how a caption begins"),
        (lambda: run(folder, photos[0], "--question", "w9", "--match", "w9"), "not both"),
    ):
        with pytest.raises((ValueError, FileNotFoundError), match=message):
            function()
    gpt = packs.load("hf_gpt2_lm").write(tmp_path / "gpt")
    with pytest.raises(ValueError, match="does not read images and texts together"):
        Describer.open(gpt)


def test_images_and_texts_that_do_not_fit_are_refused(opened):
    good = np.zeros((1, 64, 64, 3), "uint8")
    for images, options, message in (
        (good[0], {}, r"takes images \(N, 64, 64, 3\)"),
        (good.astype("float32") + 0.5, {}, "go from 0.5 to 0.5"),
        (good, {"prompt": ["w9", "w8"]}, "1 images and 2 prompts"),
    ):
        with pytest.raises(ValueError, match=message):
            vision_language.caption(opened.model, images, opened.tokenizer, **options)
    with pytest.raises(ValueError, match="answers to questions"):
        vision_language.ask(opened.model, good, ["w9"], opened.tokenizer)
    matcher = scrambled("match")
    small = np.zeros((1, 16, 32, 3), "uint8")
    with pytest.raises(ValueError, match="writes no captions"):
        vision_language.caption(matcher, small, opened.tokenizer)
    with pytest.raises(ValueError, match=r"takes 24\. Shorten it"):
        vision_language.match(matcher, small, ["w9 " * 30], opened.tokenizer)


def test_a_tokenizer_is_needed(tmp_path):
    path = packs.load("hf_blip_caption").write(tmp_path)
    with pytest.raises(FileNotFoundError, match="There is no tokenizer"):
        Describer.open(path)
    assert open_tokenizer(checkpoint(tmp_path, "hf_blip_caption")).vocabulary.size == len(WORDS)
