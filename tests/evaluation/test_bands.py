"""Bands: their widths against plain arithmetic, the share they hold, their order, and a whole run that makes them."""

import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.untrained import make_config
from timellm_cli.data.batch import Batch
from timellm_cli.data.windows import ForecastData, load_data
from timellm_cli.errors import ConfigError, ModelError
from timellm_cli.evaluation.bands import LEVELS, Intervals, ValidationErrors, choose_levels, window_scale
from timellm_cli.evaluation.baselines import last_value
from timellm_cli.evaluation.coverage import CoverageCount, drift_note, mean_coverage
from timellm_cli.evaluation.score import score
from timellm_cli.splits import Series

torch.set_num_threads(1)


def zero(batch: Batch) -> Tensor:
    """Forecasts the mean of the training rows."""
    return torch.zeros_like(batch.future_BH)


def batch_of(history_BT: Tensor, channel: int = 0) -> Batch:
    """Samples of one channel after these histories."""
    samples = len(history_BT)
    return Batch(history_BT, torch.zeros(samples, 2), torch.full((samples,), channel), torch.arange(samples))


def noise_csv(path: Path, rows: int, seed: int) -> Path:
    """Two channels of independent normal numbers, one of heavy-tailed steps: nothing drifts, nothing repeats."""
    random = np.random.default_rng(seed)
    values = np.stack([random.normal(size=rows), random.standard_t(4, size=rows)], axis=1)
    stamps = np.datetime64("2024-01-01T00:00") + np.arange(rows) * np.timedelta64(1, "h")
    lines = [f"{stamp},{a:.4f},{b:.4f}" for stamp, (a, b) in zip(stamps, values, strict=True)]
    path.write_text("date,OT,load\n" + "\n".join(lines) + "\n", encoding="utf-8")
    return path


def validated(data: ForecastData, batch_size: int = 50) -> Intervals:
    errors = ValidationErrors(data)
    score(last_value(data.config.window.pred_len), data, "val", batch_size, on_errors=errors.add)
    intervals = errors.intervals()
    assert intervals is not None
    return intervals


def made(levels: tuple[int, ...] = (50, 80), windows: int = 9) -> Intervals:
    """Half-widths of one channel over two steps: 1 and 2 for the first level, twice that for the second."""
    halves = np.array([[[1, 2]], [[2, 4]]], dtype=np.float32)[: len(levels)]
    return Intervals(("OT",), 0, windows, levels, halves, (0.5,) * len(levels))


def scored_of(columns: tuple[str, ...]) -> ForecastData:
    """What a count needs to know of data whose last column is scored."""
    table = SimpleNamespace(columns=columns, channels=columns, series=Series.single(1))
    return cast(ForecastData, SimpleNamespace(table=table, scored_channels=columns[-1:]))


