"""The cadence of a column: found, counted with its gaps, continued."""

from collections.abc import Sequence
from datetime import datetime, timedelta

import pandas as pd
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from timellm_cli.data.cadence import (
    Every,
    MonthDays,
    WeekTimes,
    continue_stamps,
    find_cadence,
    parse_cadence,
    show_length,
    to_text,
)  # fmt: skip

CALENDARS = [
    "MS", "ME", "2MS", "QS-FEB", "QE-DEC", "YS-JAN", "YE-MAR", "BMS", "BME", "WOM-3FRI", "WOM-1MON", "LWOM-FRI",
    "SMS-15",
]  # fmt: skip


def stamps(*texts: str) -> pl.Series:
    return pl.Series([datetime.fromisoformat(text) for text in texts], dtype=pl.Datetime("us"))


def some(first: str, rows: int, frequency: str) -> pl.Series:
    """`rows` timestamps of a pandas frequency, which says what is right here."""
    return pl.Series(
        pd.date_range(first, periods=rows, freq=frequency).to_pydatetime().tolist(), dtype=pl.Datetime("us")
    )


def without(column: pl.Series, rows: list[int]) -> pl.Series:
    return column.filter(~pl.int_range(len(column), eager=True).is_in(rows))


@pytest.mark.parametrize("step", ["15625us", "250ms", "s", "15min", "h", "36h", "24h", "168h"])
def test_a_constant_step_is_a_length_of_time(step: str) -> None:
    column = some("2024-02-27 05:00", 40, step)
    cadence = find_cadence(column)
    assert isinstance(cadence, Every)
    assert cadence.step == column[1] - column[0]
    assert cadence.numbers(column).to_list() == list(range(40))


@pytest.mark.parametrize("frequency", CALENDARS)
def test_a_step_that_the_calendar_sets_is_found_whatever_the_first_row_is_and_continues(frequency: str) -> None:
    column = some("2021-01-01 06:00", 60, frequency)
    for first in range(4):
        cadence = find_cadence(column[first:40])
        assert isinstance(cadence, MonthDays)
        assert continue_stamps(column[39], cadence, 20) == column[40:].to_list()


@pytest.mark.parametrize(
    ("days", "after"),
    [
        (["2000-01-15", "2000-02-15", "2000-03-15", "2000-04-15"], "2000-05-15"),
        (["2024-01-01", "2024-01-11", "2024-01-21", "2024-02-01", "2024-02-11"], "2024-02-21"),
        (["2023-11-01", "2023-11-15", "2023-12-01", "2023-12-15", "2024-01-01"], "2024-01-15"),
        (
            ["2023-11-15", "2023-11-30", "2023-12-15", "2023-12-31", "2024-01-15", "2024-01-31", "2024-02-15"],
            "2024-02-29",
        ),
        (["1990-02-01", "1990-05-01", "1990-08-01", "1990-11-01"], "1991-02-01"),
        (["2019-10-25", "2019-11-29", "2019-12-27"], "2020-01-31"),
        (["2021-01-01", "2022-01-01", "2023-01-01", "2024-01-01"], "2025-01-01"),
        (["2023-12-30", "2024-01-30", "2024-02-29", "2024-03-30"], "2024-04-30"),
    ],
)
def test_days_of_the_month_continue(days: list[str], after: str) -> None:
    column = stamps(*days)
    cadence = find_cadence(column)
    assert cadence is not None
    assert cadence.numbers(column).diff()[1:].to_list() == [1] * (len(days) - 1)
    assert continue_stamps(column[-1], cadence, 1) == [datetime.fromisoformat(after)]


@pytest.mark.parametrize(
    ("frequency", "dropped"),
    [("h", [5, 6, 30]), ("D", [3, 11]), ("MS", [4]), ("ME", [2, 20]), ("QS-JAN", [7])],
)
def test_gaps_are_counted_as_absent_numbers(frequency: str, dropped: list[int]) -> None:
    column = some("2022-01-31", 36, frequency)
    gappy = without(column, dropped)
    cadence = find_cadence(gappy)
    assert cadence is not None
    numbers = cadence.numbers(gappy)
    assert (numbers - numbers[0]).to_list() == [row for row in range(36) if row not in dropped]
    assert str(cadence) == str(find_cadence(column))


def test_times_of_the_week_that_are_never_seen_are_closed() -> None:
    days = [datetime(2024, 1, 1) + timedelta(days=day) for day in range(60)]
    sessions = pl.Series(
        [day + timedelta(hours=hour) for day in days if day.weekday() < 5 for hour in range(9, 17)],
        dtype=pl.Datetime("us"),
    )
    cadence = find_cadence(sessions)
    assert isinstance(cadence, WeekTimes)
    assert str(cadence) == "1 hour (Mon to Fri, 09:00 to 16:00)"
    assert continue_stamps(datetime(2024, 3, 1, 16), cadence, 2) == [datetime(2024, 3, 4, 9), datetime(2024, 3, 4, 10)]
    six_days = pl.Series([day for day in days if day.weekday() != 5], dtype=pl.Datetime("us"))
    assert str(find_cadence(six_days)) == "1 day (Mon, Tue, Wed, Thu, Fri, Sun)"
    assert isinstance(find_cadence(six_days, "regular"), Every)


