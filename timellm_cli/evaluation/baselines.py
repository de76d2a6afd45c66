"""Simple forecasters that a trained model should beat: last value, seasonal naive, and a linear map.

They read what a model reads: `seq_len` standardised values of one channel. They are fitted on the training span; the
validation span chooses the strength of the ridge; the test span is never read.

The period of the seasonal naive forecast is found in the training data. A forecast that repeats the last `p` rows
predicts step h from the row `p * ceil(h / p)` rows before it. Its expected squared error at that step is
2 * variance * (1 - autocorrelation at that lag), so the autocorrelation shows which period errs least over a horizon.
Candidates are the calendar's periods that are whole numbers of rows. Where the data show none of them, the candidates
are the peaks of the autocorrelation.
"""

from dataclasses import dataclass
from datetime import timedelta

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from timellm_cli.data.batch import Batch
from timellm_cli.data.cadence import Cadence, Every, MonthDays, WeekTimes
from timellm_cli.data.scale import Floats
from timellm_cli.data.windows import ForecastData, fill_histories
from timellm_cli.evaluation.score import Forecaster

VISIBLE = 0.1
"""The least autocorrelation of a period."""
TIE = 0.02
"""Periods whose expected errors differ by less, as a share of the variance, count as equal: the shortest is used."""

_STRETCH = 2**15
"""Rows that are transformed at a time."""

_SPANS = {
    "1 minute": timedelta(minutes=1),
    "1 hour": timedelta(hours=1),
    "1 day": timedelta(days=1),
    "1 week": timedelta(weeks=1),
    "1 year": timedelta(days=365),
}


@dataclass(frozen=True)
class Period:
    """A period of `rows` rows; `name` is its length in time, or in rows where the calendar has no name for it."""

    rows: int
    name: str


