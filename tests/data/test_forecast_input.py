"""The CSV that a forecast continues: its rows, its columns, its cadence, and what is refused."""

from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from tests.untrained import make_config
from timellm_cli.data.cadence import Every, MonthDays, WeekTimes, to_text
from timellm_cli.data.forecast_input import ForecastInput, read_input
from timellm_cli.errors import DataError

HOUR = to_text(Every(timedelta(hours=1), datetime(2024, 1, 1)))
WORKING_DAYS = WeekTimes(timedelta(days=1), tuple(timedelta(days=day) for day in range(5)))
COLUMNS = ("load", "OT")


def read(
    source: Path | bytes, at: str | None = None, columns: tuple[str, ...] = COLUMNS, **changes: object
) -> ForecastInput:
    return read_input(source, make_config(Path("trained.csv"), **changes), columns, HOUR, at)


def lines_of(csv: Path) -> list[str]:
    return csv.read_text(encoding="utf-8").splitlines()


def test_columns_are_found_by_name_and_keep_both_orders(small_csv: Path) -> None:
    given = read(small_csv)
    assert given.table.columns == ("load", "OT")
    assert given.order == ("OT", "load")
    assert given.table.values.shape == (48, 2)
    assert given.table.stamps[-1] == datetime(2024, 1, 17, 15)
    assert given.table.values[-1].tolist() == [float(cell) for cell in lines_of(small_csv)[-1].split(",")[:0:-1]]
    assert np.isnan(given.actual(12)).all()


def test_bytes_are_read_like_a_file(small_csv: Path) -> None:
    assert np.array_equal(read(small_csv.read_bytes()).table.values, read(small_csv).table.values)


def test_columns_the_checkpoint_does_not_know_are_ignored_with_a_note(small_csv: Path, tmp_path: Path) -> None:
    path = tmp_path / "wide.csv"
    header, *rows = lines_of(small_csv)
    path.write_text("\n".join([header + ",who", *(row + ",Ann" for row in rows)]), encoding="utf-8")
    given = read(path)
    assert given.notes == ("columns that the checkpoint does not know are ignored: who",)
    assert given.order == ("OT", "load")


@pytest.mark.parametrize("at", ["2024-01-10 05:00:00", "2024-01-10T05:00"])
def test_history_ends_at_the_given_row_and_the_rest_is_known(small_csv: Path, at: str) -> None:
    given, row = read(small_csv, at), 9 * 24 + 5
    whole = read(small_csv, window__seq_len=400).table.values
    assert np.array_equal(given.table.values, whole[row - 47 : row + 1])
    assert np.array_equal(given.actual(12), whole[row + 1 : row + 13])
    near_end = read(small_csv, "2024-01-17 12:00:00").actual(12)
    assert np.isfinite(near_end).all(axis=1).tolist() == [True] * 3 + [False] * 9


def test_at_may_be_written_as_the_file_writes_it(small_csv: Path, tmp_path: Path) -> None:
    path = tmp_path / "german.csv"
    header, *rows = lines_of(small_csv)
    turned = [f"{row[8:10]}.{row[5:7]}.{row[:4]} {row[11:16]}{row[19:]}" for row in rows]
    path.write_text("\n".join([header, *turned]), encoding="utf-8")
    for at in ("10.01.2024 05:00", "2024-01-10 05:00"):
        assert read(path, at).table.stamps[-1] == datetime(2024, 1, 10, 5)


@pytest.mark.parametrize(("how", "last"), [("first", 1.0), ("last", 3.0), ("mean", 2.0)])
def test_repeated_rows_in_the_history_count_as_one(small_csv: Path, tmp_path: Path, how: str, last: float) -> None:
    path = tmp_path / "repeats.csv"
    header, *rows = lines_of(small_csv)
    repeated = [line for row in rows[:-1] for line in (row, row, row)]
    end = rows[-1].split(",")[0]
    path.write_text(
        "\n".join([header, *repeated, *(f"{end},{value},{value}" for value in (1, 2, 3))]), encoding="utf-8"
    )
    given = read(path, data__duplicates=how)
    assert given.table.values[:-1] == pytest.approx(read(small_csv).table.values[:-1], rel=1e-12)
    assert given.table.values[-1].tolist() == [last, last]


def error_of(source: Path | bytes, at: str | None = None, **changes: object) -> str:
    with pytest.raises(DataError) as refused:
        read(source, at, **changes)
    return f"{refused.value.message} | {refused.value.hint}"


