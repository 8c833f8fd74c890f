"""LoRA: only factors and the head learn, and what comes out is a plain model that answers as the adapted one."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import zoo
from pipelines import bundle, lora, optimizer
from pipelines.freezing import Freezer, find_groups, unfrozen
from pipelines.recipes import RECIPES
from pipelines.run import Images, Phase, Run
from pipelines.train import fit, train
from tests.pipelines import tokens, toy

RANK = 3
LORA = Phase(2, 1e-2, unfreeze="all", lora=RANK)
WIDTH, HIDDEN = 16, 32  # of the small transformers
HEAD = {"bert_tiny": (WIDTH + 1) * WIDTH + (WIDTH + 1) * 2, "gpt2": WIDTH * 2, "vit_tiny16": (WIDTH + 1) * 2}


def transformer(name: str) -> keras.Model:
    if name == "vit_tiny16":
        keras.utils.set_random_seed(0)
        return zoo.create(name, size=32, width=WIDTH, depth=1, heads=2, mlp_width=HIDDEN, classes=2)
    return tokens.model(name, depth=1)


def dataset(model: keras.Model) -> tf.data.Dataset:
    if isinstance(model.input, dict):
        return tokens.dataset(model)
    random = np.random.default_rng(0)
    labels = random.integers(0, 2, 32)
    images = random.integers(0, 100, (32, 32, 32, 3)) + 100 * labels[:, None, None, None]
    return tf.data.Dataset.from_tensor_slices((images.astype("float32"), labels)).batch(16)


def answers(model: keras.Model) -> np.ndarray:
    (inputs, _), *_ = dataset(model)
    return np.asarray(model(inputs, training=False))


def snapshot(model: keras.Model) -> dict[str, np.ndarray]:
    return {weight.path: np.array(weight) for weight in model.weights}


def moved(model: keras.Model, before: dict[str, np.ndarray]) -> set[str]:
    return {path for path, value in snapshot(model).items() if path in before and (value != before[path]).any()}


def compiled(model: keras.Model, phase: Phase, groups) -> None:
    built = optimizer.build(model, groups, phase, steps=8)
    model.compile(built, loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))


@pytest.mark.parametrize(("name", "mlp"), [("bert_tiny", False), ("gpt2", True), ("vit_tiny16", False)])
def test_only_factors_and_the_head_learn(name, mlp):
    model = transformer(name)
    groups, phase = find_groups(model), Phase(1, 1e-2, unfreeze="all", lora=RANK, lora_mlp=mlp)
    before, untrained = snapshot(model), answers(model)
    with Freezer(model, groups) as freezer:
        freezer.apply(phase)
        np.testing.assert_array_equal(answers(model), untrained)
        attention, dense = 4 * RANK * (WIDTH + WIDTH), 2 * RANK * (WIDTH + HIDDEN)
        factors = [weight for weight in model.trainable_weights if "lora" in weight.path]
        assert sum(int(np.prod(weight.shape)) for weight in factors) == attention + dense * mlp
        head = [weight for weight in model.trainable_weights if "lora" not in weight.path]
        assert sum(int(np.prod(weight.shape)) for weight in head) == HEAD[name]
        compiled(model, phase, groups)
        start = snapshot(model)
        model.fit(dataset(model), epochs=2, verbose=0, shuffle=False)  # in the first step the rate is still 0
        assert moved(model, before) == {weight.path for weight in head}
        assert moved(model, start) == {weight.path for weight in (*head, *factors)}
        adapted = answers(model)
        assert np.abs(adapted - untrained).max() > 1e-3
    assert set(snapshot(model)) == set(before)
    np.testing.assert_allclose(answers(model), adapted, atol=1e-6)


@pytest.mark.parametrize("name", ["bert_tiny", "vit_tiny16"])
def test_what_is_fitted_is_a_plain_model(name, tmp_path):
    model, plain = transformer(name), transformer(name)
    before = snapshot(model)
    flags = [layer.trainable for layer in model._flatten_layers()]
    history = fit(model, [LORA], dataset(model), folder=tmp_path, progress=False)
    assert history.epochs[-1].metrics["loss"] < history.epochs[0].metrics["loss"]
    projections = {f"block0/attention/{name}/kernel" for name in ("query", "key", "value", "output")}
    assert {path for path in moved(model, before) if not path.startswith("head")} == projections
    assert set(snapshot(model)) == set(before)
    assert [layer.trainable for layer in model._flatten_layers()] == flags
    assert all(weight.trainable for weight in model.weights)
    assert model.get_config() == plain.get_config()
    wanted = answers(model)
    bundle.save_model(model, tmp_path / "model.keras")
    np.testing.assert_array_equal(answers(bundle.load_model(tmp_path / "model.keras")), wanted)
    plain.load_weights(tmp_path / "best.weights.h5")
    np.testing.assert_allclose(answers(plain), wanted, atol=1e-6)
    for inputs, _ in dataset(model):  # functions that were traced with the factors answer as the plain model
        np.testing.assert_allclose(model.predict_on_batch(inputs), model(inputs), atol=1e-6)


def test_an_adapted_model_is_saved_as_a_plain_one(tmp_path):
    model = transformer("bert_tiny")
    groups = find_groups(model)
    with Freezer(model, groups) as freezer:
        freezer.apply(LORA)
        compiled(model, LORA, groups)
        model.fit(dataset(model), verbose=0)
        model.save(tmp_path / "model.keras")
        wanted = answers(model)
    again = keras.saving.load_model(tmp_path / "model.keras", compile=False)
    np.testing.assert_allclose(answers(again), wanted, atol=1e-6)
    assert not [weight.path for weight in again.weights if "lora" in weight.path]


def test_the_best_weights_may_be_of_a_phase_without_factors():
    model, twin = (transformer("bert_tiny") for _ in range(2))
    head = Phase(1, 1e-2)
    spoiling = Phase(1, 5.0, unfreeze="all", lora=RANK, warmup=0.0)
    validation = tokens.dataset(model, seed=1)
    fit(twin, [head], dataset(twin), validation, progress=False)
    history = fit(model, [head, spoiling], dataset(model), validation, progress=False)
    assert history.best.phase == 1
    for weight, wanted in zip(model.weights, twin.weights, strict=True):
        np.testing.assert_array_equal(weight, wanted, err_msg=weight.path)


def test_ranks_and_full_training_may_follow_one_another():
    model = transformer("gpt2")
    before = snapshot(model)
    phases = [Phase(1, 1e-2, unfreeze="all", lora=RANK), Phase(1, 1e-2, unfreeze="all", lora=2, lora_mlp=True)]
    phases += [Phase(1, 1e-3, unfreeze=2)]
    history = fit(model, phases, dataset(model), progress=False)
    assert np.isfinite([epoch.metrics["loss"] for epoch in history.epochs]).all()
    assert set(snapshot(model)) == set(before)
    assert "block0/mlp_up/kernel" in moved(model, before)
    assert "block0/mlp_up/bias" not in moved(model, before)
    assert "neck_norm/gamma" in moved(model, before)  # by the third phase


def test_moments_of_factors_go_on_in_a_phase_of_the_same_rank():
    model = transformer("bert_tiny")
    groups = find_groups(model)
    with Freezer(model, groups) as freezer:
        freezer.apply(LORA)
        first = optimizer.build(model, groups, LORA, steps=8)
        model.compile(first, loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        model.fit(dataset(model), verbose=0)
        factor = np.array(model.get_layer("block0").attention.query.lora_kernel_b)
        freezer.apply(LORA)
        second = optimizer.build(model, groups, LORA, steps=8)
        optimizer.carry_state(first, second)
        np.testing.assert_array_equal(model.get_layer("block0").attention.query.lora_kernel_b, factor)
    old, new = ({v.path.rsplit("/", 1)[-1]: np.array(v) for v in built.variables} for built in (first, second))
    slots = [name for name in old if "lora_kernel_b" in name]
    assert len(slots) == 2 * 4  # momentum and velocity of four projections
    for name in slots:
        assert np.abs(old[name]).max() > 0
        np.testing.assert_array_equal(new[name], old[name])


@pytest.mark.slow
def test_an_interruption_leaves_a_plain_model_with_its_best_weights():
    model = transformer("bert_tiny")
    before = snapshot(model)
    seen = []

    def stop():
        for batch in dataset(model):
            if len(seen) == 6:
                raise KeyboardInterrupt
            seen.append(batch)
            yield batch

    signature = dataset(model).element_spec
    endless = tf.data.Dataset.from_generator(stop, output_signature=signature).prefetch(1)
    with pytest.raises(BaseException):  # noqa: B017  TensorFlow passes it on as an error of its own
        fit(model, [LORA], endless.apply(tf.data.experimental.assert_cardinality(4)), progress=False)
    assert set(snapshot(model)) == set(before)
    assert all(weight.trainable for weight in model.weights)


def test_the_attention_of_keras_is_adapted_too():
    keras.utils.set_random_seed(0)
    x = inputs = keras.Input((5, 8))
    x = keras.layers.MultiHeadAttention(2, 4, name="attention")(x, x)
    x = keras.layers.GlobalAveragePooling1D()(x)
    model = keras.Model(inputs, keras.layers.Dense(2, name="top")(x))
    before = snapshot(model)
    given = [["attention"], ["top"]]
    data = (np.random.default_rng(0).standard_normal((16, 5, 8)).astype("float32"), np.arange(16) % 2)
    fit(model, [LORA], tf.data.Dataset.from_tensor_slices(data).batch(8), groups=given, progress=False)
    assert {path.partition("attention/")[2] for path in moved(model, before)} - {""} == {
        f"{name}/kernel" for name in ("query", "key", "value", "attention_output")
    }
    assert set(snapshot(model)) == set(before)


def test_half_precision_does_not_round_the_merged_kernels():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = transformer("bert_tiny")
    finally:
        keras.config.set_dtype_policy("float32")
    before = snapshot(model)
    lora.adapt([model.get_layer("block0")], rank=RANK)
    query = model.get_layer("block0").attention.query
    a, b = (np.random.default_rng(i).standard_normal(v.shape) for i, v in enumerate(lora._factors(query)))
    query.lora_kernel_a.assign(a)
    query.lora_kernel_b.assign(b)
    weights = dict(zip(before, lora.get_weights(model), strict=True))
    lora.merge(model)
    wanted = before["block0/attention/query/kernel"] + 2 * (a @ b)
    np.testing.assert_allclose(query.kernel, wanted, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(query.kernel, weights["block0/attention/query/kernel"])


def test_models_without_attention_are_refused():
    with pytest.raises(ValueError, match=r"there is none in stage2, stage1, stem\. LoRA is for transformers"):
        fit(toy.model(), [LORA], toy.dataset(), progress=False)
    with pytest.raises(ValueError, match="there is none in no group"):
        fit(transformer("bert_tiny"), [Phase(1, 1e-3, lora=2)], dataset(transformer("bert_tiny")), progress=False)


def test_a_run_that_cannot_be_adapted_writes_nothing(tmp_path):
    run = Run("mlp", Images("digits"), (LORA,), out=tmp_path / "run")
    with pytest.raises(ValueError, match="LoRA is for transformers"):
        train(run, progress=False)
    assert not run.out.exists()


@pytest.mark.parametrize("rank", [-1, 1.5, True])
def test_a_rank_that_is_none_is_refused(rank):
    with pytest.raises(ValueError, match=r"Phase\(lora="):
        Phase(1, 1e-3, lora=rank)


def test_the_recipe_goes_through_json(tmp_path):
    phases = RECIPES["lora"](epochs=3, rank=4, mlp=True)
    run = Run("vit_tiny16", Images("digits"), phases, tmp_path)
    assert Run.from_json(run.to_json()).phases == phases == (Phase(3, 1e-3, unfreeze="all", lora=4, lora_mlp=True),)


def test_the_groups_named_are_those_that_learn():
    assert unfrozen(find_groups(tokens.model("gpt2")), LORA) == ["head", "block1", "block0"]
