"""Many series as a table: each on the steps of one common time axis, one after the other."""

from dataclasses import replace

import polars as pl

from timellm_cli.config import DataConfig
from timellm_cli.data.cadence import Cadence, WeekTimes, find_cadence
from timellm_cli.data.rows import Rows
from timellm_cli.data.table import Table, describe_holes, drop_repeats, stamps_of
from timellm_cli.data.table_errors import empty_cell, gap, irregular, irregular_steps
from timellm_cli.data.week_times import describe_holidays
from timellm_cli.errors import DataError, listed
from timellm_cli.splits import Series

_SLICE = 2**17


def make_panel(rows: Rows, data: DataConfig, cadence: Cadence | None = None) -> Table:
    """As `make_table`, of several series on one time axis. Series that do not fit its cadence are left out and named.

    Raises DataError as `make_table`, and where most series are irregular.
    """
    rows.require_numbers()
    rows = drop_repeats(rows, data)
    assert rows.series is not None
    axis = rows.stamps.unique().sort()
    longest = rows.series.value_counts(sort=True)[rows.series.name][0]
    own = rows.stamps.filter(rows.series == longest)
    if len(own) < 2:
        raise DataError(f"{rows.csv.name}: no series has two rows, so there is no cadence", "is the id column right?")
    calendar, closed_on = data.calendar, data.closed_on
    cadence = cadence or find_cadence(axis, calendar, closed_on) or find_cadence(own, calendar, closed_on)
    if cadence is None:
        raise irregular_steps(_only(rows, rows.series == longest))
    numbers = cadence.numbers(axis)
    closed = isinstance(cadence, WeekTimes) and (numbers.null_count() > 0 or data.fill == "none")
    if closed:
        numbers = pl.int_range(len(axis), eager=True)
    notes = list(rows.notes)
    if isinstance(cadence, WeekTimes) and cadence.closed_on:
        notes += describe_holidays(cadence, axis)
    zero = int(numbers.min())  # type: ignore[arg-type]
    number = _look_up(rows.stamps, axis, numbers - zero)
    if number.null_count():
        rows, number, note = _without_irregular(rows, number, cadence)
        notes.append(note)
    first, last = int(number.min()), int(number.max())  # type: ignore[arg-type]
    stamps = axis if closed else stamps_of(cadence, range(zero + first, zero + last + 1))
    frame, series, absent = _lay_out(rows, number - first if first else number, data, cadence)
    empty = sum(frame.null_count().row(0))
    if empty and data.fill == "none":
        raise empty_cell(rows, empty)
    if empty:
        notes.append(describe_holes(rows, frame, absent, empty, data.fill))
    return Table(rows.csv, stamps, frame, cadence, rows.style, rows.date_format, series, tuple(notes))


def series_of(rows: Rows) -> Series:
    """The series of rows that are no table: how many rows each has, as if all began together."""
    assert rows.series is not None
    counts = rows.series.rle().struct.unnest()
    return Series(tuple(counts["value"].cast(pl.String)), (0,) * len(counts), tuple(counts["len"]))


def _look_up(stamps: pl.Series, axis: pl.Series, numbers: pl.Series) -> pl.Series:
    """The number of each stamp on the axis, in 32 bits, made in slices to save memory."""
    slices = (stamps.slice(first, _SLICE) for first in range(0, len(stamps), _SLICE))
    return pl.concat([part.replace_strict(axis, numbers, return_dtype=pl.Int32) for part in slices])


def _only(rows: Rows, mask: pl.Series) -> Rows:
    """The rows where `mask` is true."""
    kept = mask.arg_true()
    assert rows.series is not None
    return replace(
        rows,
        stamps=rows.stamps.gather(kept),
        walls=rows.walls.gather(kept),
        frame=rows.frame[kept],
        order=kept if rows.order is None else rows.order.gather(kept),
        series=rows.series.gather(kept),
    )


def _without_irregular(rows: Rows, number: pl.Series, cadence: Cadence) -> tuple[Rows, pl.Series, str]:
    """The series whose rows all have a number, and a note on the others. Raises DataError where these are the most."""
    assert rows.series is not None
    wrong = rows.series.filter(number.is_null()).unique(maintain_order=True)
    if len(wrong) * 2 > rows.series.n_unique():
        raise irregular(rows, int(number.is_null().arg_true()[0]), cadence)
    mask = ~rows.series.is_in(wrong)
    note = f"{len(wrong):,} series have no row every {cadence} and are left out: {listed(wrong.to_list(), 6)}"
    return _only(rows, mask), number.filter(mask), note


def _lay_out(rows: Rows, place: pl.Series, data: DataConfig, cadence: Cadence) -> tuple[pl.DataFrame, Series, int]:
    """The values with a row for each step of each series, the series, and how many rows are absent.

    `place` (N) is each row's on the time axis. Raises DataError for a gap where `data.fill` is none.
    """
    assert rows.series is not None
    runs = rows.series.rle().struct.unnest()
    starts = runs["len"].cum_sum() - runs["len"]
    first = place.gather(starts).cast(pl.Int64)
    lengths = place.gather(starts + runs["len"] - 1).cast(pl.Int64) - first + 1
    absent = int(lengths.sum()) - len(place)
    series = Series(tuple(runs["value"].cast(pl.String)), tuple(first), tuple(lengths))
    if not absent:
        return rows.frame, series, 0
    if data.fill == "none":
        raise gap(rows, cadence, absent, place)
    offsets = pl.Series(series.offsets, dtype=pl.Int64) - first
    target = place + offsets.gather(rows.series.rle_id())
    whole = pl.DataFrame({"row": pl.int_range(series.total, eager=True)})
    full = whole.join(rows.frame.with_columns(target.alias("row")), on="row", how="left", maintain_order="left")
    return full.drop("row"), series, absent
