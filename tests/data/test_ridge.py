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
    span, (seq_len, pred_len) = data.spans.train, (48, 12)
    windows = np.concatenate(
        [
            np.lib.stride_tricks.sliding_window_view(channel[span.start : span.stop], seq_len + pred_len)
            for channel in data.values_CN.double().numpy()
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
