"""How timestamps are written: ISO 8601 first, then the usual ways of spreadsheets. Light.

Formats are `strptime` patterns, which pandas shares with the standard library.

The step from one timestamp to the next: found in a column, continued into the future.

A column of texts as increasing timestamps on a regular grid, or the error that says why not.
"""

import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pandas.tseries.frequencies import to_offset

from timellm_cli.data.source import CsvSource
from timellm_cli.errors import DataError

ISO = "ISO8601"
_DATES = (
    "%Y-%m-%d",
    "%Y/%m/%d",
    "%Y.%m.%d",
    "%Y年%m月%d日",
    "%d.%m.%Y",
    "%d/%m/%Y",
    "%m/%d/%Y",
    "%d-%m-%Y",
    "%m-%d-%Y",
)
_TIMES = ("", " %H:%M", " %H:%M:%S", " %H:%M:%S.%f", " %I:%M %p", " %I:%M:%S %p")
_FORMATS = (*(date + time for date in _DATES for time in _TIMES), "%Y-%m", "%Y/%m", "%Y")
_UTC_OFFSET = re.compile(r":\d\d(\.\d+)?\s*(Z|[+-]\d\d:?\d\d)$")

HINT = "write timestamps like 2024-01-31 13:00:00"


def fitting_formats(texts: Sequence[str]) -> list[str]:
    """The formats that read every text: two where day and month could change places, none where nothing fits."""
    for form in (ISO, *_FORMATS):
        if all(parse_timestamp(text, form) is not None for text in texts):
            swapped = [other for other in _FORMATS if other != form and sorted(other) == sorted(form)]
            return [form, *(other for other in swapped if all(parse_timestamp(text, other) for text in texts))]
    return []


def parse_timestamp(text: str, form: str) -> datetime | None:
    """One timestamp without a time zone (an offset from UTC is taken off), or None if it is not of that format."""
    try:
        stamp = datetime.fromisoformat(text) if form == ISO else datetime.strptime(text, form)
        return stamp.astimezone(UTC).replace(tzinfo=None) if stamp.tzinfo else stamp
    except (ValueError, OverflowError):  # the latter: a year before 1 or after 9999 by UTC
        return None


def has_utc_offset(text: str) -> bool:
    """Whether a timestamp ends in 'Z' or an offset such as '+01:00'."""
    return _UTC_OFFSET.search(text) is not None


def no_timestamp(name: str, where: str, text: str, column: str) -> DataError:
    """The error of a cell that no format reads; `where` is its line."""
    return DataError(f"{name}, {where}, column '{column}': '{text}' is no timestamp", HINT)


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


_SAMPLE = 200
_NOTHING = np.timedelta64(0)


class TimestampReader:
    """Texts to timestamps without a time zone (UTC where the file gives offsets), in microseconds, piece by piece.

    `first` is the first text.
    """

    def __init__(self, csv: CsvSource, column: str) -> None:
        self._csv, self._column = csv, column
        self._rows = 0
        self._empty: int | None = None
        self._readings: dict[str, list[Stamps]] = {}
        self._misread: dict[str, tuple[int, str]] = {}
        self.first = ""

    def add(self, texts: "pd.Series[str]") -> "pd.Series[str]":
        """Take in the next rows; returns them without the blanks around them."""
        texts = texts.str.strip()
        empty = texts.isna().to_numpy()
        if self._empty is None and empty.any():
            self._empty = self._rows + int(empty.argmax())
        if self._empty is None:
            self._parse(texts)
        self._rows += len(texts)
        return texts

    def _parse(self, texts: "pd.Series[str]") -> None:
        if not self._rows:
            self.first = texts.iloc[0]
            formats = fitting_formats(list(texts.iloc[:_SAMPLE])) or fitting_formats([self.first])
            self._readings = {form: [] for form in formats}
            self._misread = {} if formats else {"": (0, self.first)}
        for form, reading in self._readings.items():
            if form in self._misread:
                continue
            stamps = _parse(texts, form)
            if (unread := np.isnat(stamps)).any():
                row = int(unread.argmax())
                self._misread[form] = (self._rows + row, texts.iloc[row])
                reading.clear()
            else:
                reading.append(stamps)

    def finish(self) -> Stamps:
        """All timestamps.

        Raises DataError for a single row, an empty cell, one that is no timestamp, and dates that make sense day first
        and month first.
        """
        csv = self._csv
        if self._rows < 2:
            raise DataError(f"{csv.name} has a single row, which has no cadence", "at least two rows are needed")
        if self._empty is not None:
            where = f"{csv.name}, line {csv.line(self._empty)}"
            raise DataError(f"{where}: no timestamp in column '{self._column}'", HINT)
        readings, self._readings = self._readings, {}  # they are as large as what is made of them
        whole = [_join(readings.pop(form)) for form in list(readings) if form not in self._misread]
        if not whole:
            row, text = max(self._misread.values())
            raise no_timestamp(csv.name, f"line {csv.line(row)}", text, self._column)
        if len(whole) > 1:
            whole = _plausible(whole)
        if len(whole) > 1:
            raise DataError(
                f"{csv.name}, column '{self._column}': '{self.first}' could be day first or month first, "
                "and both make sense",
                HINT,
            )
        return whole[0]


