"""Weights of torch's recurrent layers: its numbers, its packed sequences, and files that are not what they say."""

import json

import keras
import numpy as np
import pytest
from safetensors.numpy import save_file

import zoo
from tests.parity import packs
from tests.parity.answers import times_tolerance
from zoo.weights.errors import CheckpointError, WeightsMismatch

# What torch 2.13 gives through pack_padded_sequence for lengths 5, 2, 3: all of the second sequence's output,
# the last states of the third, and the sum of all absolute outputs.
PACKED = {
    "RNN": (
        [0.0, 0.2777046, 0.0, 0.0, 1.3439399, 0.0, 0.0, 0.1736726, 0.0612541, 0.0, 0.9355159, 0.0],
        [0.0, 0.0, 0.0, 0.0, 0.3199099, 0.0, 0.0, 0.1815975, 0.0, 0.0100182, 1.2865232, 0.0],
        14.6207018,
    ),
    "LSTM": (
        [
            *(0.1251381, 0.0084841, 0.1443806, -0.080271, -0.1116783, 0.235742),
            *(0.1958012, 0.0226997, 0.1959272, -0.0340868, -0.0815102, 0.1487541),
        ],
        [
            *(0.0930531, 0.2544488, -0.1235625, 0.0247999, -0.0101542, -0.0651963),
            *(0.2706787, 0.0362192, 0.1992547, -0.1094072, -0.1226477, 0.2247573),
        ],
        7.4112005,
    ),
    "GRU": (
        [
            *(-0.4169351, 0.0916881, 0.2351606, -0.1167524, 0.3247056, 0.4995693),
            *(-0.5401834, 0.2067505, 0.0829803, -0.2957863, 0.3358032, 0.313776),
        ],
        [
            *(-0.1385488, -0.0007605, 0.1437598, -0.2716088, -0.8402722, 0.1359653),
            *(-0.5966008, 0.250479, 0.0240712, -0.1764582, 0.5892651, 0.6487061),
        ],
        17.7163372,
    ),
}


def write(folder, cell: str, *, seed: int = 7, **arguments) -> dict[str, np.ndarray]:
    """A checkpoint of torch.nn.<cell> with random weights; the tensors are drawn in the order of its state dict."""
    given = {"input_size": 2, "hidden_size": 3, "num_layers": 1, **arguments}
    width = given["hidden_size"]
    gates = {"RNN": 1, "LSTM": 4, "GRU": 3}[cell] * width
    endings = ("", "_reverse") if given.get("bidirectional") else ("",)
    shapes = {}
    for layer in range(given["num_layers"]):
        for ending in endings:
            size = given["input_size"] if layer == 0 else width * len(endings)
            shapes[f"weight_ih_l{layer}{ending}"], shapes[f"weight_hh_l{layer}{ending}"] = (gates, size), (gates, width)
            if given.get("bias", True):
                shapes[f"bias_ih_l{layer}{ending}"] = shapes[f"bias_hh_l{layer}{ending}"] = (gates,)
    random = np.random.default_rng(seed)
    weights = {name: (0.5 * random.standard_normal(shape)).astype("float32") for name, shape in shapes.items()}
    save_file(weights, folder / "model.safetensors")
    config = {"library_name": "torch", "architecture": f"torch.nn.{cell}", "args": given}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return weights


@pytest.mark.parametrize(
    ("name", "variant", "options"),
    [
        ("torch_gru", "rnn_gru", {"depth": 2}),
        ("torch_lstm_bi", "rnn_lstm", {"depth": 2, "bidirectional": True}),
        ("torch_rnn_tanh", "rnn_simple", {"depth": 1}),
    ],
)
def test_a_checkpoint_of_torch_gives_its_numbers(name, variant, options, tmp_path):
    pack = packs.load(name)
    folder = pack.write(tmp_path)
    described = zoo.from_checkpoint(folder)
    named = zoo.create(variant, weights=folder, task="features", width=20, **options)
    assert times_tolerance(described, pack) < 1
    assert times_tolerance(named, pack) < 1


