"""Bundles: whole or not there, found by ZOO_WEIGHTS without a socket, and every damaged file is named."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

import zoo
from tests.weights.fake_hub import REVISION, cached, sha256
from tests.weights.files import TIMM_CONFIG, torch_resnet
from zoo.weights import cache, offline
from zoo.weights.bundling import bundle, fetch
from zoo.weights.curated import find_tag
from zoo.weights.errors import CheckpointError
from zoo.weights.locate import locate

TAG = "resnet101.a1_in1k"  # on the Hub, its revision not pinned, its hash not known
TINY = {"bottleneck": False, "depths": (1, 1, 1, 1), "width": 8, "size": 32}
FILES = {"model.safetensors": save(torch_resnet()), "config.json": json.dumps(TIMM_CONFIG).encode()}


@pytest.fixture
def hub(tmp_path, monkeypatch) -> Path:
    """HF_HOME with a tiny checkpoint in the place of a large one."""
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "home" / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "home" / "hub"))
    cached(tmp_path / "home", "timm/resnet101.a1_in1k", FILES)
    return tmp_path / "home"


@pytest.fixture
def made(hub, tmp_path) -> Path:
    bundle([TAG, "mobilenet_v2.bundled"], tmp_path / "kept")
    return tmp_path / "kept"


def test_a_bundle_says_what_it_holds(made):
    first, second = json.loads((made / "manifest.json").read_text())["checkpoints"]
    assert (first["name"], first["uri"], first["revision"]) == (TAG, "hf://timm/resnet101.a1_in1k", REVISION)
    assert (second["uri"], second["licence"]) == (find_tag("mobilenet_v2.bundled").uri, "BSD-3-Clause")
    for entry in (first, second):
        on_disk = {file.name: file.read_bytes() for file in (made / entry["name"]).iterdir()}
        said = {name: (row["size"], row["sha256"]) for name, row in entry["files"].items()}
        assert said == {name: (len(content), sha256(content)) for name, content in on_disk.items()}
        assert {"model.safetensors", "config.json", "LICENCE.txt"} == set(on_disk)
    assert "Redistribution and use" in (made / second["name"] / "LICENCE.txt").read_text()
    assert "Apache-2.0" in (made / TAG / "LICENCE.txt").read_text()
    assert not any(path.is_symlink() for path in made.rglob("*"))


def test_create_finds_it_by_its_tag_and_by_its_path(made, hub, monkeypatch, tmp_path):
    reference = zoo.create("resnet101", weights="a1_in1k", **TINY).get_weights()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "nothing"))
    with pytest.raises(FileNotFoundError, match="is not in the cache"):
        zoo.create("resnet101", weights="a1_in1k", **TINY)
    monkeypatch.setenv("ZOO_WEIGHTS", os.pathsep.join([str(made)]))
    for weights in ("a1_in1k", "hf://timm/resnet101.a1_in1k", made / TAG):
        for ours, theirs in zip(zoo.create("resnet101", weights=weights, **TINY).weights, reference, strict=True):
            np.testing.assert_array_equal(ours, theirs)
    assert zoo.from_checkpoint(made / "mobilenet_v2.bundled", task="features", size=32).output_shape[-1] == 1280


def test_several_bundles_and_revisions(made, tmp_path, monkeypatch):
    bundle(["mobilenet_v2.bundled"], tmp_path / "other")
    monkeypatch.setenv("ZOO_WEIGHTS", os.pathsep.join([str(tmp_path / "other"), "", str(made)]))
    assert locate("hf://timm/resnet101.a1_in1k") == made / TAG
    assert locate(f"hf://timm/resnet101.a1_in1k@{REVISION}") == made / TAG
    assert offline.find(f"hf://timm/resnet101.a1_in1k@{'f' * 40}") is None
    assert offline.find("hf://timm/resnet152.a1_in1k") is None
    with pytest.raises(CheckpointError, match="has the sha256"):
        locate("hf://timm/resnet101.a1_in1k", sha256="0" * 64)


def test_what_is_no_bundle_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setenv("ZOO_WEIGHTS", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"is no bundle of weights.*zoo bundle TAG -o"):
        locate("hf://timm/resnet101.a1_in1k")


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"checkpoints": [{}]}', '{"checkpoints": [{"name": "..", "files": {}}]}']
)
def test_a_damaged_manifest(tmp_path, text):
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"manifest\.json"):
        offline.read_manifest(tmp_path)


def test_a_name_that_leads_out_of_the_bundle(made):
    manifest = json.loads((made / "manifest.json").read_text())
    manifest["checkpoints"][0]["files"]["../../home/secret"] = {"size": 1, "sha256": "0" * 64}
    (made / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(CheckpointError, match="must lie in its directory"):
        list(offline.damaged(made))


def test_every_damaged_file_is_named(made):
    assert list(offline.damaged(made)) == []
    weights, config = made / TAG / "model.safetensors", made / TAG / "config.json"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    config.write_bytes(b"{}")
    (made / "mobilenet_v2.bundled" / "LICENCE.txt").unlink()
    found = list(offline.damaged(made))
    assert [line.split("'")[1] for line in found] == [
        str(config),
        str(weights),
        str(made / "mobilenet_v2.bundled" / "LICENCE.txt"),
    ]
    assert "2 bytes" in found[0] and "its sha256 is" in found[1] and "is missing" in found[2]


def test_a_damaged_file_of_the_cache_is_named(hub):
    uri = "hf://timm/resnet101.a1_in1k"
    assert list(cache.damaged(uri)) == []
    assert cache.fetched(uri) == cache.Fetched(REVISION, fetch(TAG))
    for name, words in (("model.safetensors", "is damaged"), ("config.json", "is damaged")):
        blob = (fetch(TAG) / name).resolve()
        blob.write_bytes(blob.read_bytes()[:-1])
        assert any(name in line and words in line for line in cache.damaged(uri))
    (fetch(TAG) / "config.json").resolve().unlink()
    assert any("config.json" in line and "is missing" in line for line in cache.damaged(uri))


def test_a_bundle_replaces_nothing(made, hub):
    before = sorted(made.rglob("*"))
    with pytest.raises(FileExistsError, match="is there already"):
        bundle([TAG], made)
    assert sorted(made.rglob("*")) == before


def test_a_bundle_that_fails_leaves_nothing(hub, tmp_path):
    weights = (fetch(TAG) / "model.safetensors").resolve()
    weights.unlink()
    with pytest.raises((FileNotFoundError, CheckpointError)):
        bundle(["mobilenet_v2.bundled", TAG], tmp_path / "kept")
    assert [path.name for path in tmp_path.iterdir()] == ["home"]


def test_kerass_own_weights_are_keras_s_to_fetch():
    with pytest.raises(ValueError, match=r"fetched and kept by Keras.*also resnet50\.a1_in1k"):
        fetch("resnet50.keras")


def test_a_bundle_killed_midway_is_not_there_and_the_next_one_is(hub, tmp_path):
    """The process stops for good when half of the second checkpoint is written."""
    code = f"""
