"""Date column and target of a CSV of one's own, where the user names neither."""

from datetime import datetime, timedelta
from pathlib import Path

import pytest

from timellm_cli.data.guess import settle
from timellm_cli.errors import DataError
from timellm_cli.settings import resolve

ROWS = 30


def days(form: str = "%Y-%m-%d", step: timedelta = timedelta(days=1)) -> list[str]:
    return [(datetime(2020, 1, 1) + row * step).strftime(form) for row in range(ROWS)]


def hours(form: str) -> list[str]:
    return days(form, timedelta(hours=1))


RISING = [str(row) for row in range(ROWS)]
NUMBERS = [f"{row * 7 % 11}.5" for row in range(ROWS)]
WORDS = ["north", "south"] * (ROWS // 2)


def written(folder: Path, columns: dict[str, list[str]], delimiter: str = ",") -> Path:
    path = folder / "own.csv"
    rows = [delimiter.join(cells) for cells in zip(*columns.values(), strict=True)]
    path.write_text("\n".join([delimiter.join(columns), *rows]) + "\n", encoding="utf-8")
    return path


def found(path: Path, **flags: object) -> tuple[str, str, tuple[str, ...]]:
    """Date column, target and notes."""
    given = {f"data.{name}": value for name, value in flags.items()}
    settings = settle(resolve(None, None, {"data.dataset": "custom", "data.path": path, **given}))
    return settings.config.data.date_column, settings.config.data.target, settings.notes


@pytest.mark.parametrize(
    ("columns", "dates", "target"),
    [
        ({"date": days(), "OT": NUMBERS, "y": NUMBERS}, "date", "OT"),
        ({"when": days(), "sales": NUMBERS}, "when", "sales"),
        ({"sales": NUMBERS, "when": days("%d.%m.%Y")}, "when", "sales"),
        ({"Unnamed: 0": RISING, "when": days(), "sales": NUMBERS}, "when", "sales"),
        ({"when": days(), "shop": WORDS, "sales": NUMBERS}, "when", "sales"),
        ({"when": days(), "a": NUMBERS, "Y": NUMBERS, "b": NUMBERS}, "when", "Y"),
        ({"when": days(), "a": NUMBERS, "b": NUMBERS}, "when", "b"),
        ({"day": days("%Y%m%d"), "a": NUMBERS}, "day", "a"),
        ({"timestamp": [str(1_577_836_800 + 60 * row) for row in range(ROWS)], "a": NUMBERS}, "timestamp", "a"),
        ({"year": [str(1990 + row) for row in range(ROWS)], "a": NUMBERS}, "year", "a"),
        ({"Date": hours("%d/%m/%Y"), "Time": hours("%H:%M:%S"), "a": NUMBERS}, "Date,Time", "a"),
        ({"date": hours("%Y-%m-%d"), "time": hours("%H:%M"), "OT": NUMBERS}, "date,time", "OT"),
        ({"dteday": hours("%Y-%m-%d"), "hr": hours("%H"), "cnt": NUMBERS}, "dteday,hr", "cnt"),
        ({"No": RISING, "year": hours("%Y"), "month": hours("%m"), "day": hours("%d"), "hour": hours("%H"),
          "pm": NUMBERS}, "year,month,day,hour", "pm"),
        ({"date": RISING, "stamp": days(), "OT": NUMBERS}, "stamp", "OT"),
    ],
)  # fmt: skip
def test_date_column_and_target_are_found_and_said(
    tmp_path: Path, columns: dict[str, list[str]], dates: str, target: str
) -> None:
    date_column, value, notes = found(written(tmp_path, columns))
    assert (date_column, value) == (dates, target)
    assert any(dates in note for note in notes) == (dates != "date")
    assert any(f"'{target}'" in note for note in notes) == (target != "OT")


def test_what_the_user_named_is_never_replaced(tmp_path: Path) -> None:
    path = written(tmp_path, {"when": days(), "seen": days(), "a": NUMBERS, "y": NUMBERS})
    assert found(path, date_column="seen", target="a") == ("seen", "a", ())
    assert found(path, date_column="absent", target="none of them") == ("absent", "none of them", ())


@pytest.mark.parametrize(
    ("columns", "flags", "words", "remedy"),
    [
        ({"utc": hours("%Y-%m-%d %H:%M"), "local time": hours("%d.%m.%Y %H:%M"), "a": NUMBERS}, {},
         "2 columns hold timestamps: 'utc', 'local time'", "--date-column utc --exclude 'local time'"),
        ({"when": days(), "a": NUMBERS, "b": NUMBERS}, {"features": "S"},
         "2 columns hold numbers: 'a', 'b'", "--target b"),
        ({"count": [str(1000 + row) for row in range(ROWS)], "a": NUMBERS}, {},
         "no column holds timestamps; columns are 'count', 'a'", "--date-column"),
        ({"2020-01-01": days(), "5.1": NUMBERS}, {}, "the first line is a row of data ('2020-01-01' is a timestamp)",
         "a line that names the columns"),
    ],
)  # fmt: skip
def test_doubt_is_an_error_that_lists_the_candidates(
    tmp_path: Path, columns: dict[str, list[str]], flags: dict[str, object], words: str, remedy: str
) -> None:
    with pytest.raises(DataError) as caught:
        found(written(tmp_path, columns), **flags)
    assert words in caught.value.message
    assert remedy in caught.value.hint


def test_doubt_is_no_error_where_a_run_continues(tmp_path: Path) -> None:
    path = written(tmp_path, {"when": days(), "a": NUMBERS, "b": NUMBERS})
    settings = resolve(None, None, {"data.dataset": "custom", "data.path": path, "data.features": "S"})
    assert settle(settings, strict=False) == settings


def test_a_misspelt_date_is_left_to_the_reader_which_names_its_line(tmp_path: Path) -> None:
    stamps = days()
    stamps[2] = "2020-01-0x"
    assert found(written(tmp_path, {"when": stamps, "a": NUMBERS}))[:2] == ("when", "a")
    assert found(written(tmp_path, {"date": ["?", *stamps[1:]], "a": NUMBERS}))[:2] == ("date", "a")


def test_excluded_and_unchosen_columns_are_no_candidates(tmp_path: Path) -> None:
    path = written(tmp_path, {"when": days(), "seen": days(), "a": NUMBERS, "b": NUMBERS})
    assert found(path, exclude="seen,b")[:2] == ("when", "a")
    assert found(path, exclude="when", columns="a", features="S")[:2] == ("seen", "a")


def test_lines_above_the_header_are_named_with_their_number(tmp_path: Path) -> None:
    path = written(tmp_path, {"when": days(), "a": NUMBERS})
    path.write_text("latitude,longitude\n52.5,13.4\n\n" + path.read_text(encoding="utf-8"), encoding="utf-8")
    with pytest.raises(DataError) as caught:
        found(path)
    assert caught.value.hint == "--skip-rows 3"
    assert found(path, skip_rows=3)[:2] == ("when", "a")
