"""The layers that take rows of tables and give numbers in the units of the data."""

from __future__ import annotations

import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter

import zoo
from zoo.layers.scale import Scale
from zoo.layers.table import Category, Columns, Number, TableInput, columns_of

AGE = Number("age", mean=40.0, std=20.0, missing=True)
FARE = Number("fare", mean=1000.0, std=0.5)
STILL = Number("still", mean=3.0, std=0.0)
PORT = Category("port", ("C", "Q", "S"))
DECK = Category("deck", ("A", "B"), missing=True)
SAME = Category("same", ("x",))
TABLE = Columns((AGE, PORT, FARE, DECK, STILL, SAME))
ROWS = [
    {"age": "60", "port": "Q", "fare": "1000.25", "deck": "B", "still": "3", "same": "x"},
    {"age": "", "port": "Hamburg", "fare": "NA", "deck": "", "still": "4", "same": "y"},
    {"age": 20, "port": "S", "fare": 999.5, "deck": None, "still": float("nan"), "same": "x"},
]
MANY = Columns((Category("city", tuple(f"city{index}" for index in range(40))), Number("size", 10.0, 2.0)))


def computed(columns: Columns, rows: np.ndarray) -> np.ndarray:
    return np.asarray(TableInput(columns)(rows))


def mlp(columns: Columns, **options) -> keras.Model:
    return zoo.create("mlp", **{"columns": columns, "widths": (5,), "classes": 3, **options})


def test_rows_of_text_become_numbers_places_and_nan():
    nan = np.nan
    wanted = [[60, 1, 1000.25, 1, 3, 0], [nan, -1, nan, -1, 4, -1], [20, 2, 999.5, -1, nan, 0]]
    np.testing.assert_array_equal(TABLE.encode(ROWS), np.array(wanted, "float32"))
    assert TABLE.unknown(ROWS) == {"port": ("Hamburg",), "same": ("y",)}


def test_numbers_are_standardized_and_filled_in_and_categories_told_apart():
    wanted = [
        # age, fare, is age missing, C, Q, S, A, B, deck unknown
        [1, 0.5, 0, 0, 1, 0, 0, 1, 0],
        [0, 0, 1, 0, 0, 0, 0, 0, 1],
        [-1, -1, 0, 0, 0, 1, 0, 0, 1],
    ]
    assert TABLE.width == 9
    np.testing.assert_array_equal(computed(TABLE, TABLE.encode(ROWS)), np.array(wanted, "float32"))


@pytest.mark.parametrize("place", [-1, 3, 1e6, np.nan, np.inf, -7, 0.5])
def test_a_place_outside_the_vocabulary_is_an_unknown_category(place):
    columns = Columns((PORT, DECK))
    np.testing.assert_array_equal(computed(columns, np.array([[place, place]], "float32")), [[0, 0, 0, 0, 0, 1]])


def test_many_categories_get_a_learned_vector_each():
    model = mlp(MANY)
    (table, *_) = model.get_weights()
    assert table.shape == (40, 13)
    rows = MANY.encode([{"city": "city7", "size": "12"}, {"city": "Atlantis", "size": "10"}])
    np.testing.assert_allclose(
        model.get_layer("stem_table")(rows), [[1, *table[7]], [0, *np.zeros(13)]], rtol=1e-6, atol=0
    )
    assert list(zoo.layer_groups(model)) == ["stem", "block0", "head"]


def test_learned_vectors_learn_that_of_what_is_missing_too():
    columns = Columns((Category("city", MANY.columns[0].vocabulary, missing=True),))
    model = mlp(columns)
    before = model.get_weights()[0]
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True), jit_compile=False)
    model.train_on_batch(np.array([[-1.0], [3.0]], "float32"), np.array([0, 1]))
    changed = np.flatnonzero(np.abs(model.get_weights()[0] - before).max(axis=1))
    assert changed.tolist() == [3, 40]


@pytest.mark.parametrize("columns", [TABLE, MANY], ids=["one_hot", "learned"])
def test_a_saved_model_knows_its_columns(columns, tmp_path):
    model = mlp(columns)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert columns_of(again) == columns
    assert Columns.from_config(json.loads(json.dumps(model.get_layer("stem_table").get_config()))["columns"]) == columns
    rows = np.nan_to_num(np.random.default_rng(0).normal(size=(4, len(columns.names)))).astype("float32")
    np.testing.assert_array_equal(again(rows), model(rows))


