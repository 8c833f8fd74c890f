"""Pinning: the revisions and hashes come from the Hub, in one step for the whole table or not at all."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.weights.fake_hub import REVISION, served, sha256
from zoo.weights.curated import find_tag, published, to_csv

WEIGHTS = b"weights " * 1000
LINES = (
    find_tag("resnet101.a1_in1k"),
    find_tag("resnet50.a1_in1k"),
    find_tag("resnet50.keras"),
)  # only one is not pinned
HUB = {"timm/resnet101.a1_in1k": {"model.safetensors": WEIGHTS, "config.json": b"{}"}}


def pin(table: Path, endpoint: str) -> subprocess.CompletedProcess[str]:
    """`zoo.weights.pin` in a process of its own, since the Hub's client reads its variables when it is imported."""
    code = f"""
from pathlib import Path
from zoo.weights.pin import pin
print([(line.name, line.revision, line.sha256) for line in pin(Path({str(table)!r}))])"""
    environment = {**os.environ, "HF_ENDPOINT": endpoint, "HF_HUB_OFFLINE": "0", "HF_HOME": str(table.parent)}
    command = [sys.executable, "-c", code]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)


@pytest.fixture
def table(tmp_path) -> Path:
    path = tmp_path / "curated.csv"
    path.write_text(to_csv(LINES), encoding="utf-8")
    return path


def test_an_unpinned_line_gets_the_hubs_revision_and_hash_and_others_stay(table):
    with served(HUB) as endpoint:
        done = pin(table, endpoint)
    assert done.stdout.strip() == str([(LINES[0].name, REVISION, sha256(WEIGHTS))]), done.stderr
    pinned = dataclasses.replace(LINES[0], revision=REVISION, sha256=sha256(WEIGHTS))
    assert published(table) == (pinned, *LINES[1:])
    assert [path.name for path in table.parent.glob("*") if path.is_file()] == ["curated.csv"]


@pytest.mark.parametrize(
    ("line", "hub", "words"),
    [
        (dataclasses.replace(LINES[0], sha256="0" * 64), HUB, "has the sha256"),
        (LINES[0], {"timm/resnet101.a1_in1k": {"config.json": b"{}"}}, "has no model.safetensors now"),
        (LINES[0], {}, "404"),
    ],
    ids=["another file", "no weights", "no repository"],
)
def test_a_hub_that_disagrees_changes_nothing(table, line, hub, words):
    table.write_text(before := to_csv((line, *LINES[1:])), encoding="utf-8")
    with served(hub) as endpoint:
        done = pin(table, endpoint)
    assert done.returncode == 1 and words in done.stderr
    assert table.read_text(encoding="utf-8") == before
