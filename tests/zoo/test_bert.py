"""BERT, RoBERTa and DistilBERT: what strangers' checkpoints hold, and heads that they do not hold."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import zoo
from tests.parity import packs
from tests.parity.answers import answers, feed, times_tolerance
from zoo.core.registry import load_family
from zoo.weights.errors import CheckpointError, WeightsMismatch

FAMILIES = {name: load_family(name) for name in ("bert", "roberta", "distilbert")}
SIZES = {"width": 64, "depth": 3, "heads": 4, "mlp_width": 128}  # of every pack here


def match(name: str, **changes):
    """What a family makes of a pack's config.json with some values changed; None takes a value out."""
    pack = packs.load(name)
    config = {key: value for key, value in {**pack.config, **changes}.items() if value is not None}
    family = next(family for family in FAMILIES if family == name.removeprefix("extra_").split("_")[1])
    return FAMILIES[family].from_hub(config, {tensor: shape for tensor, shape, _ in pack.tensors})


def changed(folder: Path, *, without: tuple[str, ...] = (), config: dict | None = None, **tensors: np.ndarray) -> Path:
    """A checkpoint with some tensors left out or put in their place, and some values of its config.json changed."""
    known = load_file(folder / "model.safetensors")
    kept = {name: array for name, array in known.items() if not name.startswith(without)} if without else known
    save_file({**kept, **tensors}, folder / "model.safetensors")
    said = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**said, **(config or {})}))
    return folder


@pytest.mark.parametrize(
    ("name", "task", "classes"),
    [
        ("hf_bert_model", "features", None),
        ("hf_bert_mlm", "masked_lm", None),
        ("hf_bert_qa", "answer", None),
        ("extra_hf_bert_tagger", "tag", 5),
        ("hf_roberta_seqcls", "classify", 4),
        ("extra_hf_roberta_tagger", "tag", 3),
        ("hf_distilbert_seqcls", "classify", 3),
        ("extra_hf_distilbert_mlm", "masked_lm", None),
    ],
)
def test_config_json_tells_the_task_and_the_classes(name, task, classes):
    found = match(name)
    assert (found.task, found.classes) == (task, classes)


def test_a_known_size_has_its_name():
    width, vocabulary = 384, 30_522
    shapes = {
        "embeddings.word_embeddings.weight": (vocabulary, width),
        "embeddings.position_embeddings.weight": (512, width),
        **{f"encoder.layer.{block}.intermediate.dense.weight": (1536, width) for block in range(12)},
    }
    said = {"model_type": "bert", "hidden_size": width, "num_hidden_layers": 12, "intermediate_size": 1536}
    assert FAMILIES["bert"].from_hub(said, shapes).variant == "bert_minilm_l12"
    assert match("hf_bert_model").variant == "bert"


def test_files_from_before_model_type_are_known_by_their_class():
    assert match("hf_bert_mlm", model_type=None).task == "masked_lm"
    assert match("hf_roberta_seqcls", model_type=None).task == "classify"
    assert match("hf_distilbert_seqcls", model_type=None).task == "classify"
    assert match("hf_bert_mlm", model_type=None, architectures=None) is None
    assert match("hf_bert_mlm", model_type="electra") is None
    assert match("extra_hf_roberta_mlm", model_type="camembert").task == "masked_lm"


