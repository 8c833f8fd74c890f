"""CLIP's tokenizer is transformers', and classes are told to a model in words."""

from __future__ import annotations

import numpy as np
import pytest

import zoo
from pipelines.tokenizers import open_tokenizer
from pipelines.zero_shot import class_embeddings, tower, zero_shot
from tests.pipelines.clip_files import files
from tests.rows import ROWS

WANTED = (  # by transformers 5.23
    ("A photo of a  Cat's DOG!!", [521, 320, 519, 78, 325, 320, 513, 520, 515, 0, 256, 522]),
    (
        "caf\u00e9 12 \u732b\U0001f431 it's  we'll",
        [521, 512, 69, 127, 358, 272, 273, 163, 234, 360, 172, 253, 238, 365, 72, 339, 520, 86, 324, 6, 75, 331, 522],
    ),
    ("", [521, 522]),
    ("x<|endoftext|>y", [521, 343, 522, 344, 522]),
    ("e\u0301 \u00c9 don't", [521, 127, 358, 127, 358, 514, 333, 6, 339, 522]),
)
SIZES = {**ROWS["clip_vit_base32"].tiny, "vocabulary": 523}


@pytest.fixture
def tokenizer(tmp_path):
    return open_tokenizer(files(tmp_path))


def test_the_tokens_are_those_of_transformers_also_from_tokenizer_json(tokenizer, tmp_path):
    (tmp_path / "tokenizer.json").write_text(tokenizer.to_json())
    for one in (tokenizer, open_tokenizer(tmp_path / "tokenizer.json")):
        for text, ids in WANTED:
            assert one.library.encode(text).ids == ids
        assert one.library.decode(WANTED[1][1]) == "caf\u00e9 1 2 \u732b \U0001f431 it 's we 'll"
        assert one.library.decode([]) == ""
    assert (tokenizer.vocabulary.size, tokenizer.vocabulary.start, tokenizer.vocabulary.end) == (523, 521, 522)


def test_the_best_class_is_the_one_whose_words_lie_nearest(tokenizer):
    model = zoo.create("clip_vit_base32", task="contrast", **SIZES)
    images = np.random.default_rng(0).integers(0, 256, (5, 8, 16, 3), "uint8")
    names, templates = ["cat", "dog", "a cat and a dog"], ("a {}", "{} to go")
    found = zero_shot(model, images, names, tokenizer=tokenizer, templates=templates, batch=2)
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-5)
    words = class_embeddings(model, names, tokenizer, templates=templates)
    np.testing.assert_allclose(np.linalg.norm(words, axis=1), 1, rtol=1e-5)
    cosines = np.asarray(tower(model, "image")({"image": images.astype("float32")})) @ words.T
    logits = np.exp(cosines / 0.07)
    np.testing.assert_allclose(found, logits / logits.sum(axis=1, keepdims=True), rtol=1e-4)
    ids = [tokenizer.library.encode(f"a {name}").ids for name in names]
    alone = [tower(model, "text")({"token_ids": np.array([i]), "padding_mask": np.ones((1, len(i)))}) for i in ids]
    one = class_embeddings(model, names, tokenizer, templates=("a {}",))
    np.testing.assert_allclose(one, np.concatenate(alone), atol=1e-5)


def test_mistakes_are_told(tokenizer):
    model = zoo.create("clip_vit_base32", task="contrast", **SIZES)
    with pytest.raises(ValueError, match=r"has 27 tokens; 'clip_vit_base32' takes 24\. Shorten it"):
        class_embeddings(model, ["!1" * 12], tokenizer, templates=("{}!",))
    with pytest.raises(ValueError, match="each of them once"):
        class_embeddings(model, ["cat", "cat"], tokenizer)
    with pytest.raises(ValueError, match="where the class stands"):
        class_embeddings(model, ["cat"], tokenizer, templates=("a photo",))
    with pytest.raises(ValueError, match="gives no image embeddings"):
        tower(zoo.create("lenet5"), "image")
