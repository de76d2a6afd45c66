"""Which period a seasonal naive forecast should repeat, found in the training data alone.

A forecast that repeats the last `p` rows predicts step h from the row `p * ceil(h / p)` rows before it. Its expected
squared error at that step is 2 * variance * (1 - autocorrelation at that lag). So the autocorrelation says, before any
forecast is made, which period errs least over a horizon. Candidates are the periods of the calendar that the cadence
of the data makes whole numbers of rows; where none of them is visible in the data, the peaks of the autocorrelation.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pandas.tseries.frequencies import to_offset

from timellm_cli.data.cadence import Cadence
from timellm_cli.data.scale import Floats

VISIBLE = 0.1
"""Autocorrelation from which on a lag counts as a period."""
TIE = 0.02
"""Difference of expected errors, in parts of the variance, below which the shorter period is taken."""

_STRETCH = 2**15

_SPANS = {
    "1 minute": pd.Timedelta(minutes=1),
    "1 hour": pd.Timedelta(hours=1),
    "1 day": pd.Timedelta(days=1),
    "1 week": pd.Timedelta(weeks=1),
    "1 year": pd.Timedelta(days=365),
}
_UNEVEN = {"B": (5, "1 week"), "M": (12, "1 year"), "Q": (4, "1 year")}
"""Business days, months and quarters have no constant length; by the first letter of their pandas rule."""


@dataclass(frozen=True)
class Period:
    """A period of `rows` rows; `name` is its length in time, or in rows where the calendar has no name for it."""

    rows: int
    name: str


def calendar_periods(cadence: Cadence, longest: int) -> list[Period]:
    """Minute, hour, day, week and year in rows of a cadence, from 2 to `longest` rows, where they come out whole.

    A year of weeks has 52.
    """
    if isinstance(cadence, pd.Timedelta):
        whole = [(span // cadence, name) for name, span in _SPANS.items() if span % cadence == pd.Timedelta(0)]
        whole += [(52, "1 year")] if cadence == pd.Timedelta(weeks=1) else []
    else:
        offset = to_offset(cadence)
        assert offset is not None
        rows, name = _UNEVEN.get(offset.rule_code.lstrip("B")[:1] or "B", (0, ""))
        whole = [(rows // offset.n, name)] if rows % offset.n == 0 else []
    return [Period(rows, name) for rows, name in whole if 2 <= rows <= longest]


def autocorrelation(values_NC: NDArray[np.floating], lags: int) -> Floats:
    """Mean over the channels of the autocorrelation at lags 0 to `lags`, straight trends removed: (lags + 1,).

    A channel that is constant up to its trend has none and is left out; all zeros beyond lag 0 if every one is. One
    channel at a time is copied.
    """
    time_N = np.linspace(-1.0, 1.0, len(values_NC))
    found = [of_channel for values_N in values_NC.T if (of_channel := _correlate(values_N, time_N, lags)) is not None]
    if not found:
        return np.eye(1, lags + 1)[0]
    pairs = len(values_NC) - np.arange(lags + 1)
    mean: Floats = np.mean(found, axis=0) * len(values_NC) / pairs
    return mean


def _correlate(values_N: NDArray[np.floating], time_N: Floats, lags: int) -> Floats | None:
    """Sums of products at each lag in parts of that at lag 0, the trend removed; None where nothing is left of it."""
    detrended_N = values_N.astype(np.float64)
    largest = max(abs(float(detrended_N.min())), abs(float(detrended_N.max())))
    detrended_N -= detrended_N.mean()
    detrended_N -= time_N @ detrended_N / (time_N @ time_N) * time_N
    rounding = max(1e-9, 4 * float(np.finfo(values_N.dtype).eps))
    if not detrended_N.std() > rounding * (1 + largest):
        return None
    # By stretches: a transform of the whole channel would take eight times its memory.
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
    """The period of at most `longest` rows whose repetition is expected to err least over `pred_len` steps.

    Multiples of a period err alike: the shortest is taken. `training_NC` is the training span, in any unit. None where
    the data show no period.
    """
    lags = min(longest + pred_len, len(training_NC) // 2)
    correlation = autocorrelation(training_NC, lags)
    longest = min(longest, lags)
    candidates = [
        period for period in calendar_periods(cadence, longest) if correlation[period.rows] >= VISIBLE
    ] or _peaks(correlation[: longest + 1])
    errors = [_expected_error(correlation, period.rows, pred_len) for period in candidates]
    return next((period for period, error in zip(candidates, errors, strict=True) if error <= min(errors) + TIE), None)


def _peaks(correlation: Floats) -> list[Period]:
    inner = correlation[1:-1]
    is_peak = (inner > correlation[:-2]) & (inner >= correlation[2:]) & (inner >= VISIBLE)
    return [Period(int(lag), f"{lag} rows") for lag in np.flatnonzero(is_peak) + 1 if lag >= 2]


def _expected_error(correlation: Floats, period: int, pred_len: int) -> float:
    """Mean of 1 - autocorrelation over the lags that the steps of the horizon look back, as far as they are known."""
    lags_H = period * -(-np.arange(1, pred_len + 1) // period)
    return float(1 - correlation[np.minimum(lags_H, (len(correlation) - 1) // period * period)].mean())
