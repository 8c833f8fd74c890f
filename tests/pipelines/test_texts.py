"""Texts as batches: what is in them for each task, their order, and what is refused."""

import json
import logging

import numpy as np
import pytest
from safetensors.numpy import save_file

import zoo
from pipelines import texts, tokenizer_training
from pipelines.data import Texts
from pipelines.text_batches import boundaries

TINY = {"width": 8, "depth": 1, "heads": 1, "mlp_width": 8}
WORDS = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta"]


def sentence(number):
    """A sentence of its own for each number, 1 to 30 words long."""
    random = np.random.default_rng(number)
    return " ".join([f"n{number}", *random.choice(WORDS, random.integers(1, 30))])


def rows(count=40):
    return [{"text": sentence(number), "label": "ab"[number % 2]} for number in range(count)]


def load(tmp_path, values, *, task=None, model="bert_tiny", weights=None, seed=0, **options):
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in values), encoding="utf-8")
    settings = {"vocabulary": 300, "split": (1, 0, 0), **options}
    return texts.load(Texts(str(path), **settings), task=task, model=model, weights=weights, seed=seed)


def model_for(data, *, task="classify", **options):
    classes = {"classes": len(data.classes)} if data.classes else {}
    return zoo.create("bert_tiny", task=task, **{**data.options(), **classes, **TINY, **options})


def batches(dataset):
    return list(dataset.as_numpy_iterator())


def tokens(inputs):
    """The token ids of each row without padding."""
    return [ids[mask == 1] for ids, mask in zip(inputs["token_ids"], inputs["padding_mask"], strict=True)]


def seen(data, dataset):
    """Which text is in which batch: the number that it starts with."""
    return [[int(data.tokenizer.decode(ids).split()[0][1:]) for ids in tokens(batch[0])] for batch in batches(dataset)]


def test_a_batch_holds_the_tokens_of_its_texts_and_their_classes(tmp_path):
    data = load(tmp_path, rows())
    assert (data.task, data.classes) == ("classify", ("a", "b"))
    found = batches(data.training_set(model_for(data), batch=8, seed=0).epoch())
    assert len(found) == 5
    for inputs, labels in found:
        assert inputs["token_ids"].shape[0] == 8
        assert inputs["token_ids"].shape[1] in boundaries(512)
        assert (inputs["token_ids"][inputs["padding_mask"] == 0] == data.vocabulary.padding).all()
        assert not inputs["segment_ids"].any()
        for ids, label in zip(tokens(inputs), labels, strict=True):
            number = int(data.tokenizer.decode(ids).split()[0][1:])
            assert list(ids) == data.tokenizer.library.encode(sentence(number)).ids
            assert label == number % 2


def test_every_epoch_has_another_order_and_a_seed_decides_them_all(tmp_path):
    data = load(tmp_path, rows(43))
    model = model_for(data)
    dataset = data.training_set(model, batch=8, seed=3)
    assert dataset.steps == 5
    epochs = [seen(data, dataset.epoch(number)) for number in range(6)]
    assert all([len(batch) for batch in epoch] == [8] * 5 for epoch in epochs)
    assert all(len({number for batch in epoch for number in batch}) == 40 for epoch in epochs)
    assert len({str(epoch) for epoch in epochs}) == 6
    assert {number for epoch in epochs for batch in epoch for number in batch} == set(range(43))
    again = data.training_set(model, batch=8, seed=3)
    assert [seen(data, again.epoch(number)) for number in range(6)] == epochs
    assert seen(data, data.training_set(model, batch=8, seed=4).epoch()) not in epochs
    few = data.training_set(model, batch=64, seed=3)
    assert [len(batch) for batch in seen(data, few.epoch())] == [43]


