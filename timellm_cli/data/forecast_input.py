"""Writes timestamps the way a file writes them: '2016/7/1 0:00' is followed by '2016/7/1 1:00'.

The CSV that a forecast continues, held against what the checkpoint was trained on.

Only the rows that the model reads have to be whole: what lies before them or after them may have holes.
"""

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from timellm_cli.config import Config
from timellm_cli.data.scale import Floats
from timellm_cli.data.source import CsvSource, open_source
from timellm_cli.data.table import RawRows, Table, make_table, read_rows
from timellm_cli.data.timestamps import (
    ISO,
    Stamps,
    continue_timestamps,
    fitting_formats,
    has_utc_offset,
    parse_cadence,
    parse_timestamp,
    show,
    show_step,
)
from timellm_cli.errors import DataError, did_you_mean, quoted
from timellm_cli.units import format_count

_ISO_TIMES = ("", " %H:%M", " %H:%M:%S", "T%H:%M", "T%H:%M:%S", " %H:%M:%S.%f", "T%H:%M:%S.%f")
_OFFSET = re.compile(r":.*?(?P<offset>Z|(?P<sign>[+-])(?P<hours>\d\d):?(?P<minutes>\d\d))$")


@dataclass(frozen=True)
class DateStyle:
    """A `strptime` pattern, the digits that day and month and that the hour have at least, and the offset from UTC."""

    form: str
    date_digits: int = 2
    hour_digits: int = 2
    offset: str = ""
    ahead_of_utc: timedelta = timedelta()

    def write(self, stamp: np.datetime64) -> str:
        """A timestamp, in UTC where the file has offsets, as text."""
        moment: datetime = stamp.astype("datetime64[us]").item() + self.ahead_of_utc
        parts = {
            "%Y": f"{moment.year:04}",
            "%m": f"{moment.month:0{self.date_digits}}",
            "%d": f"{moment.day:0{self.date_digits}}",
            "%H": f"{moment.hour:0{self.hour_digits}}",
            "%I": f"{(moment.hour - 1) % 12 + 1:0{self.hour_digits}}",
            "%M": f"{moment.minute:02}",
            "%S": f"{moment.second:02}",
            "%f": f"{moment.microsecond:06}",
            "%p": "AM" if moment.hour < 12 else "PM",
        }
        # Not strftime: it has no unpadded fields that all platforms know, and spells %p by the locale.
        return re.sub("%[A-Za-z]", lambda directive: parts[directive[0]], self.form) + self.offset


def find_style(texts: Sequence[str], stamps_N: NDArray[np.datetime64]) -> DateStyle:
    """The style that writes the first, the last and every other timestamp just as the file has them.

    `texts` are the file's timestamps; `stamps_N` what they were read as, filled ones between them. Where no style fits
    all: ISO 8601 in UTC.
    """
    match = _OFFSET.search(texts[-1])
    offset = match["offset"] if match else ""
    ahead = timedelta(hours=int(match["hours"] or 0), minutes=int(match["minutes"] or 0)) if match else timedelta()
    if match and match["sign"] == "-":
        ahead = -ahead
    forms = [
        form
        for fitting in fitting_formats([texts[0], texts[-1]])
        for form in ([f"%Y-%m-%d{time}" for time in _ISO_TIMES] if fitting == ISO else [fitting])
    ]
    for form, date_digits, hour_digits in product(forms, (2, 1), (2, 1)):
        style = DateStyle(form, date_digits, hour_digits, offset, ahead)
        if style.write(stamps_N[0]) != texts[0] or style.write(stamps_N[-1]) != texts[-1]:
            continue
        if set(texts) <= {style.write(stamp) for stamp in stamps_N}:
            return style
    whole_seconds = (stamps_N.astype("datetime64[s]") == stamps_N).all()
    return DateStyle("%Y-%m-%d %H:%M:%S" if whole_seconds else "%Y-%m-%d %H:%M:%S.%f")


@dataclass(frozen=True, eq=False)
class ForecastInput:
    """Rows in the CSV's units, columns in the checkpoint's order; the forecast comes after the last of `table`.

    `later` are the rows of the file after that. `order` are the same columns as the file has them. `notes` are
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
        """What the file knows of the `steps` rows (H, C) to forecast; NaN from its end or its first hole on."""
        later = self.later.cut(0, steps)
        known_HC = later.known_values(self.table.columns)
        holes = (later.stamps != self.dates(steps)[: len(known_HC)]) | ~np.isfinite(known_HC).all(axis=1)
        known = int(holes.argmax()) if holes.any() else len(holes)
        actual_HC = np.full((steps, len(self.table.columns)), np.nan)
        actual_HC[:known] = known_HC[:known]
        return actual_HC


def read_input(
    source: Path | bytes, config: Config, columns: tuple[str, ...], cadence: str, at: str | None
) -> ForecastInput:
    """Read a file, or the bytes of one, for a checkpoint with these `columns` (target last) and this `cadence`.

    `at` is the timestamp of the last known row; by default the file's last. Filling sees every row up to it, and none
    after. Raises DataError that names both sides where a column is missing, the cadence is another or the rows are too
    few, and for holes in the rows that the model reads.
    """
    name = str(source) if isinstance(source, Path) else "standard input"
    data = config.data.model_copy(update={"dataset": "custom", "path": None, "columns": columns, "target": columns[-1]})
    csv = open_source(_reopen(source), name, data.date_column)
    require_columns(csv, data.date_column, columns)
    rows = read_rows(_reopen(source), data, name=name)
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


def _read_history(rows: RawRows, stop: int, config: Config, at: str | None) -> Table:
    """The rows that the model reads, the last of which is `stop` - 1."""
    needed, fill = config.window.seq_len, config.data.fill
    # Filling may put rows between these, and a hole at their start has its neighbour before them.
    first = max(stop - needed, 0) if fill == "none" else 0
    table = make_table(rows.cut(first, stop), fill) if stop > 1 else None
    if (has := len(table.timestamps) if table else stop) < needed or table is None:
        raise DataError(
            f"{rows.csv.name} has {format_count(has, 'row')}"
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
    """A few rows may fit several cadences, such as a week of business days; the checkpoint's must be among them."""
    first, *rest = table.timestamps
    if not np.array_equal(continue_timestamps(first, parse_cadence(cadence), len(rest)), rest):
        ours, theirs = show_step(table.cadence), show_step(parse_cadence(cadence))
        raise DataError(
            f"{name} has a row every {ours}, but the checkpoint was trained on one every {theirs}",
            "resample the file to the checkpoint's cadence, or train on data of this one",
        )


def _find_row(name: str, stamps: Stamps, style: DateStyle, at: str) -> int:
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
