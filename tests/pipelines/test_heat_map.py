"""The picture of attention: the right tokens at its sides, the right numbers in it."""

from __future__ import annotations

import functools

import keras
import matplotlib.image
import numpy as np
import pytest

import zoo
from pipelines.commands.attention import attention
from pipelines.heat_map import HeatMap, Tokens, _figure, draw, heat_map
from pipelines.tokenizers import Tokenizer
from tests.parity import packs

WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "the", "cat", "play", "##ing", "##s", "a", "costs", "$", "5", "!")


@functools.cache
def tokenizer() -> Tokenizer:
    from tokenizers import Tokenizer as Library
    from tokenizers import models, normalizers, pre_tokenizers, processors

    library = Library(models.WordPiece({word: number for number, word in enumerate(WORDS)}, unk_token="[UNK]"))
    library.normalizer = normalizers.BertNormalizer()
    library.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    library.add_special_tokens(list(WORDS[:4]))
    library.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return Tokenizer(library, "a test's")


@functools.cache
def model(variant: str, **options) -> keras.Model:
    keras.utils.set_random_seed(0)
    return zoo.create(variant, width=16, depth=2, heads=2, mlp_width=16, vocabulary=len(WORDS), **options)


def test_a_pair_is_shown_as_it_stands_in_the_texts():
    bert = model("bert_tiny", task="features", length=13)
    found = heat_map(bert, tokenizer(), "The cat playing", "A cat costs $5!", block=0)
    labels = ("[CLS]", "The", "cat", "play", "·ing", "[SEP]", "A", "cat", "costs", "$", "5", "!", "[SEP]")
    with pytest.raises(ValueError, match=r"The text has 14 tokens; 'bert_tiny' takes 1 to 13"):
        heat_map(bert, tokenizer(), "The cat playing", "A cat costs $5!!")
    assert found.queries.labels == found.keys.labels == labels
    assert found.keys.breaks == (6,)
    assert found.title == "bert_tiny, block0"
    ids = np.array([[2, 4, 5, 6, 7, 3, 9, 5, 10, 11, 12, 13, 3]])
    inputs = {"token_ids": ids, "padding_mask": np.ones_like(ids), "segment_ids": np.array([[0] * 6 + [1] * 7])}
    wanted = zoo.attention_weights(bert, inputs)
    np.testing.assert_array_equal(found.shares, wanted["block0"][0])
    np.testing.assert_array_equal(heat_map(bert, tokenizer(), "cat").shares.shape, (2, 3, 3))


def test_of_an_encoder_decoder_the_decoder_looks_at_the_text():
    t5 = model("t5_small", head_width=4)
    found = heat_map(t5, tokenizer(), "the cat plays", "a cat")
    assert (found.queries.labels, found.keys.labels) == (
        ("[CLS]", "a", "cat"),
        ("[CLS]", "the", "cat", "play", "·s", "[SEP]"),
    )
    assert (found.title, found.shares.shape) == ("t5_small, decoder.block1.cross", (2, 3, 6))
    np.testing.assert_allclose(found.shares.sum(axis=-1), 1, atol=1e-6)
    alone = heat_map(t5, tokenizer(), "the cat plays", block=0)
    assert (alone.title, alone.shares.shape) == ("t5_small, encoder.block0", (2, 6, 6))


def test_mistakes_say_what_there_is(tmp_path):
    bert = model("bert_tiny", task="features", length=13)
    with pytest.raises(ValueError, match="'bert_tiny' has no block 2 here: it has blocks 0 to 1"):
        heat_map(bert, tokenizer(), "cat", block=2)
    with pytest.raises(ValueError, match="There is no head 2 in bert_tiny, block1: it has heads 0 to 1"):
        draw(heat_map(bert, tokenizer(), "cat"), tmp_path / "no.png", head=2)
    with pytest.raises(ValueError, match="'vit_tiny16' takes no tokens"):
        heat_map(zoo.create("vit_tiny16", depth=1, width=16, heads=1), tokenizer(), "cat")
    with pytest.raises(ValueError, match=r"has 14 tokens, 'gpt2' 13: it does not belong to this model"):
        gpt = zoo.create("gpt2", width=8, depth=1, heads=1, mlp_width=8, vocabulary=13)
        heat_map(gpt, tokenizer(), "cat")
    assert list(tmp_path.iterdir()) == []


def example(heads: int, queries: int, keys: int) -> HeatMap:
    shares = np.random.default_rng(0).dirichlet(np.ones(keys) / 4, (heads, queries))
    names = [Tokens(tuple(f"token{place} $x$" for place in range(count)), (count // 2,)) for count in (queries, keys)]
    return HeatMap(shares, *names, "a model, block0")


def test_the_darkest_cell_is_the_largest_share(tmp_path):
    found = example(3, 5, 7)
    for head, shares in ((1, found.shares[1]), (None, found.shares.mean(axis=0))):
        figure = _figure(found.head(head))
        (image, *_), labels = figure.axes[0].images, figure.axes[0].get_xticklabels()
        np.testing.assert_array_equal(image.get_array(), shares)
        assert [label.get_text() for label in labels] == list(found.keys.labels)
    draw(found, tmp_path / "mean.png")
    picture = matplotlib.image.imread(tmp_path / "mean.png")[..., :3]
    assert picture.std() > 0.05
    assert min(picture.shape[:2]) > 300


@pytest.mark.parametrize(("heads", "queries", "keys"), [(12, 9, 9), (1, 1, 1), (1, 2, 300), (2, 40, 40)])
def test_any_number_of_heads_and_tokens_makes_a_picture_of_sane_size(heads, queries, keys, tmp_path):
    draw(example(heads, queries, keys), tmp_path / "all.png", head="all")
    height, width = matplotlib.image.imread(tmp_path / "all.png").shape[:2]
    assert 300 < max(height, width) < 6000


def test_the_command_draws_a_checkpoint(tmp_path, capsys):
    folder = packs.load("hf_bert_mlm").write(tmp_path / "checkpoint")
    (folder / "tokenizer.json").write_text(tokenizer().to_json(), encoding="utf-8")
    attention(str(folder), "the cat", "a cat", block=-1, head="1", out=tmp_path / "picture.png")
    assert "block2" in capsys.readouterr().out
    assert matplotlib.image.imread(tmp_path / "picture.png").ndim == 3
    with pytest.raises(ValueError, match="--head 'first' must be a number, or all"):
        attention(str(folder), "the cat", head="first", out=tmp_path / "none.png")
    (folder / "tokenizer.json").unlink()
    with pytest.raises(FileNotFoundError, match="no tokenizer"):
        attention(str(folder), "the cat", out=tmp_path / "none.png")
