"""CLIP: which token stands for a text, the forms in which its checkpoints come, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import keras
import numpy as np
import pytest
from safetensors.numpy import save_file

import zoo
from tests.parity import packs
from tests.parity.answers import answers, feed
from tests.rows import ROWS
from zoo.core.registry import load_family
from zoo.layers.contrast import EndToken, Similarity, UnitLength
from zoo.weights.errors import CheckpointError, WeightsMismatch

CLIP = load_family("clip")
TINY = ROWS["clip_vit_base32"].tiny


def write(folder: Path, tensors=None, **config) -> Path:
    """The pack's checkpoint with other tensors, or with other values in config.json."""
    pack = packs.load("hf_clip")
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps({**pack.config, **config}), encoding="utf-8")
    found = pack.weights() if tensors is None else tensors
    save_file({name: np.asarray(array, order="C") for name, array in found.items()}, folder / "model.safetensors")
    return folder


def text_config(**changes) -> dict:
    return {"text_config": {**packs.load("hf_clip").config["text_config"], **changes}}


@pytest.fixture(scope="module")
def contrast(tmp_path_factory) -> tuple[keras.Model, dict]:
    pack = packs.load("hf_clip")
    model = zoo.from_checkpoint(write(tmp_path_factory.mktemp("clip")))
    return model, feed(model, packs.arrays(pack.inputs))


def pooled(end: int | None, ids: list[list[int]], mask: list[list[int]]) -> list[int]:
    """The places that are taken."""
    ids, mask = np.array(ids, "int32"), np.array(mask, "int32")
    places = np.broadcast_to(np.arange(ids.shape[1], dtype="float32")[None, :, None], (*ids.shape, 2))
    return np.asarray(EndToken(end)(places, ids, mask))[:, 0].astype(int).tolist()


def test_a_text_is_its_largest_id_or_its_first_end_token():
    ids, whole = [[5, 9, 3, 9], [9, 2, 3, 3], [0, 1, 1, 1]], [[1] * 4] * 3
    assert pooled(None, ids, whole) == [1, 0, 1]
    assert pooled(3, ids, whole) == [2, 2, 0]  # the first token where there is none
    assert pooled(9, [[5, 9, 9, 9], [4, 7, 9, 9]], [[1, 1, 0, 0], [1, 1, 1, 0]]) == [1, 2]
    assert pooled(None, [[5, 2, 9, 9]], [[1, 1, 0, 0]]) == [0]  # padding is no token


def test_the_end_token_is_that_of_config_json(tmp_path, contrast):
    known, inputs = contrast
    assert known.get_layer("text.head_token").end is None  # config.json says 2
    other = zoo.from_checkpoint(write(tmp_path, **text_config(eos_token_id=36)))
    assert other.get_layer("text.head_token").end == 36  # stands at place 6 of the first text alone
    ids = inputs["token_ids"]
    tokens = zoo.taps(other, ["text.neck"])(inputs)["text.neck"]
    places = [6, 0, 0]
    assert ids[0, 6] == 36 and (ids[1:] != 36).all()
    taken = np.asarray(tokens)[np.arange(3), places] @ packs.load("hf_clip").weights()["text_projection.weight"].T
    wanted = taken / np.linalg.norm(taken, axis=1, keepdims=True)
    np.testing.assert_allclose(other(inputs)["text_embedding"], wanted, atol=1e-6)
    latest = zoo.from_checkpoint(write(tmp_path, text_config={**text_config()["text_config"], "eos_token_id": None}))
    assert latest.get_layer("text.head_token").end == 49_407  # as transformers assumes
    with pytest.raises(CheckpointError, match="eos_token_id"):
        zoo.from_checkpoint(write(tmp_path, **text_config(eos_token_id=[2, 3])))


def test_one_tower_of_a_whole_checkpoint_gives_its_embedding(tmp_path, contrast):
    model, inputs = contrast
    found = model(inputs)
    write(tmp_path)
    images = zoo.from_checkpoint(tmp_path, task="image_features")
    texts = zoo.from_checkpoint(tmp_path, task="text_features")
    np.testing.assert_array_equal(images(inputs["image"]), found["image_embedding"])
    np.testing.assert_array_equal(
        texts({name: inputs[name] for name in texts.input}), np.asarray(found["text_embedding"])
    )
    assert {group.partition(".")[0] for group in zoo.layer_groups(images)} == {"image"}
    assert {"image.block2", "image.neck", "image.head", "text.block2", "text.head", "head"} <= set(
        zoo.layer_groups(model)
    )