@pytest.mark.parametrize(
    ("weekdays", "hours", "words", "after"),
    [
        ((0, 3), (0,), "3 days (Mon, Thu)", "2024-03-04 00:00"),
        ((0, 2, 4), (0,), "2 days (Mon, Wed, Fri)", "2024-03-01 00:00"),
        (range(7), (6, 12, 15, 22), "3 hours (Mon to Sun, 06:00 to 22:00)", "2024-03-01 06:00"),
    ],
)
def test_unequal_steps_that_each_week_repeats_are_a_cadence(
    weekdays: Sequence[int], hours: Sequence[int], words: str, after: str
) -> None:
    days = [datetime(2024, 1, 1) + timedelta(days=day) for day in range(60)]
    column = pl.Series(
        [day + timedelta(hours=hour) for day in days if day.weekday() in weekdays for hour in hours],
        dtype=pl.Datetime("us"),
    )
    cadence = find_cadence(column)
    assert str(cadence) == words
    assert isinstance(cadence, WeekTimes)
    assert cadence.numbers(column).diff()[1:].unique().to_list() == [1]
    assert continue_stamps(column[-1], cadence, 1) == [datetime.fromisoformat(after)]
    assert find_cadence(column, "regular") is None
    assert find_cadence(without(column, [10])) is None, "only told, as it could be a fault"
    told = find_cadence(without(column, [10]), "rows")
    assert isinstance(told, WeekTimes)
    assert told.times == cadence.times


def test_one_gap_in_an_hourly_file_closes_no_time_of_the_week() -> None:
    column = without(some("2024-01-01", 24 * 40, "h"), list(range(300, 340)))
    assert isinstance(find_cadence(column), Every)


@pytest.mark.parametrize(
    "column",
    [
        stamps("2024-01-01 00:00", "2024-01-01 01:00", "2024-01-01 02:00", "2024-01-01 02:30", "2024-01-01 03:30"),
        stamps("2024-01-01 00:00:00", "2024-01-01 00:00:01", "2024-06-01", "2024-07-01", "2024-08-01"),
    ],
)
def test_timestamps_of_no_cadence_are_irregular(column: pl.Series) -> None:
    assert find_cadence(column) is None


@given(
    st.datetimes(datetime(1900, 1, 1), datetime(2100, 1, 1)),
    st.timedeltas(min_value=timedelta(milliseconds=1), max_value=timedelta(days=6)),
    st.integers(2, 30),
    st.integers(1, 5),
)
def test_any_constant_step_is_found_continued_and_survives_as_text(
    first: datetime, step: timedelta, rows: int, more: int
) -> None:
    column = [first + row * step for row in range(rows + more)]
    cadence = find_cadence(pl.Series(column[:rows], dtype=pl.Datetime("us")))
    assert cadence == Every(step, first) == parse_cadence(to_text(Every(step, first)))
    assert continue_stamps(column[rows - 1], cadence, more) == column[rows:]


@given(st.integers(-(10**5), 10**5), st.data())
def test_number_and_stamp_are_inverse_for_every_kind_of_cadence(number: int, data: st.DataObject) -> None:
    day = st.sampled_from([1, 5, 15, 28, 29, 30, 31])
    cadence = data.draw(
        st.one_of(
            st.builds(Every, st.timedeltas(timedelta(seconds=1), timedelta(days=9)), st.just(datetime(2000, 1, 1))),
            st.builds(
                lambda hours: WeekTimes(timedelta(hours=1), tuple(timedelta(hours=hour) for hour in sorted(hours))),
                st.sets(st.integers(0, 167), min_size=1, max_size=60),
            ),
            st.builds(
                lambda months, one: MonthDays(tuple(sorted(months)), (one,)),
                st.sets(st.integers(1, 12), min_size=1),
                day,
            ),
            st.builds(
                lambda weekday, rank: MonthDays((3, 6, 9, 12), (rank,), weekday=weekday),
                st.integers(0, 6),
                st.integers(1, 5),
            ),
            st.builds(lambda one: MonthDays(tuple(range(1, 13)), (one,), workday=True), st.sampled_from([1, 31])),
        )
    )
    middle = cadence.numbers(pl.Series([continue_or(cadence)], dtype=pl.Datetime("us")))[0]
    stamp = cadence.stamp(middle + number % 2000)
    assert cadence.numbers(pl.Series([stamp], dtype=pl.Datetime("us"))).to_list() == [middle + number % 2000]
    assert parse_cadence(to_text(cadence)) == cadence


def continue_or(cadence: object) -> datetime:
    """Some timestamp of a cadence."""
    if isinstance(cadence, Every):
        return cadence.anchor
    assert isinstance(cadence, WeekTimes | MonthDays)
    size = len(cadence.times) * 52 if isinstance(cadence, WeekTimes) else len(cadence.months) * len(cadence.days)
    return cadence.stamp(2000 * size)


@pytest.mark.parametrize(
    "text", ["", "1", "{}", "MS", '{"every": 0, "anchor": "2024-01-01"}', '{"every": 1}', '{"week": 3}']
)
def test_other_texts_are_no_cadence(text: str) -> None:
    with pytest.raises(ValueError, match=r"no (cadence|step)"):
        parse_cadence(text)


@pytest.mark.parametrize(
    ("step", "words"),
    [
        (timedelta(hours=1), "1 hour"), (timedelta(days=7), "7 days"), (timedelta(hours=36), "36 hours"),
        (timedelta(minutes=15), "15 minutes"), (timedelta(seconds=1.5), "1.5 seconds"),
        (timedelta(microseconds=15625), "0.015625 seconds"),
    ],
)  # fmt: skip
def test_a_step_is_written_in_words(step: timedelta, words: str) -> None:
    assert show_length(step) == words
