"""GPT-2: its publisher's names and options, padding on either side, and the head for classification."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import zoo
from tests.parity import packs
from tests.parity.answers import times_tolerance
from zoo.weights.errors import CheckpointError, WeightsMismatch

PACK = "hf_gpt2_lm"


def changed(folder: Path, *, tensors=None, **config) -> Path:
    """The pack's checkpoint with a changed config.json, and its tensors passed through a function."""
    packs.load(PACK).write(folder)
    values = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps({**values, **config}), encoding="utf-8")
    if tensors:
        save_file(tensors(load_file(folder / "model.safetensors")), folder / "model.safetensors")
    return folder


def fits(folder: Path) -> bool:
    return times_tolerance(zoo.from_checkpoint(folder), packs.load(PACK)) < 1


def bare(tensors):
    return {name.removeprefix("transformer."): array for name, array in tensors.items()}


def with_masks(tensors):
    masks = {f"transformer.h.{block}.attn.bias": np.ones((1, 1, 64, 64), "float32") for block in range(3)}
    return {**tensors, **masks, "transformer.h.0.attn.masked_bias": np.array(-1e4, "float32")}


def with_copy(tensors):
    return {**tensors, "lm_head.weight": tensors["transformer.wte.weight"].copy()}


@pytest.mark.parametrize(
    "tensors", [bare, with_masks, with_copy, lambda t: bare(with_copy(t)), lambda t: bare(with_masks(t))]
)
def test_files_of_all_ages_load(tensors, tmp_path):
    assert fits(changed(tmp_path, tensors=tensors))


def test_a_head_of_its_own_is_not_dropped(tmp_path):
    folder = changed(tmp_path, tensors=lambda t: {**with_copy(t), "lm_head.weight": t["transformer.wte.weight"] + 1})
    with pytest.raises(CheckpointError, match=r"'lm_head\.weight' differs from 'transformer\.wte\.weight'"):
        zoo.from_checkpoint(folder)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("tie_word_embeddings", False),
        ("scale_attn_by_inverse_layer_idx", True),
        ("add_cross_attention", True),
        ("scale_attn_weights", "no"),
        ("activation_function", "swoosh"),
        ("vocab_size", 161),
        ("n_embd", 48),
        ("n_positions", 32),
        ("n_layer", 10**9),
    ],
)
def test_options_that_would_load_wrong_are_refused(key, value, tmp_path):
    with pytest.raises(CheckpointError, match=key):
        zoo.from_checkpoint(changed(tmp_path, **{key: value}))


@pytest.mark.parametrize(
    ("key", "value", "field", "ours"),
    [
        ("activation_function", "relu", "activation", "relu"),
        ("layer_norm_epsilon", 0.01, "epsilon", 0.01),
        ("scale_attn_weights", False, "scaled", False),
    ],
)
def test_options_of_config_json_change_what_is_computed(key, value, field, ours, tmp_path):
    folder = changed(tmp_path, **{key: value})
    assert not fits(folder)
    block = zoo.from_checkpoint(folder).get_layer("block0")
    assert getattr(block, field) == ours


def test_reordered_scaling_changes_nothing(tmp_path):
    assert fits(changed(tmp_path, reorder_and_upcast_attn=True))


def test_a_wider_mlp_is_read_from_config_json(tmp_path):
    with pytest.raises(WeightsMismatch, match="mlp_up"):
        zoo.from_checkpoint(changed(tmp_path, n_inner=300))


def test_padding_on_either_side_changes_no_token(tmp_path):
    model = zoo.from_checkpoint(packs.load(PACK).write(tmp_path))
    ids = np.random.default_rng(0).integers(0, 160, (1, 7)).astype("int32")
    alone = np.asarray(model({"token_ids": ids, "padding_mask": np.ones_like(ids)}))
    for before, after in ((3, 0), (0, 4), (2, 2)):
        padding = ((0, 0), (before, after))
        inputs = {
            "token_ids": np.pad(ids, padding, constant_values=9),
            "padding_mask": np.pad(np.ones_like(ids), padding),
        }
        np.testing.assert_allclose(np.asarray(model(inputs))[:, before : before + 7], alone, atol=1e-5)


def classifier(tensors):
    score = np.random.default_rng(2).standard_normal((3, 64)).astype("float32")
    return {**tensors, "score.weight": score}


def test_classes_come_from_the_last_token(tmp_path):
    labels = {str(number): str(number) for number in range(3)}
    architectures = ["GPT2ForSequenceClassification"]
    folder = changed(tmp_path, tensors=classifier, architectures=architectures, id2label=labels)
    model = zoo.from_checkpoint(folder)
    assert model.get_layer("head_logits").bias is None
    ids = np.random.default_rng(0).integers(0, 160, (2, 8)).astype("int32")
    mask = np.array([[1] * 5 + [0] * 3, [0, 0, 1, 1, 1, 1, 1, 1]], "int32")
    tokens = zoo.from_checkpoint(folder, task="features")({"token_ids": ids, "padding_mask": mask})
    wanted = np.asarray(tokens)[[0, 1], [4, 7]] @ load_file(folder / "model.safetensors")["score.weight"].T
    np.testing.assert_allclose(model({"token_ids": ids, "padding_mask": mask}), wanted, atol=1e-5)


def test_another_number_of_classes_leaves_the_rest(tmp_path, caplog):
    folder = changed(tmp_path, tensors=classifier, architectures=["GPT2ForSequenceClassification"])
    model = zoo.from_checkpoint(folder, classes=5)
    assert model.output.shape == (None, 5)
    assert "the checkpoint has 3 classes" in caplog.text
    kept = zoo.from_checkpoint(folder).get_layer("block1").mlp_up.kernel
    np.testing.assert_array_equal(model.get_layer("block1").mlp_up.kernel, kept)


def test_named_sizes_take_the_conventions_of_a_checkpoint(tmp_path):
    options = {"width": 64, "depth": 3, "heads": 4, "mlp_width": 256}
    model = zoo.create("distilgpt2", weights=changed(tmp_path, layer_norm_epsilon=1e-4), **options)
    assert model.get_layer("neck_norm").epsilon == 1e-4
    assert model.output.shape == (None, None, 160)


def test_the_variants_differ_from_gpt2_in_sizes_alone():
    from zoo.gpt import FAMILY

    sizes = {"width", "depth", "heads", "mlp_width"}
    base = FAMILY.variants["gpt2"]
    for config in FAMILY.variants.values():
        fields = dataclasses.asdict(config).items()
        assert {name for name, value in fields if value != getattr(base, name)} <= sizes