@pytest.mark.parametrize(
    ("name", "changes", "words"),
    [
        ("hf_bert_model", {"position_embedding_type": "relative_key"}, "'relative_key' is not built here"),
        ("hf_bert_model", {"is_decoder": True}, "is_decoder=True is not built here"),
        ("hf_roberta_model", {"add_cross_attention": True}, "add_cross_attention"),
        ("hf_bert_model", {"hidden_act": "mish"}, "hidden_act='mish' is unknown"),
        ("hf_bert_model", {"hidden_act": ["gelu"]}, "is unknown here. Known: gelu"),
        ("hf_distilbert_model", {"activation": 3}, "activation=3 is unknown"),
        ("hf_bert_model", {"vocab_size": 201}, "vocab_size=201, but the tensors beside it tell 200"),
        ("hf_bert_model", {"hidden_size": 128}, "hidden_size=128, but the tensors beside it tell 64"),
        ("hf_bert_model", {"num_hidden_layers": 2}, "num_hidden_layers=2, but the tensors beside it tell 3"),
        ("hf_bert_model", {"intermediate_size": 64}, "intermediate_size=64, but the tensors beside it tell 128"),
        ("hf_bert_model", {"max_position_embeddings": 512}, "max_position_embeddings=512, but .* tell 64"),
        ("hf_roberta_model", {"pad_token_id": 80}, "no position after 81 rows"),
        ("hf_distilbert_model", {"n_layers": 4}, "n_layers=4, but the tensors beside it tell 3"),
        ("hf_distilbert_model", {"dim": 10**9}, "dim=1000000000 must be a whole number"),
        ("hf_bert_model", {"vocab_size": "200"}, "vocab_size='200' must be a whole number"),
        ("hf_bert_model", {"layer_norm_eps": 0}, "layer_norm_eps=0 must be a number"),
        ("hf_bert_mlm", {"tie_word_embeddings": "yes"}, "must be true or false"),
        ("hf_bert_seqcls", {"id2label": {"0": "a", "1": "b"}}, "number of labels=2, but the tensors beside it tell 5"),
        ("hf_roberta_seqcls", {"id2label": {}}, "number of labels=0, but the tensors beside it tell 4"),
        ("hf_bert_model", {"architectures": "BertModel"}, "must be a list of names"),
    ],
)
def test_what_changes_the_numbers_is_refused_if_it_is_not_built(name, changes, words):
    with pytest.raises(CheckpointError, match=words):
        match(name, **changes)


def test_heads_that_do_not_divide_the_width(tmp_path):
    folder = changed(packs.load("hf_bert_model").write(tmp_path), config={"num_attention_heads": 5})
    with pytest.raises(ValueError, match="64 does not split into 5 heads"):
        zoo.from_checkpoint(folder)


def test_names_on_the_way_to_the_encoder_do_not_matter(tmp_path):
    """The same tensors with and without 'bert.' before them."""
    pack = packs.load("hf_bert_model")
    folder = pack.write(tmp_path)
    tensors = {f"bert.{name}": array for name, array in load_file(folder / "model.safetensors").items()}
    save_file(tensors, folder / "model.safetensors")
    assert all(times_tolerance(zoo.from_checkpoint(folder), case) < 1 for case in pack.cases())


def test_a_model_without_a_pooler_gives_its_tokens_alone(tmp_path):
    pack = packs.load("hf_bert_model")
    model = zoo.from_checkpoint(changed(pack.write(tmp_path), without=("pooler.",)))
    found = np.asarray(model(feed(model, packs.arrays(pack.inputs)), training=False))
    assert pack.difference("last_hidden_state", found).times_tolerance < 1


@pytest.mark.parametrize("name", ["hf_bert_mlm", "hf_bert_seqcls", "extra_hf_roberta_tagger", "extra_hf_distilbert_qa"])
def test_any_checkpoint_gives_its_features(name, tmp_path):
    pack = packs.load(name)
    folder = pack.write(tmp_path)
    whole, features = zoo.from_checkpoint(folder), zoo.from_checkpoint(folder, task="features")
    inputs = feed(whole, packs.arrays(pack.inputs))
    tokens = features(inputs, training=False)
    tokens = tokens["tokens"] if isinstance(tokens, dict) else tokens
    np.testing.assert_allclose(tokens, zoo.taps(whole, ["block2"])(inputs)["block2"], atol=1e-5)


