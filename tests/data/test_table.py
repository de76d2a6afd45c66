"""A CSV becomes regular timestamps and finite numbers, or an error with line and column."""

import io
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.data.csv_files import CUSTOM, FILL, daily_lines, hourly, write_csv
from timellm_cli.config import DataConfig
from timellm_cli.data.cadence import Every, MonthDays
from timellm_cli.data.read_table import read_table
from timellm_cli.data.table import Table, fill_history
from timellm_cli.errors import DataError, ExitCode


def read(header: str, lines: list[str], data: DataConfig = CUSTOM, **options: object) -> Table:
    """The table of a CSV given as text."""
    content = "\n".join([header, *lines]).encode()
    return read_table(io.BytesIO(content), data.model_copy(update=options), name="my.csv")


def test_a_small_file_is_read_exactly(small_csv: Path) -> None:
    table = read_table(small_csv, CUSTOM)
    assert table.columns == ("load", "OT")
    assert table.values.shape == (400, 2)
    assert table.values.dtype == np.float64
    assert table.values[0].tolist() == [50.0, 10.0]
    assert table.values[6].tolist() == [42.6, 13.03]
    assert table.stamps[-1] == datetime(2024, 1, 17, 15)
    assert isinstance(table.cadence, Every)
    assert table.cadence.step == timedelta(hours=1)
    assert table.notes == ()


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
        (3, "2024-01-41,1,2", r"line 5, column 'date': '2024-01-41' is no timestamp"),
        (3, ",1,2", r"line 5: the row has values but no timestamp"),
        (3, "2024-01-03,1,2", r"line 5: the timestamp 2024-01-03 is that of another row"),
        (3, "2024-01-04 07:00,1,2", r"line 5: irregular timestamps: .* comes 31 hours after"),
        (
            9,
            "2024-01-12,1,2",
            r"line 11: a gap: 2024-01-12 comes after 2024-01-09, but the step is 1 day",
        ),
        (9, "Total,55,385", r"line 11, column 'date': 'Total' is no timestamp"),
    ],
)
def test_a_bad_cell_is_named_with_line_and_column(row: int, line: str, message: str) -> None:
    lines = daily_lines()
    lines[row] = line
    with pytest.raises(DataError, match=message) as caught:
        read("date,load,OT", lines)
    assert caught.value.exit_code == ExitCode.DATA
    assert caught.value.hint


def test_a_fault_in_the_middle_of_a_long_file_is_found_with_its_line() -> None:
    lines = [f"{stamp},{row}" for row, stamp in enumerate(hourly(30_000))]
    for spoiled, words in (
        ([*lines[:15_000], *lines[15_001:]], "line 15002: a gap"),
        ([*lines[:15_000], lines[14_999], *lines[15_000:]], "line 15002: the timestamp"),
        ([*lines[:15_000], "soon,1", *lines[15_001:]], "line 15002, column 'date': 'soon'"),
        ([*lines[:15_000], "2025-09-17 00:00:00,x", *lines[15_001:]], "line 15002, column 'OT': 'x'"),
    ):
        with pytest.raises(DataError, match=words):
            read("date,OT", spoiled)


def test_a_text_column_can_be_left_out() -> None:
    lines = [f"{line},{'dry' if row % 2 else 'wet'}" for row, line in enumerate(daily_lines())]
    with pytest.raises(DataError, match=r"'wet' is no number \(10 such cells") as caught:
        read("date,load,OT,weather", lines)
    assert "--exclude weather" in caught.value.hint
    assert read("date,load,OT,weather", lines, columns=("load", "OT")).values.shape == (10, 2)
    assert read("date,load,OT,weather", lines, exclude=("weather",)).values.shape == (10, 2)


def test_an_index_and_a_text_that_never_changes_are_no_channels() -> None:
    lines = [f"{row},{line},pump" for row, line in enumerate(daily_lines())]
    for name in ("", "Unnamed: 0", "index"):
        table = read(f"{name},date,load,OT,kind", lines)
        assert table.columns == ("load", "OT")
        assert len(table.notes) == 2
        assert "numbers the rows" in table.notes[0] and "'pump' in every row" in table.notes[1]
    assert read("index,date,load,OT,kind", lines, columns=("index", "OT")).columns == ("index", "OT")
    with pytest.raises(DataError, match="column 1 of 4 has values but no name"):
        read(",date,load,OT", [f"{row * 7 % 5},{line}" for row, line in enumerate(daily_lines())])


