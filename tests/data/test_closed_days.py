"""Holidays of a named place have no numbers: forecasts skip them, and nothing else."""

from collections.abc import Iterable
from datetime import date, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.data.csv_files import write_csv
from timellm_cli.config import DataConfig
from timellm_cli.data.cadence import continue_stamps, find_cadence, parse_cadence, to_text
from timellm_cli.data.read_table import read_table
from timellm_cli.data.week_times import WeekTimes
from timellm_cli.errors import ConfigError, DataError
from timellm_cli.settings import resolve

NZ_2026 = ["01-01", "01-02", "01-26", "02-06", "04-03", "04-06", "04-27", "06-01", "07-10", "10-26", "12-25", "12-28"]
"""Holidays of Auckland on weekdays of 2026: two are observed on a Monday."""
WORKDAYS = tuple(timedelta(days=day) for day in range(5))


def days(first: str, last: str, weekdays: Iterable[int] = range(5), closed: Iterable[str] = ()) -> list[datetime]:
    """Midnights from `first` to `last`, both included, without `closed`."""
    start, stop = datetime.fromisoformat(first), datetime.fromisoformat(last)
    every = (start + timedelta(days=day) for day in range((stop - start).days + 1))
    return [day for day in every if day.weekday() in weekdays and str(day.date()) not in closed]


def auckland(last: str, weekdays: Iterable[int] = range(5)) -> list[datetime]:
    return days("2026-01-05", last, weekdays, [f"2026-{day}" for day in [*NZ_2026, "04-25", "12-26"]])


def column(stamps: list[datetime]) -> pl.Series:
    return pl.Series(stamps, dtype=pl.Datetime("us"))


def following(stamps: list[datetime], steps: int, place: str = "NZ-AUK") -> list[str]:
    cadence = find_cadence(column(stamps), "detect", place)
    assert cadence is not None
    assert parse_cadence(to_text(cadence)) == cadence
    return [str(stamp).removesuffix(" 00:00:00") for stamp in continue_stamps(stamps[-1], cadence, steps)]


@pytest.mark.parametrize(
    ("last", "after"),
    [
        ("2026-12-23", ["2026-12-24"]),
        ("2026-12-23", ["2026-12-24", "2026-12-29"]),
        ("2026-12-24", ["2026-12-29", "2026-12-30", "2026-12-31", "2027-01-05"]),
        ("2026-10-23", ["2026-10-27"]),
    ],
)
def test_working_days_skip_holidays_at_the_end_of_the_horizon_over_new_year_and_where_observed(
    last: str, after: list[str]
) -> None:
    assert following(auckland(last), len(after)) == after


def test_days_without_a_weekend_skip_holidays() -> None:
    assert following(auckland("2026-12-24", range(7)), 3) == ["2026-12-27", "2026-12-29", "2026-12-30"]


def test_sessions_inside_a_day_skip_the_whole_day_and_half_days_are_open() -> None:
    hours = [day + timedelta(hours=hour) for day in auckland("2026-12-24") for hour in range(9, 13)]
    assert following(hours, 2) == ["2026-12-29 09:00:00", "2026-12-29 10:00:00"]
    assert following(hours[:-2], 3) == ["2026-12-24 11:00:00", "2026-12-24 12:00:00", "2026-12-29 09:00:00"]


def test_rows_around_a_holiday_follow_each_other() -> None:
    stamps = column(auckland("2026-12-24"))
    cadence = find_cadence(stamps, "detect", "NZ-AUK")
    assert cadence is not None
    assert cadence.numbers(stamps).diff()[1:].unique().to_list() == [1]
    assert str(cadence) == "1 day (Mon to Fri, closed on holidays of NZ-AUK)"


@given(st.integers(-90_000, 400_000), st.sampled_from(["NZ-AUK", "NYSE", "DE", "JP"]))
def test_numbers_and_stamps_stay_inverse_before_and_after_the_year_2000(number: int, place: str) -> None:
    cadence = WeekTimes(timedelta(days=1), WORKDAYS, place)
    middle = cadence.after(datetime(2000, 1, 1))
    stamps = column([cadence.stamp(middle + number), cadence.stamp(middle + number + 1)])
    assert cadence.numbers(stamps).to_list() == [middle + number, middle + number + 1]
    assert cadence.after(stamps[0]) == middle + number + 1


