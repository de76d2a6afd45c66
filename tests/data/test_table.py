"""A CSV becomes regular timestamps and finite numbers, or an error with line and column."""

import io
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.data.csv_files import CUSTOM, FILL, daily_lines, hourly, write_csv
from timellm_cli.config import DataConfig
from timellm_cli.data.table import Table, read_table
from timellm_cli.errors import DataError, ExitCode


@pytest.fixture(autouse=True, scope="module", params=["at once", "in pieces"])
def pieces(request: pytest.FixtureRequest) -> Iterator[None]:
    """Small files as they are read, and as large ones are: three rows at a time, kept in blocks of a few numbers."""
    if request.param == "at once":
        yield
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("timellm_cli.data.cells._PIECE_ROWS", 3)
        patch.setattr("timellm_cli.data.cells._BLOCK_BYTES", 80)
        yield


def read(header: str, lines: list[str], data: DataConfig = CUSTOM) -> Table:
    """The table of a CSV given as text."""
    return read_table(io.BytesIO("\n".join([header, *lines]).encode()), data, name="my.csv")


def test_a_small_file_is_read_exactly(small_csv: Path) -> None:
    table = read_table(small_csv, CUSTOM)
    assert table.columns == ("load", "OT")
    assert table.values.shape == (400, 2)
    assert table.values.dtype == np.float64
    assert table.values[0].tolist() == [50.0, 10.0]
    assert table.values[6].tolist() == [42.6, 13.03]
    assert table.timestamps[-1] == np.datetime64("2024-01-17T15:00")
    assert table.cadence == pd.Timedelta(hours=1)
    assert table.warnings == ()


@pytest.mark.parametrize(
    ("row", "line", "message"),
    [
        (3, "2024-01-04,x,1", r"my\.csv, line 5, column 'load': 'x' is no number"),
        (3, "2024-01-04,1.5.2,1", r"line 5, column 'load': '1\.5\.2' is no number"),
        (3, '2024-01-04,"1,234",1', r"line 5, column 'load': '1,234' is no number"),
        (3, "2024-01-04,1,inf", r"line 5, column 'OT': the value is infinite"),
        (3, "2024-01-04,1,-1e999", r"line 5, column 'OT': the value is infinite"),
        (3, "2024-01-04,,1", r"line 5, column 'load': the cell is empty; empty cells in all: 1"),
        (3, "2024-01-04,1", r"line 5, column 'OT': the cell is empty"),
        (3, "2024-01-04,NaN,null", r"line 5, column 'load': the cell is empty; empty cells in all: 2"),
        (3, "2024-01-04,1,2,3", r"line 5: 4 cells, but the header names 3 columns"),
        (3, "04-Jan,1,2", r"line 5, column 'date': '04-Jan' is no timestamp"),
        (3, ",1,2", r"line 5: no timestamp in column 'date'"),
        (3, "2024-01-03,1,2", r"line 5: the timestamp 2024-01-03 00:00:00 is that of the row before"),
        (3, "2023-12-31,1,2", r"line 5: 2023-12-31 00:00:00 comes after 2024-01-03 00:00:00"),
        (3, "2024-01-04 07:00,1,2", r"line 5: irregular timestamps: 2024-01-04 07:00:00 comes 1 day 07:00:00 after"),
        (9, "2024-01-12,1,2", r"line 11: a gap: 2024-01-12 00:00:00 comes after 2024-01-09 00:00:00, but the step is"),
    ],
)
def test_a_bad_cell_is_named_with_line_and_column(row: int, line: str, message: str) -> None:
    lines = daily_lines()
    lines[row] = line
    with pytest.raises(DataError, match=message) as caught:
        read("date,load,OT", lines)
    assert caught.value.exit_code == ExitCode.DATA
    assert caught.value.hint


def test_a_text_column_can_be_left_out() -> None:
    lines = [f"{line},dry" for line in daily_lines()]
    with pytest.raises(DataError, match=r"'dry' is no number \(10 such cells"):
        read("date,load,OT,weather", lines)
    assert read("date,load,OT,weather", lines, DataConfig(dataset="custom", columns=("load", "OT"))).values.shape == (
        10,
        2,
    )


def test_truth_values_are_text() -> None:
    with pytest.raises(DataError, match="'True' is no number"):
        read("date,OT", ["2024-01-01,True", "2024-01-02,False"])


