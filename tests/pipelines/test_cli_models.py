"""`zoo list` and `zoo show` as a user meets them: every width, every order, no Keras, soon."""

import re
import subprocess
import sys

import pytest

from tests.command import ROOT, zoo
from tests.weights.fake_hub import REVISION, cached
from zoo.core.catalog import entries


def names(text: str) -> list[str]:
    """The first column of a table, without its head."""
    return [line.split()[0] for line in text.splitlines()[2:] if line.strip()]


@pytest.mark.parametrize(
    ("order", "key"),
    [
        ("top1", lambda entry: -entry.best.top1 if entry.best else 0),
        ("params", lambda entry: entry.parameters),
        ("macs", lambda entry: entry.macs),
        ("name", lambda entry: entry.name),
    ],
)
def test_a_family_up_to_a_size_in_every_order(order, key):
    found = names(zoo("list", "--family", "vit", "--max-params", "30M", "--sort", order))
    wanted = [entry for entry in entries() if entry.family == "vit" and entry.parameters <= 30_000_000]
    assert found == [entry.name for entry in sorted(wanted, key=key)] and len(found) > 3


@pytest.mark.parametrize("columns", [80, 120])
def test_the_list_fits_the_terminal_and_cuts_no_name_and_no_number(columns):
    lines = zoo("list", columns=columns).splitlines()
    assert max(map(len, lines)) <= columns
    rows = dict(zip(names("\n".join(lines)), lines[2:], strict=True))
    assert list(rows) == [entry.name for entry in entries()]
    for entry in entries():
        assert f" {entry.parameters:,} " in rows[entry.name]
        assert not entry.best or f" {entry.best.top1:.1f} " in rows[entry.name]
        assert not entry.tags or entry.tags[0].tag[:7] in rows[entry.name]


def test_tags_that_do_not_fit_are_counted():
    assert zoo("list", "resnet50", columns=120).splitlines()[2].endswith("a1_in1k, tv_in1k, keras")
    assert re.search(r"a1_in1k \+2\s*$", zoo("list", "resnet50", columns=56).splitlines()[2])


def test_show_tells_all_of_one_model():
    text = " ".join(zoo("show", "resnet50").split())
    for words in (
        "25,557,032", "4.09 G multiply-accumulates", "224 x 224 pixels", "bilinear, 0.875 of the resized image",
        "about 102.2 MB float32, 51.1 MB float16, 26.3 MB int8", "https://arxiv.org/abs/1512.03385",
        "resnet50.a1_in1k: top-1 80.382 % at 224 px, 1,000 classes, Apache-2.0",
        "hf://timm/resnet50.a1_in1k@767268603ca0cb0bfe326fa87277f19c419566ef",
        "resnet50.tv_in1k: top-1 76.156 % at 224 px, 1,000 classes, BSD-3-Clause",
    ):  # fmt: skip
        assert words in text, words
    assert "No weights are known by a tag" in zoo("show", "lenet5")


def test_texts_are_counted_in_tokens():
    assert re.search(r"gpt2 +124,439,808 +68\.08 G +1k tok +openai", zoo("list", "gpt2"))
    assert re.search(r"roberta_base .* 512 tok +facebook", zoo("list", "roberta_base"))
    assert re.search(r"t5_small .* tokens +google", zoo("list", "t5_small"))
    text = " ".join(zoo("show", "bert_base").split())
    for words in (
        "48.32 G multiply-accumulates for 512 tokens",
        "up to 512 tokens",
        "masked_lm",
        "2 classes unless told",
    ):
        assert words in text, words
    assert "any number of tokens" in zoo("show", "t5_small") and "classes unless" not in zoo("show", "t5_small")


def test_show_tells_of_a_tag_that_is_not_pinned_what_a_fetch_found(tmp_path):
    environment = {"HF_HOME": str(tmp_path), "HF_HUB_CACHE": ""}
    assert "revision not pinned; not fetched yet" in zoo("show", "resnet101", **environment)
    cached(tmp_path, "timm/resnet101.a1_in1k", {"config.json": b"{}"})
    assert f"revision not pinned; fetched at {REVISION}" in zoo("show", "resnet101", **environment)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("list", "qwerty"), "No model matches 'qwerty'"),
        (
            ("list", "--family", "vitt"),
            "No family named 'vitt'. Did you mean 'vit'? Families: alexnet, bert, blip, clip",
        ),
        (("list", "--max-params", "many"), "no number such as 30M"),
        (("list", "--max-params", "inf"), "no number such as 30M"),
        (("show", "resnet5O"), "Did you mean 'resnet50'"),
    ],
)
def test_mistakes_are_one_clear_line(arguments, message):
    assert message in " ".join(zoo(*arguments, code=1).split())


@pytest.mark.parametrize("command", [("list",), ("show", "resnet101")])
def test_it_takes_little_time(command):
    """Little more than the libraries that it prints and counts with, whatever the machine."""
    libraries, whole = [], []
    for _ in range(3):
        libraries.append(_processor_seconds("import numpy, typer, rich.table"))
        whole.append(_processor_seconds("from pipelines.cli import main; main()", *command))
    assert min(whole) < 3 * min(libraries)  # 1.8 to 2.3 where it was written


def _processor_seconds(code: str, *arguments: str) -> float:
    at_exit = "import atexit, time; atexit.register(lambda: print(time.process_time()))"
    done = subprocess.run(
        [sys.executable, "-c", f"{at_exit}; {code}", *arguments],
        cwd=ROOT, capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    return float(done.stdout.split()[-1])
