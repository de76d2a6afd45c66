import math
from statistics import mean, stdev

import numpy as np
import pytest

from timellm_cli.evaluation.seeds import T_975, differ, spread_of


@pytest.mark.parametrize("freedom", [1, 2, 5, 20])
def test_the_quantiles_leave_two_and_a_half_per_cent_above(freedom: int) -> None:
    """Student's t is a normal over the root of a mean of squared normals."""
    normals = np.random.default_rng(0).standard_normal((freedom + 1, 400_000))
    t = normals[0] / np.sqrt((normals[1:] ** 2).mean(axis=0))
    assert (t > T_975[freedom - 1]).mean() == pytest.approx(0.025, abs=0.001)


def test_the_interval_is_welchs() -> None:
    """Worked by hand: variances .0004 / 3 and .0001 / 3; the degrees of freedom are 2.94, rounded down to 2."""
    difference = differ([0.38, 0.40, 0.42], [0.45, 0.46, 0.47])
    error = (0.0004 / 3 + 0.0001 / 3) ** 0.5
    assert difference.standard_error == pytest.approx(error)
    assert difference.mean == pytest.approx(-0.06)
    assert difference.relative == pytest.approx(-0.06 / 0.46)
    assert (difference.low, difference.high) == pytest.approx((-0.06 - 4.303 * error, -0.06 + 4.303 * error))
    assert (difference.ours, difference.theirs, difference.outcome) == (3, 3, "lower")


@pytest.mark.parametrize(
    ("ours", "theirs", "outcome"),
    [
        ([0.30, 0.31, 0.29], [0.40, 0.41, 0.39], "lower"),
        ([0.40, 0.41, 0.39], [0.30, 0.31, 0.29], "higher"),
        ([0.30, 0.35, 0.25], [0.31, 0.36, 0.26], "same"),
        ([0.30], [0.40, 0.41, 0.39], "unknown"),
        ([0.30, 0.31], [0.40], "unknown"),
        ([0.30, 0.31, 0.29], 0.4, "lower"),
        ([0.30], 0.4, "unknown"),
        ([0.30, 0.30], [0.40, 0.40], "lower"),
        ([0.30, 0.30], [0.30, 0.30], "same"),
    ],
)
def test_a_difference_counts_where_its_interval_leaves_out_zero(
    ours: list[float], theirs: list[float] | float, outcome: str
) -> None:
    difference = differ(ours, theirs)
    assert difference.outcome == outcome
    assert (difference.standard_error is None) == (outcome == "unknown")


def test_against_a_fixed_number_the_interval_is_that_of_one_sample() -> None:
    runs = [0.30, 0.32, 0.31, 0.33]
    difference = differ(runs, 0.4)
    assert difference.standard_error == pytest.approx(stdev(runs) / 2)
    assert difference.high == pytest.approx(mean(runs) - 0.4 + 3.182 * stdev(runs) / 2)
    assert difference.theirs == 0


def test_one_in_twenty_differences_of_nothing_is_taken_for_one_at_most() -> None:
    """The promise of the interval, held against draws of one and the same normal."""
    draws = np.random.default_rng(1).normal(0.4, 0.01, size=(4000, 6))
    found = [differ(list(draw[:3]), list(draw[3:])).outcome != "same" for draw in draws]
    assert 0 < np.mean(found) <= 0.05


def test_a_single_run_has_no_spread() -> None:
    assert spread_of([0.4]) is None
    assert spread_of([0.4, 0.5, 0.6]) == pytest.approx(0.1)


def test_against_a_fixed_number_eight_seeds_have_seven_degrees_of_freedom_whatever_rounding_says() -> None:
    for start in range(200):
        ours = [math.sin(start * 8 + position) for position in range(8)]
        difference = differ(ours, 0.0)
        assert difference.high is not None and difference.standard_error is not None
        assert (difference.high - difference.mean) / difference.standard_error == pytest.approx(T_975[6])
