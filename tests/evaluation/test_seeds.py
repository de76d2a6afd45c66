"""Runs that differ in the seed alone are one group; what a difference between two groups is worth."""

import math
from pathlib import Path
from statistics import mean, stdev

import numpy as np
import pytest

from tests.untrained import make_config
from timellm_cli.config import Config
from timellm_cli.evaluation.seeds import T_975, control_of, differ, group_seeds, name_groups, spread_of


def config(llm: str = "gpt2", **changes: object) -> Config:
    return make_config(Path("a.csv"), llm, **changes)


def test_seeds_of_one_run_are_one_group_wherever_they_were_trained() -> None:
    first = config()
    second = first.with_values({"train.seed": 7, "run.name": "other", "hardware.capture": "on", "train.workers": 2})
    other = config(train__learning_rate=0.1)
    assert group_seeds([first, other, second]) == [[0, 2], [1]]


def test_a_batch_that_a_small_card_takes_in_more_steps_makes_no_group() -> None:
    large = config(train__batch_size=32, train__accumulate=1)
    small = config(train__batch_size=8, train__accumulate=4, train__seed=1)
    assert group_seeds([large, small, config(train__batch_size=8)]) == [[0, 1], [2]]
    assert control_of(small, config("none", train__batch_size=32)) == "no LLM"


@pytest.mark.parametrize(
    "changes", [{"llm__layers": 3}, {"train__loss": "mae"}, {"window__seq_len": 72}, {"model__d_ff": 16}]
)
def test_what_was_learned_otherwise_is_a_group_of_its_own(changes: dict[str, object]) -> None:
    assert group_seeds([config(), config(**changes)]) == [[0], [1]]


def test_further_files_of_one_seed_are_lines_of_their_own() -> None:
    """best.pt, last.pt and step-N.pt of one training, or the same training twice, say nothing of the spread."""
    assert group_seeds([config(), config(), config()]) == [[0], [1], [2]]
    one, two = config(train__seed=1), config(train__seed=2)
    assert group_seeds([one, one, two, two]) == [[0, 2], [1], [3]]


def test_best_epochs_and_last_ones_are_never_averaged_whatever_the_order() -> None:
    one, two = config(train__seed=1), config(train__seed=2)
    assert group_seeds([one, one, two, two], ["best", "end", "end", "best"]) == [[0, 3], [1, 2]]
    assert group_seeds([one, two], ["end", "best"]) == [[0], [1]]
    assert group_seeds([one, two], ["step 10", "step 20"]) == [[0], [1]]


def test_double_quantization_of_what_is_not_quantised_makes_no_group() -> None:
    plain, without = (config(llm__quantization="none", llm__double_quant=on, train__seed=on) for on in (True, False))
    assert group_seeds([plain, without]) == [[0, 1]]


def test_without_an_llm_what_only_an_llm_reads_makes_no_group() -> None:
    other = config("none", llm__layers=9, train__precision="bf16", train__seed=1)
    assert group_seeds([config("none"), other]) == [[0, 1]]


@pytest.mark.parametrize(
    ("ours", "theirs", "control"),
    [
        (config(), config("none"), "no LLM"),
        (config(llm__layers=9), config("none", train__precision="bf16"), "no LLM"),
        (config("none"), config(), None),
        (config(), config("none", train__loss="mae"), None),
        (config(llm__layers=6), config(llm__layers=2), "fewer layers"),
        (config(llm__layers="all"), config(llm__layers=2), "fewer layers"),
        (config(llm__layers=2), config(llm__layers=6), None),
        (config(), config(llm__weights="random"), "random LLM"),
        (config(llm__weights="random"), config(), None),
        (config(llm__layers=6), config(llm__layers=2, llm__weights="random"), None),
        (config(llm__layers=2), config(llm__layers="all"), None),
        (config(), config("other"), None),
        (config(llm__layers=6), config(llm__layers=2, train__loss="mae"), None),
        (config(), config(), None),
    ],
)
def test_a_control_differs_in_the_llm_alone(ours: Config, theirs: Config, control: str | None) -> None:
    assert control_of(ours, theirs) == control


@pytest.mark.parametrize(
    ("names", "name"),
    [
        (["only-seed1"], "only-seed1"),
        (["etth1-seed1", "etth1-seed2"], "etth1"),
        (["etth1_seed2021", "etth1_seed2022"], "etth1"),
        (["a/best", "b/best"], "a/best and 1 more"),
        (["run-1", "run-2", "run-3"], "run"),
    ],
)
def test_several_seeds_are_called_by_what_their_names_share(names: list[str], name: str) -> None:
    assert name_groups([names]) == [name]


def test_two_groups_never_have_one_name() -> None:
    names = [["run-seed1", "run-seed2"], ["run-seed3", "run-seed4"], ["other-1", "other-2"], ["other"]]
    assert name_groups(names) == ["run-seed1 and 1 more", "run-seed3 and 1 more", "other-1 and 1 more", "other"]


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