def test_every_weekday_of_three_centuries_has_a_number_of_its_own_or_is_a_holiday() -> None:
    cadence = WeekTimes(timedelta(days=1), WORKDAYS, "NZ-AUK")
    every = column(days("1900-01-01", "2199-12-31"))
    numbers = cadence.numbers(every)
    assert numbers.drop_nulls().diff()[1:].unique().to_list() == [1]
    absent = every.filter(numbers.is_null()).dt.date().to_list()
    assert [day for day in absent if day.year == 2026] == [date.fromisoformat(f"2026-{day}") for day in NZ_2026]


def test_a_kind_of_holiday_that_has_rows_is_not_skipped_and_that_is_said(tmp_path: Path) -> None:
    closed = [f"{year}-12-25" for year in range(2019, 2026)]
    rows = [f"{day.date()},{n}" for n, day in enumerate(days("2019-01-02", "2025-12-24", closed=closed))]
    new_years = ("2021-01-01", "2022-01-03", "2023-01-03", "2024-01-01", "2025-01-01")
    rows = [row for row in rows if not row.startswith(new_years)]
    path = write_csv(tmp_path / "days.csv", "date,OT", rows)
    table = read_table(path, DataConfig(dataset="custom", closed_on="NZ"))
    assert isinstance(table.cadence, WeekTimes)
    assert "Waitangi Day" in table.cadence.open_on
    assert not {"Christmas Day", "New Year's Day"} & set(table.cadence.open_on)
    assert "the column has rows on holidays of NZ, which the forecast does not skip either: Anzac Day" in table.notes[0]
    assert table.notes[1].startswith(
        "the column has rows on 2020-01-01, 2021-12-27, 2022-12-27, holidays of NZ on which it mostly has none"
    )
    after = continue_stamps(datetime(2025, 12, 24), table.cadence, 4)
    assert [day.day for day in after] == [26, 29, 30, 31]


def test_with_fill_a_holiday_is_no_gap(tmp_path: Path) -> None:
    present = [day for day in auckland("2026-11-27") if str(day.date()) not in ("2026-03-10", "2026-03-11")]
    path = write_csv(tmp_path / "days.csv", "date,OT", [f"{day.date()},{n}" for n, day in enumerate(present)])
    table = read_table(path, DataConfig(dataset="custom", closed_on="NZ-AUK", fill="linear"))
    assert len(table.stamps) == len(present) + 2
    assert "absent timestamps 2" in table.notes[-1]


def test_data_without_days_of_the_week_refuse_holidays(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "months.csv", "date,OT", [f"2024-{month:02}-01,{month}" for month in range(1, 13)])
    with pytest.raises(DataError, match=r"one every day 1 of the month"):
        read_table(path, DataConfig(dataset="custom", closed_on="NZ"))


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("NZ-AUX", "no region of NZ is called 'AUX'; did you mean 'AUK'?; its regions are AUK, BOP"),
        ("Germany", "no country is called 'Germany'; did you mean 'DE'?"),
        ("NYSEE", "no country or stock exchange 'NYSEE' has known holidays; did you mean 'NYSE'?"),
    ],
)
def test_a_place_is_known_by_name_or_the_near_ones_are_listed(place: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        resolve(None, None, {"data.closed_on": place})
    assert words in caught.value.message


def test_a_place_is_written_in_any_case() -> None:
    assert [DataConfig(closed_on=text).closed_on for text in ("nz-auk", " us ", "nyse")] == ["NZ-AUK", "US", "NYSE"]


def test_holidays_are_no_gaps_so_a_regular_calendar_is_refused() -> None:
    with pytest.raises(ConfigError, match="calendar 'regular' takes for gaps"):
        resolve(None, None, {"data.closed_on": "NZ", "data.calendar": "regular"})
