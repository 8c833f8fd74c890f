"""Shared layers against the same arithmetic in numpy, or in a loop."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from zoo.core.family import Pixels
from zoo.layers.attention import Attention
from zoo.layers.convolution import conv_bn
from zoo.layers.crop import Crop2D
from zoo.layers.inverted_residual import Stage, eights, squeeze_excite
from zoo.layers.pixels import PixelInput
from zoo.layers.tokens import ClassToken, LearnedPositions, TokenAt
from zoo.layers.transformer_block import TransformerBlock


def randomized(layer: keras.layers.Layer, shape: tuple[int, ...]) -> keras.layers.Layer:
    """The layer, built for a shape, all its weights random."""
    random = np.random.default_rng(0)
    layer.build((None, *shape))
    for weight in layer.weights:
        weight.assign(random.standard_normal(weight.shape) / np.sqrt(max(1, weight.shape[0])))
    return layer


def tokens(*shape: int) -> np.ndarray:
    return np.random.default_rng(1).standard_normal(shape).astype("float32")


def dense(x: np.ndarray, layer: keras.layers.Dense) -> np.ndarray:
    y = x @ np.asarray(layer.kernel, "float64")
    return y if layer.bias is None else y + np.asarray(layer.bias)


def attended(x: np.ndarray, layer: Attention, allowed: np.ndarray) -> np.ndarray:
    """Attention by its definition, one head and one position at a time; `allowed` is (B, T, T)."""
    query, key, value = (dense(x.astype("float64"), each) for each in (layer.query, layer.key, layer.value))
    mixed = np.zeros_like(query)
    share = x.shape[-1] // layer.heads
    for head in range(layer.heads):
        at = slice(head * share, (head + 1) * share)
        for batch, position in np.ndindex(x.shape[:2]):
            seen = np.flatnonzero(allowed[batch, position])
            scores = key[batch, seen, at] @ query[batch, position, at] / np.sqrt(share)
            weights = np.exp(scores - scores.max())
            mixed[batch, position, at] = weights / weights.sum() @ value[batch, seen, at]
    return dense(mixed, layer.output_projection)


PADDING = np.array([[1, 1, 1, 1, 0], [1, 1, 0, 0, 0]])


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("padding", [None, PADDING])
def test_attention_is_what_its_definition_says(bias, causal, padding):
    layer = randomized(Attention(3, causal=causal, bias=bias), (5, 12))
    x = tokens(2, 5, 12)
    allowed = np.ones((2, 5, 5)) if padding is None else np.repeat(padding[:, None], 5, axis=1)
    allowed = np.tril(allowed) if causal else allowed
    np.testing.assert_allclose(layer(x, padding_mask=padding), attended(x, layer, allowed), atol=2e-6)


def test_what_is_masked_has_no_influence_at_all():
    layer = randomized(Attention(2), (5, 8))
    x = tokens(2, 5, 8)
    changed = np.where(PADDING[..., None] == 1, x, 100.0)
    before, after = (np.asarray(layer(each, padding_mask=PADDING)) for each in (x, changed))
    np.testing.assert_array_equal(before[PADDING == 1], after[PADDING == 1])
    later = x.copy()
    later[:, 3:] = 100.0
    causal = randomized(Attention(2, causal=True), (5, 8))
    np.testing.assert_array_equal(causal(x)[:, :3], causal(later)[:, :3])


def test_a_small_mask_value_is_nearly_the_same():
    x = tokens(2, 5, 8)
    hard, soft = (randomized(Attention(2, causal=True, mask_value=value), (5, 8)) for value in (-1e9, -30))
    np.testing.assert_allclose(hard(x), soft(x), atol=1e-6)
    leaky = randomized(Attention(2, causal=True, mask_value=-1), (5, 8))
    assert np.abs(np.asarray(hard(x)) - np.asarray(leaky(x))).max() > 0.01


def test_a_row_of_padding_alone_stays_finite_in_half_precision():
    layer = randomized(Attention(2, dtype="mixed_float16"), (5, 8))
    answer = layer(tokens(1, 5, 8), padding_mask=np.zeros((1, 5)))
    assert answer.dtype == "float16"
    assert np.isfinite(answer).all()


def test_attention_takes_any_length():
    layer = randomized(Attention(2, causal=True), (None, 8))
    x = tokens(1, 7, 8)
    tokens_of_any_length = keras.Input((None, 8))
    model = keras.Model(tokens_of_any_length, layer(tokens_of_any_length))
    np.testing.assert_allclose(model(x)[:, :4], model(x[:, :4]), atol=1e-6)


def normalized(x: np.ndarray, norm: keras.layers.LayerNormalization) -> np.ndarray:
    x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + norm.epsilon)
    return x * np.asarray(norm.gamma) + np.asarray(norm.beta)


@pytest.mark.parametrize("pre_norm", [True, False])
def test_a_block_normalizes_before_or_after(pre_norm):
    block = randomized(TransformerBlock(2, 20, pre_norm=pre_norm, activation="relu", epsilon=1e-3), (4, 8))
    x = tokens(2, 4, 8)
    everything = np.ones((2, 4, 4))

    def attend(x):
        return attended(x, block.attention, everything)

    def mlp(x):
        return dense(np.maximum(dense(x, block.mlp_up), 0), block.mlp_down)

    if pre_norm:
        wanted = x + attend(normalized(x, block.attention_norm))
        wanted = wanted + mlp(normalized(wanted, block.mlp_norm))
    else:
        wanted = normalized(x + attend(x), block.attention_norm)
        wanted = normalized(wanted + mlp(wanted), block.mlp_norm)
    np.testing.assert_allclose(block(x), wanted, atol=1e-5)


@pytest.mark.parametrize(
    ("activation", "at_one"),
    [("gelu", 0.8413447), ("gelu_tanh", 0.8411920), ("quick_gelu", 0.8457958), ("relu", 1.0), ("silu", 0.7310586)],
)
def test_activations_are_told_apart(activation, at_one):
    block = TransformerBlock(1, 1, activation=activation)
    block.build((None, 1, 1))
    for weight, value in zip((block.mlp_up.kernel, block.mlp_down.kernel), (1.0, 1.0), strict=True):
        weight.assign([[value]])
    assert float(block.mlp(np.ones((1, 1, 1), "float32"))[0, 0, 0]) == pytest.approx(at_one, abs=1e-6)


@pytest.mark.parametrize(
    "layer",
    [
        Attention(2, causal=True, bias=False, dropout=0.1, mask_value=-30.0, name="attention"),
        TransformerBlock(
            2, 12, pre_norm=False, causal=True, activation="quick_gelu", epsilon=1e-4, dropout=0.1, qkv_bias=False,
            mask_value=-30.0, name="block3",
        ),
        ClassToken(name="stem_token"),
        LearnedPositions(9, name="stem_positions"),
        TokenAt(1, name="head_token"),
    ],
    ids=lambda layer: type(layer).__name__,
)  # fmt: skip
def test_layers_come_back_from_their_config(layer):
    again = type(layer).from_config(layer.get_config())
    assert again.get_config() == layer.get_config()
    x = tokens(2, 5, 8)
    first = randomized(layer, (5, 8))
    assert [w.shape for w in randomized(again, (5, 8)).weights] == [w.shape for w in first.weights]
    np.testing.assert_array_equal(first(x), again(x))
    assert first.compute_output_shape((None, 5, 8)) == (None, *np.shape(first(x))[1:])


def test_tokens_and_positions():
    token, positions = randomized(ClassToken(), (3, 4)), randomized(LearnedPositions(6), (4, 4))
    x = tokens(2, 3, 4)
    longer = np.asarray(token(x))
    np.testing.assert_array_equal(longer[:, 1:], x)
    np.testing.assert_array_equal(longer[:, 0], np.repeat(token.token[0], 2, axis=0))
    np.testing.assert_allclose(positions(longer), longer + np.asarray(positions.table)[:4], rtol=1e-6)
    np.testing.assert_array_equal(TokenAt(2)(x), x[:, 2])


def test_pixels_are_normalized_and_grey_is_luma():
    image = np.random.default_rng(0).integers(0, 256, (2, 4, 5, 3), "uint8")
    color = PixelInput(Pixels(size=(4, 5), mean=(10, 20, 30), std=(1, 2, 4)))
    np.testing.assert_allclose(color(image), (image - np.array([10.0, 20, 30])) / [1, 2, 4], rtol=1e-5)
    grey = PixelInput(Pixels(size=(4, 5), mean=(128,), std=(64,)))
    np.testing.assert_allclose(grey(image), (image @ np.array([[0.299], [0.587], [0.114]]) - 128) / 64, atol=1e-5)
    again = PixelInput.from_config(grey.get_config())
    assert again.pixels == grey.pixels


@pytest.mark.parametrize(("padding", "first"), [("symmetric", 0), ("same", 1)])
def test_strided_padding_is_the_publishers(padding, first):
    """Of an even image, PyTorch's padding centres the first window on pixel 0, TensorFlow's on pixel 1."""
    image = keras.Input((6, 6, 1))
    model = keras.Model(image, conv_bn(image, 1, 3, stride=2, name="stem_conv", padding=padding, activation=None))
    kernel = np.zeros((3, 3, 1, 1))
    kernel[1, 1] = 1
    model.get_layer("stem_conv").kernel.assign(kernel)
    x = np.arange(36, dtype="float32").reshape(1, 6, 6, 1)
    np.testing.assert_allclose(model(x), x[:, first::2, first::2] / np.sqrt(1 + 1e-5), rtol=1e-6)


def test_squeeze_and_excitation_weighs_channels():
    image = keras.Input((3, 4, 16))
    model = randomized(keras.Model(image, squeeze_excite(image, name="stage1_squeeze")), (3, 4, 16))
    x = tokens(2, 3, 4, 16)
    reduce, expand = model.get_layer("stage1_squeeze_reduce"), model.get_layer("stage1_squeeze_expand")
    pooled = x.mean((1, 2))
    hidden = np.maximum(pooled @ np.asarray(reduce.kernel)[0, 0] + np.asarray(reduce.bias), 0)
    gate = np.clip((hidden @ np.asarray(expand.kernel)[0, 0] + np.asarray(expand.bias)) / 6 + 0.5, 0, 1)
    assert gate.std() > 0.05
    np.testing.assert_allclose(model(x), x * gate[:, None, None], atol=1e-5)


def test_channels_round_to_eights_but_never_far_down():
    assert [eights(value) for value in (1, 8, 11.2, 12, 18, 19.9, 20, 22.4)] == [8, 8, 16, 16, 24, 24, 24, 24]


def test_depth_goes_to_the_last_kind_of_block_first():
    stage = Stage("inverted", ((1, 6, 80), (1, 2.5, 80), (2, 2.3, 80)))
    assert [ratio for ratio, _ in stage.rows(1.0)] == [6, 2.5, 2.3, 2.3]
    assert [ratio for ratio, _ in stage.rows(1.2)] == [6, 2.5, 2.5, 2.3, 2.3]  # timm's mobilenetv3_large_150d


def test_crops_and_their_gradients_are_those_of_keras():
    x = np.random.default_rng(0).normal(size=(2, 5, 6, 3)).astype("float32")
    sides = ((1, 0), (0, 2))
    found, gradients = [], []
    for layer in (Crop2D(sides), keras.layers.Cropping2D(sides)):
        given = tf.constant(x)
        with tf.GradientTape() as tape:
            tape.watch(given)
            found.append(layer(given))
            total = tf.reduce_sum(found[-1] ** 2)
        gradients.append(tape.gradient(total, given))
    np.testing.assert_array_equal(*found)
    np.testing.assert_array_equal(*gradients)
