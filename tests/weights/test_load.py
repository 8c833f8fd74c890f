"""`weights=` and `from_checkpoint` as a user meets them: tags, paths, live models, fresh heads, refusals."""

from __future__ import annotations

import json
import logging

import keras
import numpy as np
import pytest
from safetensors.numpy import save_file

import zoo
from tests.weights.files import TIMM_CONFIG, TINY, entry, hub_directory, safetensors_bytes, torch_resnet
from zoo.core.registry import load_family
from zoo.layers.pixels import pixels_of
from zoo.weights.errors import CheckpointError, WeightsMismatch
from zoo.weights.translate import translate

GRAPH = {name: TINY[name] for name in ("depths", "width")}  # without the size, which a config.json gives
IMAGES = np.random.default_rng(0).uniform(0, 255, (2, 32, 32, 3)).astype("float32")


def randomize(model: keras.Model) -> None:
    """Weights and statistics that keep activations of order one, so that any slip shows in the logits."""
    random = np.random.default_rng(3)
    for variable in model.weights:
        shape = tuple(variable.shape)
        if variable.name in ("gamma", "moving_variance"):
            variable.assign(random.uniform(0.5, 1.5, shape))
        else:
            variable.assign(random.normal(size=shape) * (0.7 / np.sqrt(np.prod(shape[:-1])) if len(shape) > 1 else 0.2))


def relative_error(found, expected) -> float:
    return float(np.abs(np.asarray(found) - np.asarray(expected)).max() / np.abs(np.asarray(expected)).max())


@pytest.fixture
def reference() -> keras.Model:
    """A tiny resnet18 with the weights of torch_resnet(), put there without any file."""
    model = zoo.create("resnet18", classes=10, **TINY)
    translate(model, torch_resnet(), load_family("resnet").dialects["torch"])
    return model


def sharded(folder):
    hub_directory(folder)
    tensors = torch_resnet()
    (folder / "model.safetensors").unlink()
    parts = {"model-1.safetensors": list(tensors)[::2], "model-2.safetensors": list(tensors)[1::2]}
    for file, names in parts.items():
        save_file({name: tensors[name] for name in names}, folder / file)
    weight_map = {name: file for file, names in parts.items() for name in names}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    return folder


def npz(folder):
    np.savez(folder / "any.npz", **torch_resnet())
    return folder / "any.npz"


@pytest.mark.parametrize(
    "made",
    [
        hub_directory,
        lambda folder: hub_directory(folder) / "model.safetensors",
        sharded,
        npz,
        lambda f: str(hub_directory(f)),
    ],
    ids=["directory", "file", "shards", "npz", "text"],
)
def test_every_form_of_a_local_checkpoint_gives_the_same_model(tmp_path, reference, made):
    model = zoo.create("resnet18", weights=made(tmp_path), **TINY)
    assert np.array_equal(model(IMAGES), reference(IMAGES))


def test_half_precision_files_differ_by_their_rounding_only(tmp_path, reference):
    tensors = torch_resnet()
    floats = {name: array for name, array in tensors.items() if array.dtype == "float32"}
    header, data = {}, b""
    for name, array in floats.items():
        cut = (array.view("uint32") >> 16).astype("uint16")  # bfloat16 is the upper half of float32
        header[name] = entry("BF16", list(array.shape), len(data), len(data) + cut.nbytes)
        data += cut.tobytes()
        tensors[name] = (array.view("uint32") & 0xFFFF0000).view("float32")
    (tmp_path / "a.safetensors").write_bytes(safetensors_bytes(header, data))
    model = zoo.create("resnet18", weights=tmp_path / "a.safetensors", **TINY)
    translate(reference, tensors, load_family("resnet").dialects["torch"])
    assert np.array_equal(model(IMAGES), reference(IMAGES))


def test_the_classes_are_the_checkpoints_unless_given(tmp_path, caplog):
    hub_directory(tmp_path, tensors=torch_resnet(classes=7))
    with caplog.at_level(logging.INFO, logger="zoo"):
        assert zoo.create("resnet18", weights=tmp_path, **TINY).output_shape == (None, 7)
        assert zoo.create("resnet18", weights=tmp_path, classes=7, **TINY).output_shape == (None, 7)
    assert caplog.messages == []


