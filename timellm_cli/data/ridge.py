"""The linear map in closed form: ridge regression of the future on the history, one map for all channels.

It is fitted on the training span; the validation span chooses its strength; the test span is never read. A baseline of
`timellm eval`, and where a model with a fitted shortcut starts from.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from timellm_cli.data.batch import Batch
from timellm_cli.data.scale import Floats
from timellm_cli.data.windows import ForecastData, fill_histories

RIDGES = tuple(10.0**exponent for exponent in range(-6, 2))
"""Strengths of the ridge that are tried, as shares of the mean second moment of the centred history."""


@dataclass(frozen=True, eq=False)
class Linear:
    """Forecast = mean of the history + (history - its mean) @ weights. The weights are the same for all channels.

    `samples` is how many training samples they were fitted on.
    """

    weights_TH: Tensor
    samples: int

    def __call__(self, batch: Batch) -> Tensor:
        """Forecasts, B x H, standardised."""
        history_BT = batch.history_BT.double()
        mean_B1 = history_BT.mean(dim=1, keepdim=True)
        return mean_B1 + (history_BT - mean_B1) @ self.weights_TH


def fit_linear(data: ForecastData) -> Linear:
    """Ridge regression by normal equations over every training window; the validation span chooses its strength.

    A stride that leaves out windows in training leaves out none here. Where values are absent, the known targets count;
    there, and of very many channels, at most `_MOST_VALUES` values of windows at equal distances.
    """
    if data.windows("train").has_gaps or len(data.scored_channels) > _MOST_CHANNELS:
        return _fit_linear_to_known(data)
    seq_len = data.config.window.seq_len
    training, samples = _centred_moments(data, "train")
    validation, _ = _centred_moments(data, "val")
    scale = float(np.trace(training[:seq_len, :seq_len])) / seq_len or 1.0
    fits = [_solve(training, seq_len, ridge * scale) for ridge in RIDGES]
    best = min(fits, key=lambda weights_TH: _squared_error(validation, weights_TH))
    return Linear(torch.from_numpy(best), samples)


_MOST_CHANNELS = 500
_MOST_VALUES = 2**24
_VALUES_AT_ONCE = 2**20
_FILLS = 20


@dataclass(frozen=True, eq=False)
class _Windows:
    """Windows of a split, less the mean of their histories: `samples` of them, in float64.

    Those without a hole are in `moments`, the sum of their outer products (T+H, T+H). Of the others (M), histories,
    futures (0 where absent) and what is known are kept.
    """

    samples: int
    moments: Tensor
    past_MT: Tensor
    future_MH: Tensor
    known_MH: Tensor


def _fit_linear_to_known(data: ForecastData) -> Linear:
    """Least squares on the known targets: absent ones are filled with the fit's own forecasts until it stands still."""
    training, validation = _some_windows(data, "train"), _some_windows(data, "val")
    seq_len = data.config.window.seq_len
    normal_TT = training.moments[:seq_len, :seq_len] + training.past_MT.T @ training.past_MT
    eye_TT, scale = torch.eye(seq_len, dtype=torch.float64), float(normal_TT.trace()) / seq_len or 1.0

    def fit(ridge: float) -> Tensor:
        factor_TT = torch.linalg.cholesky(normal_TT + ridge * scale * eye_TT)
        weights_TH = torch.zeros_like(training.moments[:seq_len, seq_len:])
        for _ in range(_FILLS):
            target_MH = torch.where(training.known_MH, training.future_MH, training.past_MT @ weights_TH)
            right_TH = training.moments[:seq_len, seq_len:] + training.past_MT.T @ target_MH
            weights_TH = torch.cholesky_solve(right_TH, factor_TT)
        return weights_TH

    def error(weights_TH: Tensor) -> float:
        miss_MH = validation.past_MT @ weights_TH - validation.future_MH
        of_holed = float(torch.where(validation.known_MH, miss_MH, 0.0).square().sum())
        return of_holed + _squared_error(validation.moments.numpy(), weights_TH.numpy())

    return Linear(min(map(fit, RIDGES), key=error), training.samples)


