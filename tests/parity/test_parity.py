"""Checkpoints in the publishers' own names and layouts give the publishers' own numbers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

import zoo
from tests.parity import packs
from tests.rows import ROWS, SLOW_PACKS
from zoo.layers.pixels import pixels_of

pytestmark = pytest.mark.parity

_THEIRS = {"tokens": "last_hidden_state", "pooled": "pooler_output"}


def _cases() -> list:
    return [
        pytest.param(row.variant, pack, options, id=pack, marks=pytest.mark.slow if pack in SLOW_PACKS else ())
        for row in ROWS.values()
        for pack, options in row.packs.items()
    ]


def _outputs(model, pack: packs.Pack) -> Mapping[str, np.ndarray]:
    """What a model answers to the pack's image, which is turned back into RGB 0..255 first."""
    pixels = pixels_of(model)
    image = pack.image.astype("float64") * pixels.std + pixels.mean
    answer = model(image.astype("float32"), training=False)
    answers = (
        {_THEIRS[name]: value for name, value in answer.items()} if isinstance(answer, dict) else {"logits": answer}
    )
    return {name: np.asarray(value) for name, value in answers.items()}


def _times_tolerance(model, pack: packs.Pack) -> float:
    outputs = _outputs(model, pack)
    assert set(outputs) == set(pack.outputs)
    return max(pack.difference(name, value).times_tolerance for name, value in outputs.items())


@pytest.mark.parametrize(("variant", "name", "options"), _cases())
def test_a_checkpoint_gives_the_numbers_of_the_reference(variant, name, options, tmp_path):
    pack = packs.load(name)
    folder = pack.write(tmp_path)
    task = "features" if "last_hidden_state" in pack.outputs else "classify"
    size = pack.image.shape[1:3]  # V2-S of EfficientNet is published for images larger than the pack's
    described = zoo.from_checkpoint(folder, size=size)
    named = zoo.create(variant, weights=folder, task=task, size=size, **options)
    assert _times_tolerance(described, pack) < 1
    assert _times_tolerance(named, pack) < 1


@pytest.mark.parametrize("name", ["extra_hf_vit", "extra_timm_mobilenetv2_035", "hf_vit_model", "timm_mobilenetv1_100"])
def test_the_weights_are_those_that_the_reference_had(name):
    pack = packs.load(name)
    assert packs.digest(pack.weights()) == pack.weights_digest


@pytest.mark.parametrize(
    ("name", "every"),
    [
        ("extra_hf_vit", 1),
        ("extra_timm_mobilenetv2_035", 19),
        ("extra_tv_mobilenet_v3_small", 19),
        pytest.param("extra_timm_mobilenetv2_035", 1, marks=pytest.mark.slow),
        pytest.param("extra_tv_mobilenet_v3_small", 1, marks=pytest.mark.slow),
    ],
)
def test_one_percent_of_noise_on_any_tensor_is_noticed(name, every, tmp_path):
    """So a transpose, a swap or a tensor left out cannot pass: the comparison sees far less."""
    pack = packs.load(name)
    model = zoo.from_checkpoint(pack.write(tmp_path))
    random = np.random.default_rng(0)
    unnoticed = []
    for variable in model.weights[::every]:
        value = np.array(variable)
        variable.assign(value + 0.01 * value.std() * random.standard_normal(value.shape))
        if _times_tolerance(model, pack) < 1:
            unnoticed.append(variable.path)
        variable.assign(value)
    assert _times_tolerance(model, pack) < 1
    assert [path for path in unnoticed if not path.endswith("key/bias")] == []  # softmax does not see that bias


def test_the_bundled_weights_answer_as_torchvision_does_on_real_photos():
    wanted = json.loads((packs.FOLDER / "photos.json").read_text(encoding="utf-8"))
    model = zoo.create("mobilenet_v2", weights="bundled")
    for name, answer in wanted.items():
        logits = np.asarray(model(packs.photo(name)[None], training=False))[0]
        assert list(np.argsort(-logits)[:5]) == answer["top5"], answer["labels"]
        np.testing.assert_allclose(logits[answer["top5"]], answer["logits"], atol=1e-3)  # of logits up to 20
        np.testing.assert_allclose(logits[:8], answer["first8"], atol=1e-3)


def test_every_pack_belongs_to_a_variant():
    assert set(packs.names()) == {name for row in ROWS.values() for name in row.packs}
    assert set(packs.names()) >= SLOW_PACKS


def test_the_packs_name_no_file_outside():
    assert not any(Path(name).is_absolute() for pack in packs.names() for name, *_ in packs.load(pack).tensors)
