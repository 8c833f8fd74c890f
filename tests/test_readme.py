"""The README's Python runs as it stands there; its commands and files exist."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL)


SLOW = (0, 2)  # which train
NUMBERS = [pytest.param(n, marks=pytest.mark.slow) if n in SLOW else n for n in range(len(BLOCKS))]


@pytest.mark.parametrize("number", NUMBERS)
def test_python_blocks_run(number, tmp_path, monkeypatch):
    """Each by itself, but in this process, which has imported TensorFlow already."""
    monkeypatch.chdir(tmp_path)
    exec(compile(BLOCKS[number], f"README.md, block {number}", "exec"), {"__name__": "__main__"})


def test_both_levels_take_few_lines():
    levels = [block for block in BLOCKS if "train(" in block or "fit(" in block]
    assert len(levels) == 2
    assert all(len([line for line in block.splitlines() if line.strip()]) <= 10 for block in levels)


def test_linked_files_exist():
    links = re.findall(r"\]\(([^)#:]+)\)", TEXT)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_commands_are_those_that_exist():
    from pipelines.cli import app

    known = {command.name or command.callback.__name__ for command in app.registered_commands}
    used = set(re.findall(r"^zoo (\w+)", TEXT, flags=re.MULTILINE))
    assert used == known


def test_the_two_commands_come_first():
    first = re.search(r"```\n(.*?)```", TEXT, flags=re.DOTALL)[1]
    assert first.splitlines()[0].startswith("make demo")
    assert first.splitlines()[1].startswith("make test")