@pytest.mark.parametrize("cell", list(PACKED))
def test_padding_is_what_packed_sequences_are_in_torch(cell, tmp_path):
    relu = {"nonlinearity": "relu"} if cell == "RNN" else {}
    write(tmp_path, cell, num_layers=2, bidirectional=True, **relu)
    model = zoo.from_checkpoint(tmp_path, padded=True)
    random = np.random.default_rng(7)
    for shape in write(tmp_path, cell, num_layers=2, bidirectional=True, **relu).values():  # the series came after them
        random.standard_normal(shape.shape)
    series = random.standard_normal((3, 5, 2)).astype("float32")
    lengths = np.array([5, 2, 3])
    zeros = np.zeros((3, 4, 3), "float32")
    states = {name: zeros for name in ("h_0", "c_0") if name in model.input}
    found = model({"series": series, "padding_mask": (np.arange(5) < lengths[:, None]).astype("int32"), **states})
    output, last, total = PACKED[cell]
    np.testing.assert_allclose(np.asarray(found["tokens"])[1, :2].ravel(), output, atol=1e-6)
    np.testing.assert_allclose(np.asarray(found["h_n"])[2].ravel(), last, atol=1e-6)
    np.testing.assert_allclose(np.abs(found["tokens"]).sum(), total, rtol=1e-6)  # zeros at padding


@pytest.mark.parametrize("cell", ["RNN", "LSTM", "GRU"])
def test_any_arguments_of_torch_load(cell, tmp_path):
    """Without biases a network of zeros in gives zeros out, whatever its weights: so none is made up."""
    weights = write(
        tmp_path, cell, input_size=4, hidden_size=5, num_layers=3, bias=False, batch_first=False, dropout=0.2
    )
    model = zoo.from_checkpoint(tmp_path)
    assert sum(np.size(w) for w in weights.values()) == model.count_params()
    states = {name: np.zeros((2, 3, 5), "float32") for name in ("h_0", "c_0") if name in model.input}
    assert np.abs(model({"series": np.zeros((2, 7, 4), "float32"), **states})["tokens"]).max() == 0
    assert np.abs(model({"series": np.ones((2, 7, 4), "float32"), **states})["tokens"]).max() > 0.01
    rates = [layer.rate for layer in model.layers if isinstance(layer, keras.layers.Dropout)]
    assert rates == [0.2, 0.2, 0.0]  # torch drops between layers, not after the last


def test_a_checkpoint_of_torch_becomes_a_classifier(tmp_path):
    write(tmp_path, "GRU", bidirectional=True)
    features, model = zoo.from_checkpoint(tmp_path), zoo.from_checkpoint(tmp_path, task="classify", classes=4)
    series = np.random.default_rng(0).standard_normal((2, 6, 2)).astype("float32")
    last = features({"series": series, "h_0": np.zeros((2, 2, 3), "float32")})["h_n"]
    head = model.get_layer("head_logits")
    np.testing.assert_allclose(np.asarray(model(series)), head(np.asarray(last).reshape(2, 6)), atol=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"proj_size": 2}, "unknown here: .'proj_size'"),
        ({"dilation": 2}, "unknown here: .'dilation'"),
        ({"hidden_size": 30_000}, "hidden_size=30,000, but the tensors beside it tell 3"),
        ({"input_size": 5}, "input_size=5, but the tensors beside it tell 2"),
        ({"num_layers": 200}, "num_layers=200, but the tensors beside it tell 1"),
        ({"num_layers": 0}, "num_layers=0 must be a whole number from 1"),
        ({"hidden_size": "3"}, "hidden_size='3' must be a whole number"),
        ({"bidirectional": "no"}, "bidirectional='no' must be a whole number"),
        ({"nonlinearity": "gelu"}, "activation='gelu' is unknown here. Known: tanh, relu"),
    ],
)
def test_a_config_that_is_not_so_is_refused(change, message, tmp_path):
    write(tmp_path, "RNN")
    config = json.loads((tmp_path / "config.json").read_text())
    config["args"] |= change
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=message):
        zoo.from_checkpoint(tmp_path)


def test_a_cell_that_is_another_is_refused(tmp_path):
    write(tmp_path, "LSTM")
    with pytest.raises(WeightsMismatch, match="Misshapen"):
        zoo.create("rnn_gru", weights=tmp_path / "model.safetensors", task="features", width=3, depth=1, features=2)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "args": None}))
    with pytest.raises(CheckpointError, match="args=None must be an object"):
        zoo.from_checkpoint(tmp_path)
