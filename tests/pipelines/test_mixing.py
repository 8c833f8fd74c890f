"""Mixup and CutMix: what is mixed with what in which shares, and what is refused."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

import zoo
from pipelines import images, mixing, sources
from pipelines.feed import Feed, feed, key
from pipelines.run import Images, Phase, Run
from tests.pipelines.feeds import image_examples
from zoo.core.family import Pixels

LABELS = np.array([0, 1, 2, 1, 0])
VALUES = np.arange(1, 6) * 10.0


def batches(count: int = 1) -> Feed:
    """Images of one value each, of 20 x 30 pixels."""
    pictures = np.broadcast_to(VALUES[:, None, None, None], (5, 20, 30, 3)).astype("float32")
    return feed(tf.data.Dataset.from_tensors((pictures, LABELS.astype("int32"))).repeat(count))


def mixed(count: int = 1, seed: int = 0, **ways) -> list:
    options = {"classes": 4, "mixup": 0.0, "cutmix": 0.0, **ways}
    return list(mixing.mixed(batches(count), seed=seed, **options).epoch().as_numpy_iterator())


def one_hot(share: float) -> np.ndarray:
    """The targets where an image's share is that, and the one before it has the rest."""
    eye = np.eye(4)
    return share * eye[LABELS] + (1 - share) * eye[np.roll(LABELS, 1)]


def test_mixup_blends_each_image_and_its_target_with_those_before():
    for pictures, targets in mixed(20, mixup=1.0):
        share = (pictures[1, 0, 0, 0] - VALUES[0]) / (VALUES[1] - VALUES[0])
        expected = share * VALUES + (1 - share) * np.roll(VALUES, 1)
        np.testing.assert_allclose(pictures, np.broadcast_to(expected[:, None, None, None], pictures.shape), rtol=1e-4)
        np.testing.assert_allclose(targets, one_hot(share), atol=1e-4)
        assert targets.dtype == pictures.dtype == np.float32


def test_cutmix_pastes_a_window_and_counts_its_area():
    areas = []
    for pictures, targets in mixed(60, cutmix=1.0):
        pasted = pictures[:, :, :, 0] == np.roll(VALUES, 1)[:, None, None]
        assert (pasted | (pictures[:, :, :, 0] == VALUES[:, None, None])).all()
        assert (pasted == pasted[0]).all()
        rows, columns = pasted[0].any(axis=1), pasted[0].any(axis=0)
        assert (pasted[0] == rows[:, None] & columns).all()
        assert all(np.count_nonzero(np.diff(side.astype(int))) <= 2 for side in (rows, columns))  # one window
        np.testing.assert_allclose(targets, one_hot(1 - pasted[0].mean()), atol=1e-6)
        areas.append(pasted[0].mean())
    assert min(areas) < 0.1 < 0.4 < max(areas)


def test_of_two_ways_each_batch_goes_one():
    blended = [
        len(np.unique(pictures[0])) == 1 and pictures[0].max() != VALUES[0]
        for pictures, _ in mixed(60, mixup=1, cutmix=1)
    ]
    cut = [len(np.unique(pictures[0])) == 2 for pictures, _ in mixed(60, mixup=1, cutmix=1)]
    assert not any(a and b for a, b in zip(blended, cut, strict=True))
    assert 15 < sum(blended) < 45 and sum(cut) > 10


def test_every_batch_and_seed_is_mixed_otherwise_and_again_the_same():
    def shares(seed):
        return [float(targets[1].max()) for _, targets in mixed(12, seed, mixup=1.0)]

    assert len(set(shares(0))) == 12
    assert shares(0) == shares(0) != shares(1)


@pytest.mark.parametrize("concentration", [0.01, 0.2, 1.0, 8.0])
def test_shares_are_of_the_beta_distribution(concentration):
    """The mean of Beta(a, a) is 1/2, its variance 1 / (4 (2 a + 1))."""
    keys = tf.random.split(key(0), 20_000)
    shares = tf.vectorized_map(lambda one: mixing.beta(tf.constant(concentration), one), keys).numpy()
    assert np.isfinite(shares).all() and (shares >= 0).all() and (shares <= 1).all()
    assert shares.mean() == pytest.approx(0.5, abs=0.02)
    assert shares.var() == pytest.approx(1 / (4 * (2 * concentration + 1)), rel=0.05)


def test_a_data_set_mixes_in_training_alone():
    examples = image_examples()
    described = Images("unused", mixup=0.2, augment="none")
    data = images.ImageDataset(sources.ImageData(("a", "b", "c"), examples, examples, examples), described)
    model = zoo.create("lenet5", classes=3, pixels=Pixels(size=32))
    pictures, targets = data.training_set(model, batch=8, seed=0).start(0).element_spec
    assert (pictures.shape, targets.shape, targets.dtype) == ((8, 32, 32, 3), (8, 3), tf.float32)
    assert data.evaluation_set(model, "test", batch=8).element_spec[1].dtype == tf.int32
    with pytest.raises(ValueError, match=r"mixup=0\.2.*a batch holds one"):
        data.training_set(model, batch=1, seed=0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mixup": -0.1}, r"Images\(mixup=-0\.1\) must be a number from 0"),
        ({"cutmix": float("nan")}, r"Images\(cutmix=nan\) must be a number"),
        ({"cutmix": float("inf")}, r"Images\(cutmix=inf\) must be a number"),
        ({"mixup": "0.2"}, r"Images\(mixup='0\.2'\) must be a number"),
        ({"mixup": True}, r"Images\(mixup=True\) must be a number"),
        ({"balance": "yes"}, r"Images\(balance='yes'\) must be True or False"),
    ],
)
def test_what_cannot_be_mixed_or_balanced_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Images("digits", **options)


def test_a_run_keeps_how_images_are_mixed_and_balanced():
    run = Run("lenet5", Images("digits", balance=True, mixup=0.2, cutmix=1), (Phase(1, 1e-3),), Path("out"))
    assert Run.from_json(run.to_json()) == run
    plain = dataclasses.replace(run, data=Images("digits"))
    old = json.loads(plain.to_json())  # as runs were written before
    for field in ("balance", "mixup", "cutmix"):
        del old["data"][field]
    assert Run.from_json(json.dumps(old)) == plain
