"""Columns whose values are known for the steps ahead, on the rows of a table that leaves them out. Light: polars."""

from datetime import datetime

import polars as pl

from timellm_cli.config import DataConfig
from timellm_cli.data.rows import Rows
from timellm_cli.data.sources import read_source
from timellm_cli.data.table import Table
from timellm_cli.datasets import data_path
from timellm_cli.errors import DataError
from timellm_cli.units import format_count

_ID, _STAMP, _ROW = "\0id", "\0stamp", "\0row"


def read_rows_of_columns(data: DataConfig, *, source: object = None) -> Rows:
    """The rows of the columns that are known ahead, read like the table itself. Raises DataError as its reader."""
    names = data.future_columns
    update = {"columns": names, "target": names[-1], "features": "M", "exclude": (), "future_columns": ()}
    update |= {"dataset": "custom"}
    rows = read_source(data_path(data) if source is None else source, data.model_copy(update=update))  # type: ignore[arg-type]
    rows.require_numbers()
    return rows


def columns_of_steps(rows: Rows, stamps: list[datetime], name: str, data: DataConfig) -> pl.DataFrame:
    """The raw values (H, F) of the columns known ahead at these stamps of a series (empty: the only one).

    Raises DataError where one has no value.
    """
    wanted = pl.DataFrame({_STAMP: pl.Series(stamps, dtype=pl.Datetime("us"))}).with_columns(pl.lit(name).alias(_ID))
    return match_rows(
        wanted, rows, data, "give the rows to forecast in the input, without a target, or in --future FILE"
    )


def read_future_columns(table: Table, data: DataConfig) -> pl.DataFrame:
    """The raw values (V, F) of the columns known ahead, for the rows of all series of a table.

    Raises DataError for cells without a value, unless `data.fill` says what they are.
    """
    rows = read_rows_of_columns(data)
    series = table.series
    wanted = pl.concat(
        pl.DataFrame({_STAMP: table.stamps[first : first + count]}).with_columns(pl.lit(name).alias(_ID))
        for name, first, count in zip(series.ids, series.first, series.rows, strict=True)
    )
    return match_rows(wanted, rows, data)


_REMEDY = "give it a value in every row, or say with --fill what stands for none"


def match_rows(wanted: pl.DataFrame, rows: Rows, data: DataConfig, remedy: str = _REMEDY) -> pl.DataFrame:
    """The values of `rows` for wanted stamps and ids, in their order. Raises DataError where one has no value."""
    ids = pl.lit("").alias(_ID) if rows.series is None else rows.series.cast(pl.String).alias(_ID)
    known = rows.frame.with_columns(rows.stamps.alias(_STAMP), ids).unique([_STAMP, _ID], keep="first")
    found = wanted.join(known, on=[_STAMP, _ID], how="left", maintain_order="left")
    names = list(data.future_columns)
    if data.fill != "none":
        value = pl.lit(0.0) if data.fill == "zero" else None
        for name in names:
            filled = pl.col(name).fill_null(value) if value is not None else pl.col(name).forward_fill().backward_fill()
            found = found.with_columns((filled if value is not None else filled.over(_ID)).fill_null(0.0).alias(name))
    for name in names:
        if count := found[name].null_count():
            row = int(found[name].is_null().arg_true()[0])
            raise DataError(
                f"{rows.csv.name}: column '{name}', known ahead, has no value in {format_count(count, 'row')}, "
                f"the first at {rows.style.write(found[_STAMP][row])}",
                remedy,
            )
    return found.select(names)