def _some_windows(data: ForecastData, split: str) -> _Windows:
    """Windows of a split at equal distances, `_MOST_VALUES` values of them at most."""
    every = replace(data, config=data.config.with_values({"data.window_stride": 1}))
    samples, width = every.windows(split), data.config.window.seq_len + data.config.window.pred_len
    most, at_once = max(_MOST_VALUES // width, 1), max(_VALUES_AT_ONCE // width, 1)
    numbers = range(0, len(samples), max(-(-len(samples) // most), 1))
    moments, holed = torch.zeros(width, width, dtype=torch.float64), []
    for first in range(0, max(len(numbers), 1), at_once):
        batch = samples.batch(numbers[first : first + at_once])
        past_BT, known_BH = batch.history_BT.double(), ~batch.future_BH.isnan()
        mean_B1 = past_BT.mean(dim=1, keepdim=True)
        past_BT, future_BH = past_BT - mean_B1, (batch.future_BH.double() - mean_B1).nan_to_num(0.0)
        whole_B = known_BH.all(dim=1)
        windows_NW = torch.cat((past_BT, future_BH), dim=1)[whole_B]
        moments += windows_NW.T @ windows_NW
        holed.append((past_BT[~whole_B], future_BH[~whole_B], known_BH[~whole_B]))
    return _Windows(len(numbers), moments, *(torch.cat(parts) for parts in zip(*holed, strict=True)))


def second_moments(values_N: Floats, width: int) -> Floats:
    """The sum over all windows w of `width` consecutive values of the outer product w·wᵀ: (width, width).

    Neighbouring windows share all values but one. So each element is its upper left neighbour less one product plus
    another: N·width + width² products instead of N·width², and no window is stored.
    """
    windows = len(values_N) - width + 1
    moments = np.empty((width, width))
    lagged = np.lib.stride_tricks.sliding_window_view(values_N, windows)
    # einsum, not @: the products are so small that the threads of a BLAS would mostly wait for each other.
    moments[0] = np.einsum("n,ln->l", values_N[:windows], lagged)
    moments[:, 0] = moments[0]
    first, last = values_N[: width - 1], values_N[windows : windows + width - 1]
    for row in range(1, width):
        moments[row, 1:] = moments[row - 1, :-1] + last[row - 1] * last - first[row - 1] * first
    return moments


def _centred_moments(data: ForecastData, split: str) -> tuple[Floats, int]:
    """Second moments of history and future, both less the history's mean, over all windows of the scored channels.

    Also returns the number of those windows.
    """
    window = data.config.window
    width = window.seq_len + window.pred_len
    channels = [values_N for values_N in scored_values(data, split) if len(values_N) >= width]
    moments = np.zeros((width, width))
    for values_N in channels:
        moments += second_moments(values_N.astype(np.float64), width)
    centring = np.eye(width)
    centring[:, : window.seq_len] -= 1 / window.seq_len
    return centring @ moments @ centring.T, sum(len(values_N) - width + 1 for values_N in channels)


def _solve(moments: Floats, seq_len: int, ridge: float) -> Floats:
    normal_TT = moments[:seq_len, :seq_len] + ridge * np.eye(seq_len)
    return np.linalg.solve(normal_TT, moments[:seq_len, seq_len:]).astype(np.float64)


def _squared_error(moments: Floats, weights_TH: Floats) -> float:
    """Sum of squared errors over the windows behind the moments: trace of (-Wᵀ, I) · moments · (-Wᵀ, I)ᵀ."""
    residual = np.hstack([-weights_TH.T, np.eye(weights_TH.shape[1])])
    return float(((residual @ moments) * residual).sum())


def scored_values(data: ForecastData, split: str) -> list[NDArray[np.float32]]:
    """The standardised rows of a split of each scored channel: views, or filled where values are absent."""
    samples, series = data.windows(split), data.table.series
    found = []
    for channel in range(samples.first_channel, samples.first_channel + samples.channels):
        column, number = divmod(channel, len(series.ids))
        span, offset = data.spans[number][split], series.offsets[number]
        values_1N = data.values_KV[column : column + 1, offset + span.start : offset + span.stop]
        if samples.has_gaps and values_1N.numel():
            values_1N = fill_histories(values_1N, data.config.data.fill, samples.zero_C[channel : channel + 1])
        found.append(values_1N[0].numpy())
    return found
