"""Simple forecasters, and the period that the seasonal ones repeat."""

from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.untrained import make_config
from timellm_cli.config import Config
from timellm_cli.data.batch import Batch
from timellm_cli.data.cadence import Cadence, Every, MonthDays, WeekTimes
from timellm_cli.data.windows import ForecastData, load_data
from timellm_cli.evaluation.baselines import (
    Period,
    autocorrelation,
    calendar_periods,
    find_period,
    fit_baselines,
    last_value,
    period_of,
    seasonal_naive,
)
from timellm_cli.evaluation.score import score

torch.set_num_threads(1)


def batch(*histories: list[float]) -> Batch:
    """Samples whose future no forecaster may read."""
    zero_B = torch.zeros(len(histories), dtype=torch.int64)
    return Batch(torch.tensor(histories), torch.full((len(histories), 4), torch.nan), zero_B, zero_B)


def test_last_value_repeats_the_last_value() -> None:
    assert last_value(4)(batch([1, 2, 3], [4, 5, 6])).tolist() == [[3] * 4, [6] * 4]


def test_seasonal_naive_repeats_the_last_period() -> None:
    assert seasonal_naive(3, 7)(batch([9, 1, 2, 3])).tolist() == [[1, 2, 3, 1, 2, 3, 1]]
    assert seasonal_naive(4, 2)(batch([9, 1, 2, 3])).tolist() == [[9, 1]]


@pytest.fixture
def data(small_csv: Path) -> ForecastData:
    return load_data(make_config(small_csv))


def test_baselines_learn_nothing_from_the_test_span(data: ForecastData) -> None:
    values_CN = data.values_KV.clone()
    values_CN[:, data.spans[0].test.start + 48 :] *= -3
    changed = replace(data, values_KV=values_CN)
    probe = data.windows("val").batch(range(10))
    for ours, theirs in zip(fit_baselines(data), fit_baselines(changed), strict=True):
        assert ours.explanation == theirs.explanation
        assert torch.equal(ours.forecaster(probe), theirs.forecaster(probe))


def test_a_baseline_never_reads_the_future(data: ForecastData) -> None:
    known = data.windows("test").batch([0, 5, 70])
    blind = replace(known, future_BH=torch.full_like(known.future_BH, torch.nan))
    for baseline in fit_baselines(data):
        assert torch.equal(baseline.forecaster(known), baseline.forecaster(blind))


def test_baselines_of_ms_are_those_of_the_target_alone(small_csv: Path) -> None:
    alone = load_data(make_config(small_csv, data__features="S"))
    scored = load_data(make_config(small_csv, data__features="MS"))
    for ours, theirs in zip(fit_baselines(scored), fit_baselines(alone), strict=True):
        expected = score(theirs.forecaster, alone, "test", 64)
        assert score(ours.forecaster, scored, "test", 64).mse == pytest.approx(expected.mse, rel=1e-6)


def test_the_baselines_of_etth1_have_their_known_errors(shared_dir: Path) -> None:
    """512 to 96, every test window; the first two are in the literature as 1.295/0.713 and 0.512/0.433."""
    path = shared_dir / "data" / "ETT-small" / "ETTh1.csv"
    data = load_data(Config.model_validate({"data": {"dataset": "ETTh1", "path": path}}))
    found = {}
    for baseline in fit_baselines(data):
        scores = score(baseline.forecaster, data, "test", 512)
        assert scores.samples == 2785 * 7
        found[baseline.name] = (round(scores.mse, 4), round(scores.mae, 4))
    assert found == {
        "last value": (1.2944, 0.7132),
        "seasonal naive": (0.5122, 0.4333),
        "linear": (0.3667, 0.3910),
    }


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
    assert autocorrelation(list(values.T), 20) == pytest.approx(np.mean(expected, axis=0), abs=1e-10)


