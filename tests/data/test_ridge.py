"""The linear map in closed form."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tests.untrained import make_config
from timellm_cli.data.ridge import fit_linear, second_moments
from timellm_cli.data.windows import ForecastData, load_data
from timellm_cli.evaluation.score import score

torch.set_num_threads(1)


@given(
    values=arrays(np.float64, st.integers(6, 60), elements=st.floats(-100, 100)),
    width=st.integers(1, 6),
)
def test_second_moments_equal_those_of_the_windows_written_out(values: np.ndarray, width: int) -> None:
    windows = np.lib.stride_tricks.sliding_window_view(values, width)
    assert second_moments(values, width) == pytest.approx(windows.T @ windows, rel=1e-9, abs=1e-6)


@pytest.fixture
def data(small_csv: Path) -> ForecastData:
    return load_data(make_config(small_csv))


def test_the_linear_model_is_the_ridge_regression_over_all_training_windows(data: ForecastData) -> None:
    span, (seq_len, pred_len) = data.spans[0].train, (48, 12)
    windows = np.concatenate(
        [
            np.lib.stride_tricks.sliding_window_view(channel[span.start : span.stop], seq_len + pred_len)
            for channel in data.values_KV.double().numpy()
        ]
    )
    centred = windows - windows[:, :seq_len].mean(axis=1, keepdims=True)
    history, future = centred[:, :seq_len], centred[:, seq_len:]
    moments = history.T @ history
    linear = fit_linear(data)
    weights = linear.weights_TH.numpy()
    candidates = [
        np.linalg.solve(moments + 10.0**power * np.trace(moments) / seq_len * np.eye(seq_len), history.T @ future)
        for power in range(-6, 2)
    ]
    assert linear.samples == len(windows)
    assert min(np.abs(weights - candidate).max() for candidate in candidates) < 1e-6


def test_the_linear_model_continues_a_wave_it_has_seen(tmp_path: Path) -> None:
    path = tmp_path / "wave.csv"
    rows = [
        f"2024-01-{1 + row // 24:02d} {row % 24:02d}:00,{np.sin(row / 3) + 0.5 * np.cos(row / 7)}" for row in range(700)
    ]
    path.write_text("\n".join(["date,OT", *rows]), encoding="utf-8")
    data = load_data(make_config(path))
    assert score(fit_linear(data), data, "test", 64).mse < 1e-6


@pytest.mark.parametrize("hole", [False, True])
def test_a_stride_of_training_leaves_no_window_out_of_the_fit(small_csv: Path, hole: bool) -> None:
    lines = small_csv.read_text(encoding="utf-8").splitlines()
    if hole:
        date, _, load = lines[100].split(",")
        lines[100] = f"{date},,{load}"
    small_csv.write_text("\n".join(lines) + "\n", encoding="utf-8")
    every, thinned = (
        fit_linear(load_data(make_config(small_csv, data__fill="linear", data__window_stride=stride)))
        for stride in (1, 7)
    )
    assert every.samples == thinned.samples == 2 * (280 - 60 + 1)
    assert torch.equal(every.weights_TH, thinned.weights_TH)


def test_with_absent_targets_it_is_what_repeated_filling_by_its_own_forecasts_gives(small_csv: Path) -> None:
    """Written out for one ridge: all windows in every round, those without a hole as well."""
    lines = small_csv.read_text(encoding="utf-8").splitlines()
    for row in (60, 61, 130):
        date, _, load = lines[row].split(",")
        lines[row] = f"{date},,{load}"
    small_csv.write_text("\n".join(lines) + "\n", encoding="utf-8")
    data = load_data(make_config(small_csv, data__fill="linear"))
    samples = data.windows("train")
    batch = samples.batch(range(len(samples)))
    mean_N1 = batch.history_BT.double().mean(dim=1, keepdim=True)
    past_NT, future_NH = batch.history_BT.double() - mean_N1, batch.future_BH.double() - mean_N1
    known_NH = ~future_NH.isnan()
    assert 0 < (~known_NH.all(dim=1)).sum() < len(samples)
    moments_TT = past_NT.T @ past_NT
    candidates = []
    for power in range(-6, 2):
        ridge_TT = 10.0**power * moments_TT.trace() / 48 * torch.eye(48, dtype=torch.float64)
        weights_TH = torch.zeros(48, 12, dtype=torch.float64)
        for _ in range(20):
            target_NH = torch.where(known_NH, future_NH, past_NT @ weights_TH)
            weights_TH = torch.linalg.solve(moments_TT + ridge_TT, past_NT.T @ target_NH)
        candidates.append(weights_TH)
    found_TH = fit_linear(data).weights_TH
    assert min(float((found_TH - candidate).abs().max()) for candidate in candidates) < 1e-6
