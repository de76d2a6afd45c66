"""A column of texts as increasing timestamps on a regular grid, or the error that says why not."""

import numpy as np
import pandas as pd

from timellm_cli.data.cadence import Cadence, Grid, Stamps, find_grid
from timellm_cli.data.source import CsvSource
from timellm_cli.data.timestamps import HINT, fitting_formats, no_timestamp
from timellm_cli.errors import DataError

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
