"""What language models write: as transformers does, the same with a cache and without, alone and in a batch."""

from __future__ import annotations

import gc
import json
import weakref
from functools import cache
from pathlib import Path

import numpy as np
import pytest

import zoo
from pipelines.generate import Written, generate, stream
from pipelines.strategies import Beam, Greedy, Sample, candidates
from tests.parity import packs

EXPECTED = json.loads(Path(__file__).with_name("generated.json").read_text(encoding="utf-8"))
MODELS = pytest.mark.parametrize("name", ["hf_gpt2_lm", "hf_t5_v10"])
PROMPTS = EXPECTED["hf_gpt2_lm"]["prompts"]  # of 5, 11 and 2 tokens


@pytest.fixture(scope="module")
def load(tmp_path_factory):
    return cache(lambda name: zoo.from_checkpoint(packs.load(name).write(tmp_path_factory.mktemp(name))))


@pytest.fixture(scope="module")
def gpt(load):
    return load("hf_gpt2_lm")


def strategy(options: dict):
    """Ours, from the options of transformers."""
    options = dict(options)
    beams = options.pop("num_beams")
    return Greedy(**options) if beams == 1 else Beam(beams, **options)


@MODELS
def test_it_writes_what_transformers_writes(load, name):
    model, expected = load(name), EXPECTED[name]
    for case in expected["written"]:
        chosen = strategy(case["options"])
        found = generate(model, expected["prompts"], new_tokens=20, strategy=chosen, stop=case["stop"])
        assert found == case["texts"], case["options"]
    assert len({len(text) for case in expected["written"] for text in case["texts"]}) > 3  # stops are seen to work


@MODELS
def test_greedy_writing_is_the_sequence_of_the_pack(load, name):
    generation = packs.load(name).generation
    (prompt,) = packs.arrays(generation["inputs"])["input_ids"].tolist()
    wanted = generation["sequences"]["values"][-generation["new_tokens"] :]
    assert generate(load(name), [prompt], new_tokens=generation["new_tokens"]) == [wanted]


@MODELS
@pytest.mark.parametrize(
    "chosen",
    [
        pytest.param(Greedy(1.3), id="greedy", marks=pytest.mark.slow),
        pytest.param(Sample(seed=3), id="sample", marks=pytest.mark.slow),
        pytest.param(Sample(0.8, 10, 0.9, 1.2, seed=5), id="sample_of_few"),
        pytest.param(Beam(3, 0.5), id="beam"),
    ],
)
def test_the_cache_changes_no_token_and_the_batch_neither(load, name, chosen):
    model, options = load(name), {"new_tokens": 12, "strategy": chosen, "stop": [7, 40, 28]}
    together = generate(model, PROMPTS, **options)
    assert together == generate(model, PROMPTS, cached=False, **options)
    assert together[2:] == generate(model, PROMPTS[2:], **options)


def test_a_cache_that_grows_goes_on_as_before(gpt):
    prompt = PROMPTS[1][:3]
    whole = generate(gpt, [prompt], new_tokens=61, strategy=Sample(seed=1), cached=False)
    assert generate(gpt, [prompt], new_tokens=61, strategy=Sample(seed=1)) == whole


@pytest.mark.parametrize(
    ("cell", "task"),
    [
        ("lstm", "causal_lm"),
        ("gru", "seq2seq"),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in (("simple", "causal_lm"), ("gru", "causal_lm"), ("simple", "seq2seq"), ("lstm", "seq2seq"))
        ),
    ],
)
def test_a_recurrent_model_writes_with_its_state_as_the_cache(cell, task):
    model = zoo.create(f"rnn_{cell}", task=task, width=12, embedding=8, vocabulary=140)
    random = np.random.default_rng(0)
    for weight in model.weights:
        weight.assign(random.standard_normal(weight.shape) * 0.7)
    for chosen in (Sample(seed=2), Beam(3)):
        found = generate(model, PROMPTS, new_tokens=9, strategy=chosen)
        assert found == generate(model, PROMPTS, new_tokens=9, strategy=chosen, cached=False)
        assert len({tuple(text) for text in found}) > 1  # they hang on their prompts