def test_a_half_width_is_the_ranked_error_of_a_plain_loop(small_csv: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("timellm_cli.evaluation.bands.period_of", lambda _: None)
    data = load_data(make_config(small_csv))
    intervals, samples = validated(data), data.windows("val")
    assert (intervals.channels, intervals.period, intervals.windows) == (("load", "OT"), 0, samples.windows)
    for position in range(2):
        for step in (0, 11):
            ratios = []
            batch = samples.batch(range(position * samples.windows, (position + 1) * samples.windows))
            for history_T, future_H in zip(batch.history_BT, batch.future_BH, strict=True):
                values = history_T.tolist()
                mean = sum(values) / len(values)
                scale = math.sqrt(sum((value - mean) ** 2 for value in values) / len(values) + 1e-5)
                ratios.append(abs(values[-1] - float(future_H[step])) / scale)
            for level in intervals.levels:
                rank = math.ceil((len(ratios) + 1) * level / 100)
                expected = sorted(ratios)[rank - 1]
                half = intervals.halves_LCH[intervals.levels.index(level), position, step]
                assert half == pytest.approx(expected, rel=1e-4), (position, step, level)


def test_levels_that_so_few_windows_cannot_tell_are_left_out(small_csv: Path) -> None:
    intervals = validated(load_data(make_config(small_csv)))
    assert intervals.windows == 29
    assert intervals.levels == tuple(level for level in LEVELS if math.ceil(30 * level / 100) <= 29) == LEVELS[:6]


def test_bands_do_not_depend_on_the_batch_size_and_nest(small_csv: Path) -> None:
    data = load_data(make_config(small_csv))
    first, second = validated(data, 7), validated(data, 64)
    assert np.array_equal(first.halves_LCH, second.halves_LCH)
    assert (np.diff(first.halves_LCH, axis=0) >= 0).all()


@pytest.mark.parametrize(("errs_with", "period"), [("changes from day to day", 24), ("the size of its waves", 0)])
def test_errors_are_measured_in_the_scale_that_carries_from_one_half_to_the_other(
    small_csv: Path, errs_with: str, period: int
) -> None:
    """Waves and noise change from one half of validation to the other; errors follow one of them."""
    data, random = load_data(make_config(small_csv)), np.random.default_rng(3)
    errors = ValidationErrors(data)
    for _ in range(2):
        for number in range(29):
            noise, wave = (1.0, 30.0) if number < 15 else (4.0, 10.0)
            values = wave * np.sin(np.arange(48) / 24 * 2 * np.pi) + noise * random.normal(size=48)
            size = noise if period else wave
            errors.add(batch_of(torch.tensor(values)[None]), torch.from_numpy(size * random.normal(size=(1, 12))))
    intervals = errors.intervals()
    assert intervals is not None
    assert intervals.period == period, errs_with


def test_of_very_many_windows_every_few_are_kept(small_csv: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = load_data(make_config(small_csv))
    monkeypatch.setattr("timellm_cli.evaluation.bands._MAX_ERRORS", 29 * 2 * 12 // 3)
    assert validated(data, 10).windows == 10
    assert np.array_equal(validated(data, 10).halves_LCH, validated(data, 64).halves_LCH)


@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 10**6))
def test_where_nothing_drifts_bands_hold_the_share_they_promise(tmp_path: Path, seed: int) -> None:
    data = load_data(make_config(noise_csv(tmp_path / "noise.csv", 6000, seed), window__pred_len=4))
    errors = ValidationErrors(data)
    score(zero, data, "val", 256, on_errors=errors.add)
    intervals = errors.intervals()
    assert intervals is not None
    count = CoverageCount(intervals, data)
    score(zero, data, "test", 256, on_errors=count.add)
    for one in count.result():
        # 600 windows rank, 1,200 count: about 3 standard errors of a share of both.
        tolerance = 300 * math.sqrt(one.level / 100 * (1 - one.level / 100) * (1 / 550 + 1 / 1150))
        assert abs(one.coverage - one.level) < tolerance, one


@settings(max_examples=25, deadline=None)
@given(factor=st.floats(1e-2, 1e2), shift=st.floats(-1e3, 1e3))
def test_bands_scale_with_the_history_and_ignore_its_level(factor: float, shift: float) -> None:
    history = torch.randn(3, 48, generator=torch.Generator().manual_seed(0)).double() * 10
    for period in (0, 24):
        scaled = window_scale(history * factor + shift, period)
        assert scaled == pytest.approx(window_scale(history, period) * factor, rel=1e-3)


def test_coverage_counts_values_and_widths_by_channel_and_quarter() -> None:
    wave = torch.tensor([1.0, -1.0] * 24)  # a standard deviation of one
    count = CoverageCount(made(), scored_of(("load", "OT")))
    count.add(batch_of(wave.expand(4, -1), channel=1), torch.tensor([[0.5, -3.0], [1.5, 1.0], [-3.0, 9.0], [0.0, 0.0]]))
    half, more = count.result()
    assert (half.level, half.coverage, half.channels, half.parts) == (50, 50.0, {"OT": 50.0}, (50.0, 50.0))
    assert (more.level, more.coverage, more.parts) == (80, 75.0, (75.0, 75.0))
    assert (half.width, more.width) == pytest.approx((3.0, 6.0), rel=1e-4)
    averaged = mean_coverage([(half, more), (replace(half, coverage=70.0),)])
    assert [(one.level, one.coverage) for one in averaged] == [(50, 60.0)]


def test_a_share_off_by_more_than_two_standard_errors_is_called_drift() -> None:
    wave = torch.tensor([1.0, -1.0] * 24)
    count = CoverageCount(made(), scored_of(("OT",)))
    for block in range(8):  # 62.5 % of the values are inside in every block
        error_BH = torch.tensor([[0.5, 9.0], [1.5, 1.0], [3.0, 9.0], [0.0, 0.0]])
        batch = batch_of(wave.expand(4, -1))
        count.add(replace(batch, start_B=torch.full((4,), 50 * block)), error_BH)
    note = drift_note("a run", count.result())
    assert note is not None
    for words in ("a run: 80 % bands held 62.5 ± 0.5 %", "two standard errors off: the data drift", "larger than in"):
        assert words in note
    low = next(one for one in count.result() if one.level == 80)
    both = [replace(low, coverage=85.0), replace(low, level=95, coverage=90.0)]
    assert "95 % bands held 90.0 ± 0.5 % of the values" in str(drift_note("a run", both))
    assert "errors here are spread otherwise" in str(drift_note("a run", both))
    assert drift_note("a run", [replace(low, coverage=78.5)]) is None
    assert drift_note("a run", [replace(low, error=9.0)]) is None


def autoregressive(path: Path, rows: int, seed: int, late: float = 0.9) -> ForecastData:
    """An AR(1) series with coefficient .9; in the last fifth of the rows the coefficient is `late`."""
    values = np.random.default_rng(seed).normal(size=rows)
    for row in range(1, rows):
        values[row] += (0.9 if row < rows * 4 // 5 else late) * values[row - 1]
    stamps = np.datetime64("2024-01-01T00:00") + np.arange(rows) * np.timedelta64(1, "h")
    lines = [f"{stamp},{value}" for stamp, value in zip(stamps, values, strict=True)]
    path.write_text("\n".join(["date,OT", *lines]) + "\n", encoding="utf-8")
    return load_data(make_config(path))


def says_drift(data: ForecastData) -> bool:
    last = last_value(data.config.window.pred_len)
    errors = ValidationErrors(data)
    score(last, data, "val", 256, on_errors=errors.add)
    intervals = errors.intervals()
    assert intervals is not None
    count = CoverageCount(intervals, data)
    score(last, data, "test", 256, on_errors=count.add)
    return drift_note("it", count.result()) is not None


def test_chance_is_seldom_called_drift_and_drift_is(tmp_path: Path) -> None:
    """Of 30 stationary series, at most two."""
    stationary = [says_drift(autoregressive(tmp_path / "still.csv", 2000, seed)) for seed in range(30)]
    assert sum(stationary) <= 2
    drifting = [says_drift(autoregressive(tmp_path / "drift.csv", 8000, seed, late=0.0)) for seed in range(5)]
    assert sum(drifting) == 5


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        ("80,x", ConfigError, ["'80,x'", "80,95"]),
        ("85", ConfigError, ["no bands of level 85", "levels are 50, 80 percent", "9 validation windows"]),
    ],
)
def test_levels_that_cannot_be_had_are_one_clear_error(text: str, error: type[Exception], words: list[str]) -> None:
    with pytest.raises(error) as caught:
        choose_levels(text, made(), "best.pt")
    assert all(word in f"{caught.value} {caught.value.hint}" for word in words)  # type: ignore[attr-defined]


def test_a_checkpoint_without_bands_says_where_they_come_from() -> None:
    with pytest.raises(ModelError, match="has no bands") as caught:
        choose_levels("80", None, "imported.pt")
    assert "imported checkpoints" in caught.value.hint
    assert choose_levels(" 80%, 50,80", made(), "best.pt") == (50, 80)