def test_batches_are_of_texts_of_like_length(tmp_path):
    data = load(tmp_path, rows(400))
    masks = [
        inputs["padding_mask"] for inputs, _ in batches(data.training_set(model_for(data), batch=8, seed=0).epoch())
    ]
    ordered = [inputs["padding_mask"] for inputs, _ in batches(data.evaluation_set(model_for(data), "train", batch=8))]
    filled, unsorted = (sum(m.sum() for m in found) / sum(m.size for m in found) for found in (masks, ordered))
    assert filled > 0.8 > 0.7 > unsorted
    assert len({mask.shape[1] for mask in masks}) > 3


def test_evaluation_keeps_the_order_and_every_text(tmp_path):
    data = load(tmp_path, rows(21))
    found = seen(data, data.evaluation_set(model_for(data), "train", batch=8))
    assert [len(batch) for batch in found] == [8, 8, 5]
    assert [number for batch in found for number in batch] == list(range(21))
    assert {part: len(examples) for part, examples in data.parts.items()} == {"train": 21, "validation": 0, "test": 0}
    assert batches(data.evaluation_set(model_for(data), "test", batch=8)) == []


def test_a_model_without_segments_is_given_none(tmp_path):
    data = load(tmp_path, rows(8))
    (inputs, _), *_ = batches(data.training_set(model_for(data, segments=1), batch=8, seed=0).epoch())
    assert set(inputs) == {"token_ids", "padding_mask"}


def test_of_a_pair_the_longer_text_is_cut_and_special_tokens_stay(tmp_path, caplog):
    pairs = [{"text": "alpha " * 30, "second": f"beta {number}", "label": "ab"[number % 2]} for number in range(8)]
    with caplog.at_level(logging.WARNING, "zoo"):
        data = load(tmp_path, pairs, second_column="second", length=12)
        for _ in range(2):
            ((inputs, _),) = batches(data.training_set(model_for(data), batch=8, seed=0).epoch())
    assert [message for message in caplog.messages if "cut" in message] == [
        "train: 8 of 8 texts are longer than 12 tokens and were cut."
    ]
    alpha, start, end = (data.tokenizer.library.token_to_id(name) for name in ("alpha", "[CLS]", "[SEP]"))
    for ids, segments in zip(inputs["token_ids"], inputs["segment_ids"], strict=True):
        second = data.tokenizer.library.encode("beta", add_special_tokens=False).ids
        first = list(ids).index(end)
        assert list(ids[:first]) == [start, *[alpha] * (first - 1)]
        assert list(ids[first + 1 : first + 1 + len(second)]) == second
        assert ids[11] == end
        assert list(segments) == [0] * (first + 1) + [1] * (11 - first)


def test_what_the_data_decide_about_the_model(tmp_path):
    data = load(tmp_path, rows(), length=600)
    assert data.options() == {"vocabulary": data.vocabulary.size, "length": 600}
    assert set(load(tmp_path, rows(), length=64).options()) == {"vocabulary"}
    assert json.loads(data.files()["tokenizer.json"])["model"]["type"] == "WordPiece"


