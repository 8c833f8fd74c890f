"""T5: its buckets of distances, and the forms in which its checkpoints come."""

from __future__ import annotations

import json
from pathlib import Path

import keras
import numpy as np
import pytest
from safetensors.numpy import save_file

import zoo
from tests.parity import packs
from tests.parity.answers import answers, feed, times_tolerance
from zoo.layers.positions import RelativePositions
from zoo.layers.transformer_block import TransformerBlock
from zoo.weights.errors import CheckpointError, WeightsMismatch

COPIES = ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight", "lm_head.weight")


def write(folder: Path, pack: packs.Pack, tensors=None, **config) -> Path:
    """A pack's checkpoint with other tensors, or with other values in config.json."""
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps({**pack.config, **config}), encoding="utf-8")
    save_file(tensors or pack.weights(), folder / "model.safetensors")
    return folder


@pytest.mark.parametrize(
    ("buckets", "distance", "bidirectional", "firsts"),
    [  # the first distance of each bucket, by transformers 5.23
        (32, 128, True, [0, 1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 23, 32, 46, 64, 91]),
        (32, 128, False, [*range(17), 19, 21, 24, 27, 31, 35, 40, 46, 52, 59, 67, 77, 87, 99, 113]),
        (10, 37, True, [0, 1, 2, 6, 14]),
        (8, 20, False, [0, 1, 2, 3, 4, 6, 9, 14]),
    ],
)
def test_distances_fall_into_the_buckets_of_the_reference(buckets, distance, bidirectional, firsts):
    layer = RelativePositions(2, buckets=buckets, distance=distance, bidirectional=bidirectional)
    found = layer.bucket_of_distance()
    assert len(found) == distance + 1
    assert [int(np.argmax(found == bucket)) for bucket in range(len(firsts))] == firsts
    assert (np.diff(found) >= 0).all()
    assert found[-1] == len(firsts) - 1


def test_the_bias_of_two_tokens_is_a_row_of_the_table():
    both, before = RelativePositions(3), RelativePositions(3, bidirectional=False)
    for layer in (both, before):
        layer.build((None, None, 8))
        layer.table.assign(np.random.default_rng(0).standard_normal((32, 3)))
    found, table = np.asarray(both(np.zeros((1, 200, 8)))), np.asarray(both.table)
    assert found.shape == (1, 3, 200, 200)
    np.testing.assert_array_equal(found[0, :, 5, 2], table[3])  # three tokens before
    np.testing.assert_array_equal(found[0, :, 2, 5], table[16 + 3])  # three tokens after
    np.testing.assert_array_equal(found[0, :, 199, 0], table[15])
    causal, table = np.asarray(before(np.zeros((1, 200, 8)))), np.asarray(before.table)
    np.testing.assert_array_equal(causal[0, :, 30, 9], table[18])
    np.testing.assert_array_equal(causal[0, :, 2, 5], table[0])
    step = np.asarray(before.bias(np.array([150]), np.arange(160)))  # as decoding token for token asks for
    np.testing.assert_array_equal(step[0, :, 0, :151], causal[0, :, 150, :151])
    with pytest.raises(ValueError, match="32 buckets for a distance of 8 tokens"):
        RelativePositions(3, distance=8)


def test_files_that_repeat_the_table_are_read_if_the_repetitions_are_the_same(tmp_path):
    pack = packs.load("hf_t5_v10")
    plain = pack.weights()
    copied = {**plain, **{name: plain["shared.weight"].copy() for name in COPIES}}
    model = zoo.from_checkpoint(write(tmp_path, pack, copied, architectures=["T5WithLMHeadModel"]))
    assert times_tolerance(model, pack) < 1
    assert model.count_params() == 256_064  # the head is still tied
    for name in COPIES:
        changed = {**copied, name: copied[name] + np.float32(1e-3)}
        with pytest.raises(CheckpointError, match=rf"'{name}' differs from 'shared.weight'.*tied=False"):
            zoo.from_checkpoint(write(tmp_path, pack, changed))


def test_a_table_of_logits_that_is_not_tied_is_used_when_asked_for(tmp_path):
    pack = packs.load("hf_t5_v10")
    tensors = pack.weights()
    own = np.random.default_rng(0).standard_normal((140, 64)).astype("float32")
    folder = write(tmp_path, pack, {**tensors, "lm_head.weight": own})
    model = zoo.from_checkpoint(folder, tied=False)
    inputs = feed(model, packs.arrays(pack.inputs))
    y = np.asarray(zoo.taps(model, ["decoder.neck"])(inputs)["decoder.neck"])
    np.testing.assert_allclose(np.asarray(model(inputs)), y @ own.T / 8, rtol=1e-4, atol=1e-5)  # 8: the root of 64


def test_a_gated_file_that_claims_tied_logits_but_has_its_own_keeps_them(tmp_path):
    """Transformers 5 writes tie_word_embeddings=true whatever is tied, and scale_decoder_outputs beside it."""
    pack = packs.load("hf_t5_v11")
    claims = {"tie_word_embeddings": True, "scale_decoder_outputs": False, "num_decoder_layers": None}
    model = zoo.from_checkpoint(write(tmp_path, pack, **claims))
    assert times_tolerance(model, pack) < 1


