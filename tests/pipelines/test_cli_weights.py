"""`zoo fetch`, `zoo bundle` and `zoo verify` as a user meets them, against a Hub on this machine."""

import json
from pathlib import Path

import pytest
from safetensors.numpy import save

from tests import command
from tests.weights.fake_hub import REVISION, served, sha256
from tests.weights.files import TIMM_CONFIG, torch_resnet

FILES = {"model.safetensors": save(torch_resnet()), "config.json": json.dumps(TIMM_CONFIG).encode()}


def zoo(*arguments, cwd: Path, code: int = 0, **environment: str) -> str:
    """As tests.command.zoo, with a cache of the Hub of its own."""
    return command.zoo(*arguments, cwd=cwd, code=code, **{"HF_HOME": str(cwd / "home"), **environment})


def test_from_the_hub_to_a_machine_without_network(tmp_path):
    with served({"timm/resnet101.a1_in1k": FILES}) as endpoint:
        online = {"HF_ENDPOINT": endpoint, "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1"}
        text = zoo("fetch", "resnet101.a1_in1k", "mobilenet_v2.bundled", cwd=tmp_path, **online)
    assert sha256(FILES["model.safetensors"]) in text and f"snapshots/{REVISION}/model.safetensors" in text
    assert "7.1 MB  sha256 b581538700dfc0a2f2bc577fb9441c526eabc608c5adbaaae6c314a31f9e13f8" in text
    assert "Every file is what it should be" in zoo("verify", cwd=tmp_path)
    text = zoo("bundle", "resnet101.a1_in1k", "-o", "kept", cwd=tmp_path)
    assert "Apache-2.0  kept/resnet101.a1_in1k" in text and "ZOO_WEIGHTS=kept" in text
    assert json.loads((tmp_path / "kept" / "manifest.json").read_text())["checkpoints"][0]["revision"] == REVISION
    assert "Every file" in zoo("verify", "kept", cwd=tmp_path)
    elsewhere = {"HF_HOME": str(tmp_path / "none"), "ZOO_WEIGHTS": "kept"}
    assert "kept/resnet101.a1_in1k/model.safetensors" in zoo("fetch", "resnet101.a1_in1k", cwd=tmp_path, **elsewhere)

    (tmp_path / "kept" / "resnet101.a1_in1k" / "model.safetensors").write_bytes(b"other weights")
    (tmp_path / "kept" / "resnet101.a1_in1k" / "config.json").unlink()
    for arguments in (("verify", "kept"), ("verify",)):
        error = zoo(*arguments, cwd=tmp_path, code=1, **elsewhere)
        assert "model.safetensors' is damaged" in error and "config.json' is missing" in error
    blob = (tmp_path / "home" / "hub" / "models--timm--resnet101.a1_in1k" / "blobs").glob(f"{'?' * 64}")
    next(blob).write_bytes(b"other weights")
    assert f"{REVISION}/model.safetensors' is damaged" in zoo("verify", cwd=tmp_path, code=1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("fetch", "resnet101.a1"), "Did you mean 'resnet101.a1_in1k'"),
        (("fetch", "resnet101.a1_in1k"), "is not in the cache, and HF_HUB_OFFLINE=1 forbids to fetch it"),
        (("fetch", "resnet50.keras"), "is fetched and kept by Keras"),
        (("bundle", "mobilenet_v2.bundled", "-o", "."), "is there already"),
        (("bundle", "resnet101.a1_in1k", "mobilenet_v2.bundled", "-o", "kept"), "is not in the cache"),
        (("verify", "here"), "'here' is no bundle of weights"),
    ],
)
def test_mistakes_are_one_clear_line(arguments, message, tmp_path):
    (tmp_path / "here").mkdir()
    assert message in " ".join(zoo(*arguments, cwd=tmp_path, code=1).split())
    assert [path.name for path in tmp_path.iterdir()] == ["here"]
