"""Recurrent networks: padding that changes nothing, states that go on, the four shapes, graphs without loops."""

import keras
import numpy as np
import pytest

import zoo
from zoo.layers.recurrent import steps, unrolled
from zoo.layers.scale import Scale
from zoo.layers.series import Windows

TINY = {"width": 6, "vocabulary": 20, "embedding": 5}


def build(variant: str, **options) -> keras.Model:
    """A tiny copy whose every weight is random; "rnn_gru 2" reads in both directions."""
    name, _, both = variant.partition(" ")
    model = zoo.create(name, **{**TINY, "bidirectional": bool(both), **options})
    random = np.random.default_rng(0)
    for variable in model.weights:
        variable.assign(0.5 * random.standard_normal(variable.shape))
    return model


def tokens(length: int, *, left: int = 0, right: int = 0, prefix: str = "", seed: int = 0) -> dict[str, np.ndarray]:
    """Two texts of that length, with padding around them whose ids say something too."""
    random = np.random.default_rng(seed)
    ids, padding = random.integers(0, 20, (2, length)), random.integers(0, 20, (2, left + right))
    mask = np.pad(np.ones((2, length)), ((0, 0), (left, right)))
    ids = np.concatenate([padding[:, :left], ids, padding[:, left:]], axis=1)
    return {f"{prefix}token_ids": ids.astype("int32"), f"{prefix}padding_mask": mask.astype("int32")}


def answer(model: keras.Model, inputs) -> np.ndarray:
    return np.asarray(model(inputs, training=False))


@pytest.mark.parametrize("variant", ["rnn_simple", "rnn_lstm 2", "rnn_gru 2"])
@pytest.mark.parametrize("task", ["classify", "tag", "features"])
def test_padding_changes_nothing_on_either_side(variant, task):
    model = build(variant, task=task)
    alone = answer(model, tokens(7))
    padded = answer(model, tokens(7, left=2, right=3))
    if task != "classify":
        assert task == "tag" or np.abs(padded[:, [0, 1, -1]]).max() == 0
        padded = padded[:, 2:-3]
    np.testing.assert_allclose(padded, alone, atol=1e-6)
    shifted = tokens(7) | {"padding_mask": np.array([[1] * 7, [1] * 3 + [0] * 4], "int32")}
    assert np.abs(answer(model, shifted)[1] - alone[1]).max() > 1e-3  # the mask is looked at


@pytest.mark.parametrize("variant", ["rnn_lstm", "rnn_gru 2"])
@pytest.mark.parametrize("padded", [0, 2])
def test_padding_changes_nothing_in_an_encoder_decoder(variant, padded):
    model = build(variant, task="seq2seq", dropout=0.5)
    target = tokens(4, prefix="decoder_", seed=1)
    alone = answer(model, tokens(7) | target)
    assert alone.shape == (2, 4, 20)
    again = answer(model, tokens(7, right=padded) | tokens(4, right=padded, prefix="decoder_", seed=1))
    np.testing.assert_allclose(again[:, :4], alone, atol=1e-6)
    other = answer(model, tokens(9, seed=3) | target)
    assert np.abs(other - alone).max(axis=(1, 2)).min() > 1e-3  # what the decoder writes hangs on the source


def test_states_go_on_where_they_stopped():
    model = build("rnn_lstm", task="features", states=True)
    given = tokens(8)
    zeros = {name: np.zeros((2, 2, 6), "float32") for name in ("h_0", "c_0")}
    whole = model(given | zeros)
    first = model({name: x[:, :3] for name, x in given.items()} | zeros)
    carried = {name.replace("_n", "_0"): np.asarray(first[name]) for name in ("h_n", "c_n")}
    second = model({name: x[:, 3:] for name, x in given.items()} | carried)
    joined = np.concatenate([first["tokens"], second["tokens"]], axis=1)
    np.testing.assert_allclose(joined, whole["tokens"], atol=1e-6)
    for name in ("h_n", "c_n"):
        np.testing.assert_allclose(second[name], whole[name], atol=1e-6)


WRITERS = {
    "language model": {"task": "causal_lm"},
    "tied": {"task": "causal_lm", "tied": True, "embedding": 6},
    "one to many": {"task": "causal_lm", "condition": 3},
    "encoder-decoder": {"task": "seq2seq"},
    "from a series": {"task": "seq2seq", "features": 3, "padded": True},
}


