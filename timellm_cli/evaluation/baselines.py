"""Simple forecasters that a trained model should beat, run on the same windows through the same `score`.

All see what a model sees, `seq_len` standardised values of one channel, and nothing else. What they learn, they learn
from the training span; the strength of the ridge is chosen on the validation span. The test span is never looked at.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from timellm_cli.data.scale import Floats
from timellm_cli.data.windows import ForecastData, Window
from timellm_cli.evaluation.score import Forecaster
from timellm_cli.evaluation.seasonality import Period, find_period

_RIDGES = tuple(10.0**exponent for exponent in range(-6, 2))
"""Tried strengths of the ridge, in parts of the mean second moment of the centred history."""


@dataclass(frozen=True)
class Baseline:
    """A named forecaster and, in a few words, what it does."""

    name: str
    explanation: str
    forecaster: Forecaster


def fit_baselines(data: ForecastData) -> list[Baseline]:
    """Last value, seasonal naive where the training data show a period, and a linear model."""
    pred_len = data.config.window.pred_len
    baselines = [Baseline("last value", "repeats the last known value", LastValue(pred_len))]
    period = period_of(data)
    if period is not None:
        explanation = f"repeats the last {period.rows} rows ({period.name})"
        baselines.append(Baseline("seasonal naive", explanation, SeasonalNaive(period.rows, pred_len)))
    linear = fit_linear(data)
    explanation = f"one linear map for all channels, fitted in closed form on {linear.samples:,} training samples"
    baselines.append(Baseline("linear", explanation, linear))
    return baselines


def period_of(data: ForecastData) -> Period | None:
    """The period of the training span that a seasonal naive forecast repeats, if it shows one."""
    window = data.config.window
    return find_period(_scored_values(data, "train"), data.table.cadence, window.seq_len, window.pred_len)


class LastValue:
    """Repeats the last value of the history."""

    def __init__(self, pred_len: int) -> None:
        self._pred_len = pred_len

    def __call__(self, windows: Sequence[Window]) -> Tensor:
        """Forecasts (B, H) in standardised units."""
        return _histories(windows)[:, -1:].expand(-1, self._pred_len)


class SeasonalNaive:
    """Repeats the last period of the history."""

    def __init__(self, period: int, pred_len: int) -> None:
        self._steps_back = torch.arange(pred_len) % period - period

    def __call__(self, windows: Sequence[Window]) -> Tensor:
        """Forecasts (B, H) in standardised units."""
        return _histories(windows)[:, self._steps_back]


class Linear:
    """Forecast = mean of the history + weights applied to the history less its mean. Equal for all channels."""

    def __init__(self, weights_TH: Floats, samples: int) -> None:
        self._weights_TH = torch.from_numpy(weights_TH)
        self.samples = samples

    def __call__(self, windows: Sequence[Window]) -> Tensor:
        """Forecasts (B, H) in standardised units."""
        history_BT = _histories(windows).double()
        mean_B1 = history_BT.mean(dim=1, keepdim=True)
        return mean_B1 + (history_BT - mean_B1) @ self._weights_TH


def fit_linear(data: ForecastData) -> Linear:
    """Ridge regression by normal equations over every training window; the validation span chooses its strength."""
    seq_len = data.config.window.seq_len
    training, samples = _centred_moments(data, "train")
    validation, _ = _centred_moments(data, "val")
    scale = float(np.trace(training[:seq_len, :seq_len])) / seq_len or 1.0
    fits = [_solve(training, seq_len, ridge * scale) for ridge in _RIDGES]
    best = min(fits, key=lambda weights_TH: _squared_error(validation, weights_TH))
    return Linear(best, samples)


def second_moments(values_N: Floats, width: int) -> Floats:
    """Sum over all windows w of `width` consecutive values of the outer product w·wᵀ: (width, width).

    Neighbouring windows share all but one value, so each entry is its upper left neighbour less the first product
    plus a new one: N·width + width² products instead of N·width², and no window is ever stored.
    """
    windows = len(values_N) - width + 1
    moments = np.empty((width, width))
    lagged = np.lib.stride_tricks.sliding_window_view(values_N, windows)
    # einsum and not @: these products are too small for the threads of a BLAS, which would only wait for each other.
    moments[0] = np.einsum("n,ln->l", values_N[:windows], lagged)
    moments[:, 0] = moments[0]
    head, tail = values_N[: width - 1], values_N[windows : windows + width - 1]
    for row in range(1, width):
        moments[row, 1:] = moments[row - 1, :-1] + tail[row - 1] * tail - head[row - 1] * head
    return moments


def _centred_moments(data: ForecastData, split: str) -> tuple[Floats, int]:
    """Second moments of history and future, less the mean of the history, over all windows of the scored channels."""
    window = data.config.window
    width = window.seq_len + window.pred_len
    values_NC = _scored_values(data, split)
    moments = np.zeros((width, width))
    for values_N in values_NC.T:
        moments += second_moments(values_N.astype(np.float64), width)
    centring = np.eye(width)
    centring[:, : window.seq_len] -= 1 / window.seq_len
    return centring @ moments @ centring.T, values_NC.shape[1] * (len(values_NC) - width + 1)


def _solve(moments: Floats, seq_len: int, ridge: float) -> Floats:
    normal_TT = moments[:seq_len, :seq_len] + ridge * np.eye(seq_len)
    return np.linalg.solve(normal_TT, moments[:seq_len, seq_len:]).astype(np.float64)


def _squared_error(moments: Floats, weights_TH: Floats) -> float:
    """Sum of squared errors over the windows behind the moments: trace of (-Wᵀ, I) · moments · (-Wᵀ, I)ᵀ."""
    residual = np.hstack([-weights_TH.T, np.eye(weights_TH.shape[1])])
    return float(((residual @ moments) * residual).sum())


def _scored_values(data: ForecastData, split: str) -> NDArray[np.float32]:
    """Standardised rows of a split (N, C), the channels that are scored alone, as a view."""
    span, channels = data.spans[split], data.windows("test").channels
    return data.values_CN[-channels:, span.start : span.stop].T.numpy()


def _histories(windows: Sequence[Window]) -> Tensor:
    return torch.stack([window.history_T for window in windows])
