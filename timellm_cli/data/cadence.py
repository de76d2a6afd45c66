"""The step from one timestamp to the next: found in a column, continued into the future.

A cadence is a pandas frequency: `h`, `15min` or `24h` where the step is constant, `MS`, `QE-DEC` or `B` where the calendar sets it.
"""

import warnings
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pandas.tseries.frequencies import to_offset

Stamps = NDArray[np.datetime64]

_CALENDARS = ("YS", "YE", "QS", "QE", "MS", "ME", "BMS", "BME")
_MONTH = pd.Timedelta(days=28)
_DAY = pd.Timedelta(days=1)


@dataclass(frozen=True)
class Grid:
    """The regular timestamps a column should have, from its first to its last, and the step between them."""

    stamps: Stamps
    cadence: str


def find_grid(stamps_N: Stamps) -> Grid | None:
    """The regular grid that holds every one of two or more increasing timestamps, or None if they fit no grid.

    A grid of which the file has less than half is no grid: the step was found by accident.
    """
    index = pd.DatetimeIndex(stamps_N)
    steps = pd.Series(np.diff(index))
    step = pd.Timedelta(steps.mode()[0])
    calendar = _calendar_cadence(index) if step >= _MONTH or not (steps == step).all() else None
    if calendar is not None:
        return Grid(stamps_N, calendar)
    candidates = [*(_CALENDARS if step >= _MONTH else ()), *(("B",) if _is_business(index, step) else ())]
    for cadence in candidates:
        grid = pd.date_range(index[0], index[-1], freq=cadence)
        if len(grid) <= 2 * len(index) and index.isin(grid).all():
            return Grid(_to_numpy(grid), cadence)
    if (steps % step != pd.Timedelta(0)).any() or (index[-1] - index[0]) // step >= 2 * len(index):
        return None
    return Grid(_to_numpy(pd.date_range(index[0], index[-1], freq=step)), describe_step(step))


def describe_step(step: pd.Timedelta) -> str:
    """A constant step as the shortest pandas frequency: `15min`, `h`, `24h`."""
    offset = to_offset(step)
    assert offset is not None
    return offset.freqstr


def continue_timestamps(last: np.datetime64 | pd.Timestamp, cadence: str, steps: int) -> Stamps:
    """The `steps` timestamps after `last`, which lies on the grid of `cadence`."""
    stamps = pd.date_range(pd.Timestamp(last), periods=steps + 1, freq=cadence)
    return _to_numpy(stamps[1:])


def _calendar_cadence(index: pd.DatetimeIndex) -> str | None:
    if len(index) < 3:
        return None
    with warnings.catch_warnings():
        # pandas announces that the answer will become an object; both have the same text.
        warnings.simplefilter("ignore")
        found = pd.infer_freq(index)
    return getattr(found, "freqstr", found)


def _is_business(index: pd.DatetimeIndex, step: pd.Timedelta) -> bool:
    return step == _DAY and bool((index.dayofweek < 5).all())


def _to_numpy(index: pd.DatetimeIndex) -> Stamps:
    return index.to_numpy().astype("datetime64[us]")
