"""The cadence of sessions: the same times each week, less the holidays of a place. Light."""

from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from functools import cached_property

import polars as pl

from timellm_cli.closed_days import holidays_of
from timellm_cli.errors import DataError, listed
from timellm_cli.units import show_length

MONDAY = datetime(1, 1, 1)
WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_DAY, _WEEK = timedelta(days=1), timedelta(days=7)
_FIRST_YEAR = 2000
"""Closed times are counted from the start of this year, forwards and backwards."""


@dataclass(frozen=True)
class WeekTimes:
    """The same times each week: `times` since Monday 0:00, rising. Sessions, working days and the like.

    Holidays of `closed_on` (see `closed_days`) have no numbers, but for the kinds in `open_on`: their days follow
    each other as if the holiday were not there. A day is one of wall time.
    """

    step: timedelta
    times: tuple[timedelta, ...]
    closed_on: str | None = None
    open_on: tuple[str, ...] = ()

    def numbers(self, stamps: pl.Series) -> pl.Series:
        """The number of each stamp; null for one that the cadence does not make."""
        week, known = _micros(_WEEK), [_micros(moment) for moment in self.times]
        since = (stamps - MONDAY).cast(pl.Int64)
        rank = (since % week).replace_strict(known, range(len(known)), default=None, return_dtype=pl.Int64)
        slots = since // week * len(known) + rank
        if self.closed_on is None or slots.null_count() == len(slots):
            return slots
        first, last = stamps.min(), stamps.max()
        assert isinstance(first, datetime) and isinstance(last, datetime)
        years = range(first.year, last.year + 1)
        closed = pl.Series([slot for year in years for slot in self._closed_slots(year)], dtype=pl.Int64)
        before = closed.search_sorted(slots.fill_null(0), "left").cast(pl.Int64) + self._closed_before_year(first.year)
        return pl.select(pl.when(~slots.is_in(closed.implode())).then(slots - before)).to_series()

    def stamp(self, number: int) -> datetime:
        """The inverse of `numbers`. Raises OverflowError beyond the last date of the calendar."""
        if self.closed_on is None:
            return self._time(number)
        slot, is_later = number, number >= self._slot(datetime(_FIRST_YEAR, 1, 1))
        while (moved := number + self._closed_before(slot + is_later)) != slot:
            slot = moved
        return self._time(slot)

    def after(self, moment: datetime) -> int:
        """The number of the first timestamp after a moment."""
        slot = self._slot(moment + timedelta(microseconds=1))
        return slot if self.closed_on is None else slot - self._closed_before(slot)

    def times_of_weekday(self, weekday: int) -> int:
        """How many timestamps a day has that is open (0: Monday)."""
        return sum(moment.days == weekday for moment in self.times)

    def is_closed(self, day: date) -> bool:
        """Whether a day is a holiday without rows."""
        return self.closed_on is not None and bool(
            set(holidays_of(self.closed_on, day.year).get(day, ())) - set(self.open_on)
        )

    def _time(self, slot: int) -> datetime:
        """The time of a slot: the times of all weeks are counted, holidays too."""
        week, rank = divmod(slot, len(self.times))
        return MONDAY + week * _WEEK + self.times[rank]

    def _slot(self, moment: datetime) -> int:
        """The first slot at or after a moment."""
        week, rest = divmod(moment - MONDAY, _WEEK)
        return week * len(self.times) + bisect_left(self.times, rest)

    @cached_property
    def _closed_of_year(self) -> dict[int, list[int]]:
        return {}

    @cached_property
    def _before_year(self) -> dict[int, int]:
        return {_FIRST_YEAR: 0}

    def _closed_slots(self, year: int) -> list[int]:
        """The slots of a year's closed days, rising."""
        if year not in self._closed_of_year:
            assert self.closed_on is not None
            days = [day for day in holidays_of(self.closed_on, year) if self.is_closed(day)]
            firsts = [(self._slot(datetime(day.year, day.month, day.day)), day.weekday()) for day in days]
            self._closed_of_year[year] = [
                slot for first, weekday in firsts for slot in range(first, first + self.times_of_weekday(weekday))
            ]
        return self._closed_of_year[year]

    def _closed_before_year(self, year: int) -> int:
        """Closed slots from the first year to the start of `year`; below 0 before the first year."""
        known = self._before_year
        while year not in known:
            nearest = max(known) if year > max(known) else min(known)
            if year > nearest:
                known[nearest + 1] = known[nearest] + len(self._closed_slots(nearest))
            else:
                known[nearest - 1] = known[nearest] - len(self._closed_slots(nearest - 1))
        return known[year]

    def _closed_before(self, slot: int) -> int:
        """As `_closed_before_year`, to a slot."""
        year = self._time(slot).year
        return self._closed_before_year(year) + bisect_left(self._closed_slots(year), slot)

    def __str__(self) -> str:
        days = sorted({moment.days for moment in self.times})
        names = [WEEKDAYS[day][:3] for day in days]
        is_range = len(days) > 2 and days[-1] - days[0] == len(days) - 1
        text = f"{names[0]} to {names[-1]}" if is_range else ", ".join(names)
        clock = sorted({moment - moment.days * _DAY for moment in self.times})
        hours = f", {_clock(clock[0])} to {_clock(clock[-1])}" if len(clock) > 1 else ""
        closed = f", closed on holidays of {self.closed_on}" if self.closed_on else ""
        return f"{show_length(self.step)} ({text}{hours}{closed})"