def test_a_long_series_is_correlated_in_stretches(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(4).normal(size=(1003, 2)).cumsum(axis=0)
    at_once = autocorrelation(list(values.T), 40)
    monkeypatch.setattr("timellm_cli.evaluation.baselines._STRETCH", 50)
    assert autocorrelation(list(values.T), 40) == pytest.approx(at_once, abs=1e-12)


def test_a_ramp_in_float32_has_no_autocorrelation() -> None:
    ramp = (np.linspace(-1.7, 1.7, 4001)[:, None] * [1, -3]).astype(np.float32)
    assert autocorrelation(list(ramp.T), 10).tolist() == [1.0] + [0.0] * 10


@given(slope=st.floats(-10, 10), level=st.floats(-1e3, 1e3), scale=st.floats(0.1, 1e3))
def test_trend_level_and_scale_do_not_change_the_autocorrelation(slope: float, level: float, scale: float) -> None:
    values = noise(200)
    changed = scale * (values + level + slope * np.arange(200)[:, None])
    assert autocorrelation(list(changed.T), 30) == pytest.approx(autocorrelation(list(values.T), 30), abs=1e-6)


def waves(rows: int, *periods: int) -> np.ndarray:
    time = np.arange(rows)
    return sum(np.sin(2 * np.pi * time / period) for period in periods)[:, None] + 0.3 * noise(rows)


def test_the_day_is_found_in_hourly_data() -> None:
    assert find_period(list(waves(2000, 24).T), HOUR, longest=336, pred_len=48) == Period(24, "1 day")


def test_the_week_is_found_where_the_days_differ() -> None:
    rng = np.random.default_rng(1)
    week = rng.normal(size=168)
    values = np.tile(week, 12)[:, None] + waves(2016, 24)
    assert find_period(list(values.T), HOUR, longest=336, pred_len=48) == Period(168, "1 week")
    assert find_period(list(values.T), HOUR, longest=100, pred_len=48) == Period(24, "1 day")


def test_a_period_outside_the_calendar_is_found_by_its_peak() -> None:
    assert find_period(list(waves(2000, 37).T), HOUR, longest=200, pred_len=37) == Period(37, "37 rows")


def test_a_trend_does_not_hide_the_period() -> None:
    values = waves(2000, 24) + 0.1 * np.arange(2000)[:, None]
    assert find_period(list(values.T), HOUR, longest=96, pred_len=24) == Period(24, "1 day")


@pytest.mark.parametrize("values", [noise(5000, 3), np.ones((500, 2)), np.arange(500.0)[:, None]])
def test_noise_constants_and_lines_have_no_period(values: np.ndarray) -> None:
    assert find_period(list(values.T), HOUR, longest=200, pred_len=24) is None


def series(path: Path, values: np.ndarray) -> ForecastData:
    stamps = np.datetime64("2024-01-01T00:00") + np.arange(len(values)) * np.timedelta64(1, "h")
    lines = [f"{stamp},{value}" for stamp, value in zip(stamps, values, strict=True)]
    path.write_text("\n".join(["date,OT", *lines]) + "\n", encoding="utf-8")
    return load_data(make_config(path))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("kind", ["random walk", "AR(.99)", "quadratic trend"])
def test_what_decays_slowly_has_no_season(tmp_path: Path, kind: str, seed: int) -> None:
    noise = np.random.default_rng(seed).normal(size=3000)
    values = noise.cumsum()
    if kind == "AR(.99)":
        for row in range(1, 3000):
            values[row] = 0.99 * values[row - 1] + noise[row]
    if kind == "quadratic trend":
        values = np.arange(3000.0) ** 2 / 1e4 + noise
    assert period_of(series(tmp_path / "x.csv", values)) is None


@pytest.mark.parametrize(("rows", "name"), [(30, "30 rows"), (24, "1 day"), (17, "17 rows")])
def test_a_wave_has_its_own_season(tmp_path: Path, rows: int, name: str) -> None:
    noise = np.random.default_rng(0).normal(size=3000)
    found = period_of(series(tmp_path / "x.csv", 3 * np.sin(2 * np.pi * np.arange(3000) / rows) + noise))
    assert found is not None
    assert (found.rows, found.name) == (rows, name)
