"""What an optimization asks for is checked, and the rates of its schedules are those of a calculation by hand."""

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest

from pipelines import optimizer
from pipelines.clipping import Clip
from pipelines.commands.training_options import run_options
from pipelines.optimization import Optimization
from pipelines.run import Hardware, Phase, Run, Tables
from pipelines.schedules import schedule

STEPS, WARMUP, PEAK = 40, 10, 0.8
LEFT = STEPS - WARMUP
PHASE = Phase(1, PEAK, warmup=WARMUP / STEPS)
RUN = Run("mlp", Tables("iris"), (Phase(1, 1e-3),), Path("runs/iris"))


def half_cosine(part: float, end: float = 0.0) -> float:
    return PEAK * (end + (1 - end) * (1 + math.cos(math.pi * part)) / 2)


def restarts(done: int, lengths: list[float]) -> float:
    for length in lengths:
        if done < length - 1e-6:
            return half_cosine(done / length)
        done -= length
    raise AssertionError


AFTER = {  # the rate `done` steps after the warm-up
    "constant": ({}, lambda done: PEAK),
    "step": ({}, lambda done: PEAK * 0.1 ** ((done + WARMUP >= 20) + (done + WARMUP >= 30))),
    "step, thrice": (
        {"drops": (0.3, 0.5, 0.9), "factor": 0.5},
        lambda done: PEAK * 0.5 ** sum(done + WARMUP >= drop for drop in (12, 20, 36)),
    ),
    "exponential": ({}, lambda done: PEAK * 0.01 ** (done / LEFT)),
    "polynomial": ({}, lambda done: PEAK * (1 - done / LEFT)),
    "polynomial, square": (
        {"power": 2.0, "end": 0.1},
        lambda done: PEAK * (0.9 * (1 - done / LEFT) ** 2 + 0.1),
    ),
    "cosine": ({}, lambda done: half_cosine(done / LEFT)),
    "cosine, ending": ({"end": 0.2}, lambda done: half_cosine(done / LEFT, 0.2)),
    "cosine_restarts": ({}, lambda done: restarts(done, [30 / 7, 60 / 7, 120 / 7])),
    "cosine_restarts, equal": ({"cycles": 2, "growth": 1.0}, lambda done: restarts(done, [15, 15])),
    "one_cycle": ({}, lambda done: half_cosine(done / LEFT, 4e-6)),
    "plateau": ({}, lambda done: PEAK),
}