@pytest.mark.parametrize(
    ("name", "decoder"),
    [
        ("hf_bert_mlm", "cls.predictions.decoder.weight"),
        ("extra_hf_roberta_mlm", "lm_head.decoder.weight"),
        ("extra_hf_distilbert_mlm", "vocab_projector.weight"),
    ],
)
def test_an_output_layer_that_is_no_copy_of_the_embeddings_is_not_taken_for_one(name, decoder, tmp_path):
    pack = packs.load(name)
    folder = pack.write(tmp_path)
    (table,) = (array for key, array in pack.weights().items() if key.endswith("word_embeddings.weight"))
    assert times_tolerance(zoo.from_checkpoint(changed(folder, **{decoder: table})), pack) < 1
    other = table.copy()
    other[3, 5] += 0.01
    changed(folder, **{decoder: other})
    with pytest.raises(WeightsMismatch, match=rf"'{decoder}' differs from .* needs tied=False"):
        zoo.from_checkpoint(folder)
    zoo.from_checkpoint(folder, task="features")  # which it is nothing to


def test_an_output_layer_of_its_own_is_honoured_whatever_config_json_says(tmp_path):
    pack = packs.load("extra_hf_bert_mlm_untied")
    folder = pack.write(tmp_path)
    assert times_tolerance(zoo.from_checkpoint(folder), pack) < 1
    changed(folder, config={"tie_word_embeddings": True})
    with pytest.raises(WeightsMismatch, match="needs tied=False"):
        zoo.from_checkpoint(folder)
    assert times_tolerance(zoo.from_checkpoint(folder, tied=False), pack) < 1


def test_a_bias_of_the_output_layer_that_is_no_copy(tmp_path):
    folder = packs.load("hf_bert_mlm").write(tmp_path)
    bias = np.ones(200, "float32")
    with pytest.raises(WeightsMismatch, match=r"'cls\.predictions\.decoder\.bias' differs from"):
        zoo.from_checkpoint(changed(folder, **{"cls.predictions.decoder.bias": bias}))


@pytest.mark.parametrize("name", ["hf_bert_seqcls", "hf_distilbert_seqcls"])
def test_a_classifier_without_a_bias(name, tmp_path):
    pack = packs.load(name)
    bias = pack.weights()["classifier.bias"]
    model = zoo.from_checkpoint(changed(pack.write(tmp_path), without=("classifier.bias",)))
    found = answers(model, pack)["logits"] + bias
    assert pack.difference("logits", found).times_tolerance < 1


@pytest.mark.parametrize(
    ("name", "variant", "task", "fresh"),
    [
        ("hf_bert_mlm", "bert_base", "classify", ("head_pooler", "head_logits")),
        ("hf_bert_mlm_legacy_names", "bert_base", "classify", ("head_logits",)),  # its pooler is in the file
        ("hf_bert_model", "bert_base", "masked_lm", ("head_transform", "head_norm", "head_bias")),
        ("hf_bert_mlm", "bert_base", "answer", ("head_span",)),
        ("extra_hf_roberta_mlm", "roberta_base", "classify", ("head_dense", "head_logits")),
        ("extra_hf_roberta_mlm", "roberta_base", "tag", ("head_logits",)),
        ("hf_roberta_seqcls", "roberta_base", "answer", ("head_span",)),
        ("extra_hf_distilbert_mlm", "distilbert_base", "classify", ("head_dense", "head_logits")),
    ],
)
def test_a_head_that_the_checkpoint_lacks_is_fresh_and_the_rest_is_not(name, variant, task, fresh, tmp_path, caplog):
    pack = packs.load(name)
    folder = pack.write(tmp_path)
    classes = {"classes": 6} if task in ("classify", "tag") else {}
    model = zoo.create(variant, weights=folder, task=task, **classes, **SIZES)
    assert f"{', '.join(fresh)}" in caplog.text and "freshly initialized" in caplog.text
    inputs = feed(model, packs.arrays(pack.inputs))
    features = zoo.from_checkpoint(folder, task="features")(inputs, training=False)
    tokens = features["tokens"] if isinstance(features, dict) else features
    np.testing.assert_allclose(zoo.taps(model, ["block2"])(inputs)["block2"], tokens, atol=1e-5)