import shutil, time
from pathlib import Path
from zoo.weights.bundling import bundle

whole = shutil.copyfile
def halfway(source, target):
    whole(source, target)
    if target.parent.name == {TAG!r} and target.suffix == ".safetensors":
        target.write_bytes(target.read_bytes()[: target.stat().st_size // 2])
        Path({str(tmp_path / "halfway")!r}).touch()
        time.sleep(60)
shutil.copyfile = halfway
bundle(["mobilenet_v2.bundled", {TAG!r}], Path({str(tmp_path / "kept")!r}))"""
    child = subprocess.Popen([sys.executable, "-c", code])
    deadline = time.monotonic() + 60
    while not (tmp_path / "halfway").exists() and time.monotonic() < deadline:
        assert child.poll() is None
        time.sleep(0.01)
    child.kill()
    child.wait()
    assert list(tmp_path.glob(f".kept.partial-*/bundle/{TAG}/model.safetensors")) and not (tmp_path / "kept").exists()
    bundle(["mobilenet_v2.bundled", TAG], tmp_path / "kept")
    assert list(offline.damaged(tmp_path / "kept")) == []


def test_it_works_without_a_network(made):
    """A socket is an error that names itself."""
    code = """
import socket, sys
class NoSocket:
    def __init__(self, *args, **kwargs): sys.exit("a socket was opened")
socket.socket = NoSocket
socket.getaddrinfo = socket.create_connection = NoSocket
from zoo.weights.locate import locate
print(locate("hf://timm/resnet101.a1_in1k"))"""
    environment = {**os.environ, "ZOO_WEIGHTS": str(made), "HF_HUB_OFFLINE": "0", "HF_HOME": str(made / "none")}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.returncode) == (str(made / TAG), 0), done.stderr