def test_columns_without_a_name_or_a_value_are_what_spreadsheets_leave() -> None:
    assert read("date,load,OT,", [f"{line}," for line in daily_lines()]).columns == ("load", "OT")
    assert read("date,load,OT,,", [f"{line}, ," for line in daily_lines()]).columns == ("load", "OT")
    with pytest.raises(DataError, match="column 5 of 5 has values but no name"):
        read("date,load,OT,,", [f"{line},,{row * 3 % 7}" for row, line in enumerate(daily_lines())])


def test_truth_values_are_text() -> None:
    with pytest.raises(DataError, match="'True' is no number"):
        read("date,OT", ["2024-01-01,True", "2024-01-02,False"])


def test_integers_beyond_64_bits_are_numbers() -> None:
    table = read("date,OT", ["2024-01-01,99999999999999999999999", "2024-01-02,1"])
    assert table.values[:, 0].tolist() == [1e23, 1.0]


@pytest.mark.parametrize("order", [slice(None, None, -1), [*range(5, 10), *range(5)]])
def test_rows_in_another_order_are_sorted_with_a_note_and_keep_their_lines(order: slice | list[int]) -> None:
    lines = daily_lines()
    shuffled = lines[order] if isinstance(order, slice) else [lines[row] for row in order]
    table = read("date,load,OT", shuffled)
    np.testing.assert_array_equal(table.values, read("date,load,OT", lines).values)
    assert table.notes == ("the rows were sorted by time",)
    shuffled[2] = shuffled[2].replace(".5", ".5x")
    with pytest.raises(DataError, match="line 4, column 'load'"):
        read("date,load,OT", shuffled)


def test_more_gap_than_data_is_not_filled() -> None:
    lines = [f"{stamp},{row}" for row, stamp in enumerate([*hourly(10), *hourly(10, "2031-01-01")])]
    with pytest.raises(DataError, match=r"line 12: irregular timestamps: .* the usual step is 1 hour"):
        read("date,OT", lines, FILL)


def test_repeated_timestamps_are_refused_or_reduced_as_asked() -> None:
    lines = daily_lines()
    twice = [lines[0], lines[0], lines[1], lines[1], lines[1], *lines[2:]]
    with pytest.raises(DataError, match=r"line 3: .* \(3 rows repeat a timestamp\)") as caught:
        read("date,load,OT", twice)
    assert "--duplicates first, last or mean" in caught.value.hint
    np.testing.assert_array_equal(read("date,load,OT", twice, FILL).values, read("date,load,OT", lines).values)
    other = [*lines[:3], "2024-01-03,100,200", *lines[3:]]
    found = {how: read("date,load,OT", other, duplicates=how).values[2].tolist() for how in ("first", "last", "mean")}
    assert found == {"first": [3.5, 9], "last": [100, 200], "mean": [51.75, 104.5]}
    with pytest.raises(DataError, match="that of another row"):
        read("date,load,OT", other, FILL)


def test_a_single_row_has_no_cadence() -> None:
    with pytest.raises(DataError, match="a single row"):
        read("date,OT", ["2024-01-01,1"])


def test_the_order_of_day_and_month_follows_from_regular_rows() -> None:
    days = [f"{day:02}/01/2024 {hour}:00,1{hour}" for day in range(1, 6) for hour in range(24)]
    assert read("date,OT", days).stamps[-1] == datetime(2024, 1, 5, 23)
    months = [f"01/{month:02}/{year},{month}" for year in (2022, 2023) for month in range(1, 13)]
    assert isinstance(read("date,OT", months).cadence, MonthDays)
    american = [f"01/{day:02}/2024,{day}" for day in range(1, 20)]
    assert read("date,OT", american).stamps[-1] == datetime(2024, 1, 19)


def test_dates_that_make_sense_both_ways_are_refused_unless_the_order_is_given() -> None:
    lines = [f"{day:02}/01/2024,{day}" for day in range(1, 13)]
    with pytest.raises(DataError, match=r"'01/01/2024' could be %d/%m/%Y or %m/%d/%Y"):
        read("date,OT", lines)
    assert read("date,OT", lines, date_format="dayfirst").stamps[1] == datetime(2024, 1, 2)
    assert read("date,OT", lines, date_format="monthfirst").stamps[1] == datetime(2024, 2, 1)


