"""The CSV that a forecast continues, compared with the data that the checkpoint was trained on.

Only the rows that the model reads must be whole. Rows before and after them may have gaps.
"""

import io
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import numpy as np
import polars as pl

from timellm_cli.config import Config, DataConfig
from timellm_cli.data.cadence import Cadence, Every, WeekTimes, closed_at, continue_stamps, find_cadence, parse_cadence
from timellm_cli.data.columns import date_columns
from timellm_cli.data.csv_format import CsvFormat
from timellm_cli.data.dates import parse_moment
from timellm_cli.data.open_csv import open_csv
from timellm_cli.data.panel import make_panel
from timellm_cli.data.rows import Rows
from timellm_cli.data.scale import Floats
from timellm_cli.data.sources import read_source
from timellm_cli.data.table import Table, fill_history, make_table
from timellm_cli.data.table_errors import irregular
from timellm_cli.datasets import data_files
from timellm_cli.errors import DataError, did_you_mean, quoted
from timellm_cli.splits import Series
from timellm_cli.units import format_count


@dataclass(frozen=True, eq=False)
class ForecastInput:
    """Raw rows; the forecast follows the last one of `table`, whose columns are in the checkpoint's order.

    `later` are the rows that the file has after it. `order` are the same columns in the file's order. `notes` are
    sentences for the user.
    """

    table: Table
    later: Rows
    order: tuple[str, ...]
    notes: tuple[str, ...]

    def dates(self, steps: int) -> list[datetime]:
        """The `steps` timestamps (H) to forecast. Raises DataError beyond the last date of the calendar."""
        last = self.table.stamps[-1]
        try:
            return continue_stamps(last, self.table.cadence, steps)
        except (OverflowError, ValueError):
            raise DataError(
                f"{steps:,} steps after {self.table.style.write(last)} are beyond the year 9999, where dates end",
                "use a smaller --steps",
            ) from None

    def actual(self, steps: int) -> Floats:
        """The file's values (H, C) of the `steps` rows to forecast, raw; NaN where it has none."""
        if not len(self.later.stamps):
            return np.full((steps, len(self.table.columns)), np.nan)
        wanted = pl.DataFrame({"stamp": pl.Series(self.dates(steps), dtype=pl.Datetime("us"))})
        known = self.later.frame.select(self.table.columns).with_columns(self.later.stamps.alias("stamp"))
        found = wanted.join(known.unique("stamp", keep="first"), on="stamp", how="left", maintain_order="left")
        values_HC: Floats = found.drop("stamp").to_numpy(writable=True)
        gaps = ~np.isfinite(values_HC).all(axis=1)
        values_HC[int(gaps.argmax()) if gaps.any() else steps :] = np.nan
        return values_HC


def read_input(
    source: Path | bytes, config: Config, columns: tuple[str, ...], cadence: str, at: str | None, date_format: str = ""
) -> ForecastInput:
    """Read a file, or the bytes of one, for a checkpoint with these `columns` (target last), `cadence` and format.

    `at` is the timestamp of the last known row, by default the file's last. Filling uses the rows up to it and none
    after it. Raises DataError, with the numbers or names of both sides, for a missing column, another cadence, too few
    rows, and for gaps in the rows that the model reads.
    """
    return continue_rows(read_known_rows(source, config, columns, date_format), config, columns, cadence, at)


def read_known_rows(
    source: Path | bytes,
    config: Config,
    columns: tuple[str, ...],
    date_format: str,
    is_panel: bool = False,
    name: str = "standard input",
) -> Rows:
    """The rows of a file, or of the bytes of one, that a checkpoint with these `columns` reads. Raises DataError.

    Errors call bytes by `name`.

    For a checkpoint of several series (`is_panel`), a file without an id column is one of them, named after the file.
    """
    called = None if isinstance(source, Path) else name
    data = config.data.model_copy(update={"dataset": "custom", "path": None, "columns": columns, "target": columns[-1]})
    if not data.is_wide:
        for file in data_files(source) if isinstance(source, Path) else [io.BytesIO(source)]:
            csv = open_csv(file, called, data)
            require_columns(csv, (*date_columns(csv, data), *([data.id_column] if data.id_column else [])), columns)
    return _read(source, called, data.model_copy(update={"features": "M"}), date_format, is_panel)


