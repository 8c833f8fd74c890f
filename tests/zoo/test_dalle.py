"""DALL-E: tokens of texts and images, writing with a cache, and what is refused."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import tensorflow as tf

import zoo
from pipelines.generate import generate
from pipelines.strategies import Sample
from tests.parity import packs
from zoo.core.registry import load_family
from zoo.layers.decoding import decoder_of, fixed_step
from zoo.layers.image_text import TextThenImage
from zoo.weights import CheckpointError, WeightsMismatch

DALLE = load_family("dalle")
LAYOUT = TextThenImage(words=20, length=5, codes=16, rows=2, columns=3)
DVAE = {"codes": 16, "code_width": 6, "channels_width": 8, "blocks": 1, "size": (16, 24)}
TINY = {**DVAE, "words": 20, "text_length": 5, "width": 16, "depth": 3, "heads": 2, "head_width": 6}
KINDS = {
    "full": {"shift": False, "attention": ("full",)},
    "shifted": {"shift": True, "attention": ("axial_col", "full", "axial_row")},
}
EVERY_KIND = pytest.mark.parametrize("kind", list(KINDS))


@cache
def model_of(kind: str):
    """A transformer whose branches and positions count for something."""
    model = zoo.create("dalle_tiny", **TINY, **KINDS[kind])
    random = np.random.default_rng(0)
    for weight in model.weights:
        weight.assign(random.standard_normal(weight.shape) * (0.5 if len(weight.shape) == 1 else 0.3))
    return model


def sequences(count: int = 2) -> np.ndarray:
    random = np.random.default_rng(3)
    texts = random.integers(1, 20, (count, 5))
    texts[-1, 3:] = 0
    return LAYOUT.tokens(texts, random.integers(0, 16, (count, 2, 3)))


def whole_pass(model, ids: np.ndarray) -> np.ndarray:
    return np.asarray(model({"token_ids": ids, "padding_mask": np.ones_like(ids)}))


def test_tokens_of_a_text_and_an_image():
    ids = LAYOUT.tokens([[7, 0, 3]], [[[0, 15, 2], [3, 4, 5]]])
    assert ids.tolist() == [[0, 7, 21, 3, 23, 24, 25, 40, 27, 28, 29, 30]]  # padding is 20 + its place
    assert (LAYOUT.text_ids, LAYOUT.vocabulary, LAYOUT.places) == (25, 41, 12)
    assert LAYOUT.image_codes(ids).tolist() == LAYOUT.image_codes(ids[:, 6:]).tolist() == [[[0, 15, 2], [3, 4, 5]]]
    assert LAYOUT.prompt([[0]]).tolist() == [[0, 20, 21, 22, 23, 24]]  # without a condition
    assert LAYOUT.tokens([[7]], [[1, 2]]).shape == (1, 8)  # the first codes of an image


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: LAYOUT.prompt([[1] * 6]), "T at most the 5 tokens that this model reads. Cut longer texts"),
        (lambda: LAYOUT.prompt([[1, 20]]), "A text holds the id 20; those known here are 0 to 19"),
        (lambda: LAYOUT.prompt([[1, -1]]), "holds the id -1"),
        (lambda: LAYOUT.prompt([[1.0]]), "type float64"),
        (
            lambda: LAYOUT.tokens([[1]], [[16]]),
            "id 16; those known here are 0 to 15. Was it encoded with another codebook",
        ),
        (lambda: LAYOUT.tokens([[1]], [[1] * 7]), r"Codes of shape \(1, 7\)"),
        (lambda: LAYOUT.image_codes([[1] * 6]), "These tokens are of a text"),
        (lambda: LAYOUT.image_codes([[30] * 5]), "an image has 6, with its text 12"),
    ],
)
def test_other_texts_and_codes_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@EVERY_KIND
def test_only_what_can_be_next_is_probable(kind):
    logits = whole_pass(model_of(kind), sequences())
    text, image = logits[:, :5], logits[:, 5:]
    assert (text[..., 25:] < -1e8).all() and (image[..., :25] < -1e8).all()
    assert (np.abs(text[..., :25]) < 1e3).all() and (np.abs(image[..., 25:]) < 1e3).all()


@EVERY_KIND
def test_nothing_is_seen_before_it_is_written(kind):
    model, ids = model_of(kind), sequences(1)
    before = whole_pass(model, ids)
    for place in range(1, 11):
        changed = ids.copy()
        changed[:, place] = ids[:, place] - 1 if place > 6 and ids[0, place] > 25 else ids[:, place] + 1
        after = whole_pass(model, changed)
        np.testing.assert_array_equal(after[:, :place], before[:, :place])
        assert np.abs(after[:, place] - before[:, place]).max() > 1e-3


def test_places_see_their_row_their_column_and_the_text():
    shares = zoo.attention_weights(model_of("shifted"), {"token_ids": sequences(1), "padding_mask": np.ones((1, 12))})
    seen = {name: (value[0] > 1e-12).all(axis=0) for name, value in shares.items()}
    last = {block: np.flatnonzero(seen[f"block{block}"][11]).tolist() for block in range(3)}  # row 1, column 2
    text = [0, 1, 2, 3, 4, 5]
    assert last == {0: [*text, 8, 11], 1: [*range(12)], 2: [*text, 9, 10, 11]}
    assert np.flatnonzero(seen["block0"][4]).tolist() == [0, 1, 2, 3, 4]


@EVERY_KIND
@pytest.mark.parametrize("parts", [(6, 1, 1), (3, 5, 4)])
def test_steps_of_any_size_give_the_logits_of_a_whole_pass(kind, parts):
    model, ids = model_of(kind), sequences()
    decoder, whole, end = decoder_of(model), whole_pass(model, ids), 0
    positions = np.array([range(12)] * 2, "int32")
    shapes = {name: decoder.step.input[name].shape for name in decoder.cache}
    kept = {name: np.zeros((2, heads, 0, width), "float32") for name, (_, heads, _, width) in shapes.items()}
    for size in parts:
        before, end = end, end + size
        places = {"positions": positions[:, before:end], "cache_positions": positions[:, :before]}
        found = decoder.step({"token_ids": ids[:, before:end], **places, **kept})
        kept = {name: np.concatenate([kept[name], found[name]], axis=2) for name in kept}
        np.testing.assert_allclose(found["logits"], whole[:, end - 1], atol=1e-4)


def test_an_image_is_written_the_same_with_a_cache_and_without():
    model = model_of("shifted")
    prompts = [LAYOUT.prompt([[7, 8, 9]])[0].tolist(), LAYOUT.tokens([[4]], [[5, 6]])[0].tolist()]  # of two lengths
    strategy = Sample(temperature=0.8, top_k=4, seed=1)
    cached, whole = (generate(model, prompts, new_tokens=4, strategy=strategy, cached=each) for each in (True, False))
    assert cached == whole
    assert all(25 <= token < 41 for text in cached for token in text)
    with pytest.raises(ValueError, match="takes 12 tokens: new_tokens=7 after a prompt of 6 are 13"):
        generate(model, prompts[:1], new_tokens=7)


@pytest.mark.slow
def test_a_step_of_fixed_shapes_feeds_itself():
    model, ids = model_of("shifted"), sequences(1)
    fixed, whole = fixed_step(model, 11), whole_pass(model, ids)
    assert all(None not in tensor.shape for tensor in (*fixed.inputs, *fixed.outputs))
    kept = {name: np.zeros(tensor.shape, tensor.dtype) for name, tensor in fixed.input.items()}
    kept["cache_positions"] -= 1
    step = tf.function(fixed)
    for place in range(11):
        found = step({**kept, "token_ids": ids[:, [place]].astype("int32"), "positions": np.array([[place]], "int32")})
        kept |= {name: value.numpy() for name, value in found.items() if name != "logits"}
        np.testing.assert_allclose(found["logits"], whole[:, place], atol=1e-4)


def test_padding_after_a_sequence_changes_nothing():
    model, ids = model_of("shifted"), sequences()[:, :9]
    longer = {"token_ids": np.pad(ids, ((0, 0), (0, 3)), constant_values=9), "padding_mask": np.ones((2, 12))}
    longer["padding_mask"][:, 9:] = 0
    np.testing.assert_allclose(np.asarray(model(longer))[:, :9], whole_pass(model, ids), atol=1e-5)


def test_the_codes_of_an_image_are_what_the_decoder_gets():
    whole, encoder, decoder = (
        zoo.create("dalle_tiny", task=task, **DVAE) for task in ("reconstruct", "encode", "decode")
    )
    known = {weight.path: weight for weight in whole.weights}
    for weight in (*encoder.weights, *decoder.weights):
        weight.assign(known.pop(weight.path))
    assert known == {}
    image = np.random.default_rng(0).uniform(0, 255, (2, 16, 24, 3)).astype("float32")
    codes, found = encoder(image), whole(image)
    assert codes.shape == (2, 2, 3) and codes.dtype == "int32"
    np.testing.assert_array_equal(np.asarray(found["logits"]).argmax(-1), codes)
    np.testing.assert_allclose(decoder(codes), found["image"], rtol=1e-4, atol=1e-3)
    assert found["statistics"].shape == (2, 16, 24, 6)
    assert not np.array_equal(whole(image, training=True)["image"], whole(image, training=True)["image"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 60}, "sides must divide by 8; got 60x60. Give size=64"),
        (
            {"attention": ("full", "conv_like")},
            "attention='conv_like' is unknown here. Known: full, axial_row, axial_col",
        ),
        ({"attention": ()}, r"attention=\(\) must hold at least one"),
        ({"shift": True, "width": 18}, "width of 18 does not split into quarters"),
        ({"codes": 1}, "codes=1"),
        ({"text_length": 0}, "text_length=0 must be a whole number over 0"),
        ({"task": "generate"}, "It has: text_to_image, reconstruct, encode, decode"),
    ],
)
def test_what_cannot_be_built_is_said(options, message):
    with pytest.raises(ValueError, match=message):
        zoo.create("dalle_tiny", **{**TINY, **options})


@pytest.mark.parametrize(
    ("pack", "changes", "message"),
    [
        ("dalle_dvae_encoder", {"vocab_size": 8192}, "vocab_size=8,192, but the tensors beside it tell 512"),
        ("dalle_dvae_encoder", {"n_blk_per_group": 3}, "n_blk_per_group=3, but the tensors beside it tell 2"),
        ("dalle_dvae_encoder", {"group_count": 5}, "group_count=5 is not built here"),
        ("dalle_dvae_decoder", {"n_init": 64}, "n_init=64, but the tensors beside it tell 32"),
        ("dalle_dvae_decoder", {"vocab_size": 256}, "vocab_size=256, but the tensors beside it tell 512"),
        ("dalle_transformer", {"rotary_emb": True}, "rotary_emb=True is not built here"),
        ("dalle_transformer", {"attn_types": ["sparse"]}, r"attn_types=.'sparse'. is unknown here"),
        ("dalle_transformer", {"num_image_tokens": 60}, "num_image_tokens=60, but the tensors beside it tell 50"),
        ("dalle_transformer", {"image_fmap_size": 8}, "image_fmap_size=8, but the tensors beside it tell 4"),
        ("dalle_transformer", {"depth": 200}, "depth=200, but the tensors beside it tell 2"),
        ("dalle_transformer", {"heads": 2}, "heads and dim_head=96, but the tensors beside it tell 192"),
        ("dalle_transformer", {"stable": True}, "known here: dim"),
    ],
)
def test_what_is_described_wrongly_is_refused(pack, changes, message):
    loaded = packs.load(pack)
    shapes = {name: shape for name, shape, _ in loaded.tensors}
    with pytest.raises(CheckpointError, match=message):
        DALLE.from_hub({**loaded.config, "args": {**loaded.config["args"], **changes}}, shapes)


def test_a_codebook_of_another_size_is_refused(tmp_path):
    folder = packs.load("dalle_dvae_decoder").write(tmp_path)
    sizes = {"channels_width": 64, "code_width": 32, "size": 64, "weights": folder / "model.safetensors"}
    assert zoo.create("dalle_base", task="decode", codes=512, **sizes).count_params() == 2_693_766
    message = (
        r"decoder\.stem_codes/embeddings takes \(1024, 32\), the checkpoint has 'blocks\.input\.w' \(32, 512, 1, 1\)"
    )
    with pytest.raises(WeightsMismatch, match=message):
        zoo.create("dalle_base", task="decode", codes=1024, **sizes)
    with pytest.raises(WeightsMismatch, match="nothing was loaded"):
        zoo.create("dalle_base", task="encode", codes=512, **sizes)