@pytest.mark.parametrize("name", ["hf_bert_seqcls", "hf_roberta_seqcls", "hf_distilbert_seqcls"])
def test_other_classes_keep_all_but_the_logits(name, tmp_path, caplog):
    folder = packs.load(name).write(tmp_path)
    model = zoo.from_checkpoint(folder, classes=7)
    assert "head_logits is freshly initialized for 7 classes" in caplog.text
    assert model.output_shape == (None, 7)
    original = zoo.from_checkpoint(folder)
    for ours, theirs in zip(model.weights, original.weights, strict=True):
        if "head_logits" not in ours.path:
            np.testing.assert_array_equal(ours, theirs)


def test_a_classifier_is_not_made_up(tmp_path):
    folder = packs.load("hf_bert_mlm_legacy_names").write(tmp_path)
    with pytest.raises(WeightsMismatch, match=r"It has no classifier: give classes=N"):
        zoo.from_checkpoint(folder, task="classify")
    damaged = changed(packs.load("hf_roberta_seqcls").write(tmp_path / "damaged"), without=("classifier.dense.",))
    with pytest.raises(WeightsMismatch, match="head_dense"):
        zoo.from_checkpoint(damaged)
    with pytest.raises(WeightsMismatch, match="head_dense"):
        zoo.from_checkpoint(damaged, classes=4)


def test_tasks_without_classes_take_none(tmp_path):
    folder = packs.load("hf_bert_seqcls").write(tmp_path)
    with pytest.raises(ValueError, match="task='answer' has no classes= to choose"):
        zoo.from_checkpoint(folder, task="answer", classes=3)
    assert zoo.from_checkpoint(folder, task="answer").output_shape == (None, None, 2)


def tiny(variant: str, **options):
    return zoo.create(variant, **{"width": 16, "depth": 2, "heads": 2, "mlp_width": 32, "vocabulary": 40, **options})


def tokens_of(model, ids: list[int], mask: list[int]) -> np.ndarray:
    inputs = {"token_ids": np.array([ids], "int32"), "padding_mask": np.array([mask], "int32")}
    if "segment_ids" in model.input:
        inputs["segment_ids"] = np.zeros_like(inputs["token_ids"])
    answer = model(inputs, training=False)
    return np.asarray(answer["tokens"] if isinstance(answer, dict) else answer)[0]


def test_roberta_counts_tokens_so_that_padding_before_them_changes_nothing():
    roberta, bert = tiny("roberta_base"), tiny("bert_base")
    for model, same in ((roberta, True), (bert, False)):
        plain = tokens_of(model, [5, 9, 7], [1, 1, 1])
        padded = tokens_of(model, [1, 1, 5, 9, 7], [0, 0, 1, 1, 1])[2:]
        assert np.allclose(plain, padded, atol=1e-5) == same


def test_a_text_longer_than_the_model_is_refused():
    model = tiny("bert_base", length=8)
    assert tokens_of(model, [3] * 8, [1] * 8).shape == (8, 16)
    with pytest.raises(ValueError, match="9 tokens is longer than the 8"):
        tokens_of(model, [3] * 9, [1] * 9)


def test_segments_are_an_input_where_there_are_several():
    assert set(tiny("bert_base").input) == {"token_ids", "padding_mask", "segment_ids"}
    assert set(tiny("roberta_base").input) == set(tiny("distilbert_base").input) == {"token_ids", "padding_mask"}
    three = tiny("bert_base", segments=3, task="answer")
    ids, ones = np.array([[4, 5, 6]], "int32"), np.ones((1, 3), "int32")
    found = [
        np.asarray(three({"token_ids": ids, "padding_mask": ones, "segment_ids": ones * segment}))
        for segment in range(3)
    ]
    assert min(np.abs(found[0] - found[1]).max(), np.abs(found[1] - found[2]).max()) > 1e-4
