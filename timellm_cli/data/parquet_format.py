"""A Parquet file read as a CSV is: the same header, rows and cells, with the types that the file has.

A line of it is a row, counted from 1. polars reads it, so no package of its own is needed.
"""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from timellm_cli.data.csv_format import BEYOND, CsvFormat
from timellm_cli.errors import DataError

if TYPE_CHECKING:
    import polars as pl

_CHUNK = 1000


@dataclass(frozen=True)
class ParquetFormat(CsvFormat):
    """A Parquet file that can be read again and again. `source` is its path or its bytes."""

    source: Path | bytes = b""

    @cached_property
    def schema(self) -> "dict[str, pl.DataType]":
        """The type of each column."""
        return dict(self._frame().collect_schema())

    @contextmanager
    def rows(self) -> Iterator[Iterator[tuple[int, list[str]]]]:
        """The header as line 0, then the rows as texts."""
        yield self._rows()

    def _rows(self) -> Iterator[tuple[int, list[str]]]:
        yield 0, list(self.header)
        first = 0
        while cells := self._texts(first, _CHUNK):
            yield from enumerate(cells, first + 1)
            first += len(cells)

    def find(self, row: int) -> tuple[int, list[str]]:
        """Line number and cells of data row `row`, counted from 0."""
        return row + 1, next(iter(self._texts(row, 1)), [""] * len(self.header))

    def cell(self, name: str) -> "pl.Expr":
        """A column of `scan` as texts; null for an absent cell. Raises DataError for lists and other nested values."""
        import polars as pl

        column, dtype = pl.col(str(self.header.index(name))), self.schema[name]
        if dtype.is_nested() or dtype == pl.Binary:
            raise DataError(f"{self.name}: column '{name}' holds {dtype}, not numbers or texts", "use --exclude")
        if dtype == pl.Date:
            return column.dt.to_string("%Y-%m-%d")
        if isinstance(dtype, pl.Datetime):
            return column.dt.to_string("%Y-%m-%d %H:%M:%S%.f" + ("%:z" if dtype.time_zone else ""))
        return column.cast(pl.String).str.strip_chars()

    def number(self, name: str) -> "pl.Expr | None":
        """A column of `scan` as numbers, null for NaN; None where the file holds another type."""
        import polars as pl

        column = pl.col(str(self.header.index(name)))
        return column.cast(pl.Float64).fill_nan(None) if self.schema[name].is_numeric() else None

    def dtype(self, name: str) -> "pl.DataType":
        """The type of a column."""
        return self.schema[name]

    def scan(self) -> "pl.LazyFrame":
        """The columns, named by position, and `BEYOND`, which is empty."""
        import polars as pl

        named = [pl.col(name).alias(str(index)) for index, name in enumerate(self.header)]
        frame = self._frame().select(*named, pl.lit(None, pl.String).alias(BEYOND))
        return frame if self.most_rows is None else frame.head(self.most_rows)

    def _blocks(self) -> Iterator["pl.LazyFrame"]:
        yield self.scan()

    def _frame(self) -> "pl.LazyFrame":
        import polars as pl

        return pl.scan_parquet(self.source if isinstance(self.source, Path) else io.BytesIO(self.source))

    def _texts(self, first: int, count: int) -> list[list[str]]:
        import polars as pl

        cells = [pl.lit("") if self.schema[name].is_nested() else self.cell(name) for name in self.header]
        named = [cell.fill_null("").alias(str(index)) for index, cell in enumerate(cells)]
        return [list(row) for row in self.collect(self.scan().slice(first, count).select(named)).rows()]


def open_parquet(source: Path | bytes, name: str) -> ParquetFormat:
    """A Parquet file. Raises DataError where it cannot be read or has no rows."""
    import polars as pl

    values: dict[str, Any] = {"encoding": "utf-8", "delimiter": ",", "skipped": 0, "body": 0}
    path = source if isinstance(source, Path) else None
    file = ParquetFormat(name, path, io.BytesIO, header=(), source=source, **values)
    try:
        file = ParquetFormat(name, path, io.BytesIO, header=tuple(file.schema), source=source, **values)
        rows = file.count_rows()
    except (pl.exceptions.PolarsError, OSError) as error:
        fault = str(error).splitlines()[0][:120]
        raise DataError(f"{name} is no valid Parquet file: {fault}", "write it anew") from None
    if not rows:
        raise DataError(f"{name} has columns but no rows", "each row is one timestamp")
    return file