def test_a_missing_column_names_both_sides(small_csv: Path) -> None:
    text = error_of(small_csv, columns=("loads", "OT"))
    for words in (str(small_csv), "no column 'loads'", "'date', 'OT', 'load'", "did you mean 'load'?", "'loads', 'OT'"):
        assert words in text
    assert "no column 'when'" in error_of(small_csv, data__date_column="when")


def test_another_cadence_names_both_sides(small_csv: Path) -> None:
    header, *rows = lines_of(small_csv)
    text = error_of("\n".join([header, *rows[::2]]).encode())
    assert "standard input has a row every 2 hours" in text
    assert "trained on one every 1 hour" in text


def test_too_few_rows_name_both_numbers(small_csv: Path) -> None:
    header, *rows = lines_of(small_csv)
    text = error_of("\n".join([header, *rows[:47]]).encode())
    assert "47 rows" in text
    assert "48 rows of history" in text
    assert read("\n".join([header, *rows[:48]]).encode()).table.values.shape == (48, 2)
    assert "47 rows up to 2024-01-02 22:00" in error_of(small_csv, "2024-01-02 22:00")


@pytest.mark.parametrize(
    ("at", "words"),
    [
        ("2024-01-10 05:20", "no row at 2024-01-10 05:20"),
        ("2024-01-10 05:20", "the nearest is 2024-01-10 05:00:00"),
        ("2025-01-01", "from 2024-01-01 00:00:00 to 2024-01-17 15:00:00"),
        ("yesterday", "'yesterday' is no timestamp"),
    ],
)
def test_a_timestamp_without_a_row_says_which_rows_there_are(small_csv: Path, at: str, words: str) -> None:
    assert words in error_of(small_csv, at)


def test_gaps_are_refused_or_filled_as_the_configuration_says(small_csv: Path) -> None:
    header, *rows = lines_of(small_csv)
    content = "\n".join([header, *rows[:380], *rows[383:]]).encode()
    assert "line 382: a gap" in error_of(content)
    given = read(content, data__fill="linear")
    assert given.table.values.shape == (48, 2)
    before, after = (float(rows[row].split(",")[1]) for row in (379, 383))
    assert given.table.values[27:32, 1] == pytest.approx(np.linspace(before, after, 5))
    assert "absent timestamps 3" in given.notes[0]


def spoil(lines: list[str], row: int, fault: str) -> str:
    """The text of a CSV in which data row `row` has a fault."""
    date, target, load = lines[row + 1].split(",")
    spoiled = {
        "gap": [],
        "empty cell": [f"{date},,{load}"],
        "text": [f"{date},{target},broken"],
        "infinite": [f"{date},inf,{load}"],
        "duplicate": [lines[row + 1]] * 2,
        "off the grid": [f"{date[:14]}17:00,{target},{load}"],
    }[fault]
    return "\n".join([*lines[: row + 1], *spoiled, *lines[row + 2 :]])


FAULTS = ["gap", "empty cell", "text", "infinite", "duplicate", "off the grid"]


@pytest.mark.parametrize("fault", FAULTS)
def test_only_the_rows_that_are_read_have_to_be_whole(small_csv: Path, fault: str) -> None:
    """At 4 o'clock on the 15th (row 340) the model reads rows 293 to 340."""
    lines, at = lines_of(small_csv), "2024-01-15 04:00"
    whole = read(small_csv, at)
    for row in (100, 292):
        given = read(spoil(lines, row, fault).encode(), at)
        assert np.array_equal(given.table.values, whole.table.values)
        assert np.array_equal(given.actual(12), whole.actual(12))
    for row in (320, 340 if fault in ("text", "infinite", "empty cell") else 339):
        # Line 1 is the header; a row that is absent or given twice shows in the line after it.
        line = row + 3 if fault == "duplicate" else row + 2
        assert f"line {line}" in error_of(spoil(lines, row, fault).encode(), at)


@pytest.mark.parametrize("fault", FAULTS)
def test_actual_values_are_known_up_to_the_first_gap(small_csv: Path, fault: str) -> None:
    lines, at = lines_of(small_csv), "2024-01-15 04:00"
    actual_HC = read(spoil(lines, 345, fault).encode(), at).actual(12)
    known = 12 if fault == "duplicate" else 4  # of a row that is there twice, the first counts
    assert np.isfinite(actual_HC).all(axis=1).tolist() == [True] * known + [False] * (12 - known)
    assert np.array_equal(actual_HC[:known], read(small_csv, at).actual(12)[:known])


