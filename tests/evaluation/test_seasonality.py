from datetime import datetime, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from timellm_cli.data.cadence import Cadence, Every, MonthDays, WeekTimes
from timellm_cli.evaluation.baselines import Period, autocorrelation, calendar_periods, find_period

MONTHS = tuple(range(1, 13))


def every(**length: float) -> Every:
    return Every(timedelta(**length), datetime(2024, 1, 1))


def week(days: int, hours: int) -> WeekTimes:
    return WeekTimes(
        timedelta(hours=1), tuple(timedelta(days=day, hours=hour) for day in range(days) for hour in range(hours))
    )


HOUR = every(hours=1)


@pytest.mark.parametrize(
    ("cadence", "periods"),
    [
        (HOUR, {24: "1 day", 168: "1 week", 8760: "1 year"}),
        (every(minutes=15), {4: "1 hour", 96: "1 day", 672: "1 week", 35040: "1 year"}),
        (every(seconds=30), {2: "1 minute", 120: "1 hour", 2880: "1 day", 20160: "1 week"}),
        (every(days=1), {7: "1 week", 365: "1 year"}),
        (every(weeks=1), {52: "1 year"}),
        (every(minutes=7), {1440: "1 week"}),
        (every(minutes=11), {}),
        (MonthDays(MONTHS, (1,)), {12: "1 year"}),
        (MonthDays(MONTHS, (31,), workday=True), {12: "1 year"}),
        (MonthDays((3, 6, 9, 12), (31,)), {4: "1 year"}),
        (MonthDays((1, 3, 5, 7, 9, 11), (1,)), {6: "1 year"}),
        (week(5, 1), {5: "1 week"}),
        (week(5, 8), {8: "1 day", 40: "1 week"}),
        (MonthDays((1,), (1,)), {}),
    ],
)
def test_a_cadence_has_its_calendar_periods(cadence: Cadence, periods: dict[int, str]) -> None:
    found = [period for period in calendar_periods(cadence, 36_000) if period.rows <= 36_000]
    assert {period.rows: period.name for period in found} == periods


def test_a_period_longer_than_the_history_is_no_candidate() -> None:
    assert calendar_periods(HOUR, 100) == [Period(24, "1 day")]


def noise(rows: int, channels: int = 1) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(rows, channels))


def test_autocorrelation_equals_the_sum_of_lagged_products() -> None:
    values = noise(300, 2)
    rows = np.arange(300)
    expected = []
    for channel in values.T:
        rest = channel - np.polyval(np.polyfit(rows, channel, 1), rows)
        expected.append([(rest[: 300 - lag] @ rest[lag:] / (300 - lag)) / (rest @ rest / 300) for lag in range(21)])
    assert autocorrelation(values, 20) == pytest.approx(np.mean(expected, axis=0), abs=1e-10)


def test_a_long_series_is_correlated_in_stretches(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(4).normal(size=(1003, 2)).cumsum(axis=0)
    at_once = autocorrelation(values, 40)
    monkeypatch.setattr("timellm_cli.evaluation.baselines._STRETCH", 50)
    assert autocorrelation(values, 40) == pytest.approx(at_once, abs=1e-12)


def test_a_ramp_in_float32_has_no_autocorrelation() -> None:
    ramp = (np.linspace(-1.7, 1.7, 4001)[:, None] * [1, -3]).astype(np.float32)
    assert autocorrelation(ramp, 10).tolist() == [1.0] + [0.0] * 10


@given(slope=st.floats(-10, 10), level=st.floats(-1e3, 1e3), scale=st.floats(0.1, 1e3))
def test_trend_level_and_scale_do_not_change_the_autocorrelation(slope: float, level: float, scale: float) -> None:
    values = noise(200)
    changed = scale * (values + level + slope * np.arange(200)[:, None])
    assert autocorrelation(changed, 30) == pytest.approx(autocorrelation(values, 30), abs=1e-6)


def waves(rows: int, *periods: int) -> np.ndarray:
    time = np.arange(rows)
    return sum(np.sin(2 * np.pi * time / period) for period in periods)[:, None] + 0.3 * noise(rows)


def test_the_day_is_found_in_hourly_data() -> None:
    assert find_period(waves(2000, 24), HOUR, longest=336, pred_len=48) == Period(24, "1 day")


def test_the_week_is_found_where_the_days_differ() -> None:
    rng = np.random.default_rng(1)
    week = rng.normal(size=168)
    values = np.tile(week, 12)[:, None] + waves(2016, 24)
    assert find_period(values, HOUR, longest=336, pred_len=48) == Period(168, "1 week")
    assert find_period(values, HOUR, longest=100, pred_len=48) == Period(24, "1 day")


def test_a_period_outside_the_calendar_is_found_by_its_peak() -> None:
    assert find_period(waves(2000, 37), HOUR, longest=200, pred_len=37) == Period(37, "37 rows")


def test_a_trend_does_not_hide_the_period() -> None:
    values = waves(2000, 24) + 0.1 * np.arange(2000)[:, None]
    assert find_period(values, HOUR, longest=96, pred_len=24) == Period(24, "1 day")


@pytest.mark.parametrize("values", [noise(5000, 3), np.ones((500, 2)), np.arange(500.0)[:, None]])
def test_noise_constants_and_lines_have_no_period(values: np.ndarray) -> None:
    assert find_period(values, HOUR, longest=200, pred_len=24) is None