@pytest.mark.parametrize("name", AFTER)
def test_every_schedule_warms_up_and_then_is_what_its_formula_says(name):
    options, after = AFTER[name]
    made = schedule(PEAK, PHASE, Optimization(schedule=name.split(",")[0], **options), steps=STEPS)
    found = [float(made(np.int64(step))) for step in range(STEPS)]
    rising = [PEAK * step / WARMUP for step in range(WARMUP)]
    if name == "one_cycle":
        rising = [PEAK / 25 + PEAK * 24 / 25 * (1 - math.cos(math.pi * step / WARMUP)) / 2 for step in range(WARMUP)]
    np.testing.assert_allclose(found, [*rising, *map(after, range(LEFT))], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", AFTER)
@pytest.mark.parametrize(("warmup", "steps"), [(0.0, 12), (0.5, 1), (0.9, 2)])
def test_every_schedule_goes_without_warm_up_and_through_a_phase_of_one_step(name, warmup, steps):
    options, _ = AFTER[name]
    made = schedule(
        PEAK, Phase(1, PEAK, warmup=warmup), Optimization(schedule=name.split(",")[0], **options), steps=steps
    )
    found = [float(made(np.int64(step))) for step in range(steps)]
    assert np.isfinite(found).all()
    if round(warmup * steps) == 0 or steps == 1:
        assert found[0] == pytest.approx(PEAK)


def test_the_schedule_of_an_old_run_is_bit_for_bit_what_it_was():
    import keras

    for warmup, old in (
        (0, keras.optimizers.schedules.CosineDecay(0.3, 50)),
        (0.1, keras.optimizers.schedules.CosineDecay(0.0, 45, warmup_target=0.3, warmup_steps=5)),
    ):
        made = schedule(0.3, Phase(1, 0.3, warmup=warmup), Optimization(), steps=50)
        assert [float(made(step)) for step in range(50)] == [float(old(step)) for step in range(50)]


def test_the_rates_of_groups_are_known_at_each_step():
    groups = {"stem": [], "block0": [], "head": []}
    phase = dataclasses.replace(PHASE, unfreeze=2, layer_decay=0.5)
    rates = optimizer.learning_rates(groups, phase, Optimization(schedule="polynomial"), step=25, steps=STEPS)
    assert rates == pytest.approx({"head": PEAK / 2, "block0": PEAK / 4})
    lower = optimizer.learning_rates(groups, phase, Optimization(schedule="plateau"), step=25, steps=STEPS, factor=0.01)
    assert lower == pytest.approx({"head": PEAK / 100, "block0": PEAK / 200})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"optimizer": "adamax"}, "'adamax' is not one of 'sgd', 'rmsprop'"),
        ({"schedule": "linear"}, "'linear' is not one of 'constant', 'step'"),
        ({"momentum": 0.9}, "momentum=0.9.* is of 'sgd' or 'rmsprop' or 'muon', not adam"),
        ({"optimizer": "sgd", "momentum": 1.0}, "momentum=1.0.* at least 0 and under 1"),
        ({"nesterov": True}, "nesterov=True.* is of sgd"),
        ({"optimizer": "sgd", "momentum": 0.0, "nesterov": True}, "momentum over 0"),
        ({"weight_decay": -0.1}, "weight_decay=-0.1"),
        ({"end": 0.5, "schedule": "constant"}, "end=0.5.* not of 'constant'"),
        ({"end": 2.0}, "end=2.0.* share"),
        ({"end": 0.0, "schedule": "exponential"}, "never gets to 0"),
        ({"factor": 0.5}, "factor=0.5.* is of schedule='step' or 'plateau', not of 'cosine'"),
        ({"schedule": "step", "factor": 2.0}, "factor=2.0"),
        ({"schedule": "step", "drops": ()}, "drops"),
        ({"schedule": "step", "drops": (0.7, 0.3)}, "ascending"),
        ({"schedule": "step", "drops": (30, 60)}, "under 1"),
        ({"schedule": "polynomial", "power": 0.0}, "power=0.0"),
        ({"schedule": "cosine_restarts", "cycles": 0}, "cycles=0"),
        ({"schedule": "cosine_restarts", "growth": 0.5}, "growth=0.5"),
        ({"schedule": "plateau", "wait": 0}, "wait=0"),
        ({"clip": 0.0}, "clip=0.0"),
        ({"clip": float("nan")}, "clip=nan"),
        ({"clip_by": "value"}, "clip_by='value'.* needs a limit"),
        ({"clip": 1.0, "clip_by": "size"}, "'size' is not one of"),
        ({"ema": 1.0}, "ema=1.0"),
        ({"l1": -1.0}, "l1=-1.0"),
        ({"l2": float("inf")}, "l2=inf"),
    ],
)
def test_what_makes_no_sense_is_refused_with_the_reason(values, message):
    with pytest.raises(ValueError, match=message):
        Optimization(**values)


def test_what_is_usual_hangs_on_the_optimizer():
    assert [Optimization(optimizer=name).usual_decay for name in ("adam", "adamw", "sgd", "muon")] == [0, 0.01, 0, 0.01]
    assert Optimization(optimizer="adamw", weight_decay=0.0).usual_decay == 0
    assert [Optimization(optimizer=name).usual_momentum for name in ("sgd", "rmsprop", "muon")] == [0.9, 0, 0.95]
    assert Clip.of(Optimization()) is None
    assert Clip.of(Optimization(clip=2.0, clip_by="norm")) == Clip(2.0, "norm")


