"""A column of texts as increasing timestamps on a regular grid, or the error that says why not."""

import numpy as np
import pandas as pd

from timellm_cli.data.cadence import Cadence, Grid, Stamps, find_grid
from timellm_cli.data.source import CsvSource
from timellm_cli.data.timestamps import HINT, fitting_formats, no_timestamp
from timellm_cli.errors import DataError

_SAMPLE = 200
_NOTHING = np.timedelta64(0)


def read_timestamps(csv: CsvSource, texts: "pd.Series[str]", column: str) -> Stamps:
    """Timestamps without a time zone (UTC where the file gives offsets), in microseconds.

    Raises DataError for a single row, an empty cell, one that is no timestamp, and dates that make sense day first and
    month first.
    """
    if len(texts) < 2:
        raise DataError(f"{csv.name} has a single row, which has no cadence", "at least two rows are needed")
    empty = texts.isna().to_numpy()
    if empty.any():
        raise DataError(f"{csv.name}, line {csv.line(int(empty.argmax()))}: no timestamp in column '{column}'", HINT)
    sample = [*texts.iloc[:_SAMPLE], *texts.iloc[-_SAMPLE:]]
    formats = fitting_formats(sample) or fitting_formats(sample[:1])
    readings = [_parse(texts, form) for form in formats]
    whole = [stamps for stamps in readings if not np.isnat(stamps).any()]
    if not whole:
        row = max((int(np.isnat(stamps).argmax()) for stamps in readings), default=0)
        raise no_timestamp(csv.name, f"line {csv.line(row)}", texts.iloc[row], column)
    if len(whole) > 1:
        whole = _plausible(whole)
    if len(whole) > 1:
        raise DataError(
            f"{csv.name}, column '{column}': '{texts.iloc[0]}' could be day first or month first, and both make sense",
            HINT,
        )
    return whole[0]


def make_grid(csv: CsvSource, stamps: Stamps) -> Grid:
    """The regular grid of a column. Raises DataError for duplicate, unsorted and irregular timestamps."""
    steps = np.diff(stamps)
    if (steps <= _NOTHING).any():
        raise _disordered(csv, stamps, steps)
    grid = find_grid(stamps)
    if grid is None:
        raise _irregular(csv, stamps, steps)
    return grid


def show(stamp: np.datetime64) -> str:
    """A timestamp as people write it."""
    return str(pd.Timestamp(stamp))


def show_step(cadence: Cadence) -> str:
    """A cadence as people read it: `01:00:00`, `1 days 00:00:00`, `MS`."""
    return str(cadence).removeprefix("0 days ")


def _parse(texts: "pd.Series[str]", form: str) -> Stamps:
    stamps = pd.to_datetime(texts, format=form, errors="coerce", utc=True).dt.tz_localize(None)
    return stamps.to_numpy().astype("datetime64[us]")


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
