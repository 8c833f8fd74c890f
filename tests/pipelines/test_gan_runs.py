"""Runs of GANs: what is settled for them, what is refused, from data to samples and files, and on after a break."""

import dataclasses
import shutil

import keras
import numpy as np
import pytest

from pipelines import adversary, bundle, settling
from pipelines.adversary import Adversary
from pipelines.checkpoints import Checkpoints
from pipelines.commands import adversary_options
from pipelines.commands.training_options import run_options
from pipelines.commands.usual import usual_recipe
from pipelines.feed import feed
from pipelines.freezing import find_groups
from pipelines.judging import judged
from pipelines.loop import Settings
from pipelines.opponents import AdversarialEngine
from pipelines.optimization import Optimization
from pipelines.optimizer import group_rates
from pipelines.recipes import adversarial, feature_extraction, from_scratch
from pipelines.run import Hardware, Images, Run
from pipelines.sample import sample
from pipelines.train import fit, train
from tests.pipelines import games

DIGITS = Images("digits", size=16)
SMALL = {"depth": 2, "width": 4, "latent": 6, "channels": 1}
PHASES = adversarial(epochs=1)


def run(model: str = "gan_wgan_gp", **options) -> Run:
    """A short run on the built-in digits."""
    return Run(
        model, options.pop("data", DIGITS), options.pop("phases", PHASES), options.pop("out", "nowhere"), **options
    )


def test_a_run_of_a_gan_is_settled():
    found = settling.settled(run())
    assert found.task == "generate" and found.data.augment == "none"
    assert found.adversary == Adversary("wasserstein", gradient_penalty=10.0, critic_steps=5)
    assert (found.optimization.beta_1, found.optimization.beta_2, found.optimization.ema) == (0.0, 0.9, 0.999)
    assert settling.settled(found) == found
    assert Run.from_json(found.to_json()) == found
    assert settling.settled(run("gan_projection")).phases[0].discriminator_rate == 2.0


def test_what_is_given_stays():
    chosen, moved = Adversary(discriminator_rate=4.0), Optimization(optimizer="rmsprop", schedule="constant")
    found = settling.settled(run("gan_dcgan", adversary=chosen, optimization=moved))
    assert (found.adversary, found.optimization) == (chosen, moved)
    rates = group_rates(find_groups(games.pair("dcgan")), found.phases[0])
    assert {rate for name, rate in rates.items() if name.startswith("discriminator.")} == {8e-4}
    assert {rate for name, rate in rates.items() if name.startswith("generator.")} == {2e-4}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"phases": feature_extraction()}, "A GAN is trained as a whole"),
        ({"hardware": Hardware(accumulate=2)}, "batches are not divided"),
        ({"optimization": Optimization(schedule="plateau")}, "those of a GAN do not"),
        ({"data": dataclasses.replace(DIGITS, mixup=0.2)}, "would learn to make mixed ones"),
        ({"model": "lenet5", "adversary": Adversary()}, "is for GANs"),
    ],
)
def test_what_no_gan_does_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        settling.settled(run(**options))


def test_betas_are_those_of_adams_kin():
    with pytest.raises(ValueError, match="is of 'adam' or"):
        Optimization(optimizer="sgd", beta_1=0.5)
    with pytest.raises(ValueError, match="under 1"):
        Optimization(beta_2=1.0)


def test_options_of_the_command_line_change_what_is_usual():
    found = run_options({"critic_steps": 3, "clip": 1.0, "config": ["width=8", "norm=layer"]}, "gan_wgan_gp")
    assert found["adversary"] == Adversary("wasserstein", gradient_penalty=10.0, critic_steps=3)
    assert found["optimization"] == dataclasses.replace(adversary.optimization("gan_wgan_gp"), clip=1.0)
    assert found["overrides"] == {"width": 8, "norm": "layer"}
    assert usual_recipe("gan_dcgan", None) == "adversarial" and usual_recipe("lenet5", None) is None
    with pytest.raises(ValueError, match="--critic-steps is for GANs, and 'lenet5' is none"):
        adversary_options.chosen("lenet5", {"critic_steps": 3}, None)
    with pytest.raises(ValueError, match="--config width is not NAME=VALUE"):
        run_options({"config": ["width"]}, "gan_dcgan")


