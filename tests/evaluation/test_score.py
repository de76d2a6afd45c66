import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.untrained import CPU, make_config
from timellm_cli.data.batch import Batch
from timellm_cli.data.windows import ForecastData, load_data
from timellm_cli.evaluation.score import Scores, mean_scores, parts_of, score
from timellm_cli.model.load import load_model
from timellm_cli.model.runner import Runner
from timellm_cli.training.optimizer import LOSSES

torch.set_num_threads(1)


def reversed_history(batch: Batch) -> Tensor:
    """A forecaster that depends on each window alone: the last 12 values, newest first."""
    return batch.history_BT[:, -12:].flip(1)


def score_by_hand(data: ForecastData, split: str, limit: int | None = None) -> np.ndarray:
    """Mean squared and absolute error of `reversed_history` (2, C + H), by plain arithmetic on the table."""
    span, window, stride = data.spans[0][split], data.config.window, data.config.data.window_stride
    channels = range(len(data.table.columns))[-data.windows(split).channels :]
    squared, absolute = [], []
    for channel in channels:
        column = [float(value) for value in data.values_KV[channel]]
        starts = list(range(span.start, span.stop - window.seq_len - window.pred_len + 1, stride))
        starts = starts[:limit]
        errors = [
            [column[start + window.seq_len - 1 - step] - column[start + window.seq_len + step] for step in range(12)]
            for start in starts
        ]
        squared.append([sum(row[step] ** 2 for row in errors) / len(errors) for step in range(12)])
        absolute.append([sum(abs(row[step]) for row in errors) / len(errors) for step in range(12)])
    return both_means(np.array([squared, absolute]))


def both_means(errors_2CH: np.ndarray) -> np.ndarray:
    """The means of each channel, then those of each step."""
    return np.concatenate([errors_2CH.mean(axis=2), errors_2CH.mean(axis=1)], axis=1)


@pytest.fixture
def data(small_csv: Path) -> ForecastData:
    return load_data(make_config(small_csv))


def means(scores: Scores) -> np.ndarray:
    return np.concatenate([scores.sums_4C[1:3] / scores.sums_4C[0], scores.sums_4H[1:3] / scores.sums_4H[0]], axis=1)


@pytest.mark.parametrize("split", ["train", "val", "test"])
@pytest.mark.parametrize("changes", [{}, {"data__features": "MS"}, {"data__window_stride": 3}])
def test_scores_equal_a_plain_loop(small_csv: Path, split: str, changes: dict[str, object]) -> None:
    data = load_data(make_config(small_csv, **changes))
    scores = score(reversed_history, data, split, batch_size=32)
    assert means(scores) == pytest.approx(score_by_hand(data, split), rel=1e-9)


def test_the_losses_are_those_that_training_minimises(data: ForecastData) -> None:
    """One batch holds the whole split, so the mean of the sums is the loss of that batch."""
    samples = data.windows("test")
    batch = samples.batch(range(len(samples)))
    forecast_BH, future_BH = reversed_history(batch).double(), batch.future_BH.double()
    error_BH = (forecast_BH - future_BH).abs()
    assert error_BH.min() < 1 < error_BH.max()
    scores = score(reversed_history, data, "test", 50)
    assert scores.loss("smape") == scores.mae
    for kind, loss in LOSSES.items():
        if kind == "smape":  # it depends on raw values
            continue
        assert scores.loss(kind) == pytest.approx(loss(forecast_BH, future_BH).item(), rel=1e-9)
    assert (scores.loss("mse"), scores.loss("mae")) == (scores.mse, scores.mae)


def test_a_limit_takes_the_first_windows_of_every_channel(data: ForecastData) -> None:
    scores = score(reversed_history, data, "test", 32, limit=5)
    assert (scores.windows, scores.samples) == (5, 10)
    assert means(scores) == pytest.approx(score_by_hand(data, "test", limit=5), rel=1e-9)
    assert len(data.windows("test").numbers(10**6)) == len(data.windows("test"))


@pytest.mark.parametrize("left_out", [0, 1, 40])
def test_windows_that_are_left_out_at_the_end_count_as_if_they_had_not_been_scored(
    data: ForecastData, left_out: int
) -> None:
    errors = score(reversed_history, data, "test", 32).without_last(left_out)
    fewer = score(reversed_history, data, "test", 32, limit=data.windows("test").windows - left_out)
    assert errors == pytest.approx((fewer.mse, fewer.mae), rel=1e-12)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batch_size=st.integers(1, 200))
def test_every_window_counts_once_at_any_batch_size(data: ForecastData, batch_size: int) -> None:
    seen: list[tuple[int, int]] = []

    def forecaster(batch: Batch) -> Tensor:
        seen.extend(zip(batch.channel_B.tolist(), batch.start_B.tolist(), strict=True))
        return reversed_history(batch)

    counts: list[int] = []
    scores = score(forecaster, data, "test", batch_size, on_batch=counts.append)
    assert sorted(seen) == [(channel, start) for channel in (0, 1) for start in range(272, 341)]
    assert sum(counts) == scores.samples == 2 * 69
    assert means(scores) == pytest.approx(means(score(reversed_history, data, "test", 1)), rel=1e-12)


@pytest.mark.parametrize("llm", ["none", "tiny"])
def test_a_models_score_is_the_same_at_any_batch_size(small_csv: Path, tiny_llm: Path, llm: str) -> None:
    config = make_config(small_csv, "none" if llm == "none" else tiny_llm)
    data = load_data(config)
    torch.manual_seed(0)
    runner = load_model(config, CPU)
    runner.model.train()
    one = score(runner, data, "test", 1, limit=20)
    for batch_size in (7, 16, 40):
        scores = score(runner, data, "test", batch_size, limit=20)
        assert means(scores) == pytest.approx(means(one), abs=1e-6)
    assert not runner.model.training


