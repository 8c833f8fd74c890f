"""Optimizers do what their papers say, and what is not to decay stays as it is."""

import typing

import keras
import numpy as np
import pytest

import zoo
from pipelines import optimization, optimizer
from pipelines.decay import decays
from pipelines.freezing import find_groups
from pipelines.optimization import Optimization
from pipelines.run import Phase
from tests.pipelines.dense import dense

STEPS, DECAY = 5, 0.3
GROUPED = Phase(1, 0.02, unfreeze="all", layer_decay=0.5, warmup=0.25)


def sgd(weight, gradient, rate, state, step, momentum=0.9, nesterov=False):
    state["m"] = momentum * state.get("m", 0.0) - rate * gradient
    return weight + (momentum * state["m"] - rate * gradient if nesterov else state["m"])


def rmsprop(weight, gradient, rate, state, step, momentum=0.0):
    state["v"] = 0.9 * state.get("v", 0.0) + 0.1 * gradient**2
    state["m"] = momentum * state.get("m", 0.0) + rate * gradient / np.sqrt(state["v"] + 1e-7)
    return weight - state["m"]


def adam(weight, gradient, rate, state, step):
    m, v = _moments_of(state, gradient, 0.9, 0.999)
    return weight - rate * np.sqrt(1 - 0.999**step) / (1 - 0.9**step) * m / (np.sqrt(v) + 1e-7)


def lamb(weight, gradient, rate, state, step):
    m, v = _moments_of(state, gradient, 0.9, 0.999)
    update = m / (1 - 0.9**step) / (np.sqrt(v / (1 - 0.999**step)) + 1e-7)
    sizes = np.linalg.norm(weight), np.linalg.norm(update)
    return weight - rate * update * (sizes[0] / sizes[1] if min(sizes) > 0 else 1.0)


def lion(weight, gradient, rate, state, step):
    m = state.get("m", np.zeros_like(gradient))
    state["m"] = 0.99 * m + 0.01 * gradient
    return weight - rate * np.sign(0.9 * m + 0.1 * gradient)


def _moments_of(state, gradient, first, second):
    state["m"] = first * state.get("m", 0.0) + (1 - first) * gradient
    state["v"] = second * state.get("v", 0.0) + (1 - second) * gradient**2
    return state["m"], state["v"]


def adafactor(weight, gradient, rate, state, step):
    return _by_keras(keras.optimizers.Adafactor, weight, gradient, rate, state)


def muon(weight, gradient, rate, state, step):
    return _by_keras(keras.optimizers.Muon, weight, gradient, rate, state, weight_decay=None, adam_weight_decay=None)


def _by_keras(kind, weight, gradient, rate, state, **options):
    """The same step by an optimizer of Keras that has this weight alone and a rate that is set before each step."""
    if not state:
        state["variable"] = keras.Variable(weight, dtype="float32", name="kernel")
        state["optimizer"] = kind(rate, **options)
    state["variable"].assign(weight)
    state["optimizer"].learning_rate = rate
    state["optimizer"].apply([gradient.astype("float32")], [state["variable"]])
    return np.array(state["variable"])


UPDATES = {
    "sgd": (sgd, {}),
    "sgd, plain": (lambda *values: sgd(*values, momentum=0.0), {"momentum": 0.0}),
    "sgd, nesterov": (lambda *values: sgd(*values, 0.8, True), {"momentum": 0.8, "nesterov": True}),
    "rmsprop": (rmsprop, {}),
    "rmsprop, momentum": (lambda *values: rmsprop(*values, 0.7), {"momentum": 0.7}),
    "adam": (adam, {}),
    "adamw": (adam, {}),
    "lamb": (lamb, {}),
    "lion": (lion, {}),
    "adafactor": (adafactor, {}),
    "muon": (muon, {}),
}