def test_other_classes_get_a_fresh_head_and_are_told_once(tmp_path, reference, caplog):
    with caplog.at_level(logging.INFO, logger="zoo"):
        model = zoo.create("resnet18", weights=hub_directory(tmp_path), classes=3, **TINY)
    assert caplog.messages == [
        "resnet18: head_logits is freshly initialized for 3 classes; the checkpoint has 10 classes."
    ]
    before = [np.asarray(v) for v in reference.weights if not v.path.startswith("head")]
    after = [np.asarray(v) for v in model.weights if not v.path.startswith("head")]
    assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))
    head = model.get_layer("head_logits")
    assert np.asarray(head.kernel).std() > 0 and np.asarray(head.bias).max() == 0


def headless():
    return {name: array for name, array in torch_resnet().items() if not name.startswith("fc.")}


def test_a_checkpoint_without_a_classifier(tmp_path, caplog):
    hub_directory(tmp_path, tensors=headless())
    with pytest.raises(
        WeightsMismatch, match=r"head_logits/\{kernel,bias\}.*no classifier: give classes=N .*task='features'"
    ):
        zoo.create("resnet18", weights=tmp_path, **TINY)
    assert zoo.create("resnet18", weights=tmp_path, task="features", **TINY).output_shape == (None, 1, 1, 64)
    assert zoo.create("resnet18", weights=tmp_path, classes=4, **TINY).output_shape == (None, 4)
    assert "the checkpoint has no classifier" in caplog.text


def test_from_checkpoint_reads_architecture_classes_and_pixels(tmp_path, reference):
    published = {"input_size": [3, 40, 48], "interpolation": "bicubic", "crop_pct": 0.9, "mean": [0.5] * 3}
    hub_directory(tmp_path, config=TIMM_CONFIG | {"pretrained_cfg": published})
    model = zoo.from_checkpoint(tmp_path, **GRAPH)
    pixels = pixels_of(model)
    assert (pixels.size, pixels.interpolation, pixels.crop, pixels.mean) == ((40, 48), "bicubic", 0.9, (127.5,) * 3)
    assert (model.name, model.output_shape) == ("resnet18", (None, 10))
    assert all(np.array_equal(a, b) for a, b in zip(model.get_weights(), reference.get_weights(), strict=True))
    assert zoo.from_checkpoint(tmp_path / "model.safetensors", size=64, **GRAPH).input_shape == (None, 64, 64, 3)
    assert zoo.from_checkpoint(tmp_path, task="features", **GRAPH).output_shape == (None, 2, 2, 64)


@pytest.mark.parametrize(
    ("config", "kind", "words"),
    [
        (None, FileNotFoundError, r"no config\.json"),
        ({"architecture": "resnet9000"}, CheckpointError, "resnet9000.*no family here knows"),
        ({}, CheckpointError, "describes no architecture"),
        ([], CheckpointError, "JSON list"),
        (TIMM_CONFIG | {"num_classes": 11}, CheckpointError, "speaks of 11 classes"),
    ],
)
def test_a_config_that_describes_nothing_loadable(tmp_path, config, kind, words):
    with pytest.raises(kind, match=words):
        zoo.from_checkpoint(hub_directory(tmp_path, config=config), **GRAPH)


def test_create_takes_the_pixels_of_a_directory_and_the_user_the_last_word(tmp_path):
    hub_directory(tmp_path, config=TIMM_CONFIG | {"pretrained_cfg": {"input_size": [3, 32, 32], "std": [0.5] * 3}})
    for weights in (tmp_path, tmp_path / "model.safetensors"):
        pixels = pixels_of(zoo.create("resnet18", weights=weights, **GRAPH))
        assert (pixels.size, pixels.std) == (32, (127.5,) * 3)
    assert pixels_of(zoo.create("resnet18", weights=tmp_path, size=64, **GRAPH)).size == 64