def with_holidays(times: WeekTimes, stamps: pl.Series, place: str) -> WeekTimes:
    """The cadence without the holidays of a place, but for those kinds that a column has rows on half the time."""
    every = replace(times, closed_on=place, open_on=())
    rows_on, days_of = Counter[str](), Counter[str]()
    with_rows = set(stamps.dt.date().unique().to_list())
    for day in _holidays_between(every, stamps):
        kinds = holidays_of(place, day.year)[day]
        days_of.update(kinds)
        rows_on.update(kinds if day in with_rows else ())
    return replace(every, open_on=tuple(sorted(kind for kind in days_of if 2 * rows_on[kind] >= days_of[kind])))


def describe_holidays(times: WeekTimes, stamps: pl.Series) -> list[str]:
    """Sentences on the holidays that a column has rows on."""
    notes = []
    if times.open_on:
        notes.append(
            f"the column has rows on holidays of {times.closed_on}, which the forecast does not skip either: "
            f"{listed(times.open_on, 12)}"
        )
    with_rows = set(stamps.dt.date().unique().to_list())
    odd = [str(day) for day in _holidays_between(times, stamps) if day in with_rows]
    if odd:
        notes.append(
            f"the column has rows on {listed(odd, 6)}, holidays of {times.closed_on} on which it mostly has none; "
            "the forecast skips these holidays"
        )
    return notes


def _holidays_between(times: WeekTimes, stamps: pl.Series) -> list[date]:
    """The closed days from the first stamp to the last which are days of the week with rows."""
    first, last = stamps[0].date(), stamps[-1].date()
    assert times.closed_on is not None
    days = [day for year in range(first.year, last.year + 1) for day in holidays_of(times.closed_on, year)]
    is_open = {weekday for weekday in range(7) if times.times_of_weekday(weekday)}
    return [day for day in days if first <= day <= last and day.weekday() in is_open and times.is_closed(day)]


def week_of(step: timedelta, anchor: datetime) -> WeekTimes:
    """A constant step through `anchor` as times of the week. Raises DataError where a week is no multiple of it."""
    if step > _DAY or _WEEK % step:
        raise DataError(
            f"--closed-on skips holidays of data that have rows on the days of a week; here is one every "
            f"{show_length(step)}",
            "leave --closed-on out",
        )
    first = (anchor - MONDAY) % step
    return WeekTimes(step, tuple(first + rank * step for rank in range(_WEEK // step)))


def _clock(moment: timedelta) -> str:
    return (datetime.min + moment).strftime("%H:%M")


def _micros(length: timedelta) -> int:
    return length // timedelta(microseconds=1)
