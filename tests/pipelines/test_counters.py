"""Random numbers of many seeds at once."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from pipelines.objectives import counters


@pytest.mark.parametrize(
    ("seed", "words"),
    [
        (0, (0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F)),
        (1234567, (6457827717110365317, 3203168211198807973, 9817491932198370423)),
    ],
)
def test_bits_are_those_of_the_published_generator(seed, words):
    found = counters.splitmix(tf.constant([seed], tf.uint64), 3)
    assert tuple(found.numpy()[0]) == words


@pytest.mark.parametrize(("draw", "rounding"), [(counters.uniform, 0), (counters.normal, 5e-7)])
@pytest.mark.parametrize("count", [1, 2, 5, 64])
def test_what_a_seed_gives_hangs_on_nothing_beside_it(draw, rounding, count):
    seeds = tf.random.stateless_uniform((6, 2), (1, 2), minval=None, maxval=None, dtype=tf.int32)
    together = draw(seeds, count).numpy()
    assert together.shape == (6, count)
    apart = np.concatenate([draw(seeds[number : number + 1], count).numpy() for number in range(6)])
    np.testing.assert_allclose(together, apart, rtol=0, atol=rounding)
    assert len(np.unique(together)) == together.size


def test_numbers_are_distributed_as_they_should_be():
    seeds = tf.random.stateless_uniform((500, 2), (3, 4), minval=None, maxval=None, dtype=tf.int32)
    uniform, normal = counters.uniform(seeds, 401).numpy(), counters.normal(seeds, 401).numpy()
    assert uniform.min() > 0 and uniform.max() < 1
    counts, _ = np.histogram(uniform, bins=20, range=(0, 1))
    np.testing.assert_allclose(counts / uniform.size, 0.05, atol=0.003)
    below = [(normal < at).mean() for at in (-2.0, -1.0, 0.0, 1.0, 2.0)]
    np.testing.assert_allclose(below, (0.02275, 0.15866, 0.5, 0.84134, 0.97725), atol=0.004)
    neighbors = np.corrcoef(normal[:, :-1].ravel(), normal[:, 1:].ravel())[0, 1]
    examples = np.corrcoef(normal[:-1].ravel(), normal[1:].ravel())[0, 1]
    assert abs(neighbors) < 0.01 and abs(examples) < 0.01
