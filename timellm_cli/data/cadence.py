"""The step from one timestamp to the next: found in a column, checked, written as text, continued into the future."""

import warnings
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pandas.tseries.frequencies import to_offset

from timellm_cli.data.csv_format import CsvSource
from timellm_cli.errors import DataError

Stamps = NDArray[np.datetime64]
Cadence = pd.Timedelta | str
"""The length of a constant step, or pandas' name of a step that the calendar sets: `MS`, `QE-DEC`, `B`."""

_MONTHLY = ("YS", "YE", "QS", "QE", "MS", "ME", "BMS", "BME")
_CALENDAR_CODES = ("Y", "Q", "M", "B", "WOM", "LWOM", "bh")
_MONTH = pd.Timedelta(days=28)
_DAY = pd.Timedelta(days=1)
_NO_TIME = np.timedelta64(0)


@dataclass(frozen=True)
class Grid:
    """The timestamps a column should have, from its first to its last."""

    stamps: Stamps
    cadence: Cadence


def require_grid(csv: CsvSource, stamps_N: Stamps) -> Grid:
    """The regular grid of a column. Raises DataError for duplicate, unsorted and irregular timestamps."""
    steps = np.diff(stamps_N)
    if (steps <= _NO_TIME).any():
        raise _disordered(csv, stamps_N, steps)
    grid = find_grid(stamps_N)
    if grid is None:
        raise _irregular(csv, stamps_N, steps)
    return grid


def find_grid(stamps_N: Stamps) -> Grid | None:
    """The regular grid that holds all of two or more increasing timestamps, or None.

    A grid that lacks half of its timestamps does not count: its step was found by accident.
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
        # Any grid would lack half of its timestamps, weekends included, and might be too long to build.
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
    """The inverse of `str(cadence)`. Raises ValueError for any other text."""
    if " days " in text:
        return pd.Timedelta(text)
    to_offset(text)
    return text


def show(stamp: np.datetime64) -> str:
    """A timestamp as people write it."""
    return str(pd.Timestamp(stamp))


def show_step(cadence: Cadence) -> str:
    """A cadence as people read it: `01:00:00`, `1 day`, `2 days 12:00:00`, `MS`."""
    days, _, time = str(cadence).partition(" days ")
    if not time:
        return days
    several = f"{days} day{'s' * (days != '1')}"
    return time if days == "0" else several if time == "00:00:00" else f"{several} {time}"


def _name_calendar(index: pd.DatetimeIndex) -> str | None:
    if len(index) < 3:
        return None
    with warnings.catch_warnings():
        # pandas warns that a later version will return an object; `to_offset` reads both.
        warnings.simplefilter("ignore")
        found = pd.infer_freq(index)
    offset = to_offset(found) if found is not None else None
    return offset.freqstr if offset is not None and offset.rule_code.startswith(_CALENDAR_CODES) else None


def _range(first: pd.Timestamp, last: pd.Timestamp, cadence: Cadence) -> Stamps:
    return pd.date_range(first, last, freq=cadence).to_numpy().astype("datetime64[us]")


def _disordered(csv: CsvSource, stamps_N: Stamps, steps: np.ndarray) -> DataError:
    row = int((steps <= _NO_TIME).argmax()) + 1
    line, before, here = csv.line(row), show(stamps_N[row - 1]), show(stamps_N[row])
    if before == here:
        count = int((steps == _NO_TIME).sum())
        more = f" ({count:,} rows repeat a timestamp)" if count > 1 else ""
        return DataError(
            f"{csv.name}, line {line}: the timestamp {here} is that of the row before{more}",
            "keep one row for each timestamp",
        )
    return DataError(
        f"{csv.name}, line {line}: {here} comes after {before}",
        "the file is newest first; reverse its rows" if (steps < _NO_TIME).all() else "sort the rows by time",
    )


def _irregular(csv: CsvSource, stamps_N: Stamps, steps: np.ndarray) -> DataError:
    lengths, counts = np.unique(steps, return_counts=True)
    usual = lengths[counts.argmax()]
    odd = steps % usual != _NO_TIME
    row = int((odd if odd.any() else steps != usual).argmax()) + 1
    return DataError(
        f"{csv.name}, line {csv.line(row)}: irregular timestamps: {show(stamps_N[row])} comes "
        f"{show_step(pd.Timedelta(steps[row - 1]))} after the row before; "
        f"the usual step is {show_step(pd.Timedelta(usual))}",
        "resample the file to equal steps of time" if odd.any() else "cut the file to a part without such a gap",
    )
