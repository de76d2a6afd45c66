"""A CSV as a table: regular timestamps, and numbers in float64. Light: the one reader is polars.

Whatever could silently shift or invent a value is refused with its line and column, or counted and said.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Self

import polars as pl

from timellm_cli.config import DataConfig
from timellm_cli.data.cadence import Cadence, Every, WeekTimes, find_cadence, show_length
from timellm_cli.data.csv_format import CsvFormat, open_csv
from timellm_cli.data.dates import DateStyle
from timellm_cli.data.numbers import sentinels
from timellm_cli.data.rows import Rows, read_rows
from timellm_cli.data.week_times import describe_holidays
from timellm_cli.errors import DataError, did_you_mean
from timellm_cli.units import format_count

if TYPE_CHECKING:
    from timellm_cli.data.scale import Floats

_STAMP, _WALL = "\0stamp", "\0wall"
ZONE_HINT = "local times with daylight saving: say --timezone Europe/Berlin (your zone)"


@dataclass(frozen=True, eq=False)
class Table:
    """Rows at the regular steps of a cadence.

    `stamps` (N) are in microseconds, without a time zone: wall time, or UTC where `style.is_utc`. `frame` holds the
    raw values in float64, the target last; null where a cell is empty or a row absent. `date_format` is what
    `--date-format` would take. `notes` are sentences for the user.
    """

    csv: CsvFormat
    stamps: pl.Series
    frame: pl.DataFrame
    cadence: Cadence
    style: DateStyle
    date_format: str
    notes: tuple[str, ...] = ()

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the channels."""
        return tuple(self.frame.columns)

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
        return replace(self, frame=self.frame.select(columns))


def read_table(source: Path | BinaryIO, data: DataConfig, *, name: str | None = None) -> Table:
    """Read the columns that `data` selects from a CSV file, or from a binary stream.

    Raises DataError for anything but a regular table of finite numbers. With `data.fill`, absent rows and empty cells
    are null.
    """
    return with_notes_on_values(make_table(read_rows(open_csv(source, name, data), data), data))


def with_notes_on_values(table: Table) -> Table:
    """The table with notes on channels that never change and on values that may stand for none."""
    constant = constant_columns(table.frame)
    notes = [f"constant, so there is nothing to forecast: {', '.join(constant)}"] if constant else []
    return replace(
        table, notes=(*table.notes, *notes, *sentinels(table.frame, lambda row: table.style.write(table.stamps[row])))
    )


def make_table(rows: Rows, data: DataConfig, cadence: Cadence | None = None) -> Table:
    """Check the rows and put them on the grid of their cadence, or of the one given.

    Raises DataError for a single row, cells that are no finite numbers, repeated and irregular timestamps, for gaps and
    empty cells where `data.fill` is none, and for a column without any value.
    """
    rows.require_numbers()
    rows = _drop_repeats(rows, data)
    if len(rows.stamps) < 2:
        raise DataError(f"{rows.csv.name} has a single row, which has no cadence", "at least two rows are needed")
    cadence = cadence or find_cadence(rows.stamps, data.calendar, data.closed_on)
    if cadence is None:
        raise _irregular(rows)
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
            raise _gap(rows, cadence, absent)
        stamps, frame = _put_on_grid(cadence, numbers, frame)
    empty = sum(frame.null_count().row(0))
    if empty and data.fill == "none":
        raise _empty_cell(rows, empty)
    if (absent and not closed) or empty:
        notes.append(_describe_holes(rows, frame, absent, empty, data.fill))
    return Table(rows.csv, stamps, frame, cadence, rows.style, rows.date_format, tuple(notes))


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


def _drop_repeats(rows: Rows, data: DataConfig) -> Rows:
    """One row for each timestamp. Rows that are equal throughout are dropped where cells may be filled."""
    is_repeat = (rows.stamps.diff().cast(pl.Int64) == 0).fill_null(False)
    if not is_repeat.any():
        return rows
    count = int(is_repeat.sum())
    frame = rows.frame.with_columns(rows.stamps.alias(_STAMP), rows.walls.alias(_WALL))
    if data.duplicates == "refuse":
        same = len(frame.unique()) == frame[_STAMP].n_unique()
        if not same or data.fill == "none":
            raise _repeated(rows, is_repeat, count, same)
    if data.duplicates == "mean":
        grouped = frame.group_by(_STAMP, _WALL, maintain_order=True).mean()
    else:
        grouped = frame.unique(_STAMP, keep="last" if data.duplicates == "last" else "first", maintain_order=True)
    how = {"refuse": "equal", "mean": "averaged"}.get(data.duplicates, f"the {data.duplicates} one kept")
    note = f"{format_count(count, 'row')} repeated a timestamp ({how})"
    kept = grouped.drop(_STAMP, _WALL)
    return replace(
        rows, stamps=grouped[_STAMP], walls=grouped[_WALL], frame=kept, order=None, notes=(*rows.notes, note)
    )