def test_a_text_can_hang_on_a_condition():
    model = zoo.create("rnn_gru", task="causal_lm", width=12, embedding=8, vocabulary=140, condition=3)
    options = {"new_tokens": 9, "strategy": Sample(seed=2)}
    conditions = 9 * np.random.default_rng(0).standard_normal((3, 3)).astype("float32")
    for weight in model.weights:
        weight.assign(np.random.default_rng(1).standard_normal(weight.shape))
    found = generate(model, [[5, 6]] * 3, inputs={"condition": conditions}, **options)
    assert found == generate(model, [[5, 6]] * 3, inputs={"condition": conditions}, cached=False, **options)
    assert found[0] != generate(model, [[5, 6]], inputs={"condition": conditions[1:2]}, **options)[0]
    with pytest.raises(ValueError, match=r"\(3, 3\); for 1 prompts it must be \(1, 3\)"):
        generate(model, [[5, 6]], inputs={"condition": conditions}, **options)


def test_what_is_read_and_what_is_written_may_be_in_different_tokens():
    sizes = {"width": 16, "depth": 1, "heads": 2, "mlp_width": 24, "vocabulary": 60, "decoder_vocabulary": 30}
    model = zoo.create("transformer_base", task="seq2seq", **sizes)
    found = generate(model, [[59, 4], [8]], new_tokens=5)
    assert found == generate(model, [[59, 4], [8]], new_tokens=5, cached=False)
    assert max(map(max, found)) < 30
    with pytest.raises(ValueError, match="start has the token 30; those of this model are 0 to 29"):
        generate(model, [[59]], new_tokens=5, start=30)


def test_random_tokens_hang_on_the_seed_and_on_the_copy(gpt):
    def written(seed: int) -> list[list[int]]:
        return generate(gpt, [PROMPTS[0]] * 2, new_tokens=10, strategy=Sample(seed=seed))

    assert written(1) == written(1)
    assert written(1) != written(2)
    assert written(1)[0] != written(1)[1]


@pytest.mark.parametrize("case", EXPECTED["warpers"]["warped"], ids=lambda case: str(case["options"]))
def test_tokens_are_drawn_with_the_probabilities_of_transformers(case):
    tokens, chances = candidates(np.array(EXPECTED["warpers"]["logits"], "float32"), Sample(**case["options"]))
    found = np.zeros(40)
    found[tokens] = chances / chances.sum()
    np.testing.assert_allclose(found, case["probabilities"], rtol=1e-5)
    assert (found > 0).tolist() == (np.array(case["probabilities"]) > 0).tolist()


def test_a_stream_gives_the_tokens_as_they_come(gpt):
    whole = generate(gpt, PROMPTS[:2], new_tokens=6, strategy="sample")
    streamed = list(stream(gpt, PROMPTS[:2], new_tokens=6, strategy="sample"))
    assert [one.text for one in streamed] == [0, 1] * 6
    assert [[one.token for one in streamed if one.text == text] for text in (0, 1)] == whole
    with pytest.raises(ValueError, match="cannot be streamed"):
        stream(gpt, PROMPTS, new_tokens=6, strategy=Beam(2))


def test_two_streams_at_once_do_not_mix(gpt):
    first, second = (stream(gpt, [prompt], new_tokens=8) for prompt in PROMPTS[:2])
    pairs = list(zip(first, second, strict=True))
    for place in (0, 1):
        tokens = [pair[place].token for pair in pairs]
        assert [tokens] == generate(gpt, [PROMPTS[place]], new_tokens=8)


def test_a_model_that_has_written_can_go():
    model = zoo.create("gpt2", width=8, depth=1, heads=2, mlp_width=8, vocabulary=9, length=8)
    generate(model, [[1]], new_tokens=2)
    gone = weakref.ref(model)
    del model
    gc.collect()
    assert gone() is None


def test_new_weights_are_written_with_at_once(gpt):
    before = generate(gpt, PROMPTS, new_tokens=5)
    table = gpt.get_layer("stem_tokens").embeddings
    kept = np.array(table)
    table.assign(kept[::-1])
    try:
        assert generate(gpt, PROMPTS, new_tokens=5) == generate(gpt, PROMPTS, new_tokens=5, cached=False) != before
    finally:
        table.assign(kept)