def checkpoint(folder, vocabulary, *, tokenizer=None, length=32):
    """What a loader reads of a checkpoint in Hub layout: its config.json, the shape of its table, its tokenizer."""
    folder.mkdir()
    config = {
        "model_type": "bert", "architectures": ["BertModel"], "hidden_size": 8, "num_hidden_layers": 1,
        "num_attention_heads": 1, "intermediate_size": 8, "vocab_size": vocabulary, "max_position_embeddings": length,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    sizes = {"word_embeddings": vocabulary, "position_embeddings": length, "token_type_embeddings": 2}
    tables = {f"embeddings.{name}.weight": np.zeros((size, 8), np.float32) for name, size in sizes.items()}
    tables["encoder.layer.0.intermediate.dense.weight"] = np.zeros((8, 8), np.float32)
    save_file(tables, folder / "model.safetensors")
    if tokenizer is not None:
        (folder / "tokenizer.json").write_text(tokenizer.to_json(), encoding="utf-8")
    return str(folder)


def test_the_tokenizer_lies_beside_the_weights(tmp_path):
    tokenizer = tokenizer_training.train(
        [row["text"] for row in rows()], kind="wordpiece", vocabulary=300, lowercase=True
    )
    size = tokenizer.vocabulary.size
    weights = checkpoint(tmp_path / "w", size, tokenizer=tokenizer)
    for named in ({"weights": weights}, {"model": weights}):
        data = load(tmp_path, rows(), **named)
        assert data.options() == {}
        assert data.tokenizer.to_json() == tokenizer.to_json()
    with pytest.raises(ValueError, match="with these weights takes 32 tokens"):
        load(tmp_path, rows(), weights=weights, length=64)
    with pytest.raises(ValueError, match="weights go with the tokenizer they were trained with"):
        load(tmp_path, rows(), weights=weights, tokenizer="wordpiece")
    with pytest.raises(FileNotFoundError, match=r"no tokenizer beside the weights.*Texts\(tokenizer"):
        load(tmp_path, rows(), weights=checkpoint(tmp_path / "bare", size))
    with pytest.raises(ValueError, match=f"has {size} tokens, .* {size - 9}: it does not belong"):
        load(tmp_path, rows(), weights=checkpoint(tmp_path / "less", size - 9, tokenizer=tokenizer))
    with pytest.raises(ValueError, match="trained with another tokenizer"):
        load(tmp_path, rows(), weights=checkpoint(tmp_path / "more", 3000), tokenizer=weights)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        load(tmp_path, rows(), weights=str(tmp_path / "nowhere"))


def test_a_tokenizer_file_needs_nothing_else(tmp_path):
    data = load(tmp_path, rows())
    (tmp_path / "tokenizer.json").write_text(data.files()["tokenizer.json"], encoding="utf-8")
    again = load(tmp_path, rows(), model="./gone/checkpoint", tokenizer=str(tmp_path / "tokenizer.json"))
    model = model_for(data)
    first, second = (batches(d.evaluation_set(model, "train", batch=40))[0] for d in (data, again))
    assert np.array_equal(first[0]["token_ids"], second[0]["token_ids"])
    assert np.array_equal(first[1], second[1])


def test_a_model_decides_how_long_a_text_may_be(tmp_path):
    data = load(tmp_path, [{"text": "alpha " * 100, "label": "ab"[number % 2]} for number in range(8)])
    (inputs, _), *_ = batches(data.evaluation_set(model_for(data, length=20), "train", batch=8))
    assert inputs["token_ids"].shape == (8, 20)
    with pytest.raises(ValueError, match="takes at most 20 tokens"):
        longer = load(tmp_path, rows(), length=30)
        longer.training_set(model_for(longer, length=20), batch=8, seed=0)
    with pytest.raises(ValueError, match="does not belong to this model"):
        data.training_set(model_for(data, vocabulary=10), batch=8, seed=0)


def test_models_and_tasks_that_do_not_fit(tmp_path):
    with pytest.raises(ValueError, match=r"'resnet18' takes no texts\. Models that do: .*bert_tiny"):
        load(tmp_path, rows(), model="resnet18")
    with pytest.raises(ValueError, match=r"no task .*seq2seq.*It has: features, masked_lm"):
        load(tmp_path, rows(), task="seq2seq")
    with pytest.raises(ValueError, match="too short: 2 of them are special"):
        load(tmp_path, rows(), length=2)
    with pytest.raises(ValueError, match=r"line 1: the text has no tokens"):
        bare = json.loads(load(tmp_path, rows()).files()["tokenizer.json"])
        (tmp_path / "tokenizer.json").write_text(json.dumps({**bare, "post_processor": None}).replace("[CLS]", "[C]"))
        load(tmp_path, [{"text": "\u200b", "label": "a"}, *rows()], tokenizer=str(tmp_path))
