"""Latents and pictures of what is made of them."""

import numpy as np
import pytest
from PIL import Image

import zoo
from pipelines import grids, latents
from pipelines.sample import Request, Sampled

SIZES = {"size": 8, "depth": 2, "width": 4, "latent": 6, "channels": 1}


def test_latents_hang_on_seed_and_place_alone():
    few, more = latents.drawn(3, 5, seed=1), latents.drawn(9, 5, seed=1)
    np.testing.assert_array_equal(few, more[:3])
    assert not np.array_equal(few, latents.drawn(3, 5, seed=2))
    many = latents.drawn(2000, 5, seed=0)
    assert abs(many.mean()) < 0.03 and abs(many.std() - 1) < 0.03


def test_truncated_latents_are_normal_within_their_bound():
    found = latents.drawn(2000, 5, seed=0, truncation=0.8)
    assert 0.78 < np.abs(found).max() <= 0.8
    bound = 0.8  # the variance of a normal distribution cut off there
    density, share = np.exp(-(bound**2) / 2) / np.sqrt(2 * np.pi), 0.5762892  # of what lies within
    assert found.var() == pytest.approx(1 - 2 * bound * density / share, rel=0.03)


def test_the_way_between_two_keeps_its_length():
    first, last = np.array([3.0, 0.0]), np.array([0.0, 3.0])
    way = latents.between(first, last, 5)
    np.testing.assert_allclose(np.linalg.norm(way, axis=1), 3, rtol=1e-6)
    np.testing.assert_allclose(way[[0, 2, 4]], [first, [4.5**0.5, 4.5**0.5], last], atol=1e-6)
    np.testing.assert_allclose(latents.between(first, 2 * first, 3)[:, 0], [3, 4.5, 6], rtol=1e-6)


def test_a_grid_holds_each_image_at_its_place():
    shown = np.arange(5)[:, None, None, None] * np.full((1, 60, 50, 1), 40)
    sheet = grids.grid(shown, columns=3)
    assert sheet.shape == (60 * 2 + 2, 50 * 3 + 4, 1) and sheet.dtype == np.uint8
    assert sheet[0, 0, 0] == 0 and sheet[0, 52, 0] == 40 and sheet[62, 52, 0] == 160
    assert sheet[62, 104, 0] == 255  # no image
    assert grids.grid(np.zeros((1, 8, 8, 3))).shape == (48, 48, 3)  # small ones are enlarged
    with pytest.raises(ValueError, match=r"not of \(2, 8, 8, 4\)"):
        grids.grid(np.zeros((2, 8, 8, 4)))


def test_images_are_written_as_a_grid_or_one_by_one(tmp_path):
    images = np.random.default_rng(0).integers(0, 255, (3, 8, 8, 3)).astype(np.uint8)
    found = Sampled(images, ("a/b", "c", "c"))
    assert found.write(tmp_path / "all.png") == [tmp_path / "all.png"]
    paths = found.write(tmp_path / "each")
    assert [path.name for path in paths] == ["0001_a_b.png", "0002_c.png", "0003_c.png"]
    np.testing.assert_array_equal(np.asarray(Image.open(paths[1])), images[1])


def test_pictures_of_an_epoch_are_the_same_each_time(tmp_path):
    generator = zoo.create("gan_conditional", labels=3, **SIZES)
    for folder in ("first", "again"):
        latents.draw(generator, tmp_path / folder, "phase1_epoch001", classes=3)
    names = sorted(path.name for path in (tmp_path / "first" / "pictures").iterdir())
    assert names == ["phase1_epoch001_between.png", "phase1_epoch001_samples.png"]
    for name in names:
        assert (tmp_path / "first" / "pictures" / name).read_bytes() == (
            tmp_path / "again" / "pictures" / name
        ).read_bytes()
    assert Image.open(tmp_path / "first" / "pictures" / names[1]).size == (10 * 50 - 2, 3 * 50 - 2)  # a row a class


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"count": 0}, "count=0 must be a whole number from 1"),
        ({"seed": -1}, "seed=-1"),
        ({"truncation": 0.0}, "must be over 0"),
    ],
)
def test_wrong_requests_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Request(**options)
