"""Learning rates per group are exact, and what an optimizer knows survives the next phase."""

import typing

import keras
import numpy as np
import pytest
import tensorflow as tf

from pipelines import adam, optimization, optimizer
from pipelines.freezing import Freezer, find_groups
from pipelines.optimization import Optimization
from pipelines.run import Phase
from tests.pipelines import toy
from tests.pipelines.dense import dense


def test_rates_fall_toward_the_input():
    groups = find_groups(toy.model())
    rates = optimizer.group_rates(groups, Phase(1, 0.1, unfreeze="all", layer_decay=0.5))
    assert rates == pytest.approx({"head": 0.1, "stage2": 0.05, "stage1": 0.025, "stem": 0.0125})


def test_each_group_steps_at_its_own_rate():
    """Adam's first step is the rate times the sign of the gradient, whatever the gradient's size."""
    model = toy.model()
    groups = find_groups(model)
    phase = Phase(1, 0.01, unfreeze="all", layer_decay=0.5, warmup=0.0)
    with Freezer(model, groups) as freezer:
        freezer.apply(phase)
        built = optimizer.build(model, groups, phase, steps=10**9)
        before = {v.path: np.array(v) for v in model.trainable_variables}
        built.apply([np.ones(v.shape, "float32") for v in model.trainable_variables], model.trainable_variables)
    after = {v.path: np.array(v) for v in model.trainable_variables}
    rates = {"head": 0.01, "stage2": 0.005, "stage1": 0.0025, "stem": 0.00125}
    assert len(before) == 8
    for path in before:
        np.testing.assert_allclose(before[path] - after[path], rates[path.split("_")[0]], rtol=1e-4)


@pytest.mark.parametrize(
    ("asked", "plain"),
    [
        (Optimization("adam"), keras.optimizers.Adam(1e-3)),
        (Optimization("adam", beta_1=0.5, beta_2=0.9), keras.optimizers.Adam(1e-3, beta_1=0.5, beta_2=0.9)),
        (Optimization("adamw", weight_decay=0.1), keras.optimizers.AdamW(1e-3, weight_decay=0.1)),
    ],
    ids=["adam", "betas", "adamw"],
)
def test_equal_rates_are_those_of_plain_keras(asked, plain):
    """With layer_decay=1 and no schedule to speak of, the groups together do what one optimizer of Keras does."""
    models = [toy.model(dropout=0.0) for _ in range(2)]
    models[1].set_weights(models[0].get_weights())
    phase = Phase(1, 1e-3, unfreeze="all", warmup=0.0, batch_norm="train")
    grouped = optimizer.build(models[0], find_groups(models[0]), phase, asked, steps=10**9)
    plain.exclude_from_weight_decay(var_list=[v for v in models[1].trainable_variables if v.ndim == 1])
    random = np.random.default_rng(0)
    for step in range(30):
        gradients = [
            random.normal(scale=0.1**step, size=v.shape).astype("float32") for v in models[0].trainable_weights
        ]
        for model, built in zip(models, (grouped, plain), strict=True):
            built.apply([tf.constant(each) for each in gradients], model.trainable_variables)
    for mine, theirs in zip(*(model.get_weights() for model in models), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=0, atol=1e-6)  # 30 roundings of numbers around 1


def test_rows_that_were_looked_up_twice_move_by_the_sum_of_their_gradients():
    """Adam moves by the rate where gradients are always the same. Keras squares each of the slices by itself."""
    table, made = keras.Variable(np.ones((5, 2), "float32")), adam.Adam(0.1)
    made.build([table])
    rows = tf.constant([[1.0, 2.0], [3.0, -4.0], [5.0, 0.5]])
    slices = tf.IndexedSlices(rows, tf.constant([1, 3, 1]), dense_shape=tf.constant([5, 2]))
    for _ in range(3):
        made.apply([slices], [table])
    np.testing.assert_allclose(np.array(table), [[1, 1], [0.7, 0.7], [1, 1], [0.7, 1.3], [1, 1]], atol=1e-6)


