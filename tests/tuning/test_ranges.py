"""Ranges: the values that they hold, and those that cannot be."""

from __future__ import annotations

import pytest

from tuning.space import Cases, Choice, Float, Int


@pytest.mark.parametrize(
    ("given", "points"),
    [
        (Float(0, 0.3, step=0.1), (0.0, 0.1, 0.2, 0.3)),  # 0.3 // 0.1 is 2.0
        (Float(0.1, 0.95, step=0.4), (0.1, 0.5, 0.9)),
        (Float(1e-4, 1e-1, step=10, sampling="log"), (1e-4, 1e-3, 1e-2, 1e-1)),
        (Int(2, 20, step=2, sampling="log"), (2, 4, 8, 16)),
        (Int(8, 1000, step=5, sampling="log"), (8, 40, 200, 1000)),
        (Choice(None, 16, "auto", (1, 2)), (None, 16, "auto", (1, 2))),
    ],
)
def test_the_points_of_ranges_with_steps(given, points):
    assert given.points == pytest.approx(points) if None not in points else given.points == points
    assert {given.at(share / 100) for share in range(101)} == set(given.points)
    assert all(point in given for point in points)


@pytest.mark.parametrize(
    "given",
    [Int(3, 9), Int(3, 10, step=3), Int(1, 7, sampling="log"), Int(5, 5), Int(-4, -2), Int(2, 2, sampling="log")],
)
def test_whole_numbers_are_drawn_from_end_to_end(given):
    drawn = {given.at(share / 2000) for share in range(2001)}
    assert drawn == set(range(given.low, given.high + 1, given.step or 1))
    assert all(type(value) is int and value in given for value in drawn)


def test_a_logarithmic_range_gives_each_decade_its_share():
    given = Float(1e-5, 1e-2, sampling="log")
    assert [given.at(share) for share in (0, 1 / 3, 2 / 3, 1)] == pytest.approx([1e-5, 1e-4, 1e-3, 1e-2])
    assert given.at(1.0) <= given.high and Float(0.1, 0.7, sampling="log").at(1.0) == 0.7


def test_true_is_not_one():
    assert True not in Choice(1, 2) and 1 not in Choice(True, False) and 1.0 in Choice(1, 2)
    assert 1.5 not in Int(1, 2) and True not in Int(0, 1) and 1 in Float(0, 1)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Choice(), "nothing to choose"),
        (lambda: Choice(1, 2, 1), "holds 1 twice"),
        (lambda: Choice(1, 2, default=3), "default=3"),
        (lambda: Choice(object()), "A choice is of"),
        (lambda: Choice(float("nan")), "A choice is of"),
        (lambda: Int(5, 2), "low is over high"),
        (lambda: Int(1.5, 2), "low=1.5"),
        (lambda: Int(True, 2), "low=True"),
        (lambda: Int(1, 9, step=0), "step=0"),
        (lambda: Int(1, 9, step=1, sampling="log"), "step=1"),
        (lambda: Int(0, 9, sampling="log"), "over 0"),
        (lambda: Int(1, 9, sampling="lgo"), "'lgo' is not one of 'linear', 'log'"),
        (lambda: Int(1, 9, step=2, default=4), "default=4"),
        (lambda: Float(0, float("inf")), "high=inf"),
        (lambda: Float("a", 1), "low='a'"),
        (lambda: Float(-1, 1, sampling="log"), "over 0"),
        (lambda: Float(0, 1, step=1e-9), "1000000000 values"),
        (lambda: Float(1, 2, step=1.00000001, sampling="log"), "values; leave it out"),
        (lambda: Cases(), "must hold ranges"),
        (lambda: Cases(Float(0, 1), Float(0, 2)), "asked at once"),
        (lambda: Cases(Choice(1, when={"a": (1, 2)}), Choice(2, when={"a": (2, 3)})), "asked at once"),
        (lambda: Choice(1, when={"model": ()}), "never holds"),
        (lambda: Choice(1, when=["model"]), "when=\\['model'\\]"),
    ],
)
def test_ranges_that_cannot_be_are_refused(make, said):
    with pytest.raises(ValueError, match=said):
        make()
