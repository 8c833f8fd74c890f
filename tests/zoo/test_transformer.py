"""The Transformer: what it begins with, who sees whom, and the checkpoints of torch.nn.Transformer."""

from __future__ import annotations

import json
import math

import keras
import numpy as np
import pytest

import zoo
from tests.parity import packs
from tests.parity.answers import answers, feed
from zoo.layers.positions import SinusoidPositions
from zoo.weights.errors import CheckpointError

TINY = {"width": 16, "depth": 2, "heads": 2, "mlp_width": 32, "vocabulary": 20}


def tiny(task: str = "seq2seq", **options) -> keras.Model:
    model = zoo.create("transformer_base", task=task, **{**TINY, **options})
    random = np.random.default_rng(0)
    for weight in model.weights:
        weight.assign(weight + 0.1 * random.standard_normal(weight.shape))
    return model


def tokens(model: keras.Model, length: int = 6) -> dict[str, np.ndarray]:
    random = np.random.default_rng(1)
    return {
        name: np.ones((2, length), "int32") if name.endswith("mask") else random.integers(0, 20, (2, length))
        for name in model.input
    }


def sinusoids(place: int, width: int) -> list[float]:
    """As the paper writes them: sine at the even channels, cosine at the odd ones."""
    angles = [place / 10_000 ** (2 * (channel // 2) / width) for channel in range(width)]
    return [math.cos(angle) if channel % 2 else math.sin(angle) for channel, angle in enumerate(angles)]


@pytest.mark.parametrize("width", [8, 7, 1])
def test_positions_are_the_sinusoids_of_the_paper(width):
    x = np.random.default_rng(0).standard_normal((2, 300, width)).astype("float32")
    wanted = x + np.array([sinusoids(place, width) for place in range(300)])
    np.testing.assert_allclose(np.asarray(SinusoidPositions()(x)), wanted, atol=1e-4)  # float32 sines of up to 300


def test_positions_count_from_the_first_token_also_after_padding():
    x, layer = np.zeros((2, 5, 4), "float32"), SinusoidPositions()
    found = np.asarray(layer(x, np.array([[0, 0, 1, 1, 1], [1, 1, 1, 1, 0]])))
    np.testing.assert_allclose(found[0, 2:], [sinusoids(place, 4) for place in range(3)], atol=1e-6)
    np.testing.assert_allclose(found[1], [sinusoids(place, 4) for place in range(5)], atol=1e-6)
    np.testing.assert_allclose(np.asarray(layer.vectors(np.array([[2]]), 4))[0, 0], sinusoids(2, 4), atol=1e-6)


def test_token_vectors_are_scaled_by_the_root_of_their_width():
    model = tiny()
    x = tokens(model)
    begin = keras.Model(model.input, model.get_layer("decoder.stem_dropout").output)(x)
    table = np.asarray(model.get_layer("stem_tokens").embeddings)
    wanted = 4 * table[x["decoder_token_ids"]] + np.array([sinusoids(place, 16) for place in range(6)])
    np.testing.assert_allclose(np.asarray(begin), wanted, rtol=1e-5, atol=1e-5)


def test_the_tables_are_shared_as_in_the_paper_or_not_as_asked():
    def count(**options) -> int:
        return zoo.create("transformer_base", **{**TINY, "depth": 1, **options}).count_params()

    assert count(decoder_vocabulary=30) - count() == 30 * 16
    assert count(tied=False) - count() == 20 * 16
    assert count(decoder_vocabulary=30, tied=False) - count() == 2 * 30 * 16
    assert count(positions="learned", length=9) - count() == 2 * 9 * 16  # a table for each stack
    assert count(final_norm=True) == count(pre_norm=True) == count() + 2 * 2 * 16
    own = tiny(decoder_vocabulary=30)
    x = tokens(own)
    y = np.asarray(zoo.taps(own, ["decoder.block1"])(x)["decoder.block1"])
    table = np.asarray(own.get_layer("decoder.stem_tokens").embeddings)
    np.testing.assert_allclose(np.asarray(own(x)), y @ table.T, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("options", [{}, {"pre_norm": True, "positions": "learned", "length": 8}], ids=["post", "pre"])
def test_who_sees_whom(options):
    model = tiny(**options)
    x = tokens(model)
    usual = np.asarray(model(x))
    later = x["decoder_token_ids"].copy()
    later[:, 3:] = (later[:, 3:] + 1) % 20
    found = np.abs(np.asarray(model({**x, "decoder_token_ids": later})) - usual).max(axis=(0, 2))
    assert found[:3].max() < 1e-5 < found[3:].min()  # the decoder sees what was before
    last = x["token_ids"].copy()
    last[:, 5] = (last[:, 5] + 1) % 20
    found = np.abs(np.asarray(model({**x, "token_ids": last})) - usual).max(axis=(0, 2))
    assert found.min() > 1e-5  # and all of the source
    hidden = {**x, "padding_mask": np.array([[1] * 5 + [0]] * 2)}
    np.testing.assert_allclose(
        np.asarray(model({**hidden, "token_ids": last})), np.asarray(model(hidden)), atol=1e-5
    )  # but none of its padding


@pytest.mark.parametrize("positions", ["sinusoid", "learned"])
def test_a_prompt_with_padding_before_it_goes_on_as_without(positions):
    model = tiny("causal_lm", positions=positions, pre_norm=True)
    assert set(zoo.layer_groups(model)) >= {"stem", "decoder.block0", "decoder.block1", "decoder.neck"}
    x = tokens(model)
    padded = {"token_ids": np.pad(x["token_ids"], ((0, 0), (3, 0))), "padding_mask": np.array([[0] * 3 + [1] * 6] * 2)}
    np.testing.assert_allclose(np.asarray(model(padded))[:, 3:], np.asarray(model(x)), rtol=1e-4, atol=1e-5)


def test_a_class_is_told_from_the_mean_of_the_tokens():
    model = tiny("classify")
    x = {**tokens(model), "padding_mask": np.array([[1] * 6, [1] * 4 + [0] * 2])}
    found = np.asarray(model(x))
    y = np.asarray(zoo.taps(model, ["encoder.block1"])(x)["encoder.block1"])
    mean = np.stack([y[0].mean(axis=0), y[1, :4].mean(axis=0)])
    head = model.get_layer("head_logits")
    np.testing.assert_allclose(found, mean @ np.asarray(head.kernel) + np.asarray(head.bias), rtol=1e-4, atol=1e-5)


def test_a_text_that_is_all_padding_has_the_class_of_nothing():
    model = tiny("classify")
    found = np.asarray(model({**tokens(model), "padding_mask": np.array([[1] * 6, [0] * 6])}))
    np.testing.assert_allclose(found[1], np.asarray(model.get_layer("head_logits").bias), rtol=1e-6)
    assert np.isfinite(found).all()


def test_what_cannot_be_built_says_why():
    with pytest.raises(ValueError, match=r"task='masked_lm' is about tokens, but vocabulary=0"):
        tiny("masked_lm", vocabulary=0)
    with pytest.raises(ValueError, match=r"positions='rotary' is unknown here\. Known: sinusoid, learned, none"):
        tiny(positions="rotary")
    with pytest.raises(ValueError, match="decoder_vocabulary=30, but vocabulary=0"):
        tiny(vocabulary=0, decoder_vocabulary=30)
    with pytest.raises(ValueError, match="5 heads"):
        tiny(heads=5)
    with pytest.raises(ValueError, match="9 tokens is longer than the 8"):
        model = tiny("features", positions="learned", length=8)
        model(tokens(model, length=9))


@pytest.mark.parametrize("name", ["torch_transformer_post", "torch_transformer_pre"])
def test_the_encoder_of_torch_comes_alone_and_with_a_new_head(name, tmp_path):
    pack = packs.load(name)
    folder = pack.write(tmp_path)
    inputs = feed(zoo.from_checkpoint(folder), packs.arrays(pack.inputs))
    inputs = {name: inputs[name] for name in ("series", "padding_mask")}
    memory = answers(zoo.from_checkpoint(folder), pack)["memory"]
    np.testing.assert_array_equal(np.asarray(zoo.from_checkpoint(folder, task="features")(inputs)), memory)
    classifier = zoo.from_checkpoint(folder, task="classify", classes=3)
    np.testing.assert_array_equal(np.asarray(zoo.taps(classifier, ["encoder.neck"])(inputs)["encoder.neck"]), memory)
    assert classifier(inputs).shape == (2, 3)


def test_what_the_arguments_of_torch_claim_is_held_against_the_tensors(tmp_path):
    pack = packs.load("torch_transformer_post")
    pack.write(tmp_path)
    for claim, message in (
        ({"d_model": 64}, "d_model=64, but the tensors beside it tell 32"),
        ({"dim_feedforward": 128}, "dim_feedforward=128"),
        ({"num_encoder_layers": 1}, "num_encoder_layers=1"),
        ({"num_decoder_layers": 3}, "num_decoder_layers=3"),
        ({"nhead": 5}, "5 heads"),
        ({"activation": "swish"}, "options unknown here"),
        ({"bias": False}, "options unknown here"),
        ({"custom_encoder": "x"}, "options unknown here"),
        ({"layer_norm_eps": 5}, "layer_norm_eps=5"),
    ):
        config = {**pack.config, "args": {**pack.config["args"], **claim}}
        (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
        with pytest.raises(ValueError, match=message):
            zoo.from_checkpoint(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({**pack.config, "args": [1]}), encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"args=\[1\] must be an object"):
        zoo.from_checkpoint(tmp_path)