@pytest.mark.parametrize("columns", [TABLE, MANY], ids=["one_hot", "learned"])
@pytest.mark.parametrize("task", ["classify", "regress"])
def test_a_tflite_file_answers_as_keras_does_also_to_what_is_missing(columns, task, tmp_path):
    options = {"task": "regress", "classes": None, "target": Scale(("price",), (5e5,), (1e5,))}
    model = mlp(columns, **(options if task == "regress" else {}))
    random = np.random.default_rng(0)
    for variable in model.weights:
        variable.assign(random.normal(size=variable.shape))
    width = len(columns.names)
    rows = random.integers(-1, 4, (20, width)).astype("float32")
    rows[random.random(rows.shape) < 0.2] = np.nan
    signature = [tf.TensorSpec((1, width), tf.float32, name="row")]
    model.export(tmp_path / "m.tflite", format="litert", input_signature=signature, verbose=False)
    content = (tmp_path / "m.tflite").read_bytes()
    assert b"Flex" not in content
    interpreter = Interpreter(model_content=content)
    interpreter.allocate_tensors()
    (source,), (sink,) = interpreter.get_input_details(), interpreter.get_output_details()
    answers = []
    for row in rows:
        interpreter.set_tensor(source["index"], row[np.newaxis])
        interpreter.invoke()
        answers.append(interpreter.get_tensor(sink["index"])[0])
    wanted = np.asarray(model(rows))
    assert np.ptp(wanted) > 1
    np.testing.assert_allclose(answers, wanted, rtol=1e-5, atol=1e-5 * np.abs(wanted).max())


def test_half_precision_does_not_touch_the_units():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = mlp(TABLE, task="regress", classes=None, target=Scale(("year",), (1_990.0,), (1.0,)))
    finally:
        keras.config.set_dtype_policy("float32")
    assert {layer.name: layer.compute_dtype for layer in model.layers if layer.weights or "units" in layer.name} == {
        "block0_dense": "bfloat16",
        "head_logits": "float32",
        "head_units": "float32",
    }
    np.testing.assert_array_equal(computed(Columns((FARE,)), np.array([[1000.25]])), [[0.5]])


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"size": "1"}], "Row 0 has no column 'city'.*It has: size"),
        ([{"city": "x", "size": "1"}, {"city": "x", "sise": "1"}], "Row 1 has no column 'size'. Did you mean 'sise'"),
        ([{"city": "x", "size": "1,5"}], "Row 0: column 'size' holds '1,5', which is no number"),
        ([{"city": "x", "size": "1_000"}], "'1_000', which is no number"),
        ([{"city": "x", "size": "1e39"}], "'1e39'; numbers must be finite, below 3.4e38"),
        ([{"city": "x", "size": "-inf"}], "'-inf'; numbers must be finite"),
    ],
)
def test_rows_that_do_not_fit_say_why(rows, message):
    with pytest.raises(ValueError, match=message):
        MANY.encode(rows)


def test_columns_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match="different names"):
        Columns((FARE, FARE))
    with pytest.raises(ValueError, match="different names"):
        Columns(())
    with pytest.raises(ValueError, match="'still', 'same' ever varied"):
        Columns((STILL, SAME))
    with pytest.raises(ValueError, match="must hold names, each once"):
        Category("port", ("A", "A"))
    with pytest.raises(ValueError, match="finite mean"):
        Number("age", std=-1.0)
    with pytest.raises(ValueError, match="no TableInput"):
        columns_of(zoo.create("mlp", widths=(2,), size=8))
    with pytest.raises(ValueError, match="has 2 columns, the table 6"):
        TableInput(TABLE)(np.zeros((1, 2), "float32"))


# Numbers in the units of the data


def test_a_scale_is_measured_by_column_and_without_what_is_missing():
    values = np.array([[1.0, 200.0, np.nan], [3.0, 400.0, 7.0]])
    assert Scale.measured(["a", "b", "c"], values) == Scale(("a", "b", "c"), (2.0, 300.0, 7.0), (1.0, 100.0, 0.0))
    assert Scale.measured(["a"], np.full((1001, 1), 0.1)) == Scale(("a",), (0.1,), (0.0,))  # despite rounding


def test_a_regression_predicts_in_the_units_of_its_target(tmp_path):
    scale = Scale(("price", "area"), (5e5, 80.0), (1e5, 0.1))
    model = mlp(Columns((FARE,)), task="regress", classes=None, target=scale, widths=())
    kernel, bias = np.array([[2.0, -1.0]]), np.array([0.5, 0.0])
    model.set_weights([kernel, bias])
    rows = np.array([[1000.0], [1001.0]], "float32")  # 0 and 2 when standardized
    np.testing.assert_allclose(model(rows), [[5.5e5, 80.0], [9.5e5, 79.8]])
    model.save(tmp_path / "model.keras")
    np.testing.assert_array_equal(keras.saving.load_model(tmp_path / "model.keras")(rows), model(rows))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ((("a",), (0.0, 1.0), (1.0,)), "must hold a name, mean and std a column"),
        ((("a",), (0.0,), (-1.0,)), "std at least 0"),
        ((("a",), (float("nan"),), (1.0,)), "must be finite"),
    ],
)
def test_scales_that_make_no_sense_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        Scale(*values)