def test_a_date_late_in_the_file_distinguishes_day_and_month() -> None:
    assert read("date,OT", [f"{day:02}/01/2024,{day}" for day in range(1, 20)]).stamps[-1] == datetime(2024, 1, 19)
    with pytest.raises(DataError, match=r"line 20, column 'date': '19\.01\.2024' is no timestamp"):
        read("date,OT", [*(f"{day:02}/01/2024,{day}" for day in range(1, 19)), "19.01.2024,19"])


def test_changing_offsets_give_instants_and_the_last_offset_goes_on() -> None:
    table = read(
        "date,OT", ["2024-03-31T01:00:00+01:00,1", "2024-03-31T03:00:00+02:00,2", "2024-03-31T04:00:00+02:00,3"]
    )
    assert table.stamps.to_list() == [datetime(2024, 3, 31, hour) for hour in range(3)]
    assert table.style.write(datetime(2024, 3, 31, 3)) == "2024-03-31T05:00:00+02:00"


@pytest.mark.parametrize("offset", ["+08", "-05", "+0800", "+08:00", "Z", " +05:30"])
def test_a_constant_offset_keeps_its_spelling_and_wall_time(offset: str) -> None:
    table = read("date,OT", [f"{stamp}{offset},{row}" for row, stamp in enumerate(hourly(5))])
    assert table.stamps[-1] == datetime(2024, 1, 1, 4)
    assert table.style.write(datetime(2024, 1, 1, 5)) == f"2024-01-01 05:00:00{offset}"


def test_days_at_local_midnight_are_days_though_the_offset_changes() -> None:
    lines = [f"2024-03-{day:02} 00:00:00+0{1 + (day > 31)}:00,{day}" for day in range(25, 32)]
    lines += [f"2024-04-{day:02} 00:00:00+02:00,{day}" for day in range(1, 5)]
    table = read("date,OT", lines)
    assert str(table.cadence) == "1 day"
    assert table.style.write(datetime(2024, 4, 5)) == "2024-04-05 00:00:00+02:00"


def test_local_time_with_its_doubled_and_absent_hour_is_read_with_its_zone() -> None:
    def local(first: datetime) -> list[str]:
        from zoneinfo import ZoneInfo

        hours = [first.replace(tzinfo=ZoneInfo("UTC")) + timedelta(hours=hour) for hour in range(60)]
        return [f"{hour.astimezone(ZoneInfo('Europe/Berlin')):%Y-%m-%d %H:%M},{row}" for row, hour in enumerate(hours)]

    for first in (datetime(2023, 10, 28), datetime(2024, 3, 30)):
        with pytest.raises(DataError) as caught:
            read("date,OT", local(first))
        assert "--timezone" in caught.value.hint
        table = read("date,OT", local(first), timezone="Europe/Berlin")
        assert table.stamps[0] == first
        assert str(table.cadence) == "1 hour"
        assert [table.style.write(stamp) for stamp in table.stamps] == [line.split(",")[0] for line in local(first)]
    with pytest.raises(DataError, match=r"line 4: 2024-03-31 02:00:00 does not exist in Europe/Berlin"):
        read("date,OT", [f"2024-03-31 0{hour}:00,{hour}" for hour in range(6)], timezone="Europe/Berlin")


def test_late_timestamps_are_rounded_as_asked() -> None:
    lines = [f"2024-01-01 0{hour}:00:0{hour % 3},{hour}" for hour in range(9)]
    with pytest.raises(DataError, match="irregular") as caught:
        read("date,OT", lines)
    assert "--snap 1h" in caught.value.hint
    assert str(read("date,OT", lines, snap="1h").cadence) == "1 hour"


@pytest.mark.parametrize(
    ("cells", "options", "values"),
    [
        (["1,5", "2,25", "3"], {}, [1.5, 2.25, 3]),
        (["1.001,5", "998,25", "1.000.000,0"], {}, [1001.5, 998.25, 1e6]),
        (["1.001", "998", "1.000.000"], {"thousands": "."}, [1001, 998, 1e6]),
        (["1.001", "998", "1.002"], {"decimal": "."}, [1.001, 998, 1.002]),
        (["0.125", "998.001", "1.002"], {}, [0.125, 998.001, 1.002]),
        (["1 001.5", "998", "1 002"], {"thousands": " "}, [1001.5, 998, 1002]),
        (["1'001.5", "998", "1'002"], {"thousands": "'"}, [1001.5, 998, 1002]),
    ],
)
def test_signs_within_numbers_are_read_where_they_are_certain_or_given(
    cells: list[str], options: dict[str, object], values: list[float]
) -> None:
    lines = [f"2024-01-0{day};{cell}" for day, cell in enumerate(cells, 1)]
    assert read("date;OT", lines, **options).values[:, 0].tolist() == values


