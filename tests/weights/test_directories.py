"""Checkpoints in a directory: shards, the links of the Hub's cache, and names that lead elsewhere."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from zoo.weights.errors import CheckpointError
from zoo.weights.read import open_tensors

SIX = np.arange(6, dtype="float32")


def sharded(folder: Path, weight_map: object) -> Path:
    folder.mkdir(exist_ok=True)
    save_file({"a": SIX}, folder / "model-1.safetensors")
    save_file({"b": SIX + 1, "c": SIX + 2}, folder / "model-2.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    return folder


WHOLE = {"a": "model-1.safetensors", "b": "model-2.safetensors", "c": "model-2.safetensors"}


def test_a_checkpoint_in_several_files(tmp_path):
    tensors = open_tensors(sharded(tmp_path / "model", WHOLE))
    assert list(tensors) == ["a", "b", "c"]
    assert [tensors[name][0] for name in tensors] == [0, 1, 2]


@pytest.mark.parametrize(
    ("weight_map", "words"),
    [
        (WHOLE | {"a": "../model-1.safetensors"}, "must lie in its directory"),
        (WHOLE | {"a": "/etc/x.safetensors"}, "must lie in its directory"),
        (WHOLE | {"a": "sub/x.safetensors"}, "must lie in its directory"),
        (WHOLE | {"a": "x\0.safetensors"}, "must lie in its directory"),
        (WHOLE | {"a": ".."}, "no .safetensors file"),
        (WHOLE | {"a": "pytorch_model.bin"}, "no .safetensors file"),
        (WHOLE | {"d": "model-2.safetensors"}, "disagree about 1 tensors, such as 'd'"),
        ({"a": "model-1.safetensors", "b": "model-2.safetensors"}, "disagree about 1 tensors, such as 'c'"),
        (WHOLE | {"a": "model-2.safetensors"}, "disagree about 1 tensors, such as 'a'"),
        (["a"], "no 'weight_map'"),
        ({"a": 1}, "no 'weight_map'"),
        (None, "no 'weight_map'"),
    ],
)
def test_an_index_that_lies_or_leads_out_of_its_directory(tmp_path, weight_map, words):
    save_file({"a": SIX}, tmp_path / "model-1.safetensors")  # what ../ would reach
    with pytest.raises(CheckpointError, match=words):
        open_tensors(sharded(tmp_path / "model", weight_map))


def test_a_shard_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"x\.safetensors.*not whole"):
        open_tensors(sharded(tmp_path / "model", WHOLE | {"a": "x.safetensors"}))


@pytest.mark.parametrize("name", ["model-1.safetensors", "model.safetensors.index.json"])
def test_a_link_out_of_the_directory_is_refused(tmp_path, name):
    folder = sharded(tmp_path / "model", WHOLE)
    os.rename(folder / name, tmp_path / name)
    os.symlink(tmp_path / name, folder / name)
    with pytest.raises(CheckpointError, match="a link out of its directory"):
        open_tensors(folder)


def test_a_link_in_circles_is_no_file(tmp_path):
    os.symlink("model.safetensors", tmp_path / "model.safetensors")
    with pytest.raises(FileNotFoundError):
        open_tensors(tmp_path)


def test_the_links_of_the_hubs_cache_are_followed(tmp_path):
    repository = tmp_path / "models--org--name"
    folder = repository / "snapshots" / "0123"
    (repository / "blobs").mkdir(parents=True)
    sharded(folder.parent, WHOLE)
    folder.mkdir()
    for place, file in enumerate(sorted(folder.parent.glob("model*"))):
        os.rename(file, repository / "blobs" / str(place))
        os.symlink(Path("../../blobs", str(place)), folder / file.name)
    assert open_tensors(folder)["c"][0] == 2


def test_two_checkpoints_in_one_directory_are_a_question(tmp_path):
    for name in ("one", "two"):
        save_file({"a": SIX}, tmp_path / f"{name}.safetensors")
    with pytest.raises(CheckpointError, match=r"2 checkpoints \(one\.safetensors, two\.safetensors\)"):
        open_tensors(tmp_path)


def test_a_directory_with_nothing_but_a_pickle_says_so(tmp_path):
    (tmp_path / "pytorch_model.bin").write_bytes(pickle.dumps({}))
    with pytest.raises(CheckpointError, match="never opened"):
        open_tensors(tmp_path)
