"""Parquet files are read as CSVs are, with the types that they have."""

import io
from collections.abc import Sequence
from datetime import date, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from timellm_cli.config import DataConfig
from timellm_cli.data.cadence import continue_stamps
from timellm_cli.data.read_table import read_table
from timellm_cli.data.table import Table
from timellm_cli.errors import DataError

ROWS = 200
HOURS = [datetime(2020, 10, 20) + timedelta(hours=row) for row in range(ROWS)]
DAYS = [date(2020, 1, 1) + timedelta(days=row) for row in range(ROWS)]
VALUES = [row * 7 % 11 + 0.1 for row in range(ROWS)]
CUSTOM = DataConfig(dataset="custom")


def written(folder: Path, dates: Sequence[object] | pl.Series, **columns: object) -> Path:
    path = folder / "own.parquet"
    pl.DataFrame({"date": dates, "OT": VALUES, **columns}).write_parquet(path)
    return path


def in_zone(unit: str, zone: str) -> pl.Series:
    return pl.Series(HOURS, dtype=pl.Datetime(unit)).dt.replace_time_zone("UTC").dt.convert_time_zone(zone)  # type: ignore[arg-type]


def next_stamp(table: Table) -> str:
    return table.style.write(continue_stamps(table.stamps[-1], table.cadence, 1)[0])


@pytest.mark.parametrize(
    ("dates", "after"),
    [
        (pl.Series(HOURS, dtype=pl.Datetime("ns")), "2020-10-28 08:00:00"),
        (pl.Series(HOURS, dtype=pl.Datetime("ms")), "2020-10-28 08:00:00"),
        (in_zone("us", "UTC"), "2020-10-28 08:00:00+00:00"),
        (in_zone("ns", "Europe/Berlin"), "2020-10-28 09:00:00+01:00"),
        (DAYS, "2020-07-19"),
        ([1_577_836_800 + 60 * row for row in range(ROWS)], "1577848800"),
        ([f"{stamp:%d.%m.%Y %H:%M}" for stamp in HOURS], "28.10.2020 08:00"),
    ],
    ids=["ns", "ms", "UTC", "zone", "date", "integers", "texts"],
)
def test_timestamps_of_every_type_are_read_and_continue(
    tmp_path: Path, dates: Sequence[object] | pl.Series, after: str
) -> None:
    table = read_table(written(tmp_path, dates), CUSTOM)
    assert (len(table.stamps), table.columns, next_stamp(table)) == (ROWS, ("OT",), after)
    assert table.frame["OT"].to_list() == VALUES


def test_the_zone_of_a_type_holds_beyond_the_file(tmp_path: Path) -> None:
    table = read_table(written(tmp_path, in_zone("us", "Europe/Berlin")), CUSTOM)
    written_ahead = [table.style.write(stamp) for stamp in continue_stamps(table.stamps[-1], table.cadence, 4000)]
    assert written_ahead[3799] == "2021-04-04 17:00:00+02:00"


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (pl.Series([1, None] * 100, dtype=pl.Int16), [1.0, None]),
        (pl.Series([0.5, float("nan")] * 100, dtype=pl.Float32), [0.5, None]),
        (pl.Series(["1.25", "NA"] * 100), [1.25, None]),
        (pl.Series([2, 3] * 100, dtype=pl.UInt8), [2.0, 3.0]),
        (pl.Series(["2.5", "3"] * 100).cast(pl.Decimal(10, 2)), [2.5, 3.0]),
    ],
    ids=["integers", "float32", "texts", "bytes", "decimals"],
)
def test_values_of_every_type_are_numbers(tmp_path: Path, column: pl.Series, expected: list[float | None]) -> None:
    table = read_table(written(tmp_path, HOURS, more=column), CUSTOM.model_copy(update={"fill": "linear"}))
    assert table.frame["more"][:2].to_list() == expected


def test_bytes_of_a_file_are_read_as_the_file(tmp_path: Path) -> None:
    content = written(tmp_path, HOURS).read_bytes()
    assert read_table(io.BytesIO(content), CUSTOM).frame["OT"].to_list() == VALUES


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"OT": [float("inf"), *VALUES[1:]]}, "line 1, column 'OT': the value is infinite"),
        ({"more": ["a", "b"] * 100}, "line 1, column 'more': 'a' is no number"),
        ({"more": [[1, 2]] * ROWS}, "column 'more' holds List(Int64), not numbers or texts"),
        ({"date": [*HOURS[:5], HOURS[4], *HOURS[6:]]}, "line 6: the timestamp 2020-10-20 04:00:00 is that of another"),
        ({"date": [*HOURS[:5], *HOURS[6:], HOURS[-1] + timedelta(hours=1)]}, "line 6: a gap"),
        ({"OT": [None, *VALUES[1:]]}, "line 1, column 'OT': the cell is empty"),
    ],
)
def test_a_fault_is_named_with_the_number_of_its_row(tmp_path: Path, columns: dict[str, object], words: str) -> None:
    path = tmp_path / "own.parquet"
    pl.DataFrame({"date": HOURS, "OT": VALUES, **columns}).write_parquet(path)
    with pytest.raises(DataError) as caught:
        read_table(path, CUSTOM)
    assert words in caught.value.message


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"PAR1" + b"\0" * 50, "is no valid Parquet file"), (None, "has columns but no rows")],
)
def test_what_is_no_parquet_file_is_refused(tmp_path: Path, content: bytes | None, words: str) -> None:
    path = tmp_path / "own.parquet"
    if content is None:
        pl.DataFrame({"date": HOURS}).clear().write_parquet(path)
    else:
        path.write_bytes(content)
    with pytest.raises(DataError, match=words):
        read_table(path, CUSTOM)