def _put_on_grid(cadence: Cadence, numbers: pl.Series, frame: pl.DataFrame) -> tuple[pl.Series, pl.DataFrame]:
    grid = pl.DataFrame({"number": pl.int_range(numbers[0], numbers[-1] + 1, eager=True)})
    full = grid.join(frame.with_columns(numbers.alias("number")), on="number", how="left", maintain_order="left")
    stamps = pl.Series([cadence.stamp(number) for number in grid["number"]], dtype=pl.Datetime("us"))
    return stamps, full.drop("number")


def _describe_holes(rows: Rows, frame: pl.DataFrame, absent: int, empty: int, fill: str) -> str:
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


def _gap(rows: Rows, cadence: Cadence, absent: int) -> DataError:
    numbers = cadence.numbers(rows.stamps)
    row = int((numbers.diff() > 1).arg_true()[0])
    before, here = rows.style.write(rows.stamps[row - 1]), rows.style.write(rows.stamps[row])
    return DataError(
        f"{rows.csv.name}, line {rows.line(row)}: a gap: {here} comes after {before}, "
        f"but the step is {cadence}; absent timestamps in all: {absent:,}",
        f"--fill linear fills histories, and absent times are no targets{_zone_hint(rows, row)}",
    )


def _zone_hint(rows: Rows, row: int) -> str:
    """What to say where the fault lies in a Sunday's night, when clocks change."""
    at = rows.stamps[row]
    is_night = at.weekday() == 6 and at.hour <= 4 and not rows.style.is_utc and not rows.style.offset
    return f"; {ZONE_HINT}" if is_night else ""


def _empty_cell(rows: Rows, empty: int) -> DataError:
    found = [(int(column.is_null().arg_true()[0]), column.name) for column in rows.frame if column.null_count()]
    row, name = min(found, key=lambda pair: pair[0])
    return DataError(
        f"{rows.csv.name}, line {rows.line(row)}, column '{name}': the cell is empty; empty cells in all: {empty:,}",
        "--fill linear fills histories, and empty cells are no targets",
    )


def _repeated(rows: Rows, is_repeat: pl.Series, count: int, same: bool) -> DataError:
    row = int(is_repeat.arg_true()[0])
    line = f"{rows.csv.name}, line {rows.line(row)}"
    more = f" ({count:,} rows repeat a timestamp)" if count > 1 else ""
    remedy = "--duplicates first, last or mean keeps one row for each timestamp"
    return DataError(
        f"{line}: the timestamp {rows.style.write(rows.stamps[row])} is that of another row{more}",
        f"{remedy}{_zone_hint(rows, row)}"
        + ("; the rows are equal, so --fill linear drops them too" if same else "; or several series share the file"),
    )


def _irregular(rows: Rows) -> DataError:
    steps = rows.stamps.diff()
    usual: timedelta = steps.drop_nulls().value_counts(sort=True)[steps.name][0]
    off_step = (steps.cast(pl.Int64) % (usual // timedelta(microseconds=1)) != 0).fill_null(False)
    odd = off_step if off_step.any() else (steps != usual).fill_null(False)
    return irregular(rows, int(odd.arg_true()[0]), Every(usual, rows.stamps[0]))


def irregular(rows: Rows, row: int, cadence: Cadence) -> DataError:
    """The error of a row that a cadence does not make."""
    since, usual = rows.stamps[row] - rows.stamps[max(row - 1, 0)], cadence.step
    is_late = min(since % usual, usual - since % usual) * 10 <= usual
    return DataError(
        f"{rows.csv.name}, line {rows.line(row)}: irregular timestamps: {rows.style.write(rows.stamps[row])} comes "
        f"{show_length(since)} after the row before; the usual step is {cadence}",
        f"--snap rounds times, such as --snap {_snap_of(usual)}"
        if is_late
        else "resample the file to equal steps of time, or take rows as steps with --calendar rows",
    )


def _snap_of(step: timedelta) -> str:
    """The round length nearest to a step, as `--snap` takes it."""
    lengths = {
        "s": (1, 1, 5, 10, 15, 30),
        "min": (60, 1, 5, 10, 15, 30),
        "h": (3600, 1, 2, 3, 6, 12),
        "d": (86400, 1, 7),
    }
    rounds = {f"{count}{unit}": count * size for unit, (size, *counts) in lengths.items() for count in counts}
    return min(rounds, key=lambda name: abs(rounds[name] - step.total_seconds()))
