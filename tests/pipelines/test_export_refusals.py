"""Models and arguments that cannot be exported: one clear error each, and no file."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers

from pipelines.export import ExportError, ExportReport, export
from tests.pipelines.digits_model import CLASSES, PIXELS, Doubled, Rolled, convolutional, digits
from zoo.layers.pixels import image_input

IMAGES, LABELS = (array[:200] for array in digits())


def attempt(out: Path, *formats: str, **changes) -> ExportReport:
    """Exports an untrained model, or what is given instead."""
    model = changes.pop("model", None) or convolutional()
    given = {"classes": CLASSES, "images": IMAGES, "labels": LABELS, "formats": formats or ("float32",)}
    return export(model, out=out, **{**given, **changes})


def test_operators_that_tflite_lacks_are_named(tmp_path):
    model = convolutional(head=layers.Resizing(9, 9, interpolation="bicubic"))
    with pytest.raises(ExportError, match=r"float32.tflite: needs operators .* not have: FlexResizeBicubic\. Replace"):
        attempt(tmp_path, "float32", model=model)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_weights_too_large_for_float16_are_noticed(tmp_path):
    model = convolutional()
    kernel, bias = model.get_layer("head_logits").get_weights()
    model.get_layer("head_logits").set_weights([kernel * 1e6, bias])
    with pytest.raises(ExportError) as caught:
        attempt(tmp_path, "float32", "float16", model=model)
    assert "float16.tflite: a logit differs by" in str(caught.value)  # the converter cuts them off at 65504
    assert "float32.tflite" not in str(caught.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_crash_of_the_converter_is_an_error_that_names_the_format(tmp_path):
    image, x = image_input(PIXELS)
    x = Rolled()(layers.Reshape((16, 48))(x))
    model = keras.Model(image, layers.Dense(10)(x))
    with pytest.raises(
        ExportError, match=r"(?s)int8\.tflite: the conversion ended with SIG[A-Z]+; it printed:"
    ) as caught:
        attempt(tmp_path, "float32", "int8", model=model, calibration=IMAGES[:50])
    assert "float32.tflite" not in str(caught.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"classes": CLASSES[:9]}, r"'small' has 10 logits, but there are 9 classes: 'zero', "),
        ({"classes": (*CLASSES[:9], "one")}, "Class names must differ"),
        ({"classes": (*CLASSES[:9], "a\nb")}, "be one line each"),
        ({"images": np.full((4, 8, 16, 3), 255)}, r"takes images of shape \(N, 16, 16, 3\), got \(4, 8, 16, 3\)"),
        ({"images": np.ones((0, 16, 16, 3))}, r"got \(0, 16, 16, 3\)"),
        ({"images": np.full((200, 16, 16, 3), 0.5)}, r"must be RGB 0..255, but their values go from 0.5 to 0.5"),
        ({"labels": np.arange(7)}, r"a label from 0 to 9 for each of the 200 images, got \(7,\) from 0 to 6"),
        ({"labels": np.full(200, 10)}, "from 10 to 10"),
        ({"formats": ("int8",)}, "int8 needs calibration=: about 100 training images"),
        ({"formats": ("onnx",)}, r"The formats \['onnx'\] must be some of saved_model, float32"),
        ({"formats": ()}, "must be some of"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        attempt(tmp_path, **changes)
    assert not list(tmp_path.iterdir())


def unfit_models() -> dict[str, keras.Model]:
    image = keras.Input((16, 16, 3))
    pooled = layers.GlobalAveragePooling2D()(image)
    anywhere = keras.Input((None, None, 3))
    local = type("Local", (Doubled,), {"__module__": "__main__"})
    return {
        r"must turn images \(B, H, W, 3\) into logits": keras.Model(image, layers.Conv2D(10, 3)(image)),
        "takes images .None, None, None, 3.": keras.Model(
            anywhere, layers.Dense(10)(layers.GlobalAveragePooling2D()(anywhere))
        ),
        "ends in a softmax .'last'.": keras.Model(image, layers.Dense(10, activation="softmax", name="last")(pooled)),
        "The layers Local are defined in the program itself": keras.Model(image, layers.Dense(10)(local()(pooled))),
    }


@pytest.mark.parametrize("message", list(unfit_models()))
def test_models_that_cannot_be_exported_are_refused(tmp_path, message):
    with pytest.raises(ValueError, match=message):
        attempt(tmp_path, "float32", model=unfit_models()[message])


def test_a_diverged_model_is_refused(tmp_path):
    model = convolutional()
    model.get_layer("head_logits").bias.assign(np.full(10, np.nan))
    with pytest.raises(ValueError, match="'small' are not all finite numbers: its training has diverged"):
        attempt(tmp_path, "float32", model=model)
