"""Checkpoints in the publishers' own names and layouts give the publishers' own numbers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import zoo
from tests.parity import packs
from tests.parity.answers import greedy
from tests.parity.generative import times_tolerance
from tests.rows import ROWS, SLOW_PACKS
from zoo.core.registry import find_family

pytestmark = pytest.mark.parity
OTHER_TASKS = {"hf_blip_itm/cosine": "contrast"}  # of cases that ask the same weights something else


def _cases() -> list:
    return [
        pytest.param(row.variant, pack, options, id=pack, marks=pytest.mark.slow if pack in SLOW_PACKS else ())
        for row in ROWS.values()
        for pack, options in row.packs.items()
    ]


@pytest.mark.parametrize(("variant", "name", "options"), _cases())
def test_a_checkpoint_gives_the_numbers_of_the_reference(variant, name, options, tmp_path):
    pack = packs.load(name)
    folder = pack.write(tmp_path)
    size = pack.size  # some are published for larger ones
    match = find_family(variant).from_hub(pack.config, {tensor: shape for tensor, shape, _ in pack.tensors})
    described = zoo.from_checkpoint(folder, **size)
    named = zoo.create(variant, weights=folder, task=match.task, **size, **options)
    for case in pack.cases():
        if case.name in OTHER_TASKS:
            described = zoo.from_checkpoint(folder, task=OTHER_TASKS[case.name])
            named = zoo.create(variant, weights=folder, task=OTHER_TASKS[case.name], **options)
        assert times_tolerance(described, case) < 1, case.name
        assert times_tolerance(named, case) < 1, case.name


@pytest.mark.parametrize("name", [name for name in packs.names() if packs.load(name).generation])
def test_greedy_decoding_gives_the_tokens_of_the_reference(name, tmp_path):
    pack = packs.load(name)
    model = zoo.from_checkpoint(pack.write(tmp_path))
    assert greedy(model, pack).tolist() == packs.arrays({"": pack.generation["sequences"]})[""].tolist()


@pytest.mark.parametrize(
    "name",
    [
        "extra_hf_vit",
        "extra_timm_mobilenetv2_035",
        "hf_vit_model",
        "timm_mobilenetv1_100",
        *(name for name in packs.names() if not packs.load(name).takes_images),
    ],
)
def test_the_weights_are_those_that_the_reference_had(name):
    pack = packs.load(name)
    assert packs.digest(pack.weights()) == pack.weights_digest


@pytest.mark.parametrize(
    ("name", "every"),
    [
        ("extra_hf_vit", 1),
        ("hf_bert_model", 5),
        ("hf_roberta_seqcls", 7),
        ("hf_distilbert_seqcls", 7),
        ("extra_timm_mobilenetv2_035", 19),
        ("extra_tv_mobilenet_v3_small", 19),
        *(
            pytest.param(name, 1, marks=pytest.mark.slow)
            for name in ("hf_bert_model", "hf_roberta_seqcls", "hf_distilbert_seqcls", "extra_hf_roberta_mlm")
        ),
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
        if times_tolerance(model, pack) < 1:
            unnoticed.append(variable.path)
        variable.assign(value)
    assert times_tolerance(model, pack) < 1
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