@pytest.mark.parametrize(
    ("cells", "options", "words"),
    [
        (["980", "1.001", "1.002"], {}, "'1.001' could be 1001 or 1.001"),
        (["1,001", "1,002", "1,003"], {}, "'1,001' is no number"),
        (["1.5", "2,5", "3"], {}, "'2,5' is no number"),
        (["12.34", "1.000", "2.000"], {"thousands": "."}, "'12.34' is no number"),
    ],
)
def test_a_number_that_could_be_another_is_refused(cells: list[str], options: dict[str, object], words: str) -> None:
    with pytest.raises(DataError, match=words):
        read("date;OT", [f"2024-01-0{day};{cell}" for day, cell in enumerate(cells, 1)], **options)


def test_more_marks_of_no_value_can_be_given() -> None:
    lines = [f"{stamp},{'?' if row == 3 else row}" for row, stamp in enumerate(hourly(9))]
    with pytest.raises(DataError, match=r"'\?' is no number") as caught:
        read("date,OT", lines)
    assert "--na ?" in caught.value.hint
    assert read("date,OT", lines, FILL, na=("?",)).frame["OT"].null_count() == 1


def test_a_mark_far_from_all_other_values_is_said() -> None:
    lines = [f"{stamp},{-9999 if row in (4, 9) else 20 + row % 5}" for row, stamp in enumerate(hourly(50))]
    (note,) = read("date,OT", lines).notes
    assert "column 'OT' has -9999 in 2 rows (first at 2024-01-01 04:00:00)" in note and "--na=-9999" in note
    assert read("date,OT", [f"{stamp},{99 + row % 5}" for row, stamp in enumerate(hourly(50))]).notes == ()


def test_empty_rows_at_the_end_are_left_out_with_their_count() -> None:
    table = read("date,load,OT", [*daily_lines(), ",,", ",,", ",,"])
    assert table.values.shape == (10, 2)
    assert table.notes == ("3 empty rows at the end left out",)
    assert read("date,load,OT", [f"{line}," for line in daily_lines()]).values.shape == (10, 2)


def test_a_date_may_stand_in_two_columns() -> None:
    lines = [f"{stamp[:10]},{stamp[11:]},{row}" for row, stamp in enumerate(hourly(30))]
    table = read("Date,Time,OT", lines, date_column="Date,Time")
    assert (table.columns, table.stamps[-1]) == (("OT",), datetime(2024, 1, 2, 5))


def test_a_constant_column_is_a_note() -> None:
    table = read("date,load,OT", [f"{stamp},0.1,{row}" for row, stamp in enumerate(hourly(10))])
    assert table.notes == ("constant, so there is nothing to forecast: load",)


def test_select_reorders_and_names_what_is_absent(small_csv: Path) -> None:
    table = read_table(small_csv, CUSTOM)
    assert table.select(("OT", "load")).values[6].tolist() == [13.03, 42.6]
    with pytest.raises(DataError, match="column 'lod' is not in the table; did you mean 'load'"):
        table.select(("lod",))


def test_absent_timestamps_and_empty_cells_are_counted_and_stay_without_a_value() -> None:
    rows = [(stamp, str(row), str(10 * row)) for row, stamp in enumerate(hourly(12))]
    rows[3] = (rows[3][0], "", "30")
    rows[4] = (rows[4][0], "NA", "")
    del rows[7]
    table = read("date,load,OT", [",".join(row) for row in rows], FILL)
    assert table.frame["load"].to_list() == [None if row in (3, 4, 7) else row for row in range(12)]
    assert table.frame["OT"].to_list() == [None if row in (4, 7) else 10 * row for row in range(12)]
    assert [str(stamp) for stamp in table.stamps] == hourly(12)
    assert table.notes[0].startswith("absent timestamps 1, empty cells 3; the longest gap has 2 rows (load)")


def test_a_column_without_any_value_cannot_be_filled() -> None:
    with pytest.raises(DataError, match="column 'load' has no value at all"):
        read("date,load,OT", [f"{stamp},,1" for stamp in hourly(5)], FILL)