def written(kind: str, *, length: int = 7, source: int = 5) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """What is written, and what it hangs on."""
    options = WRITERS[kind]
    random = np.random.default_rng(4)
    on: dict[str, np.ndarray] = {}
    if "condition" in options:
        on["condition"] = random.standard_normal((2, 3)).astype("float32")
    elif options["task"] == "seq2seq":
        on = tokens(source - 1, right=1)
        if "features" in options:
            on["series"] = random.standard_normal((2, source, 3)).astype("float32")
            del on["token_ids"]
    return tokens(length - 1, left=1, prefix="decoder_" if options["task"] == "seq2seq" else "", seed=3), on


@pytest.mark.parametrize("kind", list(WRITERS))
@pytest.mark.parametrize("variant", ["rnn_simple", "rnn_lstm", "rnn_gru 2"])
def test_writing_in_steps_is_the_whole_pass(variant, kind):
    if variant.endswith("2") and WRITERS[kind]["task"] == "causal_lm":
        pytest.skip("refused: it would see what it is to predict")
    model = build(variant, **WRITERS[kind])
    text, on = written(kind)
    start, step = steps(model)
    if start:
        states = {name: np.asarray(state) for name, state in start(on).items()}
    else:
        states = {name: np.zeros((2, 2, 6), "float32") for name in ("h_0", "c_0") if name in step.input}
    found = []
    for places in (slice(0, 3), slice(3, 4), slice(4, 7)):
        answered = {
            name: np.asarray(x) for name, x in step({k: x[:, places] for k, x in text.items()} | states).items()
        }
        found.append(answered.pop("logits"))
        states = {name.replace("_n", "_0"): state for name, state in answered.items()}
    np.testing.assert_allclose(np.concatenate(found, axis=1), answer(model, text | on), atol=2e-6)
    assert {id(weight) for weight in step.weights} <= {id(weight) for weight in model.weights}


def test_a_step_model_is_its_own_step():
    model = build("rnn_gru", task="causal_lm", states=True)
    assert steps(model) == (None, model)
    assert set(model.output) == {"logits", "h_n"}


@pytest.mark.parametrize("kind", list(WRITERS))
def test_without_loops_the_answers_are_the_same(kind):
    variant = "rnn_lstm" if WRITERS[kind]["task"] == "causal_lm" else "rnn_lstm 2"
    model = build(variant, **WRITERS[kind])
    text, on = written(kind, length=5)
    twin = unrolled(model, 5)
    np.testing.assert_allclose(answer(twin, text | on), answer(model, text | on), atol=1e-6)
    assert all(layer.unroll for layer in twin._flatten_layers() if hasattr(layer, "unroll"))
    with pytest.raises(ValueError, match="expected shape"):
        twin(written(kind, length=6)[0] | on)


@pytest.mark.parametrize("variant", ["rnn_simple 2", "rnn_gru 2"])
def test_a_model_is_built_without_loops(variant):
    """A plain Bidirectional of Keras is wrong here: unrolled, it puts zeros over answers where others are padded."""
    model, twin = build(variant, task="tag"), build(variant, task="tag", unroll=9)
    given = tokens(6, right=3)
    np.testing.assert_allclose(answer(twin, given)[:, :6], answer(model, given)[:, :6], atol=1e-6)


def test_a_vector_begins_a_sequence():
    model = build("rnn_lstm", task="causal_lm", condition=3)
    text, on = written("one to many")
    other = {"condition": on["condition"][::-1].copy()}
    assert np.abs(answer(model, text | on) - answer(model, text | other)).max(axis=(1, 2)).min() > 1e-3
    assert list(zoo.layer_groups(model)) == ["stem", "block0", "block1", "head"]


def test_one_step_in_one_out():
    model = build("rnn_gru", task="tag", features=3, classes=4)
    series = np.random.default_rng(0).standard_normal((2, 6, 3)).astype("float32")
    np.testing.assert_allclose(answer(model, series[:, :1])[:, 0], answer(model, series)[:, 0], atol=1e-6)