def test_gated_with_tied_logits_and_plain_without_follow_config_json(tmp_path):
    gated, plain = packs.load("hf_t5_v11"), packs.load("hf_t5_v10")
    tensors = {name: array for name, array in gated.weights().items() if name != "lm_head.weight"}
    with pytest.raises(WeightsMismatch, match="Missing 1: head_vocabulary/kernel"):
        zoo.from_checkpoint(write(tmp_path / "missing", gated, tensors))
    model = zoo.from_checkpoint(write(tmp_path / "tied", gated, tensors, tie_word_embeddings=True))
    check_logits(model, gated, table=tensors["shared.weight"] / 8)
    own = {**plain.weights(), "lm_head.weight": gated.weights()["lm_head.weight"]}
    model = zoo.from_checkpoint(write(tmp_path / "own", plain, own, tie_word_embeddings=False))
    check_logits(model, plain, table=own["lm_head.weight"])


def check_logits(model: keras.Model, pack: packs.Pack, *, table: np.ndarray) -> None:
    inputs = feed(model, packs.arrays(pack.inputs))
    y = np.asarray(zoo.taps(model, ["decoder.neck"])(inputs)["decoder.neck"])
    np.testing.assert_allclose(np.asarray(model(inputs)), y @ table.T, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["hf_t5_v10", "hf_t5_v11"])
def test_the_encoder_alone_comes_from_its_own_files_and_from_whole_ones(name, tmp_path):
    pack = packs.load(name)
    tensors = {name: array for name, array in pack.weights().items() if not name.startswith(("decoder.", "lm_head."))}
    tensors["encoder.embed_tokens.weight"] = tensors["shared.weight"].copy()
    alone = zoo.from_checkpoint(write(tmp_path / "alone", pack, tensors, architectures=["T5EncoderModel"]))
    part = zoo.from_checkpoint(pack.write(tmp_path / "whole"), task="features")
    whole = zoo.from_checkpoint(tmp_path / "whole")
    for model in (alone, part):
        inputs = feed(whole, packs.arrays(pack.inputs))
        tokens = np.asarray(model({name: inputs[name] for name in model.input}))
        np.testing.assert_array_equal(tokens, answers(whole, pack)["encoder_last_hidden_state"])


def test_what_config_json_claims_is_held_against_the_tensors(tmp_path):
    pack = packs.load("hf_t5_v11")
    for claim, message in (
        ({"vocab_size": 2_000_000}, "vocab_size=2,000,000, but the tensors beside it tell 140"),
        ({"d_model": 128}, "d_model=128"),
        ({"d_kv": 32}, r"num_heads \* d_kv=128"),
        ({"d_ff": 64}, "d_ff=64"),
        ({"num_layers": 2}, "num_layers=2"),
        ({"num_layers": 4}, "num_layers=4"),
        ({"num_decoder_layers": 2}, r"Not used 14: decoder\.block\.2"),
        ({"feed_forward_proj": "gated-swiglu"}, "'gated-swiglu' is unknown here. Known: gelu"),
        ({"relative_attention_num_buckets": 16}, "Misshapen 2"),
        ({"dropout_rate": 7}, "dropout_rate=7"),
    ):
        with pytest.raises(CheckpointError, match=message):
            zoo.from_checkpoint(write(tmp_path, pack, **claim))


def test_a_decoder_token_sees_none_after_it_and_all_of_the_source():
    model = zoo.create("t5_small", width=16, depth=1, decoder_depth=2, heads=2, head_width=4, mlp_width=8, vocabulary=9)
    assert [name for name in zoo.layer_groups(model) if "block" in name] == [
        "encoder.block0",
        "decoder.block0",
        "decoder.block1",
    ]
    x = {name: np.ones((1, 6), "int32") for name in model.input}
    x["token_ids"], x["decoder_token_ids"] = np.arange(6)[None] % 9, np.arange(1, 7)[None]
    usual = np.asarray(model(x))
    later = np.asarray(model({**x, "decoder_token_ids": np.array([[1, 2, 3, 8, 8, 8]])}))
    np.testing.assert_allclose(later[:, :3], usual[:, :3], rtol=1e-5, atol=1e-6)
    assert np.abs(later[:, 3:] - usual[:, 3:]).min() > 0
    source = np.asarray(model({**x, "token_ids": np.array([[0, 1, 2, 3, 4, 7]])}))
    assert np.abs(source - usual).max(axis=-1).min() > 1e-6


def test_hidden_units_of_the_mlp_are_dropped_in_training_alone():
    block = TransformerBlock(2, 64, mlp_dropout=0.5)
    x = np.random.default_rng(0).standard_normal((1, 3, 8)).astype("float32")
    usual = np.asarray(block(x))
    drawn = np.stack([np.asarray(block(x, training=True)) for _ in range(8)])
    assert (drawn.std(axis=0) > 0.01).all()
    np.testing.assert_array_equal(np.asarray(block(x)), usual)
    model = zoo.create("t5_small", width=8, depth=1, heads=1, mlp_width=8, vocabulary=9)
    assert {layer.mlp_dropout_rate for layer in model.layers if "block" in layer.name} == {0.1}
