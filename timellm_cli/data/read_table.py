"""From what a configuration names as its data to the table that training reads, with notes on its values."""

from bisect import bisect_right
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from timellm_cli.config import DataConfig
from timellm_cli.data.numbers import sentinels
from timellm_cli.data.panel import make_panel
from timellm_cli.data.rows import Rows
from timellm_cli.data.sources import read_source
from timellm_cli.data.table import Table, constant_columns, make_table


def read_table(source: Path | BinaryIO, data: DataConfig, *, name: str | None = None) -> Table:
    """Read the columns that `data` selects from a CSV file, or from a binary stream.

    Raises DataError for anything but a regular table of finite numbers. With `data.fill`, absent rows and empty cells
    are null.
    """
    return table_of(read_source(source, data, name=name), data)


def table_of(rows: Rows, data: DataConfig) -> Table:
    """The table that training makes of rows, of one series or many, with notes. Raises DataError as `read_table`."""
    return with_notes_on_values(make_table(rows, data) if rows.series is None else make_panel(rows, data))


def with_notes_on_values(table: Table) -> Table:
    """The table with notes on channels that never change and on values that may stand for none."""
    constant = constant_columns(table.frame)
    notes = [f"constant, so there is nothing to forecast: {', '.join(constant)}"] if constant else []
    return replace(table, notes=(*table.notes, *notes, *sentinels(table.frame, lambda row: _name_row(table, row))))


def _name_row(table: Table, row: int) -> str:
    """The timestamp of a row of `frame`, with the id of its series."""
    series = table.series
    number = bisect_right(series.offsets, row) - 1
    stamp = table.style.write(table.stamps[series.first[number] + row - series.offsets[number]])
    return f"{stamp} of {series.ids[number]}" if series.is_panel else stamp
