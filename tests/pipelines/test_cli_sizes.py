"""The sizes that `zoo show` tells are those of real exports, to five percent."""

import numpy as np
import pytest

import zoo
from pipelines.agreement import Limit, Tolerance
from pipelines.export import export
from zoo.core.cost import export_sizes

ANY = Limit(agreement=0.0, difference=1e9, noise=1e9, accuracy_drop=1.0)  # weights are random, and only sizes matter


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "options"), [("lenet5", {}), ("mobilenet_v2", {"width": 0.35, "size": 64, "classes": 50})]
)
def test_sizes_are_those_of_real_files(tmp_path, name, options):
    model = zoo.create(name, **options)
    images = np.random.default_rng(0).uniform(0, 255, (16, *model.input_shape[1:])).astype("float32")
    classes = [f"class {index}" for index in range(model.output_shape[-1])]
    tolerance = Tolerance(exact=ANY, float16=ANY, quantized=ANY, reduced=ANY)
    formats = ("saved_model", "float32", "float16", "int8")
    export(model, formats, out=tmp_path, classes=classes, images=images, calibration=images, tolerance=tolerance)
    said = export_sizes(model)
    files = [file for file in (tmp_path / "saved_model").rglob("*") if file.is_file()]
    real = {form: (tmp_path / f"{form}.tflite").stat().st_size for form in formats[1:]}
    real["saved_model"] = sum(file.stat().st_size for file in files)
    assert vars(said) == pytest.approx(real, rel=0.05)
