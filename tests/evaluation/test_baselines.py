from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tests.untrained import make_config
from timellm_cli.config import Config
from timellm_cli.data.batch import Batch
from timellm_cli.data.windows import ForecastData, load_data
from timellm_cli.evaluation.baselines import fit_baselines, fit_linear, last_value, seasonal_naive, second_moments
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


def test_baselines_learn_nothing_from_the_test_span(data: ForecastData) -> None:
    values_CN = data.values_CN.clone()
    values_CN[:, data.spans.test.start + 48 :] *= -3
    changed = replace(data, values_CN=values_CN)
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