@pytest.mark.parametrize("precision", ["float32", "mixed_float16"])
def test_moments_survive_the_next_phase(precision):
    keras.config.set_dtype_policy(precision)
    try:
        model = toy.model()
    finally:
        keras.config.set_dtype_policy("float32")
    groups = find_groups(model)
    with Freezer(model, groups) as freezer:
        phase = Phase(1, 1e-3, unfreeze=2)
        freezer.apply(phase)
        first = optimizer.build(model, groups, phase, steps=6)
        model.compile(first, loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        model.fit(toy.dataset(), verbose=0)
        learned = {name: value for name, value in slots(first).items() if np.abs(value).max() > 0}
        assert any("head_logits_kernel" in name for name in learned)

        phase = Phase(1, 1e-3, unfreeze=3)
        freezer.apply(phase)
        second = optimizer.build(model, groups, phase, steps=6)
        assert not any(np.abs(value).max() > 0 for value in slots(second).values())
        optimizer.carry_state(first, second)
    carried = slots(second)
    for name, value in learned.items():
        np.testing.assert_array_equal(carried[name], value)
    assert all(np.abs(value).max() == 0 for name, value in carried.items() if "stage1_" in name)
    assert {int(inner.iterations) for inner in inner_optimizers(second)} == {0}


@pytest.mark.parametrize("name", typing.get_args(optimization.Optimizer))
def test_the_moments_of_every_optimizer_go_to_the_same_weights_of_the_next_phase(name):
    model, random = dense(), np.random.default_rng(0)
    groups, chosen = find_groups(model), Optimization(optimizer=name)
    built = []
    for unfreeze in (2, "all"):
        phase = Phase(1, 1e-3, unfreeze=unfreeze)
        with Freezer(model, groups) as freezer:
            freezer.apply(phase)
            built.append(optimizer.build(model, groups, phase, chosen, steps=9))
            for _ in range(2 if unfreeze == 2 else 0):
                gradients = [random.normal(size=v.shape) for v in model.trainable_variables]
                built[0].apply([g.astype("float32") for g in gradients], model.trainable_variables)
    old, new = (optimizer._moments(each) for each in built)
    counters = [v for v in built[0].variables if v.ndim == 0]
    assert len(built[0].variables) - len(counters) == len([m for m in old.values() if m.ndim])  # none is forgotten
    optimizer.carry_state(*built)
    for key, moment in new.items():
        if key in old:
            np.testing.assert_array_equal(np.array(moment), np.array(old[key]))
        else:
            assert key[1].startswith("stem") and np.abs(np.array(moment)).max() == 0
    assert set(old) < set(new)
    assert {int(inner.iterations) for inner in inner_optimizers(built[1])} == {0}


@pytest.mark.parametrize("precision", ["float32", "mixed_float16"])
def test_a_plateau_lowers_the_rates_of_all_groups_and_its_state_is_in_the_variables(precision):
    keras.config.set_dtype_policy(precision)
    try:
        model = dense()
    finally:
        keras.config.set_dtype_policy("float32")
    groups, chosen = find_groups(model), Optimization(schedule="plateau", factor=0.5, wait=2)
    phase = Phase(1, 0.1, unfreeze="all", layer_decay=0.5, warmup=0.0)
    built = optimizer.build(model, groups, phase, chosen, steps=9)
    lowered = [optimizer.after_epoch(built, {"loss": 0.0, "val_loss": loss}) for loss in (3.0, 2.0, 2.0, 2.5, 1.0, 1.5)]
    assert lowered == [False, False, False, True, False, False]
    assert optimizer.plateau_factor(built) == 0.5
    again = optimizer.build(model, groups, phase, chosen, steps=9)
    for variable, known in zip(again.variables, built.variables, strict=True):
        variable.assign(np.array(known))
    assert optimizer.after_epoch(again, {"loss": 1.2}) is True  # it has waited an epoch, and knows the best
    assert optimizer.plateau_factor(again) == 0.25
    rates = optimizer.learning_rates(groups, phase, chosen, step=0, steps=9, factor=0.25)
    assert [float(inner.learning_rate) for inner in inner_optimizers(again)] == pytest.approx(
        list(rates.values()), rel=1e-6
    )
    fresh = optimizer.build(model, groups, phase, chosen, steps=9)
    optimizer.carry_state(again, fresh)
    assert optimizer.plateau_factor(fresh) == 1.0  # another phase begins with its own rates
    assert optimizer.after_epoch(optimizer.build(model, groups, phase, steps=9), {"loss": 1.0}) is False


def slots(built) -> dict[str, np.ndarray]:
    """Momentum and velocity by variable name."""
    names = {v.path.rsplit("/", 1)[-1]: np.array(v) for v in built.variables}
    return {name: value for name, value in names.items() if name.endswith(("momentum", "velocity"))}


def inner_optimizers(built):
    return getattr(built, "inner_optimizer", built).optimizers
