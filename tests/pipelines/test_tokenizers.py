"""Tokenizers: read from the files of publishers, trained the same way every time, refused where they do not belong."""

import json
import subprocess
import sys

import pytest

from pipelines import tokenizer_training
from pipelines.tokenizers import Tokenizer, check_fit, check_specials, in_folder, open_tokenizer

TEXTS = [
    "The quick brown fox jumps over the lazy dog.",
    "Pack my box with five dozen liquor jugs!",
    "Ünï cödé, 日本.",
] * 4
KINDS = ("wordpiece", "bpe", "unigram")


def trained(kind="wordpiece", vocabulary=300, *, lowercase=True, texts=TEXTS):
    return tokenizer_training.train(texts, kind=kind, vocabulary=vocabulary, lowercase=lowercase)


def vocabulary_file(folder, tokens):
    folder.mkdir(exist_ok=True)
    (folder / "vocab.txt").write_text("".join(f"{token}\n" for token in tokens), encoding="utf-8")
    return folder


@pytest.mark.parametrize("kind", KINDS)
def test_one_text_and_two_are_put_together_as_bert_does(kind):
    tokenizer = trained(kind)
    vocabulary = tokenizer.vocabulary
    first, second = (tokenizer.library.encode(text, add_special_tokens=False).ids for text in ("quick fox", "a dog"))
    one, two = tokenizer.library.encode("quick fox"), tokenizer.library.encode("quick fox", "a dog")
    assert one.ids == [vocabulary.start, *first, vocabulary.end]
    assert two.ids == [vocabulary.start, *first, vocabulary.end, *second, vocabulary.end]
    assert two.type_ids == [0] * (len(first) + 2) + [1] * (len(second) + 1)
    assert set(vocabulary.specials) == {0, 1, 2, 3, 4}
    assert (vocabulary.padding, vocabulary.mask) == (0, tokenizer.library.token_to_id("[MASK]"))
    assert 5 < vocabulary.size <= 300


@pytest.mark.parametrize("kind", KINDS)
def test_training_gives_the_same_tokenizer_in_every_process_and_for_any_order_of_texts(kind):
    code = f"from tests.pipelines.test_tokenizers import *\nprint(trained({kind!r}, 400, texts=TEXTS[::-1]).to_json())"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert json.loads(other) == json.loads(trained(kind, 400).to_json())


def test_unigram_cuts_as_well_as_the_librarys_own_scores():
    from tokenizers import Tokenizer as Library
    from tokenizers import models, normalizers, pre_tokenizers, trainers

    texts = [f"{a}{b} {c}" for a in ("un", "re", "") for b in ("do", "play", "work") for c in ("ing", "ed again", "s")]
    own = Library(models.Unigram())
    own.normalizer, own.pre_tokenizer = normalizers.NFKC(), pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=40, special_tokens=list(tokenizer_training.SPECIALS), unk_token="[UNK]", show_progress=False
    )
    own.train_from_iterator(texts, trainer)
    ours = trained("unigram", 100, texts=texts)
    count = [sum(len(found.ids) for found in library.encode_batch(texts)) for library in (own, ours.library)]
    assert count[1] - 2 * len(texts) <= 1.02 * count[0]


@pytest.mark.parametrize("kind", KINDS)
def test_lowercase_is_a_choice(kind):
    assert trained(kind).decode(trained(kind).library.encode("THE dog").ids) == "the dog"
    kept = trained(kind, lowercase=False)
    assert kept.decode(kept.library.encode("The dog").ids) == "The dog"


def test_rare_characters_are_unknown_where_the_vocabulary_is_small():
    texts = ["".join(map(chr, range(start, start + 20))) for start in range(0x4E00, 0x4E00 + 2000, 20)] + ["ab"] * 50
    for kind in ("wordpiece", "unigram"):
        tokenizer = trained(kind, 100, texts=texts)
        assert tokenizer.vocabulary.size <= 100
        assert "ab" in tokenizer.decode(tokenizer.library.encode("ab").ids)
    with pytest.raises(ValueError, match="256 bytes and 5 special tokens take 261"):
        trained("bpe", 200)


