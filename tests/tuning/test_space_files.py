"""Spaces as they are written: JSON and YAML, whole and wrong."""

from __future__ import annotations

import pytest

from tuning.space import Cases, Choice, Float, Int, Space

SPACE = Space(
    {
        "model": Choice("cnn", "mlp", default="mlp"),
        "overrides.widths": Cases(
            Choice((32, 64), (8,), when={"model": "cnn"}), Choice((32, (1, 2)), when={"model": ("mlp",)})
        ),
        "weights": None,
        "class_weights": Choice(None, "balanced", {"a": 2.5}),
        "recipe": ["from_scratch", "lora"],
        "recipe.learning_rate": Float(1e-5, 0.1, sampling="log", default=1e-3),
        "recipe.rank": Int(2, 16, step=2, sampling="log"),
        "data.flip": [True, False],
        "data.mixup": Float(0, 0.3, step=0.1, when={"data.flip": True}),
    }
)


def test_a_space_goes_through_json_unchanged():
    again = Space.from_json(SPACE.to_json())
    assert again == SPACE and list(again.ranges) == list(SPACE.ranges)
    assert again.to_json() == SPACE.to_json()
    assert again.ranges["overrides.widths"].ranges[1].values == ((32, (1, 2)),)


def test_a_space_is_short_to_write_by_hand(tmp_path):
    expected = Space(
        {
            "recipe": Choice("fine_tuning"),
            "recipe.learning_rate": Float(1e-5, 1e-2, sampling="log"),
            "batch": Choice(16, 32),
            "weights": Choice("bundled", None),
            "overrides.widths": Choice((32, 64), (8,)),
            "recipe.head_epochs": Int(2, 6, step=2, when={"batch": (16,)}),
            "data.flip": Choice(True, False),
            "data.augment": Choice("none", "light"),
        }
    )
    json_file = tmp_path / "space.json"
    json_file.write_text(
        '{"recipe": "fine_tuning", "recipe.learning_rate": {"float": [1e-5, 1e-2], "sampling": "log"},'
        '"batch": [16, 32], "weights": ["bundled", null], "overrides.widths": {"choice": [[32, 64], [8]]},'
        '"recipe.head_epochs": {"int": [2, 6], "step": 2, "when": {"batch": 16}},'
        '"data.flip": [true, false], "data.augment": ["none", "light"]}'
    )
    yaml_file = tmp_path / "space.yaml"
    yaml_file.write_text(
        "# YAML 1.1 takes 1e-5 for a text\n"
        "recipe: fine_tuning\n"
        "recipe.learning_rate: {float: [1e-5, 1e-2], sampling: log}\n"
        "batch: [16, 32]\n"
        "weights: [bundled, null]\n"
        "overrides.widths:\n  choice:\n  - [32, 64]\n  - [8]\n"
        "recipe.head_epochs:\n  int: [2, 6]\n  step: 2\n  when: {batch: 16}\n"
        "data.flip: [true, false]\n"
        "data.augment: [none, light]\n"
    )
    assert Space.from_file(json_file) == expected
    assert Space.from_file(yaml_file) == expected
    assert Space.from_file(str(yaml_file.rename(tmp_path / "space.yml"))) == expected


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("s.json", "", "not JSON"),
        ("s.json", "{'batch': [1]}", "not JSON"),
        ("s.json", "[1, 2]", "is an object"),
        ("s.json", '{"batch": [16], "batch": [32]}', "'batch' is there twice"),
        ("s.json", '{"batch": {"int": [1, Infinity]}}', "high=inf"),
        ("s.yaml", "", "is an object"),
        ("s.yaml", "batch: [16", "not YAML: .*line 1"),
        ("s.yaml", "batch:\n\t- 16", "not YAML"),
        ("s.yaml", "- batch", "is an object"),
        ("s.yaml", "batch: [16]\nbatch: [32]", "'batch' is there twice"),
        ("s.yaml", "batch: {int: [a, b]}", "low='a'"),
        ("s.yaml", "1: [2]", "is a text"),
        ("s.yaml", "[1]: [2]", "no space|not YAML"),
        ("s.yaml", "batch: !!python/object/apply:os.getcwd []", "not YAML"),
        ("s.yml", "bacth: [16, 32]", "Did you mean 'batch'"),
        ("s.yaml", "batch: .nan", "A choice is of"),
        ("s.toml", "batch = 16", "ends in .json, .yaml or .yml"),
    ],
)
def test_a_wrong_file_is_refused_with_its_name(tmp_path, name, text, said):
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=rf"(?s){name}.*({said})"):
        Space.from_file(tmp_path / name)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="no-such"):
        Space.from_file(tmp_path / "no-such.yaml")
    (tmp_path / "bytes.yaml").write_bytes(b"\xff\xfe\x00b")
    with pytest.raises(ValueError, match="UTF-8"):
        Space.from_file(tmp_path / "bytes.yaml")