def test_a_forecast_is_in_the_units_of_the_data():
    columns, target = Scale(("load", "heat"), (100.0, 5.0), (10.0, 2.0)), Scale(("load",), (100.0,), (10.0,))
    model = build("rnn_lstm", task="forecast", series=Windows(columns, target, window=8, horizon=4))
    plain = Windows(Scale(("load", "heat"), (0.0, 0.0), (1.0, 1.0)), Scale(("load",)), window=8, horizon=4)
    same = build("rnn_lstm", task="forecast", series=plain)
    past = np.random.default_rng(0).standard_normal((3, 8, 2)).astype("float32")
    found = answer(model, past * np.array([10, 2], "float32") + np.array([100, 5], "float32"))
    assert found.shape == (3, 4, 1)
    np.testing.assert_allclose(found, 100 + 10 * answer(same, past), rtol=1e-5)


def test_regression_gives_numbers():
    model = build("rnn_gru", task="regress", features=3, target=Scale(("a", "b"), (1.0, 2.0), (3.0, 4.0)))
    assert answer(model, np.ones((2, 5, 3), "float32")).shape == (2, 2)


@pytest.mark.parametrize("options", [{"dropout": 0.5}, {"recurrent_dropout": 0.5}])
def test_dropout_is_for_training(options):
    model = build("rnn_lstm", **options)
    given = tokens(6)
    np.testing.assert_array_equal(answer(model, given), answer(model, given))
    assert np.abs(model(given, training=True) - answer(model, given)).max() > 1e-3


@pytest.mark.parametrize("task", ["tag", "causal_lm", "seq2seq"])
def test_no_mask_reaches_the_loss(task):
    """Keras would leave what is padded out of the loss a second time, besides the weights that the data give."""
    model = build("rnn_lstm", task=task)
    given = tokens(4, right=2) | (tokens(4, right=2, prefix="decoder_") if task == "seq2seq" else {})
    assert getattr(model(given), "_keras_mask", None) is None


@pytest.mark.parametrize("variant", ["rnn_simple", "rnn_lstm 2", "rnn_gru"])
def test_an_encoder_decoder_in_half_precision_is_saved_and_read(variant, tmp_path):
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = build(variant, task="seq2seq", tied=True, embedding=12 if variant.endswith("2") else 6)
    finally:
        keras.config.set_dtype_policy("float32")
    given = tokens(5, right=2) | tokens(3, prefix="decoder_", seed=1)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    same = keras.Model(model.input, model.output)  # Keras saves the policies of layers, not that of the model itself
    np.testing.assert_array_equal(answer(again, given), answer(same, given))
    assert {layer.compute_dtype for layer in model.layers if "block" in layer.name} == {"bfloat16"}
    exact = build(variant, task="seq2seq", tied=True, embedding=model.get_layer("stem_tokens").output_dim)
    np.testing.assert_allclose(answer(model, given), answer(exact, given), atol=0.1)


def test_groups_of_an_encoder_decoder_run_from_input_to_output():
    shared = zoo.layer_groups(build("rnn_gru 2", task="seq2seq", depth=3))
    blocks = [f"{tower}.block{i}" for tower in ("encoder", "decoder") for i in range(3)]
    assert list(shared) == ["stem", *blocks, "head"]
    series = zoo.layer_groups(build("rnn_gru", task="seq2seq", features=3))
    assert list(series) == [
        "encoder.block0",
        "encoder.block1",
        "decoder.stem",
        "decoder.block0",
        "decoder.block1",
        "head",
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cell": "lstn"}, "cell='lstn' is unknown here. Known: simple, lstm, gru"),
        ({"width": 0}, "width=0 must be a whole number over 0"),
        ({"depth": 1.5}, "depth=1.5 must be a whole number over 0"),
        ({"dropout": 1.0}, r"dropout=1.0 must be at least 0 and below 1"),
        ({"activation": "gelu"}, "activation='gelu' is unknown here"),
        ({"task": "causal_lm", "bidirectional": True}, "sees the tokens that task='causal_lm' is to predict"),
        ({"task": "causal_lm", "features": 3}, "takes tokens, not a series of features=3"),
        ({"task": "causal_lm", "tied": True}, "embedding=6, got 5"),
        ({"task": "causal_lm", "states": True, "condition": 3}, "not from both"),
        ({"task": "forecast"}, "Give series=Windows"),
    ],
)
def test_options_that_cannot_be_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        zoo.create("rnn_lstm", **{**TINY, **options})