def split_panel(rows: Rows) -> Iterator[tuple[str, Rows]]:
    """The rows of each series of a panel, with its id."""
    assert rows.series is not None
    first = 0
    for name, count in rows.series.rle().struct.unnest().select("value", "len").iter_rows():
        yield name, replace(rows.cut(first, first + count), series=None, notes=())
        first += count


def continue_panel(rows: Rows, config: Config, columns: tuple[str, ...], cadence: str) -> list[ForecastInput] | None:
    """What `continue_rows` gives for each series, in one go; None where one of them has to be looked at alone."""
    if config.data.future_columns:  # a series may end in rows that only say what is known ahead
        return None
    learned = _learned_cadence(cadence, rows, config.data.closed_on)
    if isinstance(learned, Every):
        learned = replace(learned, anchor=rows.stamps[0])
    try:
        table = make_panel(rows, config.data, learned).select(columns)
    except DataError:
        return None
    series, needed, fill = table.series, config.window.seq_len, config.data.fill
    assert rows.series is not None
    if len(series.ids) != rows.series.n_unique() or min(series.rows) < needed:
        return None
    later, order = rows.cut(0, 0), _order_of(rows, columns)
    found = []
    for first, offset, count in zip(series.first, series.offsets, series.rows, strict=True):
        frame = table.frame[offset + count - needed : offset + count]
        empty = frame.null_count().row(0)
        if max(empty) == needed:
            return None
        own = replace(
            table,
            stamps=table.stamps[first + count - needed : first + count],
            frame=fill_history(frame, fill) if any(empty) else frame,
            series=Series.single(needed),
        )
        found.append(ForecastInput(own, later, order, ()))
    return found


def _order_of(rows: Rows, columns: tuple[str, ...]) -> tuple[str, ...]:
    """The checkpoint's columns in the file's order."""
    return tuple(column for column in rows.csv.header if column in columns) or columns


def continue_rows(rows: Rows, config: Config, columns: tuple[str, ...], cadence: str, at: str | None) -> ForecastInput:
    """As `read_input`, of rows that `read_known_rows` has read."""
    stop = _end_of_history(rows, config.data) if at is None else _find_row(rows, at) + 1
    learned = _learned_cadence(cadence, rows, config.data.closed_on)
    table = _read_history(rows, stop, config, at, learned).select(columns)
    notes = list(table.notes)
    csv, data = rows.csv, config.data
    known = (*date_columns(csv, data), data.id_column, *columns, *data.future_columns)
    if not data.is_wide and (extra := [column for column in csv.header if column not in known]):
        notes.append(f"columns that the checkpoint does not know are ignored: {', '.join(extra)}")
    return ForecastInput(
        table=table,
        later=rows.cut(stop, len(rows.stamps)),
        order=_order_of(rows, columns),
        notes=tuple(notes),
    )


def _end_of_history(rows: Rows, data: DataConfig) -> int:
    """The row after the last one to read: rows at the end without a value only say what is known of the steps ahead."""
    if not data.future_columns:
        return len(rows.stamps)
    has_value = rows.frame.select(~pl.all_horizontal(pl.all().is_null())).to_series().arg_true()
    return int(has_value[-1]) + 1 if len(has_value) else len(rows.stamps)


def _learned_cadence(text: str, rows: Rows, closed_on: str | None) -> Cadence:
    """The checkpoint's cadence, with the holidays of the place that the user names now."""
    learned = parse_cadence(text)
    is_known = isinstance(learned, WeekTimes) and learned.closed_on == closed_on
    return learned if is_known or not len(rows.stamps) else closed_at(learned, rows.stamps, closed_on)


def _read(source: Path | bytes, name: str | None, data: DataConfig, date_format: str, is_panel: bool) -> Rows:
    """The rows, read in the checkpoint's date format where that fits."""

    def read(data: DataConfig) -> Rows:
        content = source if isinstance(source, Path) else io.BytesIO(source)
        return read_source(content, data, name=name, each_file_is_a_series=is_panel)

    if date_format and data.date_format is None:
        try:
            return read(data.model_copy(update={"date_format": date_format}))
        except DataError:
            pass
    return read(data)


