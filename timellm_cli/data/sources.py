"""The rows of whatever a configuration names as its data: a CSV, a folder or pattern of CSVs, or a series a line.

Light: the one reader is polars.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from itertools import accumulate
from pathlib import Path
from typing import BinaryIO

import polars as pl

from timellm_cli.config import DataConfig
from timellm_cli.data.csv_format import CsvFormat
from timellm_cli.data.dates import DateStyle
from timellm_cli.data.numbers import to_number
from timellm_cli.data.open_csv import open_csv
from timellm_cli.data.rows import Rows, read_rows
from timellm_cli.datasets import data_files, holds_several
from timellm_cli.errors import DataError, quoted

FILE_COLUMN = "series"
"""What the column of ids is called where each series is a file of its own."""
VALUE_COLUMN = "value"
"""What the values are called where each series is a line."""
_DATE_FORMAT = "%Y-%m-%d"
_FIRST_STEP = datetime(2000, 1, 1)


def read_source(
    source: Path | BinaryIO,
    data: DataConfig,
    *,
    name: str | None = None,
    most_rows: int | None = None,
    each_file_is_a_series: bool = False,
) -> Rows:
    """All rows of a source, or the first `most_rows` of a single CSV, in the order of series and time.

    Of several files each is a series, named after the file, unless there is an id column. `each_file_is_a_series`
    makes a single file one as well. Raises DataError as `read_rows`, and for files whose columns differ.
    """
    if isinstance(source, Path) and holds_several(source):
        return _join([_read_file(file, data) for file in data_files(source)])
    if each_file_is_a_series and isinstance(source, Path) and data.id_column is None and not data.is_wide:
        return _read_file(source, data)
    csv = open_csv(source, name, data)
    if data.is_wide:
        return _read_wide(csv, data)
    return read_rows(replace(csv, most_rows=most_rows), data)


def _read_file(file: Path, data: DataConfig) -> Rows:
    rows = read_source(file, data)
    rows.require_numbers()
    if rows.series is not None:
        return rows
    name = series_name(file)
    return replace(rows, series=pl.repeat(name, len(rows.stamps), dtype=pl.Enum([name]), eager=True))


def series_name(file: Path) -> str:
    """What the series of a file is called where each file holds one."""
    return file.name.split(".")[0]


def _join(parts: Sequence[Rows]) -> Rows:
    """The rows of several files. Raises DataError where columns, or the way timestamps are written, differ."""
    first = parts[0]
    for part in parts[1:]:
        if set(part.frame.columns) != set(first.frame.columns):
            raise DataError(
                f"{part.csv.name} has the columns {quoted(part.frame.columns)}, "
                f"but {first.csv.name} has {quoted(first.frame.columns)}",
                "name those that all files have with --columns, or leave the others out with --exclude",
            )
        if part.style.is_utc != first.style.is_utc:
            raise DataError(
                f"{part.csv.name} and {first.csv.name} write their times differently: only one has changing offsets",
                "say --timezone",
            )
    names = [name for part in parts for name in part.series.unique(maintain_order=True)]  # type: ignore[union-attr]
    repeated = sorted({name for name in names if names.count(name) > 1})[:1] if len(set(names)) < len(names) else []
    if repeated:
        raise DataError(f"several files hold the series '{repeated[0]}'", "a series must be in one file")
    kind = pl.Enum(names)
    starts = accumulate((len(part.stamps) for part in parts[:-1]), initial=0)
    return replace(
        first,
        stamps=pl.concat([part.stamps for part in parts]),
        walls=pl.concat([part.walls for part in parts]),
        frame=pl.concat([part.frame.select(first.frame.columns) for part in parts]),
        series=pl.concat([part.series.cast(pl.String).cast(kind) for part in parts]),  # type: ignore[union-attr]
        order=None,
        notes=tuple(dict.fromkeys(note for part in parts for note in part.notes)),
        files=tuple((start, part) for start, part in zip(starts, parts, strict=True)),
    )


def _read_wide(csv: CsvFormat, data: DataConfig) -> Rows:
    """Rows of a file with a series in each line: its id, then its values, one step a column.

    Such a file has no dates: its steps are counted in days from 2000-01-01, which no output shows.
    """
    ids = data.id_column or csv.header[0]
    if ids not in csv.header:
        raise DataError(
            f"{csv.name}: id column '{ids}' not found", f"columns are {quoted(csv.header)}; say --id-column"
        )
    steps = [name for name in csv.header if name not in (ids, *data.exclude)]
    numbers = [to_number(csv.cell(name), data).alias(str(place)) for place, name in enumerate(steps)]
    wide = csv.collect(csv.scan().select(csv.cell(ids).replace("", None).alias("id"), *numbers))
    wide = wide.filter(pl.col("id").is_not_null())
    if not wide["id"].is_unique().all():
        twin = wide["id"].filter(wide["id"].is_duplicated())[0]
        raise DataError(f"{csv.name}: the id '{twin}' stands in several lines", "each line must be a series of its own")
    long = (
        wide.with_row_index("line")
        .unpivot(index=["line", "id"], variable_name="step", value_name=VALUE_COLUMN)
        .drop_nulls(VALUE_COLUMN)
        .sort("line", pl.col("step").cast(pl.Int64))
    )
    stamps = (
        pl.select(pl.lit(_FIRST_STEP) + pl.duration(days=pl.lit(long["step"].cast(pl.Int64)), time_unit="us"))
        .to_series()
        .cast(pl.Datetime("us"))
    )
    names = pl.Enum(long["id"].unique(maintain_order=True))
    frame = long.select(VALUE_COLUMN)
    style = DateStyle(_DATE_FORMAT)
    return Rows(csv, stamps, stamps, frame, style, _DATE_FORMAT, long["line"], (), long["id"].cast(names))