def test_what_a_file_says_of_cutting_and_padding_is_dropped(tmp_path):
    tokenizer = trained()
    stored = json.loads(tokenizer.to_json())
    stored["truncation"] = {"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0}
    stored["padding"] = {
        "strategy": {"Fixed": 4}, "direction": "Right", "pad_to_multiple_of": None,
        "pad_id": 0, "pad_type_id": 0, "pad_token": "[PAD]",
    }  # fmt: skip
    (tmp_path / "tokenizer.json").write_text(json.dumps(stored), encoding="utf-8")
    for place in (tmp_path, tmp_path / "tokenizer.json"):
        assert open_tokenizer(place).library.encode(TEXTS[0]).ids == tokenizer.library.encode(TEXTS[0]).ids
    assert open_tokenizer(tmp_path).library.encode("a").ids == tokenizer.library.encode("a").ids


def test_a_folder_with_vocab_txt_alone_is_berts_tokenizer(tmp_path):
    original = trained(lowercase=False)
    ids = original.library.get_vocab()
    folder = vocabulary_file(tmp_path / "cased", sorted(ids, key=ids.__getitem__))
    (folder / "tokenizer_config.json").write_text('{"do_lower_case": false}', encoding="utf-8")
    built = open_tokenizer(folder)
    for texts in (("The quick brown fox",), ("Pack my box", "日本 jugs!")):
        assert built.library.encode(*texts).ids == original.library.encode(*texts).ids
    assert built.vocabulary == original.vocabulary
    assert open_tokenizer(vocabulary_file(tmp_path / "uncased", ids)).library.normalizer.normalize_str("ÉA") == "ea"


def test_a_folder_with_vocab_json_and_merges_is_gpts_or_robertas_tokenizer(tmp_path):
    original = trained("bpe", 400, lowercase=False)
    model = json.loads(original.to_json())["model"]
    merges = [" ".join(pair) if isinstance(pair, list) else pair for pair in model["merges"]]
    plain = {token: number for token, number in model["vocab"].items() if not token.startswith("[")}

    def folder(name, specials):
        (tmp_path / name).mkdir()
        tokens = [*specials, *plain]
        ids = {token: number for number, token in enumerate(tokens)}
        (tmp_path / name / "vocab.json").write_text(json.dumps(ids), encoding="utf-8")
        (tmp_path / name / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n", encoding="utf-8")
        return open_tokenizer(tmp_path / name)

    gpt = folder("gpt", ["<|endoftext|>"])
    expected = [token for token in original.library.encode("The lazy dog", add_special_tokens=False).tokens]
    assert gpt.library.encode("The lazy dog").tokens == expected
    assert (gpt.vocabulary.padding, gpt.vocabulary.end, gpt.vocabulary.start) == (0, 0, 0)
    roberta = folder("roberta", ["<s>", "<pad>", "</s>", "<unk>", "<mask>"])
    assert roberta.library.encode("The lazy dog").tokens == ["<s>", *expected, "</s>"]
    both = roberta.library.encode("The lazy", "dog")
    assert both.tokens[:3:3] + both.tokens[-1:] == ["<s>", "</s>"]
    assert both.tokens.count("</s>") == 3
    assert set(both.type_ids) == {0}
    assert (roberta.vocabulary.padding, roberta.vocabulary.mask) == (1, 4)


def test_folders_without_a_tokenizer(tmp_path):
    assert in_folder(tmp_path) is None
    with pytest.raises(FileNotFoundError, match=r"no tokenizer.*wordpiece, bpe or unigram"):
        open_tokenizer(tmp_path)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        open_tokenizer(tmp_path / "nowhere")
    (tmp_path / "spiece.model").write_bytes(b"\n\x0b")
    with pytest.raises(ValueError, match="SentencePiece model without a tokenizer"):
        open_tokenizer(tmp_path)


@pytest.mark.parametrize("text", ["", "{}", "not json", '{"version": "1.0", "model": {"type": "Nonsense"}}'])
def test_a_damaged_file_is_named(tmp_path, text):
    (tmp_path / "tokenizer.json").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=r"tokenizer\.json' is no tokenizer\.json"):
        open_tokenizer(tmp_path)


def test_damaged_vocabularies_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"vocab\.txt' lacks the special tokens \[CLS\], \[SEP\]"):
        open_tokenizer(vocabulary_file(tmp_path / "a", ["[PAD]", "[UNK]", "word"]))
    (tmp_path / "vocab.json").write_text('{"a": 0, "b": 1}', encoding="utf-8")
    (tmp_path / "merges.txt").write_text("a b\n", encoding="utf-8")
    with pytest.raises(ValueError, match="do not belong together"):
        open_tokenizer(tmp_path)


def test_a_tokenizer_of_another_model_is_refused():
    tokenizer = trained()
    size = tokenizer.vocabulary.size
    for fitting in (size, size + 64, None):
        check_fit(tokenizer, fitting, model="m", published=True)
    check_fit(tokenizer, 30_522, model="m", published=False)
    with pytest.raises(ValueError, match=rf"has {size} tokens, 'm' {size - 1}: it does not belong"):
        check_fit(tokenizer, size - 1, model="m", published=False)
    with pytest.raises(ValueError, match="trained with another tokenizer"):
        check_fit(tokenizer, 30_522, model="m", published=True)


def test_special_tokens_that_a_task_needs():
    from tokenizers import Tokenizer as Library
    from tokenizers import models

    bare = Tokenizer(Library(models.WordPiece({"a": 0, "[UNK]": 1}, unk_token="[UNK]")), "bare")
    check_specials(bare, "classify")
    for task, token in (("masked_lm", r"\[MASK\]"), ("causal_lm", r"\[SEP\]"), ("seq2seq", "</s>")):
        with pytest.raises(ValueError, match=token):
            check_specials(bare, task)
    around = Tokenizer(Library(models.WordPiece({"[CLS]": 0, "[SEP]": 1, "[UNK]": 2}, unk_token="[UNK]")), "around")
    with pytest.raises(ValueError, match="post_processor is missing"):
        check_specials(around, "classify")