def test_a_file_of_another_depth_gives_one_folded_report(tmp_path):
    hub_directory(tmp_path, config=TIMM_CONFIG)
    with pytest.raises(WeightsMismatch) as error:
        zoo.create("resnet50", weights=tmp_path, width=8, size=32)
    message = str(error.value)
    assert message.startswith(f"The checkpoint '{tmp_path}' does not fit 'resnet50'; nothing was loaded. Missing ")
    assert "stage1_block0_shortcut_bn/{gamma,beta,moving_mean,moving_variance} (4)" in message
    assert (
        "stage{1..4}_block*_conv*/kernel (40)" in message
    )  # 3, 4, 6 and 3 blocks; conv1 and conv2 of block 0 are there
    assert "(first looked for 'layer1.0.downsample." in message
    assert "Compared with the names of 'torch'; also tried: " in message
    assert message.endswith("'keras'. Its config.json describes 'resnet18'.")
    assert len(message) < 1200


def test_weights_that_are_no_weights():
    for wrong in (7, b"x", {"a": 1}, ["x"]):
        with pytest.raises(ValueError, match="must be a tag, a URI, a path or a Keras model"):
            zoo.create("resnet18", weights=wrong)
    with pytest.raises(FileNotFoundError, match=r"no checkpoint at 'a9_in9k'.*Tags of 'resnet50': .*keras"):
        zoo.create("resnet50", weights="a9_in9k")
    with pytest.raises(FileNotFoundError, match="no checkpoint at ''"):
        zoo.create("resnet18", weights="")
    with pytest.raises(CheckpointError, match=r"no model 'resnet5'.*resnet50"):
        zoo.create("resnet50", weights="keras://resnet5")
    with pytest.raises(FileNotFoundError, match="HF_HUB_OFFLINE=1 forbids"):
        zoo.create("resnet50", weights="keras")  # conftest sets HF_HUB_OFFLINE


def test_a_live_keras_model_gives_its_own_logits():
    """keras.applications normalizes BGR outside the model, strides the first convolution and has biases."""
    theirs = keras.applications.ResNet50(weights=None, classes=7, input_shape=(64, 64, 3), classifier_activation=None)
    randomize(theirs)
    ours = zoo.create("resnet50", weights=theirs, size=64)
    images = np.random.default_rng(1).uniform(0, 255, (3, 64, 64, 3)).astype("float32")
    expected = theirs(keras.applications.resnet.preprocess_input(images.copy()), training=False)
    assert relative_error(ours(images, training=False), expected) < 1e-5
    assert relative_error(ours(images[..., ::-1], training=False), expected) > 1e-2  # the order of colors matters
    assert pixels_of(ours).mean == (123.68, 116.779, 103.939)


def test_a_loaded_model_is_a_model_like_any_other(tmp_path, reference):
    """It trains, is saved, is exported, and all its state has values, though it was built without any."""
    model = zoo.create("resnet18", weights=hub_directory(tmp_path), dropout=0.5, **TINY)
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    model.export(tmp_path / "saved", verbose=False)
    served = keras.layers.TFSMLayer(tmp_path / "saved", call_endpoint="serve")
    for other in (again, served, reference):
        np.testing.assert_allclose(other(IMAGES), model(IMAGES, training=False), rtol=1e-4)
    before = np.asarray(model.get_layer("stem_conv").kernel)
    model.fit(IMAGES, np.array([1, 2]), verbose=0)
    assert np.abs(np.asarray(model.get_layer("stem_conv").kernel) - before).max() > 0


def test_a_model_is_loaded_onto_every_device_of_a_strategy(tmp_path, reference):
    import tensorflow as tf

    with tf.distribute.MirroredStrategy(["CPU:0"]).scope():
        model = zoo.create("resnet18", weights=hub_directory(tmp_path), **TINY)
    assert all(isinstance(variable.value, tf.distribute.DistributedValues) for variable in model.variables)
    assert all(np.array_equal(a, b) for a, b in zip(model.get_weights(), reference.get_weights(), strict=True))
