"""Random numbers of many seeds at once."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from pipelines.objectives import counters


@pytest.mark.parametrize(
    ("key", "counter", "bits"),
    [
        ((0, 0), (0, 0), (0x6B200159, 0x99BA4EFE)),
        ((0xFFFFFFFF, 0xFFFFFFFF), (0xFFFFFFFF, 0xFFFFFFFF), (0x1CB996FC, 0xBB002BE7)),
        ((0x13198A2E, 0x03707344), (0x243F6A88, 0x85A308D3), (0xC4923A9C, 0x483DF7A0)),
    ],
)
def test_bits_are_those_that_the_authors_published(key, counter, bits):
    found = counters.threefry(tf.constant(key, tf.uint32), tf.constant(counter, tf.uint32))
    assert tuple(found.numpy()) == bits


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