def test_filling_uses_nothing_after_the_last_known_row(small_csv: Path) -> None:
    lines, at = lines_of(small_csv), "2024-01-15 04:00"
    given = read(spoil(lines, 340, "empty cell").encode(), at, data__fill="linear")
    assert given.table.values[-1, 1] == given.table.values[-2, 1]


def test_rows_in_another_order_are_sorted_with_a_note(small_csv: Path) -> None:
    header, *rows = lines_of(small_csv)
    given = read("\n".join([header, *rows[300:], *rows[:300]]).encode())
    assert np.array_equal(given.table.values, read(small_csv).table.values)
    assert given.notes == ("the rows were sorted by time",)


@pytest.mark.parametrize(
    ("cadence", "first", "second", "third"),
    [
        (
            WeekTimes(timedelta(days=1), tuple(timedelta(days=day) for day in range(5))),
            "2024-01-04",
            "2024-01-05",
            "2024-01-08",
        ),
        (MonthDays(tuple(range(1, 13)), (1,)), "2024-01-01", "2024-02-01", "2024-03-01"),
        (MonthDays((1,), (1,)), "2024-01-01", "2025-01-01", "2026-01-01"),
    ],
)
def test_two_rows_fit_many_cadences_and_continue_with_that_of_the_checkpoint(
    cadence: WeekTimes | MonthDays, first: str, second: str, third: str
) -> None:
    config = make_config(Path("trained.csv")).with_values(
        {"window.seq_len": 2, "model.patch_len": 2, "model.patch_stride": 1, "prompt.top_lags": 2}
    )
    given = read_input(f"date,OT\n{first},1\n{second},2\n".encode(), config, ("OT",), to_text(cadence), None)
    assert str(given.dates(1)[0])[:10] == third


def test_offsets_from_utc_are_kept_and_the_last_one_goes_on_where_they_differ(small_csv: Path) -> None:
    header, *rows = lines_of(small_csv)
    moved = [row.replace(",", "+08:00,", 1) for row in rows]
    given = read("\n".join([header, *moved]).encode())
    assert given.table.style.write(given.dates(1)[0]) == "2024-01-17 16:00:00+08:00"
    first, *rest = rows
    mixed = [f"2024-01-01 01:00:00+09:00,{first.split(',', 1)[1]}", *(row.replace(",", "+08:00,", 1) for row in rest)]
    other = read("\n".join([header, *mixed]).encode())
    assert other.table.style.write(other.dates(1)[0]) == "2024-01-17 16:00:00+08:00"
    at = read("\n".join([header, *mixed]).encode(), "2024-01-10 05:00")
    assert at.table.style.write(at.table.stamps[-1]) == "2024-01-10 05:00:00+08:00", "--at is wall time"


def test_the_format_of_the_trained_file_decides_where_a_newer_one_is_ambiguous(small_csv: Path) -> None:
    rows = "\n".join(f"0{1 + hour // 24}/02/2024 {hour % 24:02}:00,{hour},{hour}" for hour in range(72))
    content = f"date,load,OT\n{rows}\n".encode()
    config = make_config(Path("trained.csv"))
    for form, after in (("%d/%m/%Y %H:%M", "04/02/2024 00:00"), ("", None)):
        if after is None:
            assert read_input(content, config, COLUMNS, HOUR, None, form).dates(1)
            continue
        given = read_input(content, config, COLUMNS, HOUR, None, form)
        assert given.table.style.write(given.dates(1)[0]) == after


def test_dates_end_with_the_year_9999() -> None:
    first, week = datetime(2024, 1, 1), timedelta(days=7)
    rows = "".join(f"{first + week * row},{row},{row}\n" for row in range(60))
    weekly = f"date,load,OT\n{rows}".encode()
    given = read_input(weekly, make_config(Path("trained.csv")), COLUMNS, to_text(Every(week, first)), None)
    with pytest.raises(DataError, match="beyond the year 9999"):
        given.dates(500_000)


def test_a_file_of_one_channel_has_its_actual_values() -> None:
    """The values of one column are not copied on their way to numpy, which must not make them read-only."""
    rows = "\n".join(f"2024-01-{1 + row // 24:02d} {row % 24:02d}:00,{row}" for row in range(200))
    given = read(f"date,OT\n{rows}\n".encode(), "2024-01-05 00:00", ("OT",))
    assert given.actual(12)[:, 0].tolist() == list(range(97, 109))
