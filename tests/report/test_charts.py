import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from timellm_cli.report.charts import WIDTH, Chart, Series, line_chart, nice_ticks, tick_labels

finite = st.floats(-1e6, 1e6).map(lambda value: round(value, 3))


def places(chart: Chart) -> list[tuple[float, float]]:
    points = " ".join(points for _, points in (*chart.lines, *chart.areas))
    return [(float(x), float(y)) for x, y in re.findall(r"(\S+),(\S+)", points)]


@given(st.lists(finite, min_size=1, max_size=50))
def test_every_point_and_tick_lies_on_the_canvas(ys: list[float]) -> None:
    xs = list(range(len(ys)))
    chart = line_chart([Series("a", "s", xs, ys), Series("b", "r", xs, [y - 1 for y in ys], ys)])
    assert len(places(chart)) == 3 * len(ys) + (len(ys) == 1)
    for x, y in places(chart):
        assert chart.left <= x <= chart.right < WIDTH
        assert chart.top <= y <= chart.bottom < chart.height
    assert all(chart.top <= at <= chart.bottom for at, _ in chart.y_ticks)
    assert all(chart.left <= at <= chart.right for at, _ in chart.x_ticks)


def test_higher_values_stand_higher_and_later_ones_further_right() -> None:
    (first, second) = places(line_chart([Series("", "s", [1, 2], [3.0, 4.0])]))
    assert first[0] < second[0]
    assert first[1] > second[1]


@given(low=finite, span=st.floats(1e-3, 1e6))
def test_ticks_are_a_few_round_numbers_in_the_range(low: float, span: float) -> None:
    ticks = nice_ticks(low, low + span)
    assert 1 <= len(ticks) <= 6
    assert all(low - 1e-6 * span <= tick <= low + span * (1 + 1e-6) for tick in ticks)
    assert len(set(tick_labels(ticks))) == len(ticks)


@pytest.mark.parametrize(
    ("low", "high", "labels"),
    [(0.03, 0.11, ["0.04", "0.06", "0.08", "0.10"]), (0, 1500, ["0", "500", "1,000", "1,500"]), (5, 5, ["5"])],
)
def test_labels_have_as_many_decimals_as_they_need(low: float, high: float, labels: list[str]) -> None:
    assert tick_labels(nice_ticks(low, high)) == labels


def test_what_is_no_number_is_left_out() -> None:
    chart = line_chart([Series("a", "s", [1, 2, 3], [1.0, math.nan, 2.0])])
    assert len(places(chart)) == 2


def test_lines_of_one_name_stand_once_in_the_legend_and_nameless_ones_never() -> None:
    lines = [
        Series("seed", "s", [1, 2], [1.0, 2.0]),
        Series("seed", "s", [1, 2], [2.0, 1.0]),
        Series("", "t", [1], [1]),
    ]
    assert line_chart(lines).legend == (("s", "seed"),)


def test_a_single_point_is_drawn_as_a_dot() -> None:
    """A line of no length has round caps; of a line with one point SVG draws nothing."""
    chart = line_chart([Series("one", "a", [3.0], [0.5]), Series("two", "b", [1.0, 5.0], [0.2, 0.8])])
    first, second = (points.split() for _, points in chart.lines)
    assert len(first) == 2 and first[0] == first[1]
    assert len(second) == 2 and second[0] != second[1]