def require_columns(csv: CsvFormat, dates: tuple[str, ...], columns: tuple[str, ...]) -> None:
    """Raise DataError where a CSV lacks a column of a checkpoint; it names the columns of both."""
    missing = [name for name in (*dates, *columns) if name not in csv.header]
    if missing:
        raise DataError(
            f"{csv.name} has no column {quoted(missing)}, which the checkpoint needs; "
            f"its columns are {quoted(csv.header)}" + did_you_mean(missing[0], csv.header),
            f"the checkpoint reads {quoted([*dates, *columns])}",
        )


def _read_history(rows: Rows, stop: int, config: Config, at: str | None, cadence: Cadence) -> Table:
    """The `seq_len` rows that the model reads, up to row `stop` (excluded), filled."""
    needed, fill = config.window.seq_len, config.data.fill
    distinct = rows.stamps.head(stop).is_first_distinct().arg_true()
    first = int(distinct[-needed]) if fill == "none" and len(distinct) > needed else 0
    history = rows.cut(first, stop)
    if isinstance(cadence, Every) and stop:
        cadence = replace(cadence, anchor=history.stamps[0])
    table = None
    if stop > 1:
        _require_cadence(history, cadence)
        table = make_table(history, config.data, cadence)
    found = len(table.stamps) if table else stop
    if table is None or found < needed:
        raise DataError(
            f"{rows.csv.name} has {format_count(found, 'row')}"
            + (f" up to {at}" if at else "")
            + f", but the checkpoint reads {needed:,} rows of history (seq_len)",
            "give a file that goes further back" + (", or a later --at" if at else ""),
        )
    frame = table.frame.tail(needed)
    if empty := [column.name for column in frame if column.null_count() == needed]:
        raise DataError(
            f"{rows.csv.name}: column '{empty[0]}' has no value in the {needed:,} rows of history that the model reads",
            "give a file that has some, or another --at",
        )
    return replace(table, stamps=table.stamps.tail(needed), frame=fill_history(frame, fill))


def _require_cadence(rows: Rows, cadence: Cadence) -> None:
    """Few rows may fit several cadences, as a week of working days does. The checkpoint's must be one of them."""
    numbers = cadence.numbers(rows.stamps)
    steps, foreign = numbers.unique(maintain_order=True).diff().drop_nulls(), numbers.null_count()
    if (steps == 1).sum() * 2 >= len(steps):
        if foreign * 20 <= len(numbers) if isinstance(cadence, WeekTimes) else not foreign:
            return
        if foreign * 2 < len(numbers):
            raise irregular(rows, int(numbers.is_null().arg_true()[0]), cadence)
    found = find_cadence(rows.stamps)
    raise DataError(
        f"{rows.csv.name} has a row every {found or '(irregular steps)'}, "
        f"but the checkpoint was trained on one every {cadence}",
        "resample the file to the checkpoint's cadence, or train on data of this one",
    )


def _find_row(rows: Rows, at: str) -> int:
    """The row of a wall time that the user wrote in ISO 8601 or in the file's style; the last one of a doubled hour."""
    style, name = rows.style, rows.csv.name
    first, last = style.write(rows.stamps[0]), style.write(rows.stamps[-1])
    moment, has_offset = parse_moment(at, style.form)
    if moment is None:
        raise DataError(f"--at '{at}' is no timestamp", f"write it as the file does, such as '{last}'")
    times = rows.walls
    if has_offset and (style.is_utc or not style.offset):
        times = rows.stamps
    elif has_offset:
        moment += style.ahead
    found = (times == moment).arg_true()
    if not len(found):
        nearest = rows.stamps[int((times - moment).abs().arg_min() or 0)]
        raise DataError(
            f"{name} has no row at {at}: its rows go from {first} to {last}",
            f"give --at the timestamp of a row; the nearest is {style.write(nearest)}",
        )
    return int(found[-1])