def test_monthly_gaps_are_months() -> None:
    lines = [f"2023-{month:02}-01,{month}" for month in range(1, 13) if month != 5]
    with pytest.raises(DataError, match=r"2023-06-01 comes after 2023-04-01, but the step is day 1 of the month"):
        read("date,OT", lines)
    table = read("date,OT", lines, FILL)
    assert (table.stamps[4], table.frame["OT"][4]) == (datetime(2023, 5, 1), None)


def test_working_days_less_holidays_are_steps_and_the_holidays_are_counted() -> None:
    days = [datetime(2024, 1, 1) + timedelta(days=day) for day in range(200)]
    working = [day for day in days if day.weekday() < 5 and day not in (days[60], days[121])]
    table = read("date,OT", [f"{day:%Y-%m-%d},{row}" for row, day in enumerate(working)])
    assert len(table.values) == len(working)
    assert "2 times without a row" in table.notes[0]


@pytest.mark.parametrize(
    ("how", "filled"),
    [
        ("linear", [2, 2, 2, 4, 6, 8, 8]),
        ("previous", [2, 2, 2, 4, 4, 8, 8]),
        ("zero", [0, 0, 2, 4, 0, 8, 0]),
    ],
)
def test_a_history_is_filled_from_its_own_rows(how: str, filled: list[float]) -> None:
    frame = pl.DataFrame({"OT": [None, None, 2.0, 4.0, None, 8.0, None]})
    assert fill_history(frame, how)["OT"].to_list() == filled


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_reading_with_gaps_leaves_every_given_value_where_it_was(data: st.DataObject) -> None:
    number = st.floats(-1e6, 1e6)
    cells = data.draw(st.lists(st.one_of(st.none(), number), min_size=8, max_size=40))
    cells[0], cells[1], cells[-1] = 1.5, -2.5, 3.5
    absent = data.draw(st.sets(st.integers(2, len(cells) - 2), max_size=len(cells) // 4))
    stamps = hourly(len(cells))
    kept = [row for row in range(len(cells)) if row not in absent]
    table = read("date,OT", [f"{stamps[row]},{'' if cells[row] is None else repr(cells[row])}" for row in kept], FILL)
    assert table.frame["OT"].to_list() == [None if row in absent else cells[row] for row in range(len(cells))]


def test_all_cells_that_are_no_numbers_are_counted_and_the_first_one_named() -> None:
    lines = [f"{stamp},{row if row % 4 else 'x'},{1e999 if row == 5 else row}" for row, stamp in enumerate(hourly(12))]
    with pytest.raises(DataError, match=r"line 2, column 'load': 'x' is no number \(3 such cells in the column\)"):
        read("date,load,OT", lines)
    with pytest.raises(DataError, match=r"line 7, column 'OT': the value is infinite"):
        read("date,load,OT", lines, columns=("OT",))


def test_the_same_file_is_the_same_table_from_a_stream(small_csv: Path, tmp_path: Path) -> None:
    with small_csv.open("rb") as stream:
        table = read_table(stream, CUSTOM, name="standard input")
    np.testing.assert_array_equal(table.values, read_table(small_csv, CUSTOM).values)
    broken = write_csv(tmp_path / "broken.csv", "date,OT", ["2024-01-01,1", "2024-01-02,?"])
    with broken.open("rb") as stream, pytest.raises(DataError, match=r"^standard input, line 3, column 'OT'"):
        read_table(stream, CUSTOM, name="standard input")


def test_several_series_are_named_with_the_column_that_tells_them_apart() -> None:
    rows = [f"2024-01-{day:02},{store},{day * store}.5" for store in (11, 12) for day in range(1, 21)]
    with pytest.raises(DataError) as caught:
        read_table(io.BytesIO("\n".join(["date,store,OT", *rows]).encode()), CUSTOM)
    assert "--id-column store: it tells rows of one timestamp apart" in caught.value.hint
    with pytest.raises(DataError) as caught:
        read_table(io.BytesIO("\n".join(["date,store,OT", *rows, rows[0]]).encode()), CUSTOM)
    assert "name their column with --id-column" in caught.value.hint
    named = "\n".join(["date,store,OT", *rows]).replace(",11,", ",Paris,").replace(",12,", ",Lyon,")
    with pytest.raises(DataError) as caught:
        read_table(io.BytesIO(named.encode()), CUSTOM)
    assert caught.value.hint.startswith("--id-column store, as timestamps repeat")
    excluded = CUSTOM.model_copy(update={"id_column": "store"})
    assert read_table(io.BytesIO(named.encode()), excluded).channels == ("Paris", "Lyon")
