"""`zoo generate`: what it prints, and what it says of mistakes."""

from __future__ import annotations

import pytest
import typer
from typer.testing import CliRunner

import zoo
from pipelines.commands.generating import generate as command
from pipelines.generate import generate
from pipelines.strategies import Beam, Greedy, Sample
from tests.parity import packs
from tests.pipelines.test_generate import letters


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A checkpoint in Hub layout with a tokenizer of one letter a token."""
    path = packs.load("hf_gpt2_lm").write(tmp_path_factory.mktemp("gpt"))
    letters().save(str(path / "tokenizer.json"))
    return path


@pytest.fixture(scope="module")
def model(folder):
    return zoo.from_checkpoint(folder)


def run(*arguments) -> str:
    app = typer.Typer()
    app.command()(command)
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.mark.parametrize(
    ("options", "strategy"),
    [
        ((), Greedy()),
        pytest.param(("--repetition-penalty", 1.4), Greedy(1.4), marks=pytest.mark.slow),
        (("--temperature", 0.8, "--top-k", 20, "--top-p", 0.9, "--seed", 3), Sample(0.8, 20, 0.9, seed=3)),
        pytest.param(("--top-p", 0.5), Sample(top_p=0.5), marks=pytest.mark.slow),
        (("--beams", 3, "--length-penalty", 2), Beam(3, 2.0)),
    ],
)
def test_it_prints_the_prompt_and_what_follows(folder, model, options, strategy):
    tokenizer = letters()
    (wanted,) = generate(model, ["a cab"], new_tokens=6, strategy=strategy, stop=["</s>"], tokenizer=tokenizer)
    assert run(folder, "a cab", "--new-tokens", 6, *options) == f"a cab{wanted}\n"


def test_a_stop_token_ends_the_text(folder, model):
    tokenizer = letters()
    (text,) = generate(
        model,
        [tokenizer.encode("a cab").ids],
        new_tokens=8,
        strategy=Sample(seed=1),
        stop=["</s>"],
        tokenizer=tokenizer,
    )
    third = tokenizer.id_to_token(text[2])
    printed = run(folder, "a cab", "--new-tokens", 8, "--temperature", 1, "--seed", 1, "--stop", third)
    assert printed == f"a cab{tokenizer.decode(text[: text.index(text[2])])}\n"


def test_an_encoder_decoder_model_prints_only_what_it_writes(tmp_path):
    path = packs.load("hf_t5_v10").write(tmp_path)
    letters().save(str(path / "tokenizer.json"))
    with pytest.raises(ValueError, match=r"160 tokens.*140: it does not belong to this model"):
        run(path, "cab")
    letters(140).save(str(path / "tokenizer.json"))
    printed = run(path, "cab", "--new-tokens", 3)
    assert not printed.startswith("cab")


def test_a_model_that_writes_nothing_is_refused(tmp_path):
    path = packs.load("hf_bert_model").write(tmp_path)
    with pytest.raises(ValueError, match=r"cannot write text.*causal_lm"):
        run(path, "cab")


def test_mistakes_are_told(folder, tmp_path):
    bare = packs.load("hf_gpt2_lm").write(tmp_path)
    with pytest.raises(FileNotFoundError, match="no tokenizer"):
        run(bare, "cab")
    with pytest.raises(ValueError, match="beam search draws nothing"):
        run(folder, "cab", "--beams", 2, "--temperature", 1)
    with pytest.raises(ValueError, match=r"temperature=0\.0"):
        run(folder, "cab", "--temperature", 0)
    with pytest.raises(ValueError, match="is no single token"):
        run(folder, "cab", "--stop", "cab")
    with pytest.raises(ValueError, match="takes 64 tokens"):
        run(folder, "cab", "--new-tokens", 90)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        run(tmp_path / "nowhere", "cab")
