"""A CSV as a table: regular timestamps, and numbers in float64. Light: the one reader is polars.

Whatever could silently shift or invent a value is refused with its line and column, or counted and said.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

import polars as pl

from timellm_cli.config import DataConfig
from timellm_cli.data.cadence import Cadence, WeekTimes, find_cadence
from timellm_cli.data.csv_format import CsvFormat
from timellm_cli.data.dates import DateStyle
from timellm_cli.data.rows import SERIES, Rows, steps_between
from timellm_cli.data.table_errors import empty_cell, gap, irregular_steps, repeated
from timellm_cli.data.week_times import describe_holidays
from timellm_cli.errors import DataError, did_you_mean
from timellm_cli.splits import Series
from timellm_cli.units import format_count

if TYPE_CHECKING:
    from timellm_cli.data.scale import Floats

_STAMP, _WALL = "\0stamp", "\0wall"


@dataclass(frozen=True, eq=False)
class Table:
    """Rows at the regular steps of a cadence.

    `stamps` (N) are in microseconds, without a time zone: wall time, or UTC where `style.is_utc`. `frame` holds the
    raw values in float64, the target last, of all `series` one after the other; null where a cell is empty or a row
    absent. `date_format` is what `--date-format` would take. `notes` are sentences for the user.
    """

    csv: CsvFormat
    stamps: pl.Series
    frame: pl.DataFrame
    cadence: Cadence
    style: DateStyle
    date_format: str
    series: Series
    notes: tuple[str, ...] = ()

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the value columns."""
        return tuple(self.frame.columns)

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the channels (C): the columns, each of every series."""
        return self.series.channel_names(self.columns)

    @property
    def values(self) -> "Floats":
        """All values (N, C), raw; NaN where there is none."""
        return self.frame.to_numpy()

    def select(self, columns: Sequence[str]) -> Self:
        """The table with these columns in this order. Raises DataError for a column that it lacks."""
        for name in columns:
            if name not in self.columns:
                raise DataError(
                    f"column '{name}' is not in the table{did_you_mean(name, self.columns)}",
                    f"its columns are {', '.join(self.columns)}",
                )
        return replace(self, frame=self.frame[list(columns)])


def make_table(rows: Rows, data: DataConfig, cadence: Cadence | None = None) -> Table:
    """Check the rows and put them on the grid of their cadence, or of the one given.

    Raises DataError for a single row, cells that are no finite numbers, repeated and irregular timestamps, for gaps and
    empty cells where `data.fill` is none, and for a column without any value.
    """
    rows.require_numbers()
    rows = drop_repeats(rows, data)
    if len(rows.stamps) < 2:
        raise DataError(f"{rows.csv.name} has a single row, which has no cadence", "at least two rows are needed")
    cadence = cadence or find_cadence(rows.stamps, data.calendar, data.closed_on)
    if cadence is None:
        raise irregular_steps(rows)
    numbers = cadence.numbers(rows.stamps)
    closed = isinstance(cadence, WeekTimes) and (numbers.null_count() > 0 or data.fill == "none")
    gaps = numbers.diff().drop_nulls() - 1
    absent = int(gaps.sum())
    notes = list(rows.notes)
    if isinstance(cadence, WeekTimes) and cadence.closed_on:
        notes += describe_holidays(cadence, rows.stamps)
    stamps, frame = rows.stamps, rows.frame
    if absent and closed:
        notes.append(
            f"rows follow each other every {cadence}; {format_count(absent, 'time')} without a row "
            "(holidays and the like) count as closed"
        )
    elif absent:
        if data.fill == "none":
            raise gap(rows, cadence, absent, numbers)
        stamps, frame = _put_on_grid(cadence, numbers, frame)
    empty = sum(frame.null_count().row(0))
    if empty and data.fill == "none":
        raise empty_cell(rows, empty)
    if (absent and not closed) or empty:
        notes.append(describe_holes(rows, frame, absent, empty, data.fill))
    series = Series.single(len(frame))
    return Table(rows.csv, stamps, frame, cadence, rows.style, rows.date_format, series, tuple(notes))


def fill_history(frame: pl.DataFrame, how: str) -> pl.DataFrame:
    """A history (T rows) with its nulls filled; `how` is the configuration's `fill`. A column of nulls becomes 0."""
    column = pl.all()
    if how == "zero":
        return frame.with_columns(column.fill_null(0.0))
    inner = column.interpolate() if how == "linear" else column
    return frame.with_columns(inner.forward_fill().backward_fill().fill_null(0.0))