def test_integers_beyond_64_bits_are_numbers() -> None:
    table = read("date,OT", ["2024-01-01,99999999999999999999999", "2024-01-02,1"])
    assert table.values[:, 0].tolist() == [1e23, 1.0]


def test_a_reversed_file_has_another_hint_than_an_unsorted_one() -> None:
    with pytest.raises(DataError) as caught:
        read("date,load,OT", daily_lines()[::-1])
    assert "newest first" in caught.value.hint
    with pytest.raises(DataError) as caught:
        read("date,load,OT", [*daily_lines()[5:], *daily_lines()[:5]])
    assert caught.value.hint == "sort the rows by time"


def test_more_gap_than_data_is_not_filled() -> None:
    lines = [f"{stamp},{row}" for row, stamp in enumerate([*hourly(10), *hourly(10, "2031-01-01")])]
    with pytest.raises(DataError, match=r"line 12: irregular timestamps: .* the usual step is 01:00:00") as caught:
        read("date,OT", lines, FILL)
    assert caught.value.hint == "cut the file to a part without such a gap"


def test_duplicates_are_counted() -> None:
    lines = daily_lines()
    with pytest.raises(DataError, match=r"line 3: .* \(3 rows repeat a timestamp\)"):
        read("date,load,OT", [lines[0], lines[0], lines[1], lines[1], lines[1], *lines[2:]])


def test_a_single_row_has_no_cadence() -> None:
    with pytest.raises(DataError, match="a single row"):
        read("date,OT", ["2024-01-01,1"])


def test_the_order_of_day_and_month_follows_from_regular_rows() -> None:
    days = [f"{day:02}/01/2024 {hour}:00,1{hour}" for day in range(1, 6) for hour in range(24)]
    assert read("date,OT", days).timestamps[-1] == np.datetime64("2024-01-05T23:00")
    months = [f"01/{month:02}/{year},{month}" for year in (2022, 2023) for month in range(1, 13)]
    assert read("date,OT", months).cadence == "MS"
    american = [f"01/{day:02}/2024,{day}" for day in range(1, 20)]
    assert read("date,OT", american).timestamps[-1] == np.datetime64("2024-01-19")


def test_dates_that_make_sense_both_ways_are_refused() -> None:
    with pytest.raises(DataError, match=r"'01/01/2024' could be day first or month first"):
        read("date,OT", [f"{day:02}/01/2024,{day}" for day in range(1, 13)])


def test_offsets_from_utc_are_removed_with_a_warning() -> None:
    table = read(
        "date,OT", ["2024-03-31T01:00:00+01:00,1", "2024-03-31T03:00:00+02:00,2", "2024-03-31T04:00:00+02:00,3"]
    )
    assert table.timestamps.tolist() == [pd.Timestamp(f"2024-03-31 0{hour}:00").to_pydatetime() for hour in range(3)]
    assert any("UTC" in warning for warning in table.warnings)


def test_a_constant_column_is_a_warning() -> None:
    table = read("date,load,OT", [f"{stamp},0.1,{row}" for row, stamp in enumerate(hourly(10))])
    assert table.warnings == ("constant, so there is nothing to forecast: load",)


def test_select_reorders_and_names_what_is_absent(small_csv: Path) -> None:
    table = read_table(small_csv, CUSTOM)
    assert table.select(("OT", "load")).values[6].tolist() == [13.03, 42.6]
    with pytest.raises(DataError, match="column 'lod' is not in the table; did you mean 'load'"):
        table.select(("lod",))


def test_absent_timestamps_and_empty_cells_are_interpolated_and_counted() -> None:
    rows = [(stamp, str(row), str(10 * row)) for row, stamp in enumerate(hourly(12))]
    rows[3] = (rows[3][0], "", "30")
    rows[4] = (rows[4][0], "NA", "")
    del rows[7]
    table = read("date,load,OT", [",".join(row) for row in rows], FILL)
    assert table.values[:, 0].tolist() == list(range(12))
    assert table.values[:, 1].tolist() == list(range(0, 120, 10))
    np.testing.assert_array_equal(table.timestamps, np.array(hourly(12), dtype="datetime64[us]"))
    assert table.warnings == (
        "filled by interpolation: absent timestamps 1, empty cells 3; the longest gap has 2 rows (load)",
    )


