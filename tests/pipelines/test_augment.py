import numpy as np
import pytest
import tensorflow as tf

from pipelines import augment, decoding
from tests.pipelines.pictures import pattern
from zoo.core.family import Pixels

PIXELS = Pixels(size=32)
IMAGE = decoding.scaled(pattern(60, 90), PIXELS)


def augmented(name, seed, *, flip=True, image=IMAGE, pixels=PIXELS):
    return augment.policy(name, pixels, flip=flip)(image, tf.constant(seed, tf.int32)).numpy()


def test_none_is_what_evaluation_sees():
    np.testing.assert_array_equal(augmented("none", (1, 2)), decoding.resize_and_crop(IMAGE, PIXELS))
    np.testing.assert_array_equal(augmented("none", (1, 2)), augmented("none", (3, 4)))


@pytest.mark.parametrize("name", ["light", "standard"])
def test_a_seed_decides_everything(name):
    first, again, other = augmented(name, (5, 6)), augmented(name, (5, 6)), augmented(name, (5, 7))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).mean() > 1
    assert first.shape == (32, 32, 3)
    assert first.dtype == np.float32


@pytest.mark.parametrize("name", ["light", "standard"])
def test_values_stay_in_range(name):
    noise = np.random.default_rng(0).choice([0, 255], size=(36, 36, 3)).astype(np.uint8)
    for seed in range(20):
        found = augmented(name, (seed, 0), image=noise)
        assert found.min() >= 0
        assert found.max() <= 255


def slope(image):
    """Sign of the change from left to right."""
    return np.sign(image[..., -1, :].mean() - image[..., 0, :].mean())


@pytest.mark.parametrize("name", ["light", "standard"])
@pytest.mark.parametrize(("flip", "shares"), [(True, (0.3, 0.7)), (False, (0, 0))])
def test_half_of_the_images_are_mirrored_if_asked(name, flip, shares):
    ramp = np.broadcast_to(np.linspace(50, 200, 40)[:, None], (40, 40, 3)).astype(np.uint8)
    mirrored = np.mean([slope(augmented(name, (seed, 1), flip=flip, image=ramp)) < 0 for seed in range(60)])
    assert shares[0] <= mirrored <= shares[1]


def test_light_crops_reach_every_corner():
    """Every pixel holds its own place, so a crop says where it was taken."""
    places = np.zeros((36, 40, 3), np.uint8)
    places[..., 0], places[..., 1] = np.mgrid[:36, :40]
    draws = np.random.default_rng(0).random((300, 2)).astype(np.float32)
    corners = {tuple(augment.random_crop(places, draw, shape=(32, 32)).numpy()[0, 0, :2]) for draw in draws}
    assert corners == {(top, left) for top in range(5) for left in range(9)}


def test_standard_crops_have_the_area_and_aspect_asked_for():
    """A ramp's slope in the crop says how much of the image the crop spans."""
    ramp = np.zeros((200, 200, 3), np.float32)
    ramp[..., 0], ramp[..., 1] = np.mgrid[:200, :200]
    crop = augment.Crop(area=(0.35, 1.0), aspect=(3 / 4, 4 / 3))
    areas, aspects = [], []
    for draw in np.random.default_rng(0).random((200, 4)).astype(np.float32):
        found = augment.random_resized_crop(ramp, draw, pixels=PIXELS, crop=crop).numpy()
        # Away from the border, where the filter is cut off: 32 output pixels span the crop's sides.
        height = (found[24, 16, 0] - found[8, 16, 0]) * 2
        width = (found[16, 24, 1] - found[16, 8, 1]) * 2
        areas.append(height * width / 200**2)
        aspects.append(width / height)
    assert 0.34 < min(areas) < 0.45
    assert 0.85 < max(areas) < 1.01
    assert 0.74 < min(aspects) < 0.8
    assert 1.25 < max(aspects) < 1.34


def test_the_middle_of_the_draws_changes_no_color():
    image = tf.cast(IMAGE, tf.float32)
    found = augment.recolored(image, tf.fill([4], 0.5), colors=augment.Colors(0.5, 0.5, 0.5, 0.1))
    np.testing.assert_allclose(found, image, atol=1e-3)


@pytest.mark.parametrize(
    ("draws", "wanted"),
    [
        ((1.0, 0.5, 0.5, 0.5), lambda image: image * 1.2),
        ((0.5, 0.0, 0.5, 0.5), lambda image: (image - gray(image).mean()) * 0.8 + gray(image).mean()),
        ((0.5, 0.5, 0.0, 0.5), lambda image: (image - gray(image)) * 0.8 + gray(image)),
    ],
    ids=["brightness", "contrast", "saturation"],
)
def test_each_draw_moves_what_it_should(draws, wanted):
    image = np.random.default_rng(0).uniform(40, 200, size=(8, 9, 3)).astype(np.float32)
    found = augment.recolored(image, tf.constant(draws), colors=augment.Colors(0.2, 0.2, 0.2, 0.1))
    np.testing.assert_allclose(found, wanted(image), atol=0.01)


def test_hue_turns_colors_and_keeps_their_brightness():
    image = np.broadcast_to(np.float32([150, 100, 80]), (4, 4, 3))
    found = augment.recolored(image, tf.constant([0.5, 0.5, 0.5, 1.0]), colors=augment.Colors(0, 0, 0, 0.25))
    np.testing.assert_allclose(gray(found.numpy()), gray(image), atol=0.05)
    tint, turned = image - gray(image), found.numpy() - gray(image)
    to_iq = augment._TO_YIQ[:, 1:]
    # A quarter of a turn: at a right angle to the old tint, and as strong.
    np.testing.assert_allclose(np.sum((tint @ to_iq) * (turned @ to_iq), axis=-1), 0, atol=0.5)
    np.testing.assert_allclose(
        np.linalg.norm(turned @ to_iq, axis=-1), np.linalg.norm(tint @ to_iq, axis=-1), rtol=1e-3
    )


def gray(image):
    return image @ np.float32([[0.299], [0.587], [0.114]])


def test_an_unknown_policy_is_named():
    with pytest.raises(ValueError, match=r"'strong'.*none, light, standard"):
        augment.policy("strong", PIXELS, flip=True)
