"""The CSV that a forecast continues, held against what the checkpoint was trained on."""

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from timellm_cli.config import Config
from timellm_cli.data.cadence import parse_cadence
from timellm_cli.data.date_style import DateStyle, find_style
from timellm_cli.data.scale import Floats
from timellm_cli.data.source import CsvSource, open_source
from timellm_cli.data.table import Table, read_table
from timellm_cli.data.timeline import show_step
from timellm_cli.data.timestamps import ISO, has_utc_offset, parse_timestamp
from timellm_cli.errors import DataError, did_you_mean, quoted


@dataclass(frozen=True, eq=False)
class ForecastInput:
    """Rows in the CSV's units, columns in the checkpoint's order; the forecast comes after row `last_known`.

    `order` are the same columns as the file has them. `notes` are sentences for the user.
    """

    table: Table
    last_known: int
    order: tuple[str, ...]
    delimiter: str
    style: DateStyle
    notes: tuple[str, ...]

    def history(self, seq_len: int) -> Floats:
        """The last `seq_len` known rows (T, C)."""
        return self.table.values[self.last_known + 1 - seq_len : self.last_known + 1]

    def actual(self, steps: int) -> Floats:
        """What the file knows of the `steps` rows (H, C) after the last known one; NaN beyond its end."""
        actual_HC = np.full((steps, len(self.table.columns)), np.nan)
        known_HC = self.table.values[self.last_known + 1 : self.last_known + 1 + steps]
        actual_HC[: len(known_HC)] = known_HC
        return actual_HC


def read_input(
    source: Path | bytes, config: Config, columns: tuple[str, ...], cadence: str, at: str | None
) -> ForecastInput:
    """Read a file, or the bytes of one, for a checkpoint with these `columns` (target last) and this `cadence`.

    `at` is the timestamp of the last known row; by default the file's last. Raises DataError that names both sides
    where a column is missing, the cadence is another or the rows are too few.
    """
    name = str(source) if isinstance(source, Path) else "standard input"
    data = config.data.model_copy(update={"dataset": "custom", "path": None, "columns": columns, "target": columns[-1]})
    csv = open_source(_reopen(source), name, data.date_column)
    require_columns(csv, data.date_column, columns)
    table = read_table(_reopen(source), data, name=name).select(columns)
    style = find_style(_timestamp_texts(csv, data.date_column), table.timestamps)
    last_known = len(table.values) - 1 if at is None else _find_row(name, table, style, at)
    if (rows := last_known + 1) < (needed := config.window.seq_len):
        raise DataError(
            f"{name} has {rows:,} rows"
            + (f" up to {at}" if at else "")
            + f", but the checkpoint reads {needed:,} rows of history (seq_len)",
            "give a file that goes further back" + (", or a later --at" if at else ""),
        )
    if str(table.cadence) != cadence:
        theirs = show_step(parse_cadence(cadence))
        raise DataError(
            f"{name} has a row every {show_step(table.cadence)}, but the checkpoint was trained on one every {theirs}",
            "resample the file to the checkpoint's cadence, or train on data of this one",
        )
    extra = [column for column in csv.header if column not in (data.date_column, *columns)]
    notes = [f"columns that the checkpoint does not know are ignored: {', '.join(extra)}"] if extra else []
    order = tuple(column for column in csv.header if column in columns)
    return ForecastInput(table, last_known, order, csv.delimiter, style, (*table.warnings, *notes))


def require_columns(csv: CsvSource, date_column: str, columns: tuple[str, ...]) -> None:
    """Raise DataError where a CSV lacks a column of a checkpoint, naming what both have."""
    missing = [name for name in (date_column, *columns) if name not in csv.header]
    if missing:
        raise DataError(
            f"{csv.name} has no column {quoted(missing)}, which the checkpoint needs; "
            f"its columns are {quoted(csv.header)}" + did_you_mean(missing[0], csv.header),
            f"the checkpoint reads {quoted([date_column, *columns])}",
        )


def _reopen(source: Path | bytes) -> Path | io.BytesIO:
    return io.BytesIO(source) if isinstance(source, bytes) else source


def _timestamp_texts(csv: CsvSource, date_column: str) -> list[str]:
    place = csv.header.index(date_column)
    with csv.rows() as lines:
        next(lines)
        return [cells[place].strip() for _, cells in lines]


def _find_row(name: str, table: Table, style: DateStyle, at: str) -> int:
    first, last = style.write(table.timestamps[0]), style.write(table.timestamps[-1])
    moment = parse_timestamp(at, ISO) or parse_timestamp(at, style.form)
    if moment is None:
        raise DataError(f"--at '{at}' is no timestamp", f"write it as the file does, such as '{last}'")
    stamp = np.datetime64(moment if has_utc_offset(at) else moment - style.ahead_of_utc, "us")
    row = int(np.searchsorted(table.timestamps, stamp))
    if row == len(table.timestamps) or table.timestamps[row] != stamp:
        raise DataError(
            f"{name} has no row at {at}: its rows go from {first} to {last}, one every {show_step(table.cadence)}",
            "give --at the timestamp of a row",
        )
    return row
