"""Models that write step by step: the logits of whole passes, and clear words for models that cannot."""

from __future__ import annotations

from functools import cache

import keras
import numpy as np
import pytest

import zoo
from tests.parity import packs
from zoo.layers.decoding import Decoder, decoder_of, fixed_step

TINY = {"width": 16, "depth": 2, "heads": 2, "mlp_width": 24, "vocabulary": 40}
POSITIONS = np.array([range(9), [-1, -1, -1, *range(6)]], "int32")  # the second text begins after three places
LM = pytest.mark.parametrize("name", ["hf_gpt2_lm", "hf_t5_v10", "hf_t5_v11"])


@pytest.fixture(scope="module")
def load(tmp_path_factory):
    return cache(lambda name: zoo.from_checkpoint(packs.load(name).write(tmp_path_factory.mktemp(name))))


def inputs_of(model: keras.Model) -> dict[str, np.ndarray]:
    random = np.random.default_rng(1)
    found = {"token_ids": random.integers(1, 130, (2, 9)), "padding_mask": POSITIONS > -1}
    if "decoder_token_ids" in model.input:
        found |= {f"decoder_{name}": array for name, array in found.items()}
        found["token_ids"] = random.integers(1, 130, (2, 7))
        found["padding_mask"] = np.array([[1] * 7, [1] * 4 + [0] * 3])
    return {name: array.astype("int32") for name, array in found.items()}


def begun(decoder: Decoder, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What the steps need of an encoder."""
    if decoder.start is None:
        return {}
    given = {name: inputs[name] for name in decoder.start.input}
    found = {**given, **decoder.start(given)}
    return {name: np.asarray(found[name]) for name in decoder.step.input if name in found and name != "token_ids"}


def empty(decoder: Decoder, texts: int) -> dict[str, np.ndarray]:
    shapes = {name: decoder.step.input[name].shape for name in decoder.cache}
    return {name: np.zeros((texts, heads, 0, width), "float32") for name, (_, heads, _, width) in shapes.items()}


@LM
@pytest.mark.parametrize("parts", [(9,), (7, 1, 1), (1,) * 4, (4, 3)])
def test_steps_of_any_size_give_the_logits_of_a_whole_pass(name, parts, load):
    model = load(name)
    decoder, inputs = decoder_of(model), inputs_of(model)
    ids = inputs.get("decoder_token_ids", inputs["token_ids"])
    whole = np.asarray(model(inputs))
    context, cache, end = begun(decoder, inputs), empty(decoder, 2), 0
    for size in parts:
        before, end = end, end + size
        places = {"positions": POSITIONS[:, before:end], "cache_positions": POSITIONS[:, :before]}
        found = decoder.step({"token_ids": ids[:, before:end], **places, **cache, **context})
        cache = {key: np.concatenate([cache[key], found[key]], axis=2) for key in cache}
        there = POSITIONS[:, end - 1] > -1
        np.testing.assert_allclose(np.asarray(found["logits"])[there], whole[there, end - 1], atol=1e-5)


@LM
def test_a_fixed_step_feeds_itself(name, load):
    model = load(name)
    inputs = {key: array[:1] for key, array in inputs_of(model).items()}
    ids = inputs.get("decoder_token_ids", inputs["token_ids"])
    step = fixed_step(model, 12)
    assert all(None not in tensor.shape for tensor in (*step.inputs, *step.outputs))
    kept = {key: np.zeros(tensor.shape, tensor.dtype) for key, tensor in step.input.items()}
    kept["cache_positions"] -= 1
    for key, array in begun(decoder_of(model), inputs).items():
        kept[key][tuple(slice(side) for side in array.shape)] = array
    for place in range(9):
        found = step({**kept, "token_ids": ids[:, place : place + 1], "positions": np.array([[place]], "int32")})
        kept |= {key: np.asarray(value) for key, value in found.items() if key != "logits"}
        assert set(found) <= {"logits", *step.input}
    np.testing.assert_allclose(found["logits"], np.asarray(model(inputs))[:, -1], atol=1e-5)


def test_a_fixed_step_of_a_recurrent_model_feeds_itself():
    model = zoo.create("rnn_gru", task="causal_lm", width=6, embedding=5, vocabulary=20)
    ids = np.random.default_rng(0).integers(0, 20, (1, 7)).astype("int32")
    step = fixed_step(model, 1)
    kept = {"h_0": np.zeros(step.input["h_0"].shape, "float32")}
    for place in range(7):
        found = step({**kept, "token_ids": ids[:, place : place + 1], "positions": np.array([[place]], "int32")})
        kept = {"h_0": np.asarray(found["h_0"])}
    whole = model({"token_ids": ids, "padding_mask": np.ones_like(ids)})
    np.testing.assert_allclose(found["logits"], np.asarray(whole)[:, -1], atol=1e-5)


def test_a_step_shares_the_weights_and_leaves_the_model_as_it_is():
    model = zoo.create("gpt2", length=16, **TINY)
    config = model.get_config()
    step = decoder_of(model).step
    assert {id(weight) for weight in step.weights} == {id(weight) for weight in model.weights}
    assert model.get_config() == config
    assert list(zoo.layer_groups(model)) == ["stem", "block0", "block1", "neck"]


def test_half_precision_keeps_its_cache_in_half_precision():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = zoo.create("gpt2", length=16, **TINY)
    finally:
        keras.config.set_dtype_policy("float32")
    decoder, ids = decoder_of(model), np.array([[3, 9, 27]], "int32")
    positions = np.array([[0, 1, 2]], "int32")
    cache = {name: keras.ops.zeros((1, 2, 0, 8), "bfloat16") for name in decoder.cache}
    given = {"token_ids": ids, "positions": positions, "cache_positions": ids[:, :0]}
    found = decoder.step({name: keras.ops.convert_to_tensor(array) for name, array in given.items()} | cache)
    assert found["block0_key"].dtype == "bfloat16"
    assert found["logits"].dtype == "float32"
    whole = model({"token_ids": ids, "padding_mask": np.ones_like(ids)})
    np.testing.assert_allclose(found["logits"], np.asarray(whole)[:, -1], atol=1e-3)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: zoo.create("mobilenet_v2", size=32), "no token_ids"),
        (lambda: zoo.create("bert_tiny", task="features", **TINY), 'task="causal_lm"'),
        (lambda: zoo.create("bert_tiny", task="masked_lm", **TINY), "'block0' looks at the tokens that come after"),
        (lambda: zoo.create("gpt2", task="classify", **TINY), 'task="causal_lm"'),
        (lambda: zoo.create("gpt2", task="features", **TINY), 'task="causal_lm"'),
    ],
)
def test_a_model_that_writes_no_text_is_refused(build, message):
    with pytest.raises(ValueError, match=message):
        decoder_of(build())


def test_a_layer_that_may_mix_tokens_is_refused():
    ids, mask = (keras.Input((None,), dtype="int32", name=name) for name in ("token_ids", "padding_mask"))
    x = keras.layers.Embedding(9, 4, name="stem_tokens")(ids)
    x = keras.layers.Conv1D(9, 3, padding="causal", name="neck_conv")(x)
    with pytest.raises(ValueError, match="Conv1D 'neck_conv' may look at several tokens"):
        decoder_of(keras.Model({"token_ids": ids, "padding_mask": mask}, x, name="mixed"))


def test_a_fixed_step_longer_than_the_positions_is_refused():
    with pytest.raises(ValueError, match="1 to 16 tokens"):
        fixed_step(zoo.create("gpt2", length=16, **TINY), 17)