@pytest.mark.parametrize("name", UPDATES)
def test_each_optimizer_takes_the_steps_of_its_paper_at_the_rate_of_each_group(name):
    """Decay of the matrices alone first, then the update, on random gradients, along a cosine with warm-up."""
    update, options = UPDATES[name]
    chosen = Optimization(optimizer=name.split(",")[0], weight_decay=DECAY, **options)
    model, random, states = dense(), np.random.default_rng(0), {}
    model.set_weights([random.normal(size=weight.shape) for weight in model.weights])
    groups = find_groups(model)
    built = optimizer.build(model, groups, GROUPED, chosen, steps=STEPS)
    expected = {v.path: np.array(v, "float64") for v in model.trainable_variables}
    start = dict(expected)
    for step in range(STEPS):
        rates = optimizer.learning_rates(groups, GROUPED, chosen, step=step, steps=STEPS)
        gradients = [random.normal(size=v.shape).astype("float32") for v in model.trainable_variables]
        built.apply(gradients, model.trainable_variables)
        for variable, gradient in zip(model.trainable_variables, gradients, strict=True):
            path, rate = variable.path, rates[variable.path.split("_")[0]]
            kept = expected[path] * (1 - rate * DECAY * path.endswith("kernel"))
            made = muon if name == "muon" and "dense/kernel" in path else adam if name == "muon" else update
            expected[path] = made(kept, gradient, rate, states.setdefault(path, {}), step + 1)
    for variable in model.trainable_variables:
        assert np.abs(expected[variable.path] - start[variable.path]).max() > 1e-3
        np.testing.assert_allclose(np.array(variable), expected[variable.path], rtol=2e-4, atol=2e-6)


UNDECAYED = {  # of more than one axis
    "resnet50": ({"depths": (1, 1, 1, 1), "width": 8, "size": 32}, set()),
    "convnext_tiny": ({"depths": (1, 1, 1, 1), "widths": (8, 8, 8, 8), "size": 32}, set()),
    "mobilenet_v2": ({"size": 32}, set()),
    "deit_tiny16_distilled": (
        {"width": 16, "depth": 1, "heads": 2, "mlp_width": 32, "size": 32},
        {"stem_class_token/token", "stem_distillation_token/token", "stem_positions/table"},
    ),
    "bert_tiny": (
        {"width": 16, "depth": 1, "heads": 2, "mlp_width": 32, "length": 8, "vocabulary": 30},
        {"stem_positions/table"},
    ),
    "gpt2": (
        {"width": 16, "depth": 1, "heads": 2, "mlp_width": 32, "length": 8, "vocabulary": 30},
        {"stem_positions/table"},
    ),
    "t5_small": (
        {"width": 16, "depth": 1, "heads": 2, "mlp_width": 32, "vocabulary": 30},
        {"encoder.stem_positions/table", "decoder.stem_positions/table"},
    ),
    "rnn_gru": ({"width": 8, "depth": 1, "embedding": 8, "vocabulary": 30}, {"block0/gru_cell/bias"}),
}


@pytest.mark.parametrize("variant", UNDECAYED)
def test_what_decays_are_kernels_and_the_tables_of_embeddings(variant):
    options, undecayed = UNDECAYED[variant]
    model = zoo.create(variant, **options)
    matrices = {v.path for v in model.trainable_variables if len(v.shape) > 1}
    decaying = {v.path for v in model.trainable_variables if decays(v)}
    assert matrices - decaying == undecayed
    assert {path.rsplit("/", 1)[-1] for path in decaying} <= {"kernel", "recurrent_kernel", "embeddings"}
    assert decaying <= matrices
    assert len(decaying) > 3


def test_what_does_not_decay_stays_where_it_is_without_a_gradient():
    """In every optimizer, with the tables, tokens and biases of a vision transformer away from 0."""
    model = zoo.create("vit_tiny16", width=8, depth=1, heads=2, mlp_width=8, size=32, classes=2)
    groups, phase = find_groups(model), Phase(1, 0.1, unfreeze="all", warmup=0.0)
    for name in typing.get_args(optimization.Optimizer):
        for variable in model.weights:
            variable.assign(np.full(variable.shape, 0.5))
        chosen = Optimization(optimizer=name, weight_decay=0.5, schedule="constant")
        built = optimizer.build(model, groups, phase, chosen, steps=9)
        built.apply([np.zeros(v.shape, "float32") for v in model.trainable_variables], model.trainable_variables)
        for variable in model.trainable_variables:
            kept = 0.5 * (1 - 0.1 * 0.5) if decays(variable) else 0.5
            np.testing.assert_allclose(np.array(variable), kept, rtol=1e-5, err_msg=f"{name}: {variable.path}")