def test_files_of_one_tower_with_a_projection_and_without_in_old_names_and_new(tmp_path, contrast):
    model, inputs = contrast
    tensors, found = packs.load("hf_clip").weights(), model(inputs)
    inside = zoo.taps(model, ["image.neck"])(inputs)
    vision = {name: array for name, array in tensors.items() if name.startswith("visi") or name.startswith("visu")}
    config = {**packs.load("hf_clip").config["vision_config"], "projection_dim": 48}
    whole = write(tmp_path / "whole", vision, **config, architectures=["CLIPVisionModelWithProjection"])
    np.testing.assert_array_equal(zoo.from_checkpoint(whole)(inputs["image"]), found["image_embedding"])
    bare = {name.removeprefix("vision_model."): array for name, array in vision.items() if "projection" not in name}
    for names in (bare, {f"vision_model.{name}": array for name, array in bare.items()}):
        alone = write(tmp_path / "alone", names, **config, architectures=["CLIPVisionModel"])
        np.testing.assert_allclose(zoo.from_checkpoint(alone)(inputs["image"]), inside["image.neck"], atol=1e-6)
    text = {name: array for name, array in tensors.items() if name.startswith("text")}
    folder = write(tmp_path / "text", text, **{**text_config()["text_config"], "architectures": None})
    texts = zoo.from_checkpoint(folder)
    np.testing.assert_array_equal(
        texts({name: inputs[name] for name in texts.input}), np.asarray(found["text_embedding"])
    )
    with pytest.raises(ValueError, match=r"has no image tower, which task='contrast' needs\. It can do"):
        zoo.from_checkpoint(folder, task="contrast")
    with pytest.raises(WeightsMismatch, match="It has nothing of the tower 'image': it is a checkpoint of another one"):
        zoo.create("clip_vit_base32", weights=folder, task="image_features")


