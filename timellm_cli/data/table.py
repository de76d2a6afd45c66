"""A CSV as a table: regular timestamps, and numbers in float64.

Everything that could silently shift or invent a value is refused with its line and column, or counted where filling was asked for.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from timellm_cli.config import DataConfig
from timellm_cli.data.cadence import Stamps, find_grid
from timellm_cli.data.columns import select_columns
from timellm_cli.data.source import EMPTY_CELLS, CsvSource, infinite_value, not_a_number, open_source, too_wide
from timellm_cli.data.timestamps import HINT, fitting_formats, has_utc_offset, no_timestamp
from timellm_cli.errors import DataError, did_you_mean

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Table:
    """Regular rows in the units of the CSV.

    `timestamps` (N) without a time zone, microseconds; `values` (N x C) without gaps; `columns` (C), the target last; `cadence` as a
    pandas frequency. `filled_rows` counts the timestamps that were absent, `filled_cells` the empty cells of those that were not.
    """

    timestamps: Stamps
    values: Floats
    columns: tuple[str, ...]
    cadence: str
    filled_rows: int = 0
    filled_cells: int = 0
    warnings: tuple[str, ...] = ()

    def select(self, columns: tuple[str, ...]) -> Self:
        """The table with these columns in this order. Raises DataError for one it does not have."""
        for name in columns:
            if name not in self.columns:
                raise DataError(
                    f"column '{name}' is not in the table{did_you_mean(name, self.columns)}",
                    f"its columns are {', '.join(self.columns)}",
                )
        return replace(self, values=self.values[:, [self.columns.index(name) for name in columns]], columns=columns)


def read_table(source: Path | BinaryIO, data: DataConfig, *, name: str | None = None) -> Table:
    """Read a CSV file, or a binary stream to its end, as far as `data` asks for it.

    Raises DataError for anything that is no regular table of finite numbers; `data.fill` mends gaps and empty cells.
    """
    csv = open_source(source, name, data.date_column)
    columns = select_columns(csv, data)
    frame = _read_cells(csv, data.date_column)
    stamps, notes = _read_timestamps(csv, frame[csv.header.index(data.date_column)], data.date_column)
    values = np.column_stack([_read_numbers(csv, frame[csv.header.index(column)], column) for column in columns])
    table = _make_regular(csv, Table(stamps, values, columns, "", warnings=notes), data)
    constant = [
        column for column, channel in zip(columns, table.values.T, strict=True) if channel.min() == channel.max()
    ]
    if constant:
        note = f"constant, so there is nothing to learn from: {', '.join(constant)}"
        table = replace(table, warnings=(*table.warnings, note))
    return table


def _read_cells(csv: CsvSource, date_column: str) -> pd.DataFrame:
    """All columns, named by position; the timestamps stay text."""
    try:
        with csv.open() as stream:
            return pd.read_csv(
                stream,
                sep=csv.delimiter,
                encoding=csv.encoding,
                encoding_errors="replace",
                header=0,
                names=range(len(csv.header)),
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
                if len(cells) > len(csv.header):
                    raise too_wide(csv.name, line, len(cells), len(csv.header)) from None
        raise DataError(
            f"{csv.name} cannot be read: {error}", "look for a quotation mark that is never closed"
        ) from None


def _read_timestamps(csv: CsvSource, texts: "pd.Series[str]", column: str) -> tuple[Stamps, tuple[str, ...]]:
    empty = texts.isna().to_numpy()
    if empty.any():
        line = csv.line(int(empty.argmax()))
        raise DataError(f"{csv.name}, line {line}: no timestamp in column '{column}'", HINT)
    texts = texts.str.strip()
    sample = [*texts.iloc[:200], *texts.iloc[-200:]]
    formats = fitting_formats(sample) or fitting_formats(sample[:1])
    if not formats:
        raise no_timestamp(csv.name, f"line {csv.line(0)}", texts.iloc[0], column)
    readings = [_parse(texts, form) for form in formats]
    whole = [stamps for stamps in readings if not np.isnat(stamps).any()]
    if not whole:
        row = max(int(np.isnat(stamps).argmax()) for stamps in readings)
        raise no_timestamp(csv.name, f"line {csv.line(row)}", texts.iloc[row], column)
    notes = ("timestamps have an offset from UTC; they are kept as UTC",) if has_utc_offset(texts.iloc[0]) else ()
    return _choose_reading(csv, whole, texts, column), notes


def _parse(texts: "pd.Series[str]", form: str) -> Stamps:
    stamps = pd.to_datetime(texts, format=form, errors="coerce", utc=True).dt.tz_localize(None)
    return stamps.to_numpy().astype("datetime64[us]")


def _choose_reading(csv: CsvSource, readings: list[Stamps], texts: "pd.Series[str]", column: str) -> Stamps:
    """Where day and month could change places, the reading that makes regular rows."""
    if len(readings) == 1:
        return readings[0]
    ordered = [stamps for stamps in readings if (np.diff(stamps) > np.timedelta64(0)).all()]
    regular = [stamps for stamps in ordered if (grid := find_grid(stamps)) and len(grid.stamps) == len(stamps)]
    for best in (regular, ordered, readings):
        distinct = {stamps.tobytes(): stamps for stamps in best}
        if len(distinct) == 1:
            return best[0]
        if distinct:
            break
    raise DataError(
        f"{csv.name}: '{texts.iloc[0]}' in column '{column}' could be day first or month first, and both make sense",
        HINT,
    )


def _read_numbers(csv: CsvSource, cells: "pd.Series[float]", column: str) -> Floats:
    if pd.api.types.is_numeric_dtype(cells) and not pd.api.types.is_bool_dtype(cells):
        numbers = cells
    else:
        texts = cells.astype("object").where(cells.notna(), None)
        numbers = pd.to_numeric(texts.astype(str).where(cells.notna()), errors="coerce")
        wrong = (numbers.isna() & cells.notna()).to_numpy()
        if wrong.any():
            row = int(wrong.argmax())
            raise not_a_number(csv.name, csv.line(row), column, str(cells.iloc[row]), int(wrong.sum()))
    values = numbers.to_numpy(dtype=np.float64, na_value=np.nan)
    if np.isinf(values).any():
        row = int(np.isinf(values).argmax())
        raise infinite_value(csv.name, csv.line(row), column)
    return values


def _make_regular(csv: CsvSource, table: Table, data: DataConfig) -> Table:
    stamps = table.timestamps
    if len(stamps) < 2:
        raise DataError(f"{csv.name} has a single row, which has no cadence", "at least two timestamps are needed")
    _check_order(csv, stamps)
    grid = find_grid(stamps)
    if grid is None:
        raise _irregular(csv, stamps)
    absent = len(grid.stamps) - len(stamps)
    if absent and data.fill == "none":
        row = int((grid.stamps[: len(stamps)] != stamps).argmax())
        raise DataError(
            f"{csv.name}, line {csv.line(row)}: a gap between {_show(stamps[row - 1])} and {_show(stamps[row])}, where the cadence is "
            f"{grid.cadence}; {absent:,} timestamps are absent in all",
            "--fill linear interpolates them",
        )
    empty_NC = np.isnan(table.values)
    cells = int(empty_NC.sum())
    if cells and data.fill == "none":
        row, channel = (int(place) for place in np.argwhere(empty_NC)[0])
        raise DataError(
            f"{csv.name}, line {csv.line(row)}, column '{table.columns[channel]}': empty; {cells:,} empty cells in all",
            "--fill linear interpolates them",
        )
    values = np.full((len(grid.stamps), len(table.columns)), np.nan)
    values[np.searchsorted(grid.stamps, stamps)] = table.values
    notes = table.warnings
    if absent or cells:
        longest = _interpolate(csv, values, table.columns)
        notes = (
            *notes,
            f"filled {absent:,} absent timestamps and {cells:,} empty cells by interpolation; longest run {longest:,} rows",
        )
    return Table(grid.stamps, values, table.columns, grid.cadence, absent, cells, notes)


def _check_order(csv: CsvSource, stamps: Stamps) -> None:
    steps = np.diff(stamps)
    wrong = steps <= np.timedelta64(0)
    if not wrong.any():
        return
    row = int(wrong.argmax()) + 1
    if steps[row - 1] == np.timedelta64(0):
        raise DataError(
            f"{csv.name}, line {csv.line(row)}: timestamp {_show(stamps[row])} stands there twice "
            f"({int((steps == np.timedelta64(0)).sum()):,} duplicates in all)",
            "keep one row for each timestamp",
        )
    raise DataError(
        f"{csv.name}, line {csv.line(row)}: {_show(stamps[row])} comes after {_show(stamps[row - 1])}",
        "the file is newest first; reverse it" if wrong.all() else "sort the rows by time",
    )


def _irregular(csv: CsvSource, stamps: Stamps) -> DataError:
    steps = np.diff(stamps)
    kinds, counts = np.unique(steps, return_counts=True)
    usual = kinds[counts.argmax()]
    row = int((steps % usual != np.timedelta64(0)).argmax() or (steps != usual).argmax()) + 1
    return DataError(
        f"{csv.name}, line {csv.line(row)}: irregular timestamps: {_show(stamps[row])} comes {pd.Timedelta(steps[row - 1])} after the row "
        f"before, where the usual step is {pd.Timedelta(usual)}",
        "resample the file to equal steps of time",
    )


def _interpolate(csv: CsvSource, values_NC: Floats, columns: tuple[str, ...]) -> int:
    """Fill the gaps of each channel in place, holding the nearest value at the ends; returns the rows of the longest gap."""
    rows = np.arange(len(values_NC))
    longest = 0
    for channel, column in enumerate(columns):
        empty = np.isnan(values_NC[:, channel])
        if empty.all():
            raise DataError(f"{csv.name}: column '{column}' has no value at all", "leave it out with --columns")
        if empty.any():
            values_NC[empty, channel] = np.interp(rows[empty], rows[~empty], values_NC[~empty, channel])
            longest = max(longest, int(np.diff(np.flatnonzero(np.r_[True, ~empty, True])).max()) - 1)
    return longest


def _show(stamp: np.datetime64) -> str:
    return str(pd.Timestamp(stamp))
