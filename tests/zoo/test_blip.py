"""BLIP: writing with a cache, the tasks that share weights, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

import zoo
from pipelines.generate import generate
from pipelines.strategies import Beam
from tests.parity import packs
from tests.parity.answers import feed, times_tolerance
from tests.rows import ROWS
from zoo.weights.errors import CheckpointError, WeightsMismatch

TINY = ROWS["blip_base"].tiny


def write(folder: Path, name: str, tensors=None, **config) -> Path:
    """A pack's checkpoint with other tensors, or with other values in config.json."""
    pack = packs.load(name)
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps({**pack.config, **config}), encoding="utf-8")
    save_file(pack.weights() if tensors is None else tensors, folder / "model.safetensors")
    return folder


def images(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, 16, 32, 3), "uint8")


def test_captions_are_written_with_a_cache_as_the_reference_writes_them(tmp_path):
    pack = packs.load("hf_blip_caption")
    model = zoo.from_checkpoint(write(tmp_path, pack.name))
    assert pack.generation is not None
    image = feed(model, {**packs.arrays(pack.generation["inputs"]), "input_ids": np.array([[125]] * 2)})["image"]
    wanted = packs.arrays({"": pack.generation["sequences"]})[""]
    found = generate(model, wanted[:, :1].tolist(), new_tokens=12, inputs={"image": image})
    assert found == wanted[:, 1:].tolist()
    prompts = [wanted[0, :1].tolist(), wanted[1, :4].tolist()]  # of different lengths
    continued = generate(model, prompts, new_tokens=9, inputs={"image": image}, strategy=Beam(beams=1))
    assert continued == [wanted[0, 1:10].tolist(), wanted[1, 4:].tolist()]
    with pytest.raises(ValueError, match=r"takes inputs=\['image'\], got \[\]"):
        generate(model, [[125]], new_tokens=2)
    with pytest.raises(ValueError, match="takes 32 tokens"):
        generate(model, [[125]], new_tokens=40, inputs={"image": image[:1]})


@pytest.mark.parametrize(
    ("task", "beams"), [pytest.param("caption", 3, marks=pytest.mark.slow), ("answer", 1)], ids=["captions", "answers"]
)
def test_a_cache_changes_no_token(task, beams):
    model = zoo.create("blip_base", task=task, **TINY)
    random = np.random.default_rng(1)
    for variable in model.weights:
        variable.assign(random.standard_normal(variable.shape) * (1 if "norm" in variable.path else 0.3))
    given = {"image": images(2)}
    texts = [[3, 5, 7, 9], [4, 6]]  # the start of a caption, or a question
    ways = [
        generate(model, texts, new_tokens=6, start=2, strategy=Beam(beams=beams), inputs=given, cached=cached)
        for cached in (True, False)
    ]
    assert ways[0] == ways[1]
    alone = generate(
        model, texts[1:], new_tokens=6, start=2, strategy=Beam(beams=beams), inputs={"image": images(2)[1:]}
    )
    assert alone == ways[0][1:]


def test_a_question_is_answered_by_its_words_and_by_the_image_and_not_by_its_padding():
    model = zoo.create("blip_base", task="answer", **TINY)
    x = {
        "image": images(1),
        "token_ids": np.array([[3, 5, 7, 0]]),
        "padding_mask": np.array([[1, 1, 1, 0]]),
        "decoder_token_ids": np.array([[2, 8, 6]]),
        "decoder_padding_mask": np.ones((1, 3), "int32"),
    }
    usual = np.asarray(model(x))
    assert usual.shape == (1, 3, 40)
    for name, value, changes in (
        ("token_ids", [[3, 5, 9, 0]], True),
        ("token_ids", [[3, 5, 7, 9]], False),
        ("image", 255 - images(1), True),
    ):
        assert (np.abs(np.asarray(model({**x, name: np.array(value)})) - usual).max() > 1e-6) == changes
    later = np.asarray(model({**x, "decoder_token_ids": np.array([[2, 8, 9]])}))
    np.testing.assert_allclose(later[:, :2], usual[:, :2], atol=1e-6)
    names = list(zoo.layer_groups(model))
    assert {"image.block1", "text.stem", "text.block1", "decoder.block0", "head"} <= set(names)
    assert names[-1] == "head"


