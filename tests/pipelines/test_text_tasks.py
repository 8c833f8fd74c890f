"""What a batch of texts holds for each task besides the classes of whole texts: tags, answers, language."""

import logging
from itertools import pairwise

import numpy as np
import pytest

from pipelines import text_encoding, tokenizer_training
from pipelines.text_sources import Rows
from tests.pipelines.test_texts import batches, load, model_for, sentence, tokens


@pytest.mark.parametrize("tokenizer", ["wordpiece", "bpe", "unigram"])
def test_a_tag_is_at_the_first_piece_of_its_word(tmp_path, tokenizer):
    values = [
        {"text": f"  {word} went\tto  {place}!", "label": "NAME O O PLACE"}
        for word in ("Anna", "Bartholomew", "日本")
        for place in ("Rome", "Constantinople", "Xi'an")
    ]
    data = load(tmp_path, values, task="tag", tokenizer=tokenizer)
    assert data.classes == ("NAME", "O", "PLACE")
    inputs, labels, weights = batches(data.evaluation_set(model_for(data, task="tag"), "train", batch=9))[0]
    assert (weights.sum(axis=1) == 4).all()
    assert not weights[inputs["padding_mask"] == 0].any()
    assert not weights[:, 0].any()
    encoded = text_encoding.encode(data.tokenizer, [row["text"] for row in values], None, length=512, task="tag")
    for index, row in enumerate(values):
        places = np.flatnonzero(weights[index])
        assert [data.classes[label] for label in labels[index, places]] == ["NAME", "O", "O", "PLACE"]
        spans = [encoded.places[index][place] for place in places]
        for word, (first, last) in zip(row["text"].split(), spans, strict=True):
            assert word.startswith(row["text"][first:last].strip())


def test_tags_of_words_that_are_cut_off_have_no_weight(tmp_path):
    values = [
        {"text": " ".join([f"n{number}", *["alpha"] * 50]), "label": " ".join(["N"] + ["O"] * 50)}
        for number in range(4)
    ]
    data = load(tmp_path, values, task="tag", length=10)
    _, _, weights = batches(data.evaluation_set(model_for(data, task="tag"), "train", batch=4))[0]
    assert weights.shape == (4, 10)
    assert (weights.sum(axis=1) >= 2).all() and (weights.sum(axis=1) <= 8).all()
    assert not weights[:, [0, 9]].any()


def answering(count=12, **options):
    return [
        {"text": f"{sentence(number)} the year {1900 + number} was good.", "question": "which year?",
         "label": [f"{1900 + number}", f"year {1900 + number}"]}
        for number in range(count)
    ]  # fmt: skip


@pytest.mark.parametrize("tokenizer", ["wordpiece", "bpe", "unigram"])
def test_an_answer_is_marked_where_it_stands(tmp_path, tokenizer):
    values = answering()
    data = load(tmp_path, values, task="answer", second_column="question", tokenizer=tokenizer)
    inputs, marks = batches(data.evaluation_set(model_for(data, task="answer"), "train", batch=12))[0]
    assert marks.shape == (*inputs["token_ids"].shape, 2)
    assert ((marks == 1).sum(axis=1) == 1).all()
    assert (marks[(inputs["segment_ids"] == 0) | (inputs["padding_mask"] == 0)] == -1).all()
    spans = marks.argmax(axis=1)
    assert list(data.spans("train", spans)) == [row["label"][0] for row in values]
    assert list(data.references("train")) == [tuple(row["label"]) for row in values]
    assert list(data.spans("train", np.zeros((12, 2), int))) == [""] * 12


def test_answers_that_are_cut_off_are_counted_and_not_trained_on(tmp_path, caplog):
    values = answering() + [
        {"text": f"in {number} {sentence(0)}", "question": "q?", "label": str(number)} for number in range(4)
    ]
    with caplog.at_level(logging.WARNING, "zoo"):
        data = load(tmp_path, values, task="answer", second_column="question", length=12)
    model = model_for(data, task="answer")
    marks = np.concatenate(
        [(marks == 1).any(axis=(1, 2)) for _, marks in batches(data.evaluation_set(model, "train", batch=1))]
    )
    assert len(marks) == 16
    assert 4 <= marks.sum() == len(data.parts["train"]) < 16
    assert f"{16 - marks.sum()} answers were cut off" in caplog.text
    train = data.training_set(model, batch=2, seed=0).epoch()
    trained = [(marks == 1).any(axis=(1, 2)).all() for _, marks in batches(train)]
    assert all(trained)
    hopeless = [row for row in values[:12] if len(row["text"].split()) > 15]
    with pytest.raises(ValueError, match="every answer to train on lies beyond 12 tokens"):
        load(tmp_path, hopeless, task="answer", second_column="question", length=12)
    long = [{**row, "question": "why? " * 20} for row in values]
    with pytest.raises(ValueError, match="question is so long that no room is left"):
        load(tmp_path, long, task="answer", second_column="question", length=12)


def test_masked_language_models_get_all_tokens_in_blocks(tmp_path):
    data = load(tmp_path, [{"text": sentence(number)} for number in range(20)], label_column=None, length=10)
    assert data.task == "masked_lm"
    found = batches(data.evaluation_set(model_for(data, task="masked_lm"), "train", batch=4))
    pieces = [ids for inputs in found for ids in tokens(inputs)]
    assert len(pieces) == len(data.parts["train"]) > 20
    assert all(len(ids) <= 10 and ids[0] == data.vocabulary.start and ids[-1] == data.vocabulary.end for ids in pieces)
    whole = [data.tokenizer.library.encode(sentence(number), add_special_tokens=False).ids for number in range(20)]
    assert np.concatenate([ids[1:-1] for ids in pieces]).tolist() == [number for ids in whole for number in ids]


def test_causal_language_models_get_every_next_token_once():
    texts_read = [sentence(number) for number in range(20)]
    tokenizer = tokenizer_training.train(texts_read, kind="bpe", vocabulary=300, lowercase=True)
    found = text_encoding.blocks(tokenizer, texts_read, length=10, task="causal_lm")
    steps = [(a, b) for index in range(len(found)) for a, b in pairwise(found.tokens[index])]
    whole = [
        [*tokenizer.library.encode(text, add_special_tokens=False).ids, tokenizer.vocabulary.end] for text in texts_read
    ]
    assert steps == [pair for ids in whole for pair in pairwise(ids)]
    assert found.tokens.lengths.max() == 10
    assert found.tokens.lengths.min() > 1


def test_what_a_decoder_writes_ends_with_the_end(tmp_path):
    texts_read = [sentence(number) for number in range(6)]
    tokenizer = tokenizer_training.train(texts_read, kind="unigram", vocabulary=200, lowercase=True)
    made = Rows("x", texts_read, None, ["alpha", "beta " * 40] * 3, [""] * 6)
    found = text_encoding.examples(tokenizer, made, classes=(), length=16, task="seq2seq")
    written = found.targets["written"]
    assert tokenizer.decode(written[0]) == "alpha"
    assert [written[index][-1] for index in range(6)] == [tokenizer.vocabulary.end] * 6
    assert written.lengths.tolist() == [len(written[0]), 16] * 3
    assert found.shortened == 3
