"""Simple forecasters that a trained model should beat: last value, seasonal naive, and a linear map.

They read what a model reads: `seq_len` standardised values of one channel. They are fitted on the training span, the
linear map by `data/ridge.py`; the test span is never read.

The period of the seasonal naive forecast is found in the training data. A forecast that repeats the last `p` rows
predicts step h from the row `p * ceil(h / p)` rows before it. Its expected squared error at that step is
2 * variance * (1 - autocorrelation at that lag), so the autocorrelation shows which period errs least over a horizon.
Candidates are the calendar's periods that are whole numbers of rows. Where the data show none of them, the candidates
are the peaks of the autocorrelation.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

import numpy as np
import torch
from numpy.typing import NDArray

from timellm_cli.data.cadence import Cadence, Every, MonthDays, WeekTimes
from timellm_cli.data.ridge import fit_linear, scored_values
from timellm_cli.data.scale import Floats
from timellm_cli.data.windows import ForecastData
from timellm_cli.evaluation.score import Forecaster
from timellm_cli.model.linear_days import fit_linear_facts

_MOST_WINDOWS = 4000
"""Of the validation span, at equal distances, on which a season is tried."""

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


_MOST_CHANNELS = 500
"""So many channels at most, at equal distances, show the period of all."""


def autocorrelation(channels: Sequence[NDArray[np.floating]], lags: int) -> Floats:
    """Mean over the channels of the autocorrelation at lags 0 to `lags`, linear trends removed: (lags + 1,).

    Channels that are constant except for their trend, or shorter than twice the lags, are left out. If all are, all
    lags but 0 are zero. Channels are copied one at a time, to save memory.
    """
    found = []
    for values_N in channels[:: -(-len(channels) // _MOST_CHANNELS)]:
        time_N = np.linspace(-1.0, 1.0, len(values_N))
        if len(values_N) >= 2 * lags and (of_channel := _correlate(values_N, time_N, lags)) is not None:
            found.append(of_channel * len(values_N) / (len(values_N) - np.arange(lags + 1)))
    if not found:
        return np.eye(1, lags + 1)[0]
    mean: Floats = np.mean(found, axis=0)
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


def find_period(
    training: Sequence[NDArray[np.floating]], cadence: Cadence, longest: int, pred_len: int
) -> Period | None:
    """The period of at most `longest` rows whose repetition has the least expected error over `pred_len` steps.

    Multiples of a period have equal errors: the shortest is chosen. `training` are the training rows of each channel,
    in any unit. None where the data show no period.
    """
    lags = min(longest + pred_len, max(map(len, training)) // 2)
    correlation = autocorrelation(training, lags)
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
        noun = period.name
        explanation = f"repeats the last {period.rows} rows ({noun})"
        baselines.append(Baseline("seasonal naive", explanation, seasonal_naive(period.rows, pred_len)))
    linear = fit_linear(data)
    explanation = f"one linear map for all channels, fitted in closed form on {linear.samples:,} training samples"
    baselines.append(Baseline("linear", explanation, linear))
    if (with_days := fit_linear_facts(data, linear)) is not None:
        count = with_days.weights_CDI.shape[2]
        explanation = f"the linear map, with {count:,} columns and facts known ahead"
        baselines.append(Baseline("linear+days", explanation, with_days))
    return baselines


def period_of(data: ForecastData) -> Period | None:
    """The period of the training span that a seasonal naive forecast repeats.

    None where the training span shows none, and where repeating it has a higher error on validation windows than
    repeating the last value.
    """
    window = data.config.window
    period = find_period(scored_values(data, "train"), data.table.cadence, window.seq_len, window.pred_len)
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