def constant_columns(frame: pl.DataFrame) -> list[str]:
    """Names of the columns that hold the same value in every row."""
    return [column.name for column in frame if column.min() == column.max()]


def drop_repeats(rows: Rows, data: DataConfig) -> Rows:
    """One row for each timestamp. Rows that are equal throughout are dropped where cells may be filled."""
    series = rows.series if rows.series is not None else pl.repeat(0, len(rows.stamps), dtype=pl.UInt32, eager=True)
    is_repeat = pl.Series([False]).append(
        pl.concat([(steps == 0) & (times == 0) for steps, times in steps_between(series, rows.stamps)])
    )
    if not is_repeat.any():
        return rows
    count = int(is_repeat.sum())
    frame = rows.frame.with_columns(rows.stamps.alias(_STAMP), rows.walls.alias(_WALL), series.alias(SERIES))
    if data.duplicates == "refuse":
        same = len(frame.unique()) == len(frame.select(SERIES, _STAMP).unique())
        if not same or data.fill == "none":
            raise repeated(rows, is_repeat, count, same)
    if data.duplicates == "mean":
        grouped = frame.group_by(SERIES, _STAMP, _WALL, maintain_order=True).mean()
    else:
        grouped = frame.unique(
            [SERIES, _STAMP], keep="last" if data.duplicates == "last" else "first", maintain_order=True
        )
    how = {"refuse": "equal", "mean": "averaged"}.get(data.duplicates, f"the {data.duplicates} one kept")
    note = f"{format_count(count, 'row')} repeated a timestamp ({how})"
    return replace(
        rows,
        stamps=grouped[_STAMP],
        walls=grouped[_WALL],
        frame=grouped.drop(_STAMP, _WALL, SERIES),
        order=None,
        notes=(*rows.notes, note),
        series=None if rows.series is None else grouped[SERIES],
    )


def _put_on_grid(cadence: Cadence, numbers: pl.Series, frame: pl.DataFrame) -> tuple[pl.Series, pl.DataFrame]:
    grid = pl.DataFrame({"number": pl.int_range(numbers[0], numbers[-1] + 1, eager=True)})
    full = grid.join(frame.with_columns(numbers.alias("number")), on="number", how="left", maintain_order="left")
    return stamps_of(cadence, range(numbers[0], numbers[-1] + 1)), full.drop("number")


def stamps_of(cadence: Cadence, numbers: range) -> pl.Series:
    return pl.Series([cadence.stamp(number) for number in numbers], dtype=pl.Datetime("us"))


def describe_holes(rows: Rows, frame: pl.DataFrame, absent: int, empty: int, fill: str) -> str:
    longest = (0, "")
    for column in frame:
        if column.null_count() == len(column):
            raise DataError(
                f"{rows.csv.name}: column '{column.name}' has no value at all", "leave it out with --exclude"
            )
        if column.null_count():
            runs = column.is_null().rle().struct.unnest()
            longest = max(longest, (max(runs.filter(pl.col("value"))["len"].to_list()), column.name))
    return (
        f"absent timestamps {absent:,}, empty cells {empty - absent * len(frame.columns):,}; the longest gap has "
        f"{format_count(longest[0], 'row')} ({longest[1]}). Histories are filled ({fill}) from their own rows; "
        "what is absent is no target"
    )
