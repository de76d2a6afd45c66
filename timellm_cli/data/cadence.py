"""The step from one timestamp to the next: found in a column, continued into the future."""

import warnings
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pandas.tseries.frequencies import to_offset

Stamps = NDArray[np.datetime64]
Cadence = pd.Timedelta | str
"""A constant step as its length; a step that the calendar sets as pandas names it: `MS`, `QE-DEC`, `B`."""

_MONTHLY = ("YS", "YE", "QS", "QE", "MS", "ME", "BMS", "BME")
_CALENDAR_CODES = ("Y", "Q", "M", "B", "WOM", "LWOM", "bh")
_MONTH = pd.Timedelta(days=28)
_DAY = pd.Timedelta(days=1)


@dataclass(frozen=True)
class Grid:
    """The timestamps a column should have, from its first to its last."""

    stamps: Stamps
    cadence: Cadence


def find_grid(stamps_N: Stamps) -> Grid | None:
    """The regular grid that holds every one of two or more increasing timestamps, or None if they fit no grid.

    A grid of which half is absent does not count: such a step was found by accident.
    """
    steps = np.diff(stamps_N)
    if steps.min() == steps.max() < _MONTH.to_timedelta64():
        return Grid(stamps_N, pd.Timedelta(steps[0]))
    index = pd.DatetimeIndex(stamps_N)
    lengths, counts = np.unique(steps, return_counts=True)
    usual = lengths[counts.argmax()]
    step = pd.Timedelta(usual)
    if (step >= _MONTH or len(lengths) > 1) and (calendar := _name_calendar(index)):
        return Grid(stamps_N, calendar)
    span = stamps_N[-1] - stamps_N[0]
    if span >= 3 * len(stamps_N) * usual:
        # Far apart: half of any grid would be absent, weekends included, and the grid could be too long to make.
        return None
    business = step == _DAY and bool(np.is_busday(stamps_N.astype("datetime64[D]")).all())
    for cadence in [*(_MONTHLY if step >= _MONTH else ()), *(("B",) if business and len(lengths) > 1 else ())]:
        stamps = _range(index[0], index[-1], cadence)
        if len(stamps) <= 2 * len(index) and np.isin(stamps_N, stamps).all():
            return Grid(stamps, _name_calendar(pd.DatetimeIndex(stamps)) or cadence)
    if (lengths % usual).any() or span // usual >= 2 * len(index):
        return None
    return Grid(_range(index[0], index[-1], step), step)


def continue_timestamps(last: np.datetime64 | pd.Timestamp, cadence: Cadence, steps: int) -> Stamps:
    """The `steps` timestamps after `last`, which lies on the grid of `cadence`."""
    stamps = pd.date_range(pd.Timestamp(last), periods=steps + 1, freq=cadence)
    return stamps[1:].to_numpy().astype("datetime64[us]")


def parse_cadence(text: str) -> Cadence:
    """The inverse of `str(cadence)`. Raises ValueError for a text that is none."""
    if " days " in text:
        return pd.Timedelta(text)
    to_offset(text)
    return text


def _name_calendar(index: pd.DatetimeIndex) -> str | None:
    if len(index) < 3:
        return None
    with warnings.catch_warnings():
        # pandas 3 announces that the answer will become an object; `to_offset` takes both.
        warnings.simplefilter("ignore")
        found = pd.infer_freq(index)
    offset = to_offset(found) if found is not None else None
    return offset.freqstr if offset is not None and offset.rule_code.startswith(_CALENDAR_CODES) else None


def _range(first: pd.Timestamp, last: pd.Timestamp, cadence: Cadence) -> Stamps:
    return pd.date_range(first, last, freq=cadence).to_numpy().astype("datetime64[us]")
