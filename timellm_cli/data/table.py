"""A CSV as a table: regular timestamps, and numbers in float64.

Everything that could silently shift or invent a value is refused with its line and column, or counted where filling
was asked for.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, Self

import numpy as np
import pandas as pd

from timellm_cli.config import DataConfig
from timellm_cli.data.cadence import Cadence, Grid, Stamps
from timellm_cli.data.columns import select_columns
from timellm_cli.data.scale import Floats
from timellm_cli.data.source import (
    EMPTY_CELLS,
    QUOTES_HINT,
    CsvSource,
    infinite_value,
    not_a_number,
    open_source,
    too_wide,
)
from timellm_cli.data.timeline import make_grid, read_timestamps, show, show_step
from timellm_cli.data.timestamps import has_utc_offset
from timellm_cli.errors import DataError, did_you_mean
from timellm_cli.units import format_count


@dataclass(frozen=True, eq=False)
class Table:
    """Regular rows in the units of the CSV.

    `timestamps` (N) are in microseconds, without a time zone; `values` (N x C) have no gaps; `columns` (C) end with the
    target. `filled_rows` counts the timestamps that were absent, `filled_cells` the empty cells of rows that were not.
    """

    timestamps: Stamps
    values: Floats
    columns: tuple[str, ...]
    cadence: Cadence
    filled_rows: int = 0
    filled_cells: int = 0
    warnings: tuple[str, ...] = ()

    def select(self, columns: Sequence[str]) -> Self:
        """The table with these columns in this order. Raises DataError for one it does not have."""
        for name in columns:
            if name not in self.columns:
                raise DataError(
                    f"column '{name}' is not in the table{did_you_mean(name, self.columns)}",
                    f"its columns are {', '.join(self.columns)}",
                )
        places = [self.columns.index(name) for name in columns]
        return replace(self, values=self.values[:, places], columns=tuple(columns))


@dataclass(frozen=True, eq=False)
class RawRows:
    """Rows of a CSV of which only the timestamps have been looked at, as `texts` (N) and `stamps` (N).

    `cells` holds the `columns` by name, the target last, numbers where pandas found nothing else.
    """

    csv: CsvSource
    columns: tuple[str, ...]
    texts: "pd.Series[str]"
    stamps: Stamps
    cells: pd.DataFrame

    def cut(self, first: int, stop: int) -> Self:
        """Rows `first` (included) to `stop` (excluded)."""
        part = slice(first, stop)
        csv = replace(self.csv, first_row=self.csv.first_row + first)
        return replace(
            self, csv=csv, texts=self.texts.iloc[part], stamps=self.stamps[part], cells=self.cells.iloc[part]
        )

    def known_values(self, columns: Sequence[str]) -> Floats:
        """The values (N, C) of some columns, NaN where a cell holds no number."""
        numbers = [pd.to_numeric(self.cells[column], errors="coerce") for column in columns]
        return np.column_stack(numbers).astype(np.float64)


def read_table(source: Path | BinaryIO, data: DataConfig, *, name: str | None = None) -> Table:
    """Read a CSV file, or a binary stream to its end, as far as `data` asks for it.

    Raises DataError for anything that is no regular table of finite numbers; `data.fill` mends gaps and empty cells.
    """
    rows = read_rows(source, data, name=name)
    table = make_table(rows, data.fill)
    notes = ["timestamps have an offset from UTC and are kept as UTC"] if has_utc_offset(rows.texts.iloc[0]) else []
    if constant := constant_columns(table.values, table.columns):
        notes.append(f"constant, so there is nothing to forecast: {', '.join(constant)}")
    return replace(table, warnings=(*table.warnings, *notes))


def read_rows(source: Path | BinaryIO, data: DataConfig, *, name: str | None = None) -> RawRows:
    """The rows of a CSV file or of a binary stream; their values and the steps between them are not checked yet.

    Raises DataError for a file that is no CSV, columns it does not have, and timestamps that cannot be read.
    """
    csv = open_source(source, name, data.date_column)
    columns = select_columns(csv, data)
    cells = _read_cells(csv, data.date_column)
    texts = cells[csv.header.index(data.date_column)].str.strip()
    stamps = read_timestamps(csv, texts, data.date_column)
    chosen = cells[[csv.header.index(column) for column in columns]].set_axis(list(columns), axis="columns")
    return RawRows(csv, columns, texts, stamps, chosen)


def make_table(rows: RawRows, fill: str) -> Table:
    """Check two or more rows; `fill` says what to do with gaps and empty cells, as in the configuration.

    Raises DataError for anything that is no regular table of finite numbers.
    """
    csv, stamps, columns = rows.csv, rows.stamps, rows.columns
    values = np.column_stack([_read_numbers(csv, rows.cells[column], column) for column in columns])
    grid = make_grid(csv, stamps)
    table = Table(stamps, values, columns, grid.cadence)
    if fill != "none":
        return _fill(csv, table, grid)
    _refuse_gaps(csv, stamps, grid)
    _refuse_empty_cells(csv, values, columns)
    return table


def constant_columns(values_NC: Floats, columns: Sequence[str]) -> list[str]:
    """Names of the channels that hold one and the same value in every row."""
    constant_C = values_NC.min(axis=0) == values_NC.max(axis=0)
    return [name for name, constant in zip(columns, constant_C, strict=True) if constant]


def _read_cells(csv: CsvSource, date_column: str) -> pd.DataFrame:
    """All columns, named by position; the timestamps stay text."""
    width = len(csv.header)
    try:
        with csv.open() as stream:
            return pd.read_csv(
                stream,
                sep=csv.delimiter,
                encoding=csv.encoding,
                encoding_errors="replace",
                header=0,
                names=range(width),
                index_col=False,
                dtype={csv.header.index(date_column): str},
                keep_default_na=False,
                na_values=list(EMPTY_CELLS),
                skipinitialspace=True,
                low_memory=False,
            )
    except pd.errors.ParserError as error:
        with csv.rows() as lines:
            for line, cells in lines:
                if len(cells) > width:
                    raise too_wide(csv.name, line, len(cells), width) from None
        raise DataError(f"{csv.name} is no valid CSV: {error}", QUOTES_HINT) from None


def _read_numbers(csv: CsvSource, cells: "pd.Series[float]", column: str) -> Floats:
    numbers = cells
    if pd.api.types.is_bool_dtype(cells) or not pd.api.types.is_numeric_dtype(cells):
        numbers = pd.to_numeric(cells.astype("object").where(cells.isna(), cells.astype(str)), errors="coerce")
        wrong = (numbers.isna() & cells.notna()).to_numpy()
        if wrong.any():
            row = int(wrong.argmax())
            raise not_a_number(csv.name, csv.line(row), column, str(cells.iloc[row]), int(wrong.sum()))
    values = np.asarray(numbers, dtype=np.float64)
    if np.isinf(values).any():
        raise infinite_value(csv.name, csv.line(int(np.isinf(values).argmax())), column)
    return values


def _refuse_gaps(csv: CsvSource, stamps: Stamps, grid: Grid) -> None:
    absent = len(grid.stamps) - len(stamps)
    if absent:
        row = int((grid.stamps[: len(stamps)] != stamps).argmax())
        raise DataError(
            f"{csv.name}, line {csv.line(row)}: a gap: {show(stamps[row])} comes after {show(stamps[row - 1])}, "
            f"but the step is {show_step(grid.cadence)}; absent timestamps in all: {absent:,}",
            "--fill linear interpolates them",
        )


def _refuse_empty_cells(csv: CsvSource, values_NC: Floats, columns: Sequence[str]) -> None:
    empty_NC = np.isnan(values_NC)
    if empty_NC.any():
        row = int(empty_NC.any(axis=1).argmax())
        column = columns[int(empty_NC[row].argmax())]
        raise DataError(
            f"{csv.name}, line {csv.line(row)}, column '{column}': the cell is empty; "
            f"empty cells in all: {int(empty_NC.sum()):,}",
            "--fill linear interpolates them",
        )


def _fill(csv: CsvSource, table: Table, grid: Grid) -> Table:
    """Put the rows on the grid and interpolate each channel between its neighbours in time, holding it at the ends."""
    absent = len(grid.stamps) - len(table.timestamps)
    empty = int(np.isnan(table.values).sum())
    if not absent and not empty:
        return table
    values_NC = np.full((len(grid.stamps), len(table.columns)), np.nan)
    values_NC[np.searchsorted(grid.stamps, table.timestamps)] = table.values
    rows = np.arange(len(values_NC))
    longest, place = 0, ""
    for column, channel_N in zip(table.columns, values_NC.T, strict=True):
        known = ~np.isnan(channel_N)
        if not known.any():
            raise DataError(f"{csv.name}: column '{column}' has no value at all", "leave it out with --columns")
        run = int(np.diff(np.flatnonzero(np.r_[True, known, True])).max()) - 1
        longest, place = max((longest, place), (run, column))
        channel_N[~known] = np.interp(rows[~known], rows[known], channel_N[known])
    note = (
        f"filled by interpolation: absent timestamps {absent:,}, empty cells {empty:,}; "
        f"the longest gap has {format_count(longest, 'row')} ({place})"
    )
    return Table(grid.stamps, values_NC, table.columns, grid.cadence, absent, empty, (note,))