def test_a_report_says_what_was_done():
    assert Optimization().summary() == "adam, cosine"
    full = Optimization(optimizer="adamw", weight_decay=0.05, clip=1.0, l2=1e-4, ema=0.999)
    assert full.summary() == (
        "adamw, weight decay 0.05, cosine, gradients clipped at 1 (global_norm), L2 0.0001; "
        "the weights evaluated and kept are their moving average (decay 0.999)"
    )


def test_a_run_with_everything_goes_to_json_and_back():
    chosen = Optimization(
        optimizer="sgd", momentum=0.8, nesterov=True, weight_decay=1e-4, schedule="step", drops=(0.3, 0.6), factor=0.2,
        clip=1.0, clip_by="value", ema=0.999, l1=1e-6, l2=1e-5,
    )  # fmt: skip
    run = dataclasses.replace(
        RUN, optimization=chosen, loss="focal", focus=1.5, label_smoothing=0.1, class_weights={"setosa": 2.0}
    )
    assert Run.from_json(run.to_json()) == run
    balanced = dataclasses.replace(RUN, class_weights="balanced")
    assert Run.from_json(balanced.to_json()) == balanced
    with pytest.raises(ValueError, match=r"Optimization from JSON: unknown fields \['momentums'\]"):
        Run.from_json(run.to_json().replace('"momentum"', '"momentums"'))


def test_a_run_of_before_there_was_a_choice_is_adam_along_a_cosine():
    values = json.loads(RUN.to_json())
    for name in ("optimization", "label_smoothing", "class_weights", "focus", "save_steps"):
        del values[name]
    old = Run.from_json(json.dumps(values))
    assert old == RUN
    assert (old.optimization.optimizer, old.optimization.schedule) == ("adam", "cosine")
    assert (old.optimization.usual_decay, old.optimization.clip, old.optimization.ema) == (0, None, 0)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"label_smoothing": 1.0}, "label_smoothing=1.0"),
        ({"class_weights": "even"}, "class_weights='even'.* is 'balanced', or numbers by the names"),
        ({"class_weights": {"setosa": -1.0}}, "at least 0"),
        ({"class_weights": {"setosa": "much"}}, "numbers by the names"),
        ({"focus": 0.0, "loss": "focal"}, "focus=0.0"),
        ({"focus": 3.0}, "focus=3.0.* is of loss='focal'"),
        ({"loss": "l3"}, "'l3' is not one of 'mse', 'mae', 'huber', 'cross_entropy'"),
    ],
)
def test_options_of_the_loss_are_checked(values, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(RUN, **values)


def test_the_options_of_the_command_become_fields_of_a_run():
    given = {"optimizer": "sgd", "ema": 0.99, "patience": 3, "label_smoothing": 0.1, "dropout": 0.2, "batch": "auto"}
    found = run_options({**given, "class_weights": ["rare=5", "a=b=2.5"], "deterministic": False, "accumulate": 2})
    assert found == {
        "patience": 3,
        "label_smoothing": 0.1,
        "batch": "auto",
        "hardware": Hardware(accumulate=2, deterministic=False),
        "optimization": Optimization(optimizer="sgd", ema=0.99),
        "class_weights": {"rare": 5.0, "a=b": 2.5},
        "positive_weights": None,
        "distillation": None,
        "adversary": None,
        "autoencoding": None,
        "overrides": {"dropout": 0.2},
    }
    assert dataclasses.replace(RUN, **run_options({})) == RUN
    assert run_options({"class_weights": ["balanced"]})["class_weights"] == "balanced"
    for wrong in ("rare", "=5", "rare=much"):
        with pytest.raises(ValueError, match="neither 'balanced' nor NAME=WEIGHT"):
            run_options({"class_weights": [wrong]})