def make_grid(csv: CsvSource, stamps: Stamps) -> Grid:
    """The regular grid of a column. Raises DataError for duplicate, unsorted and irregular timestamps."""
    if (stamps[1:] <= stamps[:-1]).any():
        raise _disordered(csv, stamps, np.diff(stamps))
    grid = find_grid(stamps)
    if grid is None:
        raise _irregular(csv, stamps, np.diff(stamps))
    return grid


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


def _parse(texts: "pd.Series[str]", form: str) -> Stamps:
    stamps = pd.to_datetime(texts, format=form, errors="coerce", utc=True).dt.tz_localize(None)
    return stamps.to_numpy().astype("datetime64[us]")


def _join(reading: list[Stamps]) -> Stamps:
    return reading[0] if len(reading) == 1 else np.concatenate(reading)


def _plausible(readings: list[Stamps]) -> list[Stamps]:
    """Those that are regular without a gap; else those in order; else the first. Equal ones count once."""
    ordered = [stamps for stamps in readings if (np.diff(stamps) > _NOTHING).all()]
    regular = [stamps for stamps in ordered if (grid := find_grid(stamps)) and len(grid.stamps) == len(stamps)]
    best = regular or ordered or readings[:1]
    return list({stamps.tobytes(): stamps for stamps in best}.values())


def _disordered(csv: CsvSource, stamps: Stamps, steps: np.ndarray) -> DataError:
    row = int((steps <= _NOTHING).argmax()) + 1
    line, before, here = csv.line(row), show(stamps[row - 1]), show(stamps[row])
    if steps[row - 1] == _NOTHING:
        count = int((steps == _NOTHING).sum())
        more = f" ({count:,} rows repeat a timestamp)" if count > 1 else ""
        return DataError(
            f"{csv.name}, line {line}: the timestamp {here} is that of the row before{more}",
            "keep one row for each timestamp",
        )
    return DataError(
        f"{csv.name}, line {line}: {here} comes after {before}",
        "the file is newest first; reverse its rows" if (steps < _NOTHING).all() else "sort the rows by time",
    )


def _irregular(csv: CsvSource, stamps: Stamps, steps: np.ndarray) -> DataError:
    lengths, counts = np.unique(steps, return_counts=True)
    usual = lengths[counts.argmax()]
    odd = steps % usual != _NOTHING
    row = int((odd if odd.any() else steps != usual).argmax()) + 1
    return DataError(
        f"{csv.name}, line {csv.line(row)}: irregular timestamps: {show(stamps[row])} comes "
        f"{show_step(pd.Timedelta(steps[row - 1]))} after the row before; "
        f"the usual step is {show_step(pd.Timedelta(usual))}",
        "resample the file to equal steps of time" if odd.any() else "cut the file to a part without such a gap",
    )