def calendar_periods(cadence: Cadence, longest: int) -> list[Period]:
    """Minute, hour, day, week and year in rows of a cadence, where they are whole numbers from 2 to `longest`.

    A year has 52 weeks.
    """
    if isinstance(cadence, Every):
        whole = [(span // cadence.step, name) for name, span in _SPANS.items() if not span % cadence.step]
        whole += [(52, "1 year")] if cadence.step == timedelta(weeks=1) else []
    elif isinstance(cadence, WeekTimes):
        days = len({moment.days for moment in cadence.times})
        whole = [(len(cadence.times) // days, "1 day"), (len(cadence.times), "1 week")]
        whole = [(rows, name) for rows, name in whole if len(cadence.times) % rows == 0]
    else:
        whole = [(len(cadence.months) * len(cadence.days), "1 year")] if isinstance(cadence, MonthDays) else []
    return [Period(rows, name) for rows, name in whole if 2 <= rows <= longest]


def autocorrelation(values_NC: NDArray[np.floating], lags: int) -> Floats:
    """Mean over the channels of the autocorrelation at lags 0 to `lags`, linear trends removed: (lags + 1,).

    A channel that is constant except for its trend is left out. If every channel is, all lags but 0 are zero. Channels
    are copied one at a time, to save memory.
    """
    time_N = np.linspace(-1.0, 1.0, len(values_NC))
    found = [of_channel for values_N in values_NC.T if (of_channel := _correlate(values_N, time_N, lags)) is not None]
    if not found:
        return np.eye(1, lags + 1)[0]
    pairs = len(values_NC) - np.arange(lags + 1)
    mean: Floats = np.mean(found, axis=0) * len(values_NC) / pairs
    return mean


def _correlate(values_N: NDArray[np.floating], time_N: Floats, lags: int) -> Floats | None:
    """Sums of products at each lag, divided by that of lag 0, trend removed. None if only rounding noise is left."""
    detrended_N = values_N.astype(np.float64)
    largest = max(abs(float(detrended_N.min())), abs(float(detrended_N.max())))
    detrended_N -= detrended_N.mean()
    detrended_N -= time_N @ detrended_N / (time_N @ time_N) * time_N
    rounding = max(1e-9, 4 * float(np.finfo(values_N.dtype).eps))
    if not detrended_N.std() > rounding * (1 + largest):
        return None
    # In stretches: a transform of the whole channel needs eight times its memory.
    stretch = min(max(_STRETCH, lags), len(detrended_N))
    size = 2 ** (stretch + lags - 1).bit_length()
    stretch = size - lags
    spectrum = np.zeros(size // 2 + 1, dtype=np.complex128)
    for start in range(0, len(detrended_N), stretch):
        left = np.fft.rfft(detrended_N[start : start + stretch], n=size)
        spectrum += left.conj() * np.fft.rfft(detrended_N[start : start + size], n=size)
    products = np.fft.irfft(spectrum, n=size)[: lags + 1]
    return products / products[0]


def find_period(training_NC: NDArray[np.floating], cadence: Cadence, longest: int, pred_len: int) -> Period | None:
    """The period of at most `longest` rows whose repetition has the least expected error over `pred_len` steps.

    Multiples of a period have equal errors: the shortest is chosen. `training_NC` is the training span, in any unit.
    None where the data show no period.
    """
    lags = min(longest + pred_len, len(training_NC) // 2)
    correlation = autocorrelation(training_NC, lags)
    longest = min(longest, lags)
    candidates = [
        period for period in calendar_periods(cadence, longest) if _is_peak(correlation, period.rows)
    ] or _peaks(correlation[: longest + 1])
    errors = [_expected_error(correlation, period.rows, pred_len) for period in candidates]
    return next((period for period, error in zip(candidates, errors, strict=True) if error <= min(errors) + TIE), None)


def _is_peak(correlation: Floats, lag: int) -> bool:
    """Whether a lag is visible and the highest near it: a slow decay is no season; a wave of 30 rows has none of 24."""
    reach = max(1, lag // 12)
    near = correlation[max(lag - reach, 1) : lag + reach + 1]
    return bool(correlation[lag] >= max(VISIBLE, near.max() - TIE))


def _peaks(correlation: Floats) -> list[Period]:
    inner = correlation[1:-1]
    is_peak = (inner > correlation[:-2]) & (inner >= correlation[2:]) & (inner >= VISIBLE)
    return [Period(int(lag), f"{lag} rows") for lag in np.flatnonzero(is_peak) + 1 if lag >= 2]


def _expected_error(correlation: Floats, period: int, pred_len: int) -> float:
    """Mean over the horizon of 1 - autocorrelation at each step's lag. Unknown lags: the longest known multiple."""
    lags_H = period * -(-np.arange(1, pred_len + 1) // period)
    return float(1 - correlation[np.minimum(lags_H, (len(correlation) - 1) // period * period)].mean())


_RIDGES = tuple(10.0**exponent for exponent in range(-6, 2))
"""Strengths of the ridge that are tried, as shares of the mean second moment of the centred history."""


@dataclass(frozen=True)
class Baseline:
    """A forecaster with its name and a short explanation."""

    name: str
    explanation: str
    forecaster: Forecaster


def fit_baselines(data: ForecastData) -> list[Baseline]:
    """Last value, seasonal naive where the training data show a period, and a linear model."""
    pred_len = data.config.window.pred_len
    baselines = [Baseline("last value", "repeats the last known value", last_value(pred_len))]
    period = period_of(data)
    if period is not None:
        explanation = f"repeats the last {period.rows} rows ({period.name})"
        baselines.append(Baseline("seasonal naive", explanation, seasonal_naive(period.rows, pred_len)))
    linear = fit_linear(data)
    explanation = f"one linear map for all channels, fitted in closed form on {linear.samples:,} training samples"
    baselines.append(Baseline("linear", explanation, linear))
    return baselines


def period_of(data: ForecastData) -> Period | None:
    """The period of the training span that a seasonal naive forecast repeats.

    None where the training span shows none, and where repeating it has a higher error on validation windows than
    repeating the last value.
    """
    window = data.config.window
    period = find_period(_scored_values(data, "train"), data.table.cadence, window.seq_len, window.pred_len)
    if period is None or period.rows > window.seq_len:
        return period
    samples = data.windows("val")
    batch = samples.batch(range(0, len(samples), -(-len(samples) // _MOST_WINDOWS)))
    last, seasonal = (
        float((forecaster(batch) - batch.future_BH).double().square().nansum())
        for forecaster in (last_value(window.pred_len), seasonal_naive(period.rows, window.pred_len))
    )
    return period if seasonal < last else None


def last_value(pred_len: int) -> Forecaster:
    """Repeats the last value of the history."""
    return lambda batch: batch.history_BT[:, -1:].expand(-1, pred_len)


def seasonal_naive(period: int, pred_len: int) -> Forecaster:
    """Repeats the last `period` values of the history."""
    steps_back = torch.arange(pred_len) % period - period
    return lambda batch: batch.history_BT[:, steps_back]


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

    Where values are absent, over some thousand windows and the known targets alone.
    """
    if data.windows("train").has_gaps:
        return _fit_linear_to_known(data)
    seq_len = data.config.window.seq_len
    training, samples = _centred_moments(data, "train")
    validation, _ = _centred_moments(data, "val")
    scale = float(np.trace(training[:seq_len, :seq_len])) / seq_len or 1.0
    fits = [_solve(training, seq_len, ridge * scale) for ridge in _RIDGES]
    best = min(fits, key=lambda weights_TH: _squared_error(validation, weights_TH))
    return Linear(torch.from_numpy(best), samples)


_MOST_WINDOWS = 4000
_FILLS = 20


def _fit_linear_to_known(data: ForecastData) -> Linear:
    """Least squares on the known targets: absent ones are filled with the fit's own forecasts until it stands still."""
    (past_NT, future_NH, known_NH), validation = _some_windows(data, "train"), _some_windows(data, "val")
    normal_TT, eye_TT = past_NT.T @ past_NT, torch.eye(past_NT.shape[1], dtype=torch.float64)
    scale = float(normal_TT.trace()) / len(eye_TT) or 1.0

    def fit(ridge: float) -> Tensor:
        factor_TT = torch.linalg.cholesky(normal_TT + ridge * scale * eye_TT)
        weights_TH = torch.zeros(len(eye_TT), future_NH.shape[1], dtype=torch.float64)
        for _ in range(_FILLS):
            target_NH = torch.where(known_NH, future_NH, past_NT @ weights_TH)
            weights_TH = torch.cholesky_solve(past_NT.T @ target_NH, factor_TT)
        return weights_TH

    def error(weights_TH: Tensor) -> float:
        past_MT, future_MH, known_MH = validation
        return float(torch.where(known_MH, past_MT @ weights_TH - future_MH, 0.0).square().sum())

    return Linear(min(map(fit, _RIDGES), key=error), len(past_NT))


def _some_windows(data: ForecastData, split: str) -> tuple[Tensor, Tensor, Tensor]:
    """Histories and futures less the history's mean, and which targets are known, of windows at equal distances."""
    samples = data.windows(split)
    batch = samples.batch(range(0, len(samples), -(-len(samples) // _MOST_WINDOWS)))
    past_NT, known_NH = batch.history_BT.double(), ~batch.future_BH.isnan()
    mean_N1 = past_NT.mean(dim=1, keepdim=True)
    return past_NT - mean_N1, (batch.future_BH.double() - mean_N1).nan_to_num(0.0), known_NH


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
    """The standardised rows of a split, N x C, of the scored channels: a view, or filled where values are absent."""
    span, samples = data.spans[split], data.windows(split)
    values_CN = data.values_CN[-samples.channels :, span.start : span.stop]
    if samples.has_gaps:
        values_CN = fill_histories(values_CN, data.config.data.fill, samples.zero_C[-samples.channels :])
    return values_CN.T.numpy()