def letters(tokens: int = 160):
    """A tokenizer of one letter a token, whose token 3 ends a text."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    names = ["<pad>", "<unk>", "<s>", "</s>", *"abcdefghijklmnopqrstuvwxyz é"]
    names += [f"<{number}>" for number in range(len(names), tokens)]
    tokenizer = Tokenizer(models.WordLevel({name: number for number, name in enumerate(names)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.decoder = decoders.Fuse()
    tokenizer.add_special_tokens(["<pad>", "<unk>", "<s>", "</s>"])
    return tokenizer


def test_texts_in_texts_out(gpt):
    tokenizer = letters()
    texts = ["cab", "a dé"]
    ids = [tokenizer.encode(text).ids for text in texts]
    options = {"new_tokens": 8, "strategy": Sample(seed=4), "stop": ["</s>"], "tokenizer": tokenizer}
    written = generate(gpt, texts, **options)
    tokens = generate(gpt, ids, **options)
    assert written == [tokenizer.decode(text) for text in tokens]
    pieces = list(stream(gpt, texts, **options))
    assert ["".join(one.piece for one in pieces if one.text == text) for text in (0, 1)] == written
    assert isinstance(pieces[0], Written)


def test_what_is_written_goes_on_with_the_prompt_space_included(gpt):
    from tokenizers import decoders

    tokenizer = letters()
    tokenizer.decoder = decoders.WordPiece()  # a space between words, and none before the first
    options = {"new_tokens": 8, "strategy": Sample(seed=4), "tokenizer": tokenizer}
    ids = tokenizer.encode("cab").ids
    tokens = generate(gpt, [ids], **options)[0]
    (written,) = generate(gpt, ["cab"], **options)
    assert tokenizer.decode(ids) + written == tokenizer.decode([*ids, *tokens])
    assert written.startswith(" ")
    assert "".join(one.piece for one in stream(gpt, ["cab"], **options)) == written


@pytest.mark.parametrize(
    ("prompts", "options", "message"),
    [
        ([], {}, "at least one"),
        ("cab", {}, "list of texts"),
        (["cab"], {}, "give tokenizer="),
        ([[]], {}, "empty"),
        ([1, 2], {}, "Prompt 0, 1, is no list of token ids"),
        (np.array([1, 2]), {}, "is no list of token ids"),
        ([""], {"tokenizer": letters()}, "empty"),
        ([[1, 160]], {}, "0 to 159"),
        ([[1, -1]], {}, "0 to 159"),
        ([[1.5]], {}, "0 to 159"),
        ([[1] * 65], {}, "at most 0"),
        ([[1] * 60], {"new_tokens": 5}, "at most 4"),
        ([[1]], {"new_tokens": 0}, "new_tokens=0"),
        ([[1]], {"strategy": "magic"}, "greedy, sample, beam"),
        ([[1]], {"stop": ["x"]}, "there is no tokenizer"),
        ([[1]], {"stop": ["no"], "tokenizer": letters()}, "no single token"),
        ([[1]], {"stop": [400]}, "0 to 159"),
        ([[1]], {"inputs": {"condition": np.zeros((1, 3))}}, "condition"),
    ],
)
def test_mistakes_are_told(gpt, prompts, options, message):
    with pytest.raises(ValueError, match=message):
        generate(gpt, prompts, **{"new_tokens": 3, **options})


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Sample(temperature=0), "temperature=0"),
        (lambda: Sample(top_k=0), "top_k=0"),
        (lambda: Sample(top_p=1.5), "top_p=1.5"),
        (lambda: Sample(seed=-1), "seed=-1"),
        (lambda: Greedy(repetition_penalty=-1), "repetition_penalty=-1"),
        (lambda: Beam(beams=0), "beams=0"),
    ],
)
def test_options_out_of_range_are_told(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_the_full_length_can_be_written(gpt):
    (text,) = generate(gpt, [[1] * 60], new_tokens=4)
    assert len(text) == 4
