"""Every option of `zoo fit` is a field of the run that is trained."""

from __future__ import annotations

import operator
import typing
from pathlib import Path
from unittest import mock

import pytest
import typer.main

from pipelines import cli
from pipelines.commands import training
from pipelines.run import Run
from tests.command import zoo_here

IMAGES = "cnn --images pets"
FIELDS: dict[str, dict[str, tuple[str, typing.Any]]] = {  # by command, of an option as typed its field and value
    IMAGES: {
        "--out here": ("out", Path("here")),
        "--task multi_label": ("task", "multi_label"),
        "--seed 3": ("seed", 3),
        "--batch 64": ("batch", 64),
        "--batch auto": ("batch", "auto"),
        "--accumulate 4": ("hardware.accumulate", 4),
        "--precision bfloat16": ("hardware.precision", "bfloat16"),
        "--no-deterministic": ("hardware.deterministic", False),
        "--deterministic": ("hardware.deterministic", True),
        "--cache": ("hardware.cache", True),
        "--no-cache": ("hardware.cache", False),
        "--save-steps 50": ("save_steps", 50),
        "--patience 9": ("patience", 9),
        "--rollbacks 2": ("rollbacks", 2),
        "--validation other": ("data.validation", "other"),
        "--test other": ("data.test", "other"),
        "--data-dir sets": ("data.data_dir", "sets"),
        "--size 96": ("data.size", 96),
        "--crop 0.9": ("data.crop", 0.9),
        "--augment standard": ("data.augment", "standard"),
        "--views 4": ("data.views", 4),
        "--flip": ("data.flip", True),
        "--no-flip": ("data.flip", False),
        "--balance": ("data.balance", True),
        "--mixup 0.2": ("data.mixup", 0.2),
        "--cutmix 1": ("data.cutmix", 1.0),
        "--skip-corrupt": ("data.skip_corrupt", True),
        "--label-delim ;": ("data.label_delim", ";"),
        "--class-column a --class-column b": ("data.class_columns", ("a", "b")),
        "--target age --target income": ("data.target", ("age", "income")),
        "--epochs 7": ("phases.0.epochs", 7),
        "--learning-rate 0.02": ("phases.0.learning_rate", 0.02),
        "--warmup 0.3": ("phases.0.warmup", 0.3),
        "--recipe feature_extraction": ("phases.0.unfreeze", 1),
        "--weights some/where": ("weights", "some/where"),
        "--loss focal": ("loss", "focal"),
        "--loss focal --focus 3": ("focus", 3.0),
        "--label-smoothing 0.1": ("label_smoothing", 0.1),
        "--class-weights balanced": ("class_weights", "balanced"),
        "--class-weights cat=2 --class-weights dog=0.5": ("class_weights", {"cat": 2.0, "dog": 0.5}),
        "--task multi_label --positive-weights cat=3": ("positive_weights", {"cat": 3.0}),
        "--optimizer lion": ("optimization.optimizer", "lion"),
        "--schedule one_cycle": ("optimization.schedule", "one_cycle"),
        "--optimizer adamw --weight-decay 0.05": ("optimization.weight_decay", 0.05),
        "--optimizer sgd --momentum 0.8": ("optimization.momentum", 0.8),
        "--optimizer sgd --nesterov": ("optimization.nesterov", True),
        "--clip 0.5": ("optimization.clip", 0.5),
        "--clip 1 --clip-by value": ("optimization.clip_by", "value"),
        "--ema 0.99": ("optimization.ema", 0.99),
        "--beta-1 0.5": ("optimization.beta_1", 0.5),
        "--beta-2 0.9": ("optimization.beta_2", 0.9),
        "--l1 1e-6": ("optimization.l1", 1e-6),
        "--l2 1e-5": ("optimization.l2", 1e-5),
        "--config width=32": ("overrides", {"width": 32}),
        "--config widths=[8,16]": ("overrides", {"widths": [8, 16]}),
        "--dropout 0.4": ("overrides", {"dropout": 0.4}),
        "--stochastic-depth 0.1": ("overrides", {"stochastic_depth": 0.1}),
        "--teacher resnet50": ("distillation.teacher", "resnet50"),
        "--teacher resnet50 --teacher-weights a1_in1k": ("distillation.weights", "a1_in1k"),
        "--teacher resnet50 --temperature 5": ("distillation.temperature", 5.0),
        "--teacher resnet50 --label-share 0.2": ("distillation.label_share", 0.2),
        "--teacher resnet50 --features": ("distillation.features", True),
        "--teacher resnet50 --feature-pair a=b --feature-pair c=d": ("distillation.features", (("a", "b"), ("c", "d"))),
        "--teacher resnet50 --features --feature-weight 2": ("distillation.feature_weight", 2.0),
    },
    "bert_tiny --texts reviews.csv": {
        "--text-column body": ("data.text_column", "body"),
        "--second-column question": ("data.second_column", "question"),
        "--label-column stars": ("data.label_column", "stars"),
        "--length 64": ("data.length", 64),
        "--tokenizer bpe": ("data.tokenizer", "bpe"),
        "--tokenizer bpe --vocabulary 500": ("data.vocabulary", 500),
    },
    "mlp --tables houses.csv": {
        "--target price": ("data.target", "price"),
        "--categorical zip --categorical kind": ("data.categorical", ("zip", "kind")),
        "--ignore id": ("data.ignore", ("id",)),
    },
    "rnn_lstm --series weather.csv --target rain": {
        "--target snow": ("data.target", ("rain", "snow")),
        "--column wind --column rain": ("data.columns", ("wind", "rain")),
        "--window 12": ("data.window", 12),
        "--horizon 3": ("data.horizon", 3),
        "--stride 2": ("data.stride", 2),
    },
    "clip_vit_base32 --pairs captions.csv": {
        "--image-column file": ("data.image_column", "file"),
        "--text-column said": ("data.text_column", "said"),
        "--prompt a_photo": ("data.prompt", "a_photo"),
        "--task text_to_image --codes-from runs/dvae": ("drawing.codes_from", "runs/dvae"),
        "--codes-from runs/dvae --image-weight 0.5": ("drawing.image_weight", 0.5),
        "--codes-from runs/dvae --caption-dropout 0.2": ("drawing.caption_dropout", 0.2),
    },
    "gan_dcgan --images pets": {
        "--game hinge": ("adversary.game", "hinge"),
        "--gradient-penalty 5": ("adversary.gradient_penalty", 5.0),
        "--critic-steps 2": ("adversary.critic_steps", 2),
        "--discriminator-rate 4": ("adversary.discriminator_rate", 4.0),
    },
    "vae_conv --images pets": {
        "--likelihood gaussian": ("autoencoding.likelihood", "gaussian"),
        "--beta 4": ("autoencoding.beta", 4.0),
        "--beta-warmup 0.5": ("autoencoding.warm_up", 0.5),
        "--likelihood gaussian --deviation 0.2": ("autoencoding.deviation", 0.2),
        "--commitment 0.5": ("autoencoding.commitment", 0.5),
        "--code-temperature 0.2": ("autoencoding.temperature", 0.2),
        "--code-balance 0": ("autoencoding.balance", 0.0),
        "--bound-samples 8": ("autoencoding.samples", 8),
    },
}
CASES = [(command, typed, *field) for command, options in FIELDS.items() for typed, field in options.items()]
ELSEWHERE = {"--run", "--overwrite", "--find-learning-rate", "--workers", "--index"}  # no fields


def made(command: str, typed: str, folder: Path) -> Run:
    """The run that would be trained."""
    with mock.patch.object(training, "_train") as train:
        zoo_here("fit", *command.split(), *typed.split(), cwd=folder)
    return train.call_args.args[0]


def value(run: typing.Any, field: str) -> typing.Any:
    for part in field.split("."):
        run = run[int(part)] if part.isdecimal() else operator.attrgetter(part)(run)
    return run


@pytest.mark.parametrize(("command", "typed", "field", "expected"), CASES, ids=[f"{c[0]} {c[1]}" for c in CASES])
def test_an_option_is_a_field_of_the_run(command, typed, field, expected, tmp_path):
    run = made(command, typed, tmp_path)
    found = value(run, field)
    assert (found, type(found)) == (expected, type(expected))
    assert value(Run.from_json(run.to_json()), field) == expected


def test_no_option_is_left_out():
    fit = typer.main.get_command(cli.app).commands["fit"]
    known = {name for option in fit.params for name in (*option.opts, *option.secondary_opts) if name.startswith("--")}
    typed = {word for command, line, *_ in CASES for word in f"{command} {line}".split() if word.startswith("--")}
    assert known - typed == ELSEWHERE