def test_a_conditional_gan_needs_classes(tmp_path):
    np.savez(tmp_path / "plain.npz", images=np.random.default_rng(0).integers(0, 255, (40, 16, 16), np.uint8))
    asked = dataclasses.replace(run("gan_conditional", overrides=SMALL), data=Images(str(tmp_path / "plain.npz")))
    with pytest.raises(ValueError, match=r"makes images of classes, and .* has none"):
        train(dataclasses.replace(asked, out=tmp_path / "run"), progress=False)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "precision"), [("gan_conditional", "float32"), ("gan_wgan_gp", "float16"), ("gan_dcgan", "bfloat16")]
)
def test_from_data_to_samples(model, precision, tmp_path):
    asked = run(model, overrides=SMALL, batch=256, out=tmp_path / "gan", hardware=Hardware(precision=precision))
    made = train(asked, progress=False)
    assert made.task == "generate" and made.scores.examples == 267 and np.isfinite(made.scores.frechet_distance)
    assert "final_samples" in (tmp_path / "gan" / "README.md").read_text(encoding="utf-8")
    shown = sample(made, count=20, seed=3)
    assert shown.images.shape == (20, 16, 16, 1) and shown.images.std() > 0
    np.testing.assert_array_equal(shown.images, sample(tmp_path / "gan", count=20, seed=3).images)
    if model == "gan_conditional":
        assert shown.names == tuple(str(digit) for digit in range(10) for _ in range(2)) and shown.columns == 2
        assert set(sample(made, count=3, label="7").names) == {"7"}
        with pytest.raises(ValueError, match="none of the classes"):
            sample(made, label="x")
    else:
        with pytest.raises(ValueError, match="trained without classes"):
            sample(made, label="7")
    assert bundle.load_model(tmp_path / "gan" / "model.keras").name == model


@pytest.mark.slow
def test_a_classifier_judges_and_files_agree(tmp_path):
    from pipelines.deliver import export_bundle

    made = train(run("gan_conditional", overrides=SMALL, batch=256, out=tmp_path / "gan"), progress=False)
    told = Run("lenet5", Images("digits"), from_scratch(epochs=3), tmp_path / "judge", overrides={"channels": 1})
    scores = judged(made, train(told, progress=False))
    assert scores.real_distance < scores.frechet_distance
    assert scores.accuracy < 0.5 < scores.real_accuracy
    with pytest.raises(ValueError, match="is no classifier of images"):
        judged(made, made)
    report = export_bundle(tmp_path / "gan")
    assert [row.format for row in report.rows] == ["saved_model", "float32", "float16", "dynamic"]
    assert report.unit == "latent" and report.rows[1].logit_difference < 1e-3


def trained(folder, *, go_on: bool = False) -> tuple[list[np.ndarray], str]:
    """All variables of a small game and its history after a fit whose checkpoints are in a folder."""
    keras.utils.set_random_seed(0)
    model = games.pair("wgan_gp")
    checkpoints = Checkpoints(folder, keep=1000)
    history = fit(
        model,
        adversarial(epochs=2, learning_rate=1e-3),
        feed(games.batches(model)),
        loss="mse",
        metrics=list,
        progress=False,
        checkpoints=checkpoints,
        resumed=checkpoints.latest() if go_on else None,
        settings=Settings(
            optimization=Optimization(beta_1=0.0, beta_2=0.9, ema=0.9), save_steps=1, engine=AdversarialEngine
        ),
    )
    return [np.asarray(each) for each in model.variables], str([epoch.metrics for epoch in history.epochs])


@pytest.mark.slow
def test_it_goes_on_in_the_middle_of_a_turn_bit_for_bit(tmp_path):
    weights, history = trained(tmp_path / "whole")
    numbers = Checkpoints(tmp_path / "whole").numbers()
    for last in (numbers[1], numbers[-4]):  # between two steps of the discriminator
        shutil.copytree(tmp_path / "whole", tmp_path / str(last))
        for number in numbers:
            if number > last:
                shutil.rmtree(tmp_path / str(last) / f"checkpoint-{number:06}")
        again, told = trained(tmp_path / str(last), go_on=True)
        assert told == history
        for found, expected in zip(again, weights, strict=True):
            np.testing.assert_array_equal(found, expected)
