"""Attention weights are those that a model's blocks use: by hand, and as transformers 5.23 gives them."""

from __future__ import annotations

import keras
import numpy as np
import pytest

import zoo
from tests.parity import packs
from tests.parity.answers import feed

# One row each of what the reference returned for a pack's weights and inputs: who a position attends to.
REFERENCE = {
    ("hf_t5_v11", "encoder.block2", (1, 3, 2)): [
        0.057893, 0.157366, 0.0733466, 0.0626553, 0.113247, 0.106409, 0.0942228, 0.271949, 0.0629112, 0, 0, 0, 0, 0,
    ],
    ("hf_t5_v11", "decoder.block1", (0, 2, 5)): [
        0.11085, 0.0514783, 0.192184, 0.00858309, 0.175945, 0.460959, 0,
    ],
    ("hf_t5_v11", "decoder.block1.cross", (1, 1, 4)): [
        0.237128, 0.0733191, 0.00277025, 0.0659449, 0.236847, 0.0166947, 0.0849345, 0.199767, 0.0825957, 0, 0, 0, 0, 0,
    ],
    ("hf_bert_mlm", "block1", (1, 2, 3)): [
        0.0560172, 0.0180918, 0.299533, 0.0880261, 0.00200162, 0.00436304, 0.00168267, 0.46091, 0.0693746, 0, 0, 0, 0,
    ],
    ("hf_gpt2_lm", "block2", (0, 1, 7)): [
        0.0810219, 0.135503, 0.157136, 0.16362, 0.0884655, 0.14956, 0.14339, 0.0813032, 0, 0, 0, 0,
    ],
    ("hf_vit_model", "block2", (1, 0, 0)): [
        *(0.0728635, 0.0528549, 0.0439007, 0.0686694, 0.0574332, 0.0530583, 0.0503148, 0.060677, 0.0446075),
        *(0.060162, 0.0634124, 0.0542022, 0.0683987, 0.0770242, 0.0636384, 0.0571228, 0.0516602),
    ],
}  # fmt: skip
DECODING = {"width": 16, "depth": 2, "heads": 2, "mlp_width": 16, "vocabulary": 20}


@pytest.mark.parametrize("name", sorted({name for name, _, _ in REFERENCE}))
def test_the_weights_are_those_of_the_reference(name, tmp_path):
    pack = packs.load(name)
    model = zoo.from_checkpoint(pack.write(tmp_path))
    found = zoo.attention_weights(model, feed(model, packs.arrays(pack.inputs)))
    for (_, block, row), wanted in ((key, values) for key, values in REFERENCE.items() if key[0] == name):
        np.testing.assert_allclose(found[block][row], wanted, atol=2e-6, err_msg=block)
    for weights in found.values():
        assert weights.dtype == "float32"
        np.testing.assert_allclose(weights.sum(axis=-1), 1, atol=1e-6)


def by_hand(x: np.ndarray, context: np.ndarray, attention: keras.layers.Layer, allowed: np.ndarray) -> np.ndarray:
    """Softmax of the scaled products of queries and keys, over what is allowed."""

    def heads(layer, array):
        projected = array @ np.asarray(layer.kernel, "float64") + np.asarray(layer.bias, "float64")
        return projected.reshape(*array.shape[:2], 2, -1).transpose(0, 2, 1, 3)

    query, key = heads(attention.query, x), heads(attention.key, context)
    scores = query @ key.transpose(0, 1, 3, 2) / np.sqrt(query.shape[-1])
    shares = np.exp(scores - scores.max(axis=-1, keepdims=True)) * allowed
    return shares / shares.sum(axis=-1, keepdims=True)


@pytest.mark.parametrize("pre_norm", [False, True])
def test_the_weights_are_the_softmax_of_the_paper(pre_norm):
    model = zoo.create("transformer_base", **DECODING, pre_norm=pre_norm)
    random = np.random.default_rng(0)
    for weight in model.weights:
        weight.assign(weight + 0.3 * random.standard_normal(weight.shape))
    source = np.array([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])
    x = {"token_ids": random.integers(0, 20, (2, 5)), "padding_mask": source}
    x |= {"decoder_token_ids": random.integers(0, 20, (2, 4)), "decoder_padding_mask": np.ones((2, 4), "int32")}
    found = zoo.attention_weights(model, x)
    names = [f"{tower}.block{block}{end}" for tower, end in (("encoder", ""), ("decoder", ""), ("decoder", ".cross"))
             for block in range(2)]  # fmt: skip
    assert set(found) == set(names)
    assert {name: array.shape for name, array in found.items() if "1" in name} == {
        "encoder.block1": (2, 2, 5, 5),
        "decoder.block1": (2, 2, 4, 4),
        "decoder.block1.cross": (2, 2, 4, 5),
    }
    memory = "encoder.neck" if pre_norm else "encoder.block1"
    ends = zoo.taps(model, ["encoder.block0", "decoder.block0", memory])(x)
    for tower, allowed in (("encoder", source[:, None, None]), ("decoder", np.tri(4))):
        block, before = model.get_layer(f"{tower}.block1"), np.asarray(ends[f"{tower}.block0"])
        normed = np.asarray(block.attention_norm(before)) if pre_norm else before
        wanted = by_hand(normed, normed, block.attention, allowed)
        np.testing.assert_allclose(found[f"{tower}.block1"], wanted, rtol=1e-4, atol=1e-6)
    attended = np.asarray(block.attention(normed, padding_mask=np.ones((2, 4))))  # of the decoder
    queries = before + attended if pre_norm else np.asarray(block.attention_norm(before + attended))
    queries = np.asarray(block.cross_attention_norm(queries)) if pre_norm else queries
    wanted = by_hand(queries, np.asarray(ends[memory]), block.cross_attention, source[:, None, None])
    np.testing.assert_allclose(found["decoder.block1.cross"], wanted, rtol=1e-4, atol=1e-6)


def test_they_are_float32_in_half_precision_too_and_leave_the_model_as_it_was():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = zoo.create("transformer_base", **{**DECODING, "vocabulary": 0})
    finally:
        keras.config.set_dtype_policy("float32")
    vectors = np.random.default_rng(0).standard_normal((1, 3, 16)).astype("float32")
    x = {"series": vectors, "decoder_series": vectors, "padding_mask": np.ones((1, 3), "int32")}
    x["decoder_padding_mask"] = x["padding_mask"]
    before = np.asarray(model(x)), model.get_config(), len(model.weights)
    found = zoo.attention_weights(model, x)
    assert {array.dtype.name for array in found.values()} == {"float32"}
    np.testing.assert_array_equal(np.asarray(model(x)), before[0])
    assert (model.get_config(), len(model.weights)) == before[1:]


def test_a_model_without_attention_is_refused():
    with pytest.raises(ValueError, match="'mlp' has no transformer block"):
        zoo.attention_weights(zoo.create("mlp"), np.zeros((1, 28, 28, 3)))
    with pytest.raises(ValueError, match="takes a functional Keras model, not Dense"):
        zoo.attention_weights(keras.layers.Dense(3), np.zeros((1, 3)))