def open_clip(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The same numbers by open_clip's names: query, key and value in one, projections (in, out)."""
    found = {}
    for name, array in tensors.items():
        tower = "visual." if name.startswith("vis") else ""
        if match := name.partition(".encoder.layers.")[2]:
            block, _, rest = match.partition(".")
            rest = rest.replace("layer_norm", "ln_").replace("mlp.fc1", "mlp.c_fc").replace("mlp.fc2", "mlp.c_proj")
            if "q_proj" in rest:
                parts = [tensors[name.replace("q_proj", f"{letter}_proj")] for letter in "qkv"]
                kind = rest.rpartition(".")[2]
                found[f"{tower}transformer.resblocks.{block}.attn.in_proj_{kind}"] = np.concatenate(parts)
            elif "k_proj" not in rest and "v_proj" not in rest:
                found[f"{tower}transformer.resblocks.{block}.{rest.replace('self_attn', 'attn')}"] = array
        else:
            found[OPEN_CLIP.get(name, name)] = array.T if "_projection" in name else array
    return found


OPEN_CLIP = {
    "text_model.embeddings.token_embedding.weight": "token_embedding.weight",
    "text_model.embeddings.position_embedding.weight": "positional_embedding",
    "text_model.final_layer_norm.weight": "ln_final.weight",
    "text_model.final_layer_norm.bias": "ln_final.bias",
    "text_projection.weight": "text_projection",
    "vision_model.embeddings.class_embedding": "visual.class_embedding",
    "vision_model.embeddings.patch_embedding.weight": "visual.conv1.weight",
    "vision_model.embeddings.position_embedding.weight": "visual.positional_embedding",
    "vision_model.pre_layrnorm.weight": "visual.ln_pre.weight",
    "vision_model.pre_layrnorm.bias": "visual.ln_pre.bias",
    "vision_model.post_layernorm.weight": "visual.ln_post.weight",
    "vision_model.post_layernorm.bias": "visual.ln_post.bias",
    "visual_projection.weight": "visual.proj",
}


def test_open_clip_files_are_read_by_the_names_of_a_variant_or_of_config_json(tmp_path, contrast):
    model, inputs = contrast
    tensors = {**open_clip(packs.load("hf_clip").weights()), "context_length": np.array(20)}
    folder = write(tmp_path, tensors)
    wanted = model(inputs)["logits"]
    np.testing.assert_array_equal(zoo.from_checkpoint(folder)(inputs)["logits"], wanted)
    (folder / "config.json").unlink()
    options = {**ROWS["clip_vit_base32"].packs["hf_clip"], "vocabulary": 120, "length": 20, "size": 64}
    named = zoo.create("clip_vit_base32", weights=folder / "model.safetensors", **options)
    np.testing.assert_array_equal(named(inputs)["logits"], wanted)
    texts = zoo.create("clip_vit_base32", task="text_features", weights=folder / "model.safetensors", **options)
    assert "text.block2" in zoo.layer_groups(texts)


def test_a_classifier_stands_on_the_image_tower(tmp_path, contrast):
    model, inputs = contrast
    probe = zoo.from_checkpoint(write(tmp_path), task="classify", classes=4)
    inside = zoo.taps(probe, ["image.neck"])(inputs["image"])["image.neck"]
    np.testing.assert_array_equal(inside, zoo.taps(model, ["image.neck"])(inputs)["image.neck"])
    assert probe(inputs["image"]).shape == (2, 4)
    with pytest.raises(WeightsMismatch, match="It has no classifier: give classes=N"):
        zoo.from_checkpoint(tmp_path, task="classify")


def test_what_config_json_claims_is_held_against_the_tensors(tmp_path):
    pack = packs.load("hf_clip")
    vision = pack.config["vision_config"]
    for claim, message in (
        (text_config(vocab_size=2_000_000), "vocab_size=2,000,000, but the tensors beside it tell 120"),
        (text_config(hidden_size=128), "hidden_size of text_config=128"),
        (text_config(num_hidden_layers=4), "num_hidden_layers of text_config=4"),
        (text_config(max_position_embeddings=77), "max_position_embeddings=77"),
        (text_config(num_attention_heads=5), "hidden_size=64 does not split into 5 heads"),
        (text_config(hidden_act="mish"), "'mish' is unknown here"),
        ({"text_config": 3}, "text_config=3 must be an object"),
        ({"vision_config": {**vision, "patch_size": 8}}, "patch_size=8, but the tensors beside it tell 16"),
        ({"vision_config": {**vision, "patch_size": [16, 8]}}, "is no square"),
        ({"vision_config": {**vision, "image_size": 224}}, "positions of an image=197"),
        ({"vision_config": {**vision, "image_size": 8}}, "holds no patch"),
        ({"vision_config": {**vision, "intermediate_size": 80}}, "intermediate_size of vision_config=80"),
        ({"projection_dim": 512}, "projection_dim=512"),
        ({"architectures": ["CLIPForImageClassification"]}, "not built here. Known: CLIPModel"),
    ):
        with pytest.raises(CheckpointError, match=message):
            zoo.from_checkpoint(write(tmp_path, **claim))
    other = {name: array for name, array in pack.weights().items() if name.startswith("text")}
    with pytest.raises(CheckpointError, match="'clip_vision_model', but no tensors of such a tower"):
        zoo.from_checkpoint(write(tmp_path, other, **{**vision, "architectures": None}))
    old = write(tmp_path, text_config_dict=text_config()["text_config"], text_config={"hidden_size": 1})
    assert zoo.from_checkpoint(old).name == "clip"


def test_another_size_of_image_resizes_the_positions_of_the_image_alone(tmp_path, caplog):
    model = zoo.from_checkpoint(write(tmp_path), size=96)
    assert "image.stem_positions resized from 4x4 to 6x6 patches" in caplog.text
    assert model.get_layer("text.stem_positions").length == 20


def test_padding_on_either_side_of_it_and_texts_of_their_own_number():
    model = zoo.create("clip_vit_base32", task="contrast", **TINY)
    random = np.random.default_rng(0)
    image, ids = random.integers(0, 256, (3, 8, 16, 3), "uint8"), random.integers(1, 40, (2, 6), "int32")
    mask = np.array([[1] * 6, [1] * 4 + [0] * 2], "int32")
    found = model({"image": image, "token_ids": ids, "padding_mask": mask})
    assert found["logits"].shape == (3, 2)
    alone = model({"image": image[:1], "token_ids": ids[1:, :4], "padding_mask": mask[1:, :4]})
    np.testing.assert_allclose(alone["logits"][0, 0], found["logits"][0, 1], rtol=1e-4, atol=1e-5)
    for name in ("image_embedding", "text_embedding"):
        np.testing.assert_allclose(np.linalg.norm(found[name], axis=1), 1, atol=1e-6)
    with pytest.raises(ValueError, match="projection=0 leaves images and texts in spaces of their own"):
        zoo.create("clip_vit_base32", **{**TINY, "projection": 0})


def test_the_scale_begins_where_the_paper_has_it_and_training_keeps_it_under_a_hundred(tmp_path):
    layer = Similarity()
    vectors = UnitLength()(np.eye(3, dtype="float32") * 5)
    np.testing.assert_allclose(np.asarray(layer(vectors, vectors)), np.eye(3) / 0.07, rtol=1e-5)
    optimizer = keras.optimizers.SGD(1.0)
    optimizer.apply([keras.ops.convert_to_tensor(-50.0)], [layer.scale])
    np.testing.assert_allclose(np.exp(np.asarray(layer.scale)), 100, rtol=1e-5)
    assert float(np.abs(np.asarray(UnitLength()(np.zeros((1, 4))))).max()) == 0


def test_answers_to_a_pack_come_by_all_its_names(contrast):
    model, _ = contrast
    assert set(answers(model, packs.load("hf_clip"))) == {
        *("logits_per_image", "logits_per_text", "image_embeds", "text_embeds")
    }
