"""The CSV that a forecast continues, compared with the data that the checkpoint was trained on.

Only the rows that the model reads must be whole. Rows before and after them may have gaps.
"""

import io
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from timellm_cli.config import Config
from timellm_cli.data.cadence import Stamps, continue_timestamps, parse_cadence, show, show_step
from timellm_cli.data.csv_format import CsvSource, open_source
from timellm_cli.data.scale import Floats
from timellm_cli.data.table import RawRows, Table, make_table, read_rows
from timellm_cli.data.timestamps import ISO, DateStyle, find_style, has_utc_offset, parse_timestamp
from timellm_cli.errors import DataError, did_you_mean, quoted
from timellm_cli.units import format_count


@dataclass(frozen=True, eq=False)
class ForecastInput:
    """Raw rows; the forecast follows the last one of `table`, whose columns are in the checkpoint's order.

    `later` are the rows that the file has after it. `order` are the same columns in the file's order. `notes` are
    sentences for the user.
    """

    table: Table
    later: RawRows
    order: tuple[str, ...]
    delimiter: str
    style: DateStyle
    notes: tuple[str, ...]

    def dates(self, steps: int) -> Stamps:
        """The `steps` timestamps (H) to forecast."""
        return continue_timestamps(self.table.timestamps[-1], self.table.cadence, steps)

    def actual(self, steps: int) -> Floats:
        """The file's values (H, C) of the `steps` rows to forecast, raw; NaN from its first gap or its end on."""
        later = self.later.cut(0, steps)
        known_HC = later.known_values(self.table.columns)
        gaps = (later.stamps != self.dates(steps)[: len(known_HC)]) | ~np.isfinite(known_HC).all(axis=1)
        known = int(gaps.argmax()) if gaps.any() else len(gaps)
        actual_HC = np.full((steps, len(self.table.columns)), np.nan)
        actual_HC[:known] = known_HC[:known]
        return actual_HC


def read_input(
    source: Path | bytes, config: Config, columns: tuple[str, ...], cadence: str, at: str | None
) -> ForecastInput:
    """Read a file, or the bytes of one, for a checkpoint with these `columns` (target last) and this `cadence`.

    `at` is the timestamp of the last known row, by default the file's last. Filling uses the rows up to it and none
    after it. Raises DataError, with the numbers or names of both sides, for a missing column, another cadence, too few
    rows, and for gaps in the rows that the model reads.
    """
    name = str(source) if isinstance(source, Path) else "standard input"
    data = config.data.model_copy(update={"dataset": "custom", "path": None, "columns": columns, "target": columns[-1]})
    csv = open_source(io.BytesIO(source) if isinstance(source, bytes) else source, name, data.date_column)
    require_columns(csv, data.date_column, columns)
    rows = read_rows(csv, data)
    texts = list(rows.texts)
    style = find_style(texts, rows.stamps)
    stop = len(texts) if at is None else _find_row(name, rows.stamps, style, at) + 1
    table = _read_history(rows, stop, config, at).select(columns)
    _require_cadence(name, table, cadence)
    notes = list(table.warnings)
    if has_utc_offset(texts[-1]) and not style.offset:
        notes.append("the file's offsets from UTC differ, so the forecast is dated in UTC")
    if extra := [column for column in csv.header if column not in (data.date_column, *columns)]:
        notes.append(f"columns that the checkpoint does not know are ignored: {', '.join(extra)}")
    return ForecastInput(
        table=replace(table, cadence=parse_cadence(cadence)),
        later=rows.cut(stop, len(texts)),
        order=tuple(column for column in csv.header if column in columns),
        delimiter=csv.delimiter,
        style=style,
        notes=tuple(notes),
    )


def require_columns(csv: CsvSource, date_column: str, columns: tuple[str, ...]) -> None:
    """Raise DataError where a CSV lacks a column of a checkpoint; it names the columns of both."""
    missing = [name for name in (date_column, *columns) if name not in csv.header]
    if missing:
        raise DataError(
            f"{csv.name} has no column {quoted(missing)}, which the checkpoint needs; "
            f"its columns are {quoted(csv.header)}" + did_you_mean(missing[0], csv.header),
            f"the checkpoint reads {quoted([date_column, *columns])}",
        )


def _read_history(rows: RawRows, stop: int, config: Config, at: str | None) -> Table:
    """The `seq_len` rows that the model reads, up to row `stop` (excluded)."""
    needed, fill = config.window.seq_len, config.data.fill
    # Filling may add rows, and a gap at the start of the history is filled from the row before it.
    first = max(stop - needed, 0) if fill == "none" else 0
    table = make_table(rows.cut(first, stop), fill) if stop > 1 else None
    found = len(table.timestamps) if table else stop
    if table is None or found < needed:
        raise DataError(
            f"{rows.csv.name} has {format_count(found, 'row')}"
            + (f" up to {at}" if at else "")
            + f", but the checkpoint reads {needed:,} rows of history (seq_len)",
            "give a file that goes further back" + (", or a later --at" if at else ""),
        )
    if (later := rows.stamps[:first] >= rows.stamps[first]).any():
        row = int(later.argmax())
        raise DataError(
            f"{rows.csv.name}, line {rows.csv.line(row)}: {show(rows.stamps[row])} comes before "
            f"{show(rows.stamps[first])} in line {rows.csv.line(first)}",
            "sort the rows by time",
        )
    return replace(table, timestamps=table.timestamps[-needed:], blocks=[table.values[-needed:]])


def _require_cadence(name: str, table: Table, cadence: str) -> None:
    """Few rows may fit several cadences, as a week of working days does. The checkpoint's must be one of them."""
    first, *rest = table.timestamps
    if not np.array_equal(continue_timestamps(first, parse_cadence(cadence), len(rest)), rest):
        found, needed = show_step(table.cadence), show_step(parse_cadence(cadence))
        raise DataError(
            f"{name} has a row every {found}, but the checkpoint was trained on one every {needed}",
            "resample the file to the checkpoint's cadence, or train on data of this one",
        )


def _find_row(name: str, stamps: Stamps, style: DateStyle, at: str) -> int:
    """The row of a timestamp that the user wrote in ISO 8601 or in the file's style."""
    first, last = style.write(stamps[0]), style.write(stamps[-1])
    moment = parse_timestamp(at, ISO) or parse_timestamp(at, style.form)
    if moment is None:
        raise DataError(f"--at '{at}' is no timestamp", f"write it as the file does, such as '{last}'")
    stamp = np.datetime64(moment if has_utc_offset(at) else moment - style.ahead_of_utc, "us")
    rows = np.flatnonzero(stamps == stamp)
    if not len(rows):
        nearest = stamps[np.abs(stamps - stamp).argmin()]
        raise DataError(
            f"{name} has no row at {at}: its rows go from {first} to {last}",
            f"give --at the timestamp of a row; the nearest is {style.write(nearest)}",
        )
    return int(rows[-1])
