"""Days, and where rows stand in them."""

from datetime import date, datetime, timedelta

import polars as pl
import pytest

from timellm_cli.data.dates import DateStyle
from timellm_cli.data.day_axis import Clock, Days, walls_of


def every(step: timedelta, count: int, first: datetime = datetime(2024, 4, 22)) -> pl.Series:
    return pl.Series([first + number * step for number in range(count)], dtype=pl.Datetime("us"))


@pytest.mark.parametrize(
    ("step", "slots"),
    [(timedelta(hours=1), 24), (timedelta(minutes=15), 96), (timedelta(days=1), 1), (timedelta(seconds=10), 288)],
    ids=["hours", "quarters", "days", "seconds"],
)
def test_a_day_has_a_slot_for_each_step_and_no_more_than_288(step: timedelta, slots: int) -> None:
    walls = every(step, 20_000)
    clock = Clock.of(walls)
    assert clock.slots == slots
    assert clock.slots_of(walls).max() == slots - 1
    assert clock.places_in_week(walls).to_list()[:1] == [0], "2024-04-22 is a Monday"


def test_readings_at_half_past_the_hour_have_24_slots() -> None:
    walls = every(timedelta(hours=1), 50, datetime(2024, 4, 22, 0, 30))
    clock = Clock.of(walls)
    assert (clock.slots, clock.slots_of(walls).to_list()[:3]) == (24, [0, 1, 2])
    assert clock.places_in_week(walls)[24] == 24


def test_days_are_counted_by_date_and_months_know_their_length() -> None:
    hours = Days.of(every(timedelta(hours=1), 30, datetime(2024, 4, 22, 20)))
    assert hours.dates == (date(2024, 4, 22), date(2024, 4, 23), date(2024, 4, 24))
    assert hours.day_N.to_list()[:5] == [0, 0, 0, 0, 1]
    months = Days.of(pl.Series([datetime(2024, month, 1) for month in range(1, 8)], dtype=pl.Datetime("us")))
    assert months.lengths[:3] == (31, 29, 31)
    weekends_closed = Days.of(
        pl.Series([datetime(2024, 4, day) for day in (24, 25, 26, 29, 30)], dtype=pl.Datetime("us"))
    )
    assert weekends_closed.lengths == (1,) * 5


def test_wall_times_of_a_zone_are_its_days() -> None:
    style = DateStyle("%Y-%m-%d %H:%M:%S", is_utc=True, zone="Pacific/Auckland")
    stamps = every(timedelta(hours=1), 3, datetime(2024, 4, 24, 11))
    assert walls_of(stamps, style).to_list()[1] == datetime(2024, 4, 25)
    assert walls_of(stamps, style).to_list() == [style.wall(stamp) for stamp in stamps]