def test_the_next_batch_of_a_gpu_is_prepared_by_a_thread_before_errors_are_reported(
    data: ForecastData, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stand-in for a model on a GPU, without pinned memory."""
    runner, events = load_model(data.config, CPU), []

    class OnGpu(Runner):
        def __init__(self) -> None:
            self.device = SimpleNamespace(type="cuda")

        def encode(self, batch: Batch) -> Batch:
            events.append(threading.current_thread().name.split("_")[0])
            return runner.encode(batch)

        def __call__(self, batch: Batch) -> Tensor:
            events.append("forecast")
            assert batch.prompt is not None
            return runner(batch)

    monkeypatch.setattr("timellm_cli.model.prefetch._next_pinned", lambda batches: next(batches, None))
    scores = score(OnGpu(), data, "test", 40, on_errors=lambda batch, _: events.append(len(batch)))
    assert np.array_equal(means(scores), means(score(runner, data, "test", 40)))
    own = [event for event in events if event != "prefetch"]
    assert own == ["forecast", "forecast", 40, "forecast", 40, "forecast", 40, 18]
    assert events.count("prefetch") == 4


@pytest.mark.parametrize("llm", ["none", "tiny"])
def test_a_models_score_equals_a_plain_loop_over_its_forecasts(small_csv: Path, tiny_llm: Path, llm: str) -> None:
    """One window at a time by the model's own forward, with rows of the table and nothing of `score`."""
    config = make_config(small_csv, "none" if llm == "none" else tiny_llm)
    data = load_data(config)
    torch.manual_seed(0)
    runner = load_model(config, CPU)
    runner.model.eval()
    squared, absolute = [], []
    for channel in (0, 1):
        for start in range(data.spans[0]["test"].start, data.spans[0]["test"].start + 5):
            rows = data.values_KV[channel, start : start + 60]
            prompt = runner.encoder.encode(rows[None, :48])
            runner.model.llm.prepare(prompt)
            with torch.no_grad():
                forecast_H = runner.model(rows[None, :48], prompt)[0].tolist()
            errors = [ours - theirs for ours, theirs in zip(forecast_H, rows[48:].tolist(), strict=True)]
            squared.append(sum(error**2 for error in errors) / 12)
            absolute.append(sum(map(abs, errors)) / 12)
    scores = score(runner, data, "test", 4, limit=5)
    assert scores.mse == pytest.approx(sum(squared) / 10, rel=1e-5)
    assert scores.mae == pytest.approx(sum(absolute) / 10, rel=1e-5)
    assert scores.window_mse_W.flatten() == pytest.approx(squared, rel=1e-5)
    assert scores.window_mae_W.flatten() == pytest.approx(absolute, rel=1e-5)


def test_forecasts_are_made_without_gradients(data: ForecastData) -> None:
    modes: list[bool] = []

    def forecaster(batch: Batch) -> Tensor:
        modes.append(torch.is_inference_mode_enabled())
        return reversed_history(batch)

    score(forecaster, data, "val", 1000)
    assert modes == [True]


def test_raw_errors_are_standardised_errors_times_the_deviation(data: ForecastData) -> None:
    scores = score(reversed_history, data, "test", 64)
    assert scores.channels == ("load", "OT")
    for channel, std in enumerate(data.scaler.std_C):
        errors = scores.of_channel(channel)
        assert errors.mae_raw == pytest.approx(errors.mae * std, rel=1e-12)
        assert errors.mse_raw == pytest.approx(errors.mse * std**2, rel=1e-12)
        assert errors.rmse_raw == pytest.approx(errors.mse_raw**0.5, rel=1e-12)


def test_the_mean_over_models_is_the_mean_of_their_figures(data: ForecastData) -> None:
    one, two = (
        score(reversed_history, data, "test", 64),
        score(lambda batch: reversed_history(batch) + 1, data, "test", 64),
    )
    both = mean_scores([one, two])
    assert (both.windows, both.channels) == (one.windows, one.channels)
    assert both.mse == pytest.approx((one.mse + two.mse) / 2, rel=1e-12)
    assert both.mae == pytest.approx((one.mae + two.mae) / 2, rel=1e-12)
    assert both.loss("huber") == pytest.approx((one.loss("huber") + two.loss("huber")) / 2, rel=1e-12)


def test_the_parts_average_to_the_whole(data: ForecastData) -> None:
    scores = score(reversed_history, data, "test", 64)
    quarters = [scores.of_part(*part) for part in parts_of(12)]
    assert np.mean([part.mse for part in quarters]) == pytest.approx(scores.mse, rel=1e-12)
    assert np.mean([scores.of_part(step, step).mae for step in range(1, 13)]) == pytest.approx(scores.mae, rel=1e-12)
    assert np.mean([scores.of_channel(channel).mse for channel in (0, 1)]) == pytest.approx(scores.mse, rel=1e-12)


@given(pred_len=st.integers(1, 800))
def test_parts_cover_the_horizon_once_and_evenly(pred_len: int) -> None:
    parts = parts_of(pred_len)
    assert [step for first, last in parts for step in range(first, last + 1)] == list(range(1, pred_len + 1))
    sizes = [last - first + 1 for first, last in parts]
    assert len(parts) == min(4, pred_len)
    assert max(sizes) - min(sizes) <= 1


def test_parts_of_96_steps_are_quarters() -> None:
    assert parts_of(96) == [(1, 24), (25, 48), (49, 72), (73, 96)]
