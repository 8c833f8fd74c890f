"""Runs that are killed at random moments end with the weights of undisturbed ones, bit for bit."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def crash(*arguments: str) -> str:
    """What `python -m tests.crash` prints; a process of its own, since it forks before TensorFlow computes anything."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.crash", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr[-2000:]}"
    return done.stdout


def test_a_run_survives_kills():
    text = crash("--kills", "2", "--seed", "40", "--case", "images feature_extraction")
    found = re.search(r"(\d+) of (\d+) runs with (\d+) kills ended with the weights", text)
    assert found and found[1] == found[2] and int(found[3]) >= 2


@pytest.mark.slow
def test_every_recipe_survives_kills_on_images_and_texts():
    text = crash("--kills", "24", "--seed", "1")
    for recipe in ("feature_extraction", "fine_tuning", "progressive_unfreezing"):
        for kind in ("images", "texts"):
            assert f"{kind} {recipe}: equal" in text
    assert "DIFFERENT" not in text
    assert int(re.search(r"runs with (\d+) kills", text)[1]) >= 20


@pytest.mark.slow
@pytest.mark.parametrize("model", ["gan_wgan_gp", "vae_vq", "dalle_tiny", "clip_vit_base32"])
def test_runs_that_learn_otherwise_survive_kills(model):
    text = crash("--kills", "5", "--seed", "2", "--case", model)
    assert f"{model}: equal" in text
    assert "DIFFERENT" not in text
