"""RMSE, MASE, sMAPE and WQL, against their definitions on few numbers and against another library."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.untrained import make_config
from timellm_cli.data.batch import Batch
from timellm_cli.data.windows import ForecastData, load_data
from timellm_cli.evaluation.bands import Intervals
from timellm_cli.evaluation.metrics import (
    MetricCount,
    Metrics,
    mean_metrics,
    metrics_of_channels,
    note_on_left_out,
    seasonal_errors,
)
from timellm_cli.evaluation.score import Scores, score


def persist(batch: Batch) -> Tensor:
    return batch.history_BT[:, -1:].expand(-1, 12)


def measure(
    data: ForecastData, period: int, intervals: Intervals | None = None
) -> tuple[Scores, list[Metrics], Metrics]:
    count = MetricCount(data, seasonal_errors(data, period), intervals)
    scores = score(persist, data, "test", 64, on_errors=count.add)
    channels = metrics_of_channels(
        count.result(), [scores.of_channel(place).mse for place in range(len(scores.channels))]
    )
    return scores, channels, mean_metrics(count.result(), channels, scores.mse)


def raw(data: ForecastData, channel: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Training rows of a channel, targets and forecasts of the test windows, in the CSV's units."""
    mean, std = data.scaler.mean_C[channel], data.scaler.std_C[channel]
    samples = data.windows("test")
    batch = samples.batch(
        [number for number in range(len(samples)) if int(samples.position(torch.tensor(number))) == channel]
    )
    span = data.spans[0].scaler
    train = data.values_KV[channel, span.start : span.stop].double().numpy() * std + mean
    return train, batch.future_BH.double().numpy() * std + mean, persist(batch).double().numpy() * std + mean


def test_every_metric_is_what_its_definition_says(small_csv: Path) -> None:
    data = load_data(make_config(small_csv))
    halves = np.full((3, 2, 12), 0.5, dtype=np.float32)
    intervals = Intervals(("load", "OT"), 0, 9, (50, 80, 95), halves, (0.0, 0.0, 0.0))
    scores, channels, together = measure(data, 24, intervals)
    for place, metrics in enumerate(channels):
        train, target, forecast = raw(data, place)
        error = target - forecast
        assert metrics.mse_raw == pytest.approx(np.mean(error**2), rel=1e-5)
        assert metrics.mae_raw == pytest.approx(np.abs(error).mean(), rel=1e-5)
        assert metrics.rmse_raw == pytest.approx(np.sqrt(np.mean(error**2)), rel=1e-5)
        assert metrics.smape == pytest.approx(
            np.mean(200 * np.abs(error) / (np.abs(target) + np.abs(forecast))), rel=1e-5
        )
        assert metrics.mase == pytest.approx(np.abs(error).mean() / np.abs(train[24:] - train[:-24]).mean(), rel=1e-5)
        numbers = range(place * 69, place * 69 + 69)
        batch = data.windows("test").batch(numbers)
        std = data.scaler.std_C[place]
        losses = []
        for level in (0, 50, 80):  # 95 % is beyond the quantiles .05 to .95
            half = intervals.around(level, batch.history_BT, batch.channel_B).numpy() * std if level else 0.0
            for sign in (1, -1) if level else (1,):
                quantile, above = 0.5 + sign * level / 200, target - forecast - sign * half
                losses.append(2 * np.maximum(quantile * above, (quantile - 1) * above).sum() / np.abs(target).sum())
        assert metrics.wql_raw == pytest.approx(np.mean(losses), rel=1e-5)
    assert together.rmse == pytest.approx(np.sqrt(scores.mse), rel=1e-9)
    assert together.mase == pytest.approx(np.mean([one.mase for one in channels]), rel=1e-9)


@pytest.mark.skipif(not importlib.util.find_spec("utilsforecast"), reason="the extra `baselines` is not installed")
def test_smape_and_mase_agree_with_utilsforecast(small_csv: Path) -> None:
    import polars as pl
    from utilsforecast.losses import mase, smape

    data = load_data(make_config(small_csv))
    _, channels, _ = measure(data, 24)
    for place, metrics in enumerate(channels):
        train, target, forecast = raw(data, place)
        table = pl.DataFrame({"unique_id": "a", "y": target.ravel(), "ours": forecast.ravel()})
        history = pl.DataFrame({"unique_id": "a", "y": train})
        assert metrics.smape == pytest.approx(200 * smape(table, ["ours"])["ours"][0], rel=1e-5)
        assert metrics.mase == pytest.approx(mase(table, ["ours"], 24, history)["ours"][0], rel=1e-5)


def test_absent_targets_count_for_nothing_and_a_constant_channel_has_no_mase(tmp_path: Path) -> None:
    lines = ["date,flat,OT"]
    lines += [f"2024-01-{1 + row // 24:02} {row % 24:02}:00,7,{'' if row % 10 == 3 else row % 5}" for row in range(400)]
    path = tmp_path / "holes.csv"
    path.write_text("\n".join(lines), encoding="utf-8")
    data = load_data(make_config(path, data__fill="linear"))
    _, (flat, holed), together = measure(data, 1)
    assert flat.mase is None and flat.smape == 0 and flat.mae_raw == 0
    _, target, forecast = raw(data, 1)
    known = np.isfinite(target)
    assert 0.85 < known.mean() < 0.95
    assert holed.mae_raw == pytest.approx(np.abs(target - forecast)[known].mean(), rel=1e-4)
    assert holed.wql is None and holed.wql_raw is None, "without bands"
    assert together.mase == holed.mase
    assert together.smape == pytest.approx(holed.smape / 2), "each channel weighs the same"
    (note,) = note_on_left_out(data.scored_channels, [flat, holed])
    assert note == (
        "MASE leaves out 1 of 2 channels, whose training rows do not change from one season to the next: flat"
    )