def test_a_gap_of_one_row_is_counted_as_one() -> None:
    table = read("date,OT", [f"2024-01-{day:02},{day}" for day in (1, 2, 4, 5)], FILL)
    assert table.warnings[0].endswith("the longest gap has 1 row (OT)")


def test_empty_cells_at_the_ends_hold_the_nearest_value() -> None:
    cells = ["", "", "2", "4", "", "8", ""]
    table = read("date,OT", [f"{stamp},{cell}" for stamp, cell in zip(hourly(7), cells, strict=True)], FILL)
    assert table.values[:, 0].tolist() == [2, 2, 2, 4, 6, 8, 8]


def test_a_column_without_any_value_cannot_be_filled() -> None:
    with pytest.raises(DataError, match="column 'load' has no value at all"):
        read("date,load,OT", [f"{stamp},,1" for stamp in hourly(5)], FILL)


def test_monthly_gaps_are_filled_by_month() -> None:
    lines = [f"2023-{month:02}-01,{month}" for month in range(1, 13) if month != 5]
    with pytest.raises(DataError, match=r"2023-06-01 00:00:00 comes after 2023-04-01 00:00:00, but the step is MS"):
        read("date,OT", lines)
    table = read("date,OT", lines, FILL)
    assert (table.cadence, table.values[4, 0]) == ("MS", 5.0)
    assert "absent timestamps 1, empty cells 0" in table.warnings[0]


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_filling_leaves_given_values_untouched_and_stays_between_them(data: st.DataObject) -> None:
    number = st.floats(-1e6, 1e6)
    cells = data.draw(st.lists(st.one_of(st.none(), number), min_size=8, max_size=40))
    cells[0], cells[1], cells[-1] = 1.5, -2.5, 3.5
    absent = data.draw(st.sets(st.integers(2, len(cells) - 2), max_size=len(cells) // 4))
    stamps = hourly(len(cells))
    kept = [row for row in range(len(cells)) if row not in absent]
    table = read("date,OT", [f"{stamps[row]},{'' if cells[row] is None else repr(cells[row])}" for row in kept], FILL)
    known = [row for row in kept if cells[row] is not None]
    given_values = np.array([cells[row] for row in known], dtype=np.float64)
    assert len(table.values) == len(cells)
    if len(known) < len(cells):
        counts = f"absent timestamps {len(absent)}, empty cells {len(kept) - len(known)}"
        assert counts in table.warnings[0]
    np.testing.assert_allclose(table.values[known, 0], given_values, rtol=1e-15)
    for left, right in pairwise(known):
        between = table.values[left : right + 1, 0]
        assert min(between[0], between[-1]) <= between.min()
        assert between.max() <= max(between[0], between[-1])


def test_all_cells_that_are_no_numbers_are_counted_and_the_first_one_named() -> None:
    lines = [f"{stamp},{row if row % 4 else 'x'},{1e999 if row == 5 else row}" for row, stamp in enumerate(hourly(12))]
    with pytest.raises(DataError, match=r"line 2, column 'load': 'x' is no number \(3 such cells in the column\)"):
        read("date,load,OT", lines)
    with pytest.raises(DataError, match=r"line 7, column 'OT': the value is infinite"):
        read("date,load,OT", lines, CUSTOM.model_copy(update={"columns": ("OT",)}))


def test_a_date_late_in_the_file_distinguishes_day_and_month() -> None:
    table = read("date,OT", [f"{day:02}/01/2024,{day}" for day in range(1, 20)])
    assert table.timestamps[-1] == np.datetime64("2024-01-19")
    with pytest.raises(DataError, match=r"line 20, column 'date': '19\.01\.2024' is no timestamp"):
        read("date,OT", [*(f"{day:02}/01/2024,{day}" for day in range(1, 19)), "19.01.2024,19"])


def test_the_same_file_is_the_same_table_from_a_stream(small_csv: Path, tmp_path: Path) -> None:
    with small_csv.open("rb") as stream:
        table = read_table(stream, CUSTOM, name="standard input")
    np.testing.assert_array_equal(table.values, read_table(small_csv, CUSTOM).values)
    broken = write_csv(tmp_path / "broken.csv", "date,OT", ["2024-01-01,1", "2024-01-02,?"])
    with broken.open("rb") as stream, pytest.raises(DataError, match=r"^standard input, line 3, column 'OT'"):
        read_table(stream, CUSTOM, name="standard input")
