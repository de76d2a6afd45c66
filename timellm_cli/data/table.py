"""A CSV as a table: regular timestamps, and numbers in float64.

Whatever could silently shift or invent a value is refused with its line and column, or counted where it is filled.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, Self

import numpy as np
import pandas as pd

from timellm_cli.config import DataConfig
from timellm_cli.data.cadence import Cadence, Grid, Stamps, require_grid, show, show_step
from timellm_cli.data.cells import NumberReader, TimestampReader, read_pieces
from timellm_cli.data.columns import select_columns
from timellm_cli.data.csv_format import CsvSource, open_source
from timellm_cli.data.scale import Floats
from timellm_cli.data.timestamps import has_utc_offset
from timellm_cli.errors import DataError, did_you_mean
from timellm_cli.units import format_count


@dataclass(frozen=True, eq=False)
class Table:
    """Rows at regular steps of time, without gaps.

    `timestamps` (N) are in microseconds, without a time zone. `columns` (C) end with the target. `blocks` are the raw
    values: blocks of rows, (n, C) each.
    """

    timestamps: Stamps
    columns: tuple[str, ...]
    cadence: Cadence
    blocks: list[Floats]
    warnings: tuple[str, ...] = ()

    @property
    def values(self) -> Floats:
        """All values (N, C). Several blocks are copied into one array."""
        return self.blocks[0] if len(self.blocks) == 1 else np.concatenate(self.blocks)

    def select(self, columns: Sequence[str]) -> Self:
        """The table with these columns in this order. Raises DataError for a column that it lacks."""
        for name in columns:
            if name not in self.columns:
                raise DataError(
                    f"column '{name}' is not in the table{did_you_mean(name, self.columns)}",
                    f"its columns are {', '.join(self.columns)}",
                )
        if tuple(columns) == self.columns:
            return self
        indices = [self.columns.index(name) for name in columns]
        return replace(self, blocks=[block_NC[:, indices] for block_NC in self.blocks], columns=tuple(columns))


@dataclass(frozen=True, eq=False)
class RawRows:
    """Rows of a CSV whose timestamps alone have been read, as `texts` (N) and `stamps` (N).

    `cells` holds the `columns` by name, the target last: numbers where pandas found nothing else.
    """

    csv: CsvSource
    columns: tuple[str, ...]
    texts: "pd.Series[str]"
    stamps: Stamps
    cells: pd.DataFrame

    def cut(self, first: int, stop: int) -> Self:
        """Rows `first` (included) to `stop` (excluded)."""
        part = slice(first, stop)
        return replace(
            self,
            csv=replace(self.csv, first_row=self.csv.first_row + first),
            texts=self.texts.iloc[part],
            stamps=self.stamps[part],
            cells=self.cells.iloc[part],
        )

    def known_values(self, columns: Sequence[str]) -> Floats:
        """The values (N, C) of some columns, NaN where a cell holds no number."""
        numbers = [pd.to_numeric(self.cells[column], errors="coerce") for column in columns]
        return np.column_stack(numbers).astype(np.float64)


def read_table(source: Path | BinaryIO, data: DataConfig, *, name: str | None = None) -> Table:
    """Read the columns that `data` selects from a CSV file, or from a binary stream, a piece at a time.

    Raises DataError for anything but a regular table of finite numbers. `data.fill` interpolates gaps and empty cells.
    """
    csv = open_source(source, name, data.date_column)
    columns = select_columns(csv, data)
    date, indices = csv.header.index(data.date_column), [csv.header.index(column) for column in columns]
    stamps, numbers = TimestampReader(csv, data.date_column), NumberReader(csv, columns)
    for cells in read_pieces(csv, data.date_column):
        stamps.add(cells[date])
        numbers.add(cells[indices])
    table = _make_table(csv, columns, stamps.finish(), numbers, data.fill)
    notes = ["timestamps have an offset from UTC and are kept as UTC"] if has_utc_offset(stamps.first) else []
    if constant := constant_columns(table.blocks, table.columns):
        notes.append(f"constant, so there is nothing to forecast: {', '.join(constant)}")
    return replace(table, warnings=(*table.warnings, *notes))


def read_rows(csv: CsvSource, data: DataConfig) -> RawRows:
    """All rows of a CSV. Their values and the steps between them are not checked yet.

    Raises DataError for a file that is no CSV, columns that it lacks, and timestamps that cannot be read.
    """
    columns = select_columns(csv, data)
    (cells,) = read_pieces(csv, data.date_column, at_once=True)
    stamps = TimestampReader(csv, data.date_column)
    texts = stamps.add(cells[csv.header.index(data.date_column)])
    chosen = cells[[csv.header.index(column) for column in columns]].set_axis(list(columns), axis="columns")
    return RawRows(csv, columns, texts, stamps.finish(), chosen)


def make_table(rows: RawRows, fill: str) -> Table:
    """Check two or more rows. `fill`, as in the configuration, says what to do with gaps and empty cells.

    Raises DataError for anything but a regular table of finite numbers.
    """
    numbers = NumberReader(rows.csv, rows.columns)
    numbers.add(rows.cells)
    return _make_table(rows.csv, rows.columns, rows.stamps, numbers, fill)


def constant_columns(blocks: Sequence[Floats], columns: Sequence[str]) -> list[str]:
    """Names of the columns that hold the same value in every row."""
    lowest_C = np.min([block_NC.min(axis=0) for block_NC in blocks], axis=0)
    highest_C = np.max([block_NC.max(axis=0) for block_NC in blocks], axis=0)
    return [name for name, constant in zip(columns, lowest_C == highest_C, strict=True) if constant]


def _make_table(csv: CsvSource, columns: tuple[str, ...], stamps: Stamps, numbers: NumberReader, fill: str) -> Table:
    blocks = numbers.finish()
    grid = require_grid(csv, stamps)
    table = Table(stamps, columns, grid.cadence, blocks)
    absent = len(grid.stamps) - len(stamps)
    empty = sum(int(np.isnan(block_NC).sum()) for block_NC in blocks)
    if not absent and not empty:
        return table
    if fill != "none":
        return _fill(csv, table, grid, absent, empty)
    raise _gap(csv, stamps, grid, absent) if absent else _empty_cell(csv, table, empty)


def _gap(csv: CsvSource, stamps: Stamps, grid: Grid, absent: int) -> DataError:
    row = int((grid.stamps[: len(stamps)] != stamps).argmax())
    return DataError(
        f"{csv.name}, line {csv.line(row)}: a gap: {show(stamps[row])} comes after {show(stamps[row - 1])}, "
        f"but the step is {show_step(grid.cadence)}; absent timestamps in all: {absent:,}",
        "--fill linear interpolates them",
    )


def _empty_cell(csv: CsvSource, table: Table, empty: int) -> DataError:
    before = 0
    for block_NC in table.blocks:
        if (empty_NC := np.isnan(block_NC)).any():
            break
        before += len(block_NC)
    row, index = divmod(int(empty_NC.argmax()), len(table.columns))
    return DataError(
        f"{csv.name}, line {csv.line(before + row)}, column '{table.columns[index]}': the cell is empty; "
        f"empty cells in all: {empty:,}",
        "--fill linear interpolates them",
    )


def _fill(csv: CsvSource, table: Table, grid: Grid, absent: int, empty: int) -> Table:
    """Put the rows on the grid and interpolate each column in time; its ends repeat the nearest value."""
    values_NC = np.full((len(grid.stamps), len(table.columns)), np.nan)
    values_NC[np.searchsorted(grid.stamps, table.timestamps)] = table.values
    rows = np.arange(len(values_NC))
    longest = (0, "")
    for column, channel_N in zip(table.columns, values_NC.T, strict=True):
        known_N = ~np.isnan(channel_N)
        if not known_N.any():
            raise DataError(f"{csv.name}: column '{column}' has no value at all", "leave it out with --columns")
        gap = int(np.diff(np.flatnonzero(np.r_[True, known_N, True])).max()) - 1
        longest = max(longest, (gap, column))
        channel_N[~known_N] = np.interp(rows[~known_N], rows[known_N], channel_N[known_N])
    note = (
        f"filled by interpolation: absent timestamps {absent:,}, empty cells {empty:,}; "
        f"the longest gap has {format_count(longest[0], 'row')} ({longest[1]})"
    )
    return Table(grid.stamps, table.columns, grid.cadence, [values_NC], (note,))
