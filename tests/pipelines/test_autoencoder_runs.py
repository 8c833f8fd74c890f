"""Autoencoders from data to files: trained, scored, asked for images, refused what they cannot do, exported."""

from __future__ import annotations

import numpy as np
import pytest

from pipelines import bundle
from pipelines.autoencoding import Autoencoding
from pipelines.data import Images
from pipelines.deliver import export_bundle
from pipelines.evaluate import evaluate_bundle
from pipelines.predict import Predictor
from pipelines.reconstruction import encode, reconstruct
from pipelines.run import Phase, Run
from pipelines.sample import sample
from pipelines.train import train

PHASES = (Phase(1, 3e-3, unfreeze="all"),)


@pytest.mark.slow
def test_a_conditional_vae_from_data_to_files(tmp_path):
    asked = Autoencoding(samples=3)
    run = Run(
        "vae_conditional",
        Images("digits", size=8),
        PHASES,
        tmp_path / "run",
        overrides={"widths": (4, 6), "latent": 2, "channels": 1},
        autoencoding=asked,
    )
    made = train(run, progress=False)
    assert made.task == "reconstruct" and made.run.data.augment == "none"
    assert evaluate_bundle(bundle.load(run.out)) == made.scores
    assert made.scores.bound > made.scores.elbo - 0.01  # of three draws, by chance a little less
    found = sample(made, count=4, label="3")
    assert found.images.shape == (4, 8, 8, 1) and found.names == ("3",) * 4
    files = sample(made, count=2).write(tmp_path / "images")
    assert encode(made, files, label="0").shape == (2, 2)
    both = reconstruct(made, files, label="0").images
    assert both.shape == (4, 8, 8, 1) and np.abs(both[0].astype(int) - both[2]).max() > 0
    with pytest.raises(ValueError, match="It takes the class of its images"):
        reconstruct(made, files)
    with pytest.raises(ValueError, match="zoo reconstruct"):
        Predictor.open(run.out)
    report = export_bundle(run.out, ["float32"])
    assert [row.file for row in report.rows] == ["float32.tflite", "encoder/float32.tflite", "decoder/float32.tflite"]
    assert all((run.out / row.file).is_file() for row in report.rows)
    card = (run.out / "README.md").read_text("utf-8")
    assert "pictures/final_map.png" in card and "encoder/float32.tflite" in card and "samples 3" in card


def test_what_is_not_for_autoencoders_is_refused(tmp_path):
    options = {"phases": PHASES, "out": tmp_path / "run"}
    with pytest.raises(ValueError, match="of task='reconstruct', not of task='classify'"):
        train(Run("lenet5", Images("digits"), autoencoding=Autoencoding(), **options), progress=False)
    with pytest.raises(ValueError, match=r"Autoencoding\(likelihood=\.\.\.\) decides"):
        train(Run("vae_conv", Images("digits"), loss="cross_entropy", **options), progress=False)
    with pytest.raises(ValueError, match="would learn to make mixed ones"):
        train(Run("vae_conv", Images("digits", mixup=0.2), **options), progress=False)
    with pytest.raises(ValueError, match=r"commitment=0\.5.*says nothing to a VAE"):
        train(Run("vae_conv", Images("digits"), autoencoding=Autoencoding(commitment=0.5), **options), progress=False)