def test_towers_of_a_retrieval_checkpoint_compare_without_each_other(tmp_path):
    folder = write(tmp_path, "hf_blip_itm")
    pack = next(case for case in packs.load("hf_blip_itm").cases() if case.name.endswith("cosine"))
    whole = zoo.from_checkpoint(folder, task="contrast")
    inputs = feed(whole, packs.arrays(pack.inputs))
    found = whole(inputs)
    texts, pictures = (zoo.from_checkpoint(folder, task=f"{kind}_features") for kind in ("text", "image"))
    np.testing.assert_array_equal(pictures(inputs["image"]), np.asarray(found["image_embedding"]))
    np.testing.assert_array_equal(
        texts({name: inputs[name] for name in texts.input}), np.asarray(found["text_embedding"])
    )
    np.testing.assert_allclose(np.linalg.norm(found["image_embedding"], axis=1), 1, atol=1e-6)


def test_tied_copies_are_read_if_they_are_the_same(tmp_path):
    pack = packs.load("hf_blip_caption")
    plain = pack.weights()
    of = {"weight": "bert.embeddings.word_embeddings.weight", "bias": "cls.predictions.bias"}
    copied = {
        **plain,
        **{
            f"text_decoder.cls.predictions.decoder.{leaf}": plain[f"text_decoder.{name}"].copy()
            for leaf, name in of.items()
        },
        "text_decoder.bert.embeddings.position_ids": np.arange(32)[None],
    }
    model = zoo.from_checkpoint(write(tmp_path, pack.name, copied, architectures=None))
    assert times_tolerance(model, pack) < 1
    copied["text_decoder.cls.predictions.decoder.weight"] += np.float32(1e-3)
    with pytest.raises(CheckpointError, match=r"decoder\.weight' differs from"):
        zoo.from_checkpoint(write(tmp_path, pack.name, copied))


def test_wrong_checkpoints_are_refused(tmp_path):
    caption, retrieval = packs.load("hf_blip_caption"), packs.load("hf_blip_itm")
    text, vision = caption.config["text_config"], caption.config["vision_config"]
    for claim, message in (
        ({"architectures": ["BlipModel"]}, "'BlipModel' is not built here. Known: BlipForConditionalGeneration"),
        ({"text_config": {**text, "vocab_size": 30_524}}, "vocab_size=30,524, but the tensors beside it tell 130"),
        ({"text_config": {**text, "is_decoder": False}}, "is_decoder=False is not built here"),
        ({"tie_word_embeddings": False}, "tie_word_embeddings=False"),
        ({"vision_config": {**vision, "image_size": 384}}, "positions of an image=577"),
        ({"vision_config": {**vision, "num_hidden_layers": 12}}, "num_hidden_layers of vision_config=12"),
        ({"architectures": ["BlipForImageTextRetrieval"]}, "task='match', but no tensors of one are beside it"),
    ):
        with pytest.raises(CheckpointError, match=message):
            zoo.from_checkpoint(write(tmp_path, caption.name, **claim))
    with pytest.raises(WeightsMismatch, match="It has nothing of the tower 'text'"):
        zoo.from_checkpoint(write(tmp_path, caption.name), task="match")
    with pytest.raises(WeightsMismatch, match="It has nothing of the tower 'decoder'"):
        zoo.from_checkpoint(write(tmp_path, retrieval.name), task="caption")
    with pytest.raises(WeightsMismatch, match="Misshapen"):
        zoo.create("blip_base", weights=tmp_path, task="match", size=64)
    clip = packs.load("hf_clip")
    with pytest.raises(CheckpointError, match="'caption', but no tensors of one"):
        zoo.from_checkpoint(write(tmp_path, caption.name, clip.weights()))
