"""The step from one timestamp to the next: found in a column, checked against it, and continued into the future. Light.

Each cadence gives timestamps numbers: `number` and `stamp` are inverse to each other, so a cadence fits a column where
the numbers of its rows exist, and holds without a gap where they grow by one.
"""

import json
from calendar import monthrange
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import date, datetime, time, timedelta
from functools import cached_property
from itertools import pairwise
from math import gcd

import polars as pl

from timellm_cli.closed_days import check_place
from timellm_cli.data.week_times import MONDAY, WEEKDAYS, WeekTimes, week_of, with_holidays
from timellm_cli.errors import DataError
from timellm_cli.units import show_length

_DAY, _WEEK, _MONTH = timedelta(days=1), timedelta(days=7), timedelta(days=28)
_LAST_DAY = 31
_MOST_DAYS = 4
"""A cadence has at most so many days of a month; with more, its step is one in days."""


@dataclass(frozen=True)
class Every:
    """A constant step through `anchor`."""

    step: timedelta
    anchor: datetime

    def numbers(self, stamps: pl.Series) -> pl.Series:
        """The number of each stamp; null for one that the cadence does not make."""
        distance, step = (stamps - self.anchor).cast(pl.Int64), self.step // timedelta(microseconds=1)
        return pl.select(pl.when(distance % step == 0).then(distance // step)).to_series()

    def stamp(self, number: int) -> datetime:
        """The inverse of `numbers`. Raises OverflowError beyond the last date of the calendar."""
        return self.anchor + number * self.step

    def __str__(self) -> str:
        return show_length(self.step)


@dataclass(frozen=True)
class MonthDays:
    """Days of certain months, at one time of day.

    `days` are days of the month, where 31 is the last; with `weekday` (0: Monday) they are ranks of that weekday in the
    month, where 5 is the last; with `workday` there is one, 1: the first working day (Monday to Friday), 31: the last.
    With `years` above 1, only the years whose remainder by it is `phase`.
    """

    months: tuple[int, ...]
    days: tuple[int, ...]
    clock: time = time()
    weekday: int | None = None
    workday: bool = False
    years: int = 1
    phase: int = 0

    @cached_property
    def step(self) -> timedelta:
        """The usual time between two timestamps."""
        return timedelta(days=round(365.25 * self.years / len(self.months) / len(self.days)))

    def numbers(self, stamps: pl.Series) -> pl.Series:
        """As of `Every`."""
        return pl.Series([self._number(stamp) for stamp in stamps.to_list()], dtype=pl.Int64)

    def stamp(self, number: int) -> datetime:
        """As of `Every`."""
        rest, day = divmod(number, len(self.days))
        year, month = divmod(rest, len(self.months))
        year = year * self.years + self.phase
        if not 1 <= year <= 9999:
            raise OverflowError("date value out of range")
        return datetime.combine(self._date(year, self.months[month], self.days[day]), self.clock)

    def _number(self, stamp: datetime) -> int | None:
        if stamp.month not in self.months or stamp.year % self.years != self.phase:
            return None
        first = (stamp.year // self.years * len(self.months) + self.months.index(stamp.month)) * len(self.days)
        return next((n for n in range(first, first + len(self.days)) if self.stamp(n) == stamp), None)

    def _date(self, year: int, month: int, day: int) -> date:
        length = monthrange(year, month)[1]
        if self.weekday is not None:
            offset = (self.weekday - date(year, month, 1).weekday()) % 7
            while (day_of_month := offset + 1 + 7 * (day - 1)) > length:
                day -= 1
            return date(year, month, day_of_month)
        found = date(year, month, min(day, length))
        while self.workday and found.weekday() > 4:
            found += _DAY if day == 1 else -_DAY
        return found

    def __str__(self) -> str:
        if self.years > 1:
            return f"{self.years} years"
        name = {12: "month", 4: "quarter", 1: "year"}.get(len(self.months), f"{len(self.months)} months of the year")
        if self.weekday is not None:
            ranks = ("first", "second", "third", "fourth", "last")
            return f"{ranks[self.days[0] - 1]} {WEEKDAYS[self.weekday]} of the {name}"
        kind = "working day" if self.workday else "day"
        days = [f"last {kind}" if day == _LAST_DAY else f"{kind} {day}" for day in self.days]
        where = f" of the {name}" if len(self.months) != 4 else f" of months {', '.join(map(str, self.months))}"
        return f"{' and '.join(days)}{where}"


Cadence = Every | WeekTimes | MonthDays


def find_cadence(stamps: pl.Series, calendar: str = "detect", closed_on: str | None = None) -> Cadence | None:
    """The cadence of two or more increasing timestamps, which may lack some; None where they are irregular.

    `calendar` and `closed_on` are the configuration's. A cadence that lacks half of its timestamps is not taken: it
    fits by accident. Raises DataError where `closed_on` is named for rows that have no times of the week.
    """
    found = _find(stamps, calendar)
    return found if found is None or closed_on is None else closed_at(found, stamps, closed_on)


def closed_at(cadence: Cadence, stamps: pl.Series, closed_on: str | None) -> Cadence:
    """The cadence with the holidays of a place, as the column shows them, or without. Raises as `find_cadence`."""
    if closed_on is None:
        return replace(cadence, closed_on=None, open_on=()) if isinstance(cadence, WeekTimes) else cadence
    if isinstance(cadence, MonthDays):
        raise DataError(
            f"--closed-on skips holidays of data that have rows on the days of a week; here is one every {cadence}",
            "leave --closed-on out",
        )
    week = cadence if isinstance(cadence, WeekTimes) else week_of(cadence.step, cadence.anchor)
    return with_holidays(week, stamps, closed_on)


def _find(stamps: pl.Series, calendar: str) -> Cadence | None:
    steps = stamps.diff().drop_nulls().rename("step").value_counts().sort("count", "step", descending=[True, False])
    usual: timedelta = steps["step"][0]
    lengths = steps["step"].cast(pl.Int64)
    if usual >= _WEEK and (found := _first_fit(_month_candidates(stamps, usual), stamps)):
        return found
    if len(steps) == 1:
        return Every(usual, stamps[0])
    if (lengths % _micros(usual) == 0).all():
        weekly = (
            _week_times(stamps, usual, all_open=_WEEK // usual) if usual <= _DAY and calendar != "regular" else None
        )
        if weekly is not None:
            return weekly
        return _first_fit([Every(usual, stamps[0])], stamps)
    weekly = _week_times(stamps, usual, all_open=None) if usual < _WEEK and calendar != "regular" else None
    is_certain = weekly is not None and bool((weekly.numbers(stamps).diff()[1:] == 1).all(ignore_nulls=False))
    return weekly if is_certain or calendar == "rows" else None


def _first_fit(cadences: Iterable[Cadence], stamps: pl.Series) -> Cadence | None:
    """The first cadence that makes all stamps without a gap; else the one with the fewest gaps, fewer than stamps."""
    best: tuple[int, Cadence] | None = None
    for cadence in cadences:
        numbers = cadence.numbers(stamps)
        if numbers.null_count():
            continue
        absent = int(numbers[-1] - numbers[0] + 1 - len(numbers))
        if not absent:
            return cadence
        if absent < len(stamps) and (best is None or absent < best[0]):
            best = absent, cadence
    return best[1] if best else None


def _month_candidates(stamps: pl.Series, usual: timedelta) -> Iterator[Cadence]:
    moments: list[datetime] = stamps.to_list()
    clock = moments[0].time()
    seen = {moment.month for moment in moments}
    classes = [tuple(range((moments[0].month - 1) % every + 1, 13, every)) for every in (12, 6, 3, 2, 1)]
    days = sorted({moment.day for moment in moments})
    ends = sorted({_LAST_DAY if _is_last(moment) else moment.day for moment in moments})
    ranks = sorted({(moment.day + 6) // 7 for moment in moments})
    last_week = all(monthrange(moment.year, moment.month)[1] - moment.day < 7 for moment in moments)
    weekdays = {moment.weekday() for moment in moments}
    years = gcd(*(later.year - earlier.year for earlier, later in pairwise(moments)))
    if years > 1 and len(seen) == 1:
        day, phase = (ends if len(ends) == 1 else days)[-1], moments[0].year % years
        yield MonthDays((moments[0].month,), (day,), clock, years=years, phase=phase)
    for months in classes:
        if not seen <= set(months):
            continue
        if len(days) <= _MOST_DAYS:
            yield MonthDays(months, tuple(days), clock)
        if len(ends) <= _MOST_DAYS and ends[-1] == _LAST_DAY:
            yield MonthDays(months, tuple(ends), clock)
        if usual >= _MONTH:
            if 28 < days[-1] < _LAST_DAY:  # 28 February stands for the day 30 of its month
                yield MonthDays(months, (days[-1],), clock)
            yield MonthDays(months, (1,), clock, workday=True)
            yield MonthDays(months, (_LAST_DAY,), clock, workday=True)
            if len(weekdays) == 1 and last_week:
                yield MonthDays(months, (5,), clock, weekday=moments[0].weekday())
            if len(weekdays) == 1 and len(ranks) == 1:
                yield MonthDays(months, (ranks[0],), clock, weekday=moments[0].weekday())


def _is_last(moment: datetime) -> bool:
    return moment.day == monthrange(moment.year, moment.month)[1]


def _week_times(stamps: pl.Series, usual: timedelta, *, all_open: int | None) -> WeekTimes | None:
    """The times of the week that rows have, where others are absent throughout.

    `all_open` is how many times a week has that is never closed, where steps are multiples of one.
    """
    since = (stamps - MONDAY).cast(pl.Int64)
    weeks = (since[-1] - since[0]) / _micros(_WEEK)
    counts = (since % _micros(_WEEK)).rename("time").value_counts()
    usual_times = counts.filter(pl.col("count") >= weeks / 4)["time"].sort()
    if weeks < 2 or not len(usual_times) or (all_open is not None and len(usual_times) >= all_open):
        return None
    found = WeekTimes(usual, tuple(timedelta(microseconds=value) for value in usual_times))
    numbers = found.numbers(stamps)
    absent = (
        int(numbers[-1] - numbers[0] + 1 - len(numbers)) if numbers[0] is not None and numbers[-1] is not None else 0
    )
    return found if numbers.null_count() * 20 <= len(stamps) and absent * 4 <= len(stamps) else None


def continue_stamps(last: datetime, cadence: Cadence, steps: int) -> list[datetime]:
    """The `steps` timestamps after `last`. Raises OverflowError beyond the year 9999."""
    number = cadence.numbers(pl.Series([last], dtype=pl.Datetime("us")))[0]
    if number is None:  # a row between two times of the week
        assert isinstance(cadence, WeekTimes)
        number = cadence.after(last) - 1
    cadence.stamp(number + steps)  # raises before the others are made
    return [cadence.stamp(number + step) for step in range(1, steps + 1)]


def to_text(cadence: Cadence) -> str:
    """A cadence as JSON."""
    if isinstance(cadence, Every):
        return json.dumps({"every": _micros(cadence.step), "anchor": str(cadence.anchor)})
    if isinstance(cadence, WeekTimes):
        holidays = {"closed_on": cadence.closed_on, "open_on": cadence.open_on} if cadence.closed_on else {}
        times = [_micros(moment) for moment in cadence.times]
        return json.dumps({"step": _micros(cadence.step), "week": times, **holidays})
    assert isinstance(cadence, MonthDays)
    return json.dumps({
        "months": cadence.months, "days": cadence.days, "clock": str(cadence.clock),
        "weekday": cadence.weekday, "workday": cadence.workday, "years": cadence.years, "phase": cadence.phase,
    })  # fmt: skip


def parse_cadence(text: str) -> Cadence:
    """The inverse of `to_text`. Raises ValueError for any other text."""
    try:
        found = json.loads(text)
        if "every" in found:
            return Every(_length(found["every"]), datetime.fromisoformat(found["anchor"]))
        if "week" in found:
            times = tuple(timedelta(microseconds=value) for value in found["week"])
            place = check_place(found["closed_on"]) if "closed_on" in found else None
            return WeekTimes(_length(found["step"]), times, place, tuple(map(str, found.get("open_on", ()))))
        return MonthDays(
            tuple(map(int, found["months"])), tuple(map(int, found["days"])), time.fromisoformat(found["clock"]),
            found["weekday"], bool(found["workday"]), int(found["years"]), int(found["phase"]),
        )  # fmt: skip
    except (TypeError, KeyError, AttributeError, OverflowError, json.JSONDecodeError) as error:
        raise ValueError(f"no cadence: {text[:80]}") from error


def _length(micros: int) -> timedelta:
    if not isinstance(micros, int) or micros <= 0:
        raise ValueError(f"no step: {micros}")
    return timedelta(microseconds=micros)


def _micros(length: timedelta) -> int:
    return length // timedelta(microseconds=1)
