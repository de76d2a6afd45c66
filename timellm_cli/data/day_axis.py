"""The days of a time axis, and where in its day and week each row stands. Light: polars only."""

from dataclasses import dataclass
from datetime import date
from math import gcd
from typing import Self

import polars as pl

from timellm_cli.data.dates import DateStyle

DAY = 24 * 3600 * 10**6
"""Microseconds."""
MOST_SLOTS = 288
"""A day is cut into so many slots at most: finer steps share one of five minutes."""
_WEEK = 7


def walls_of(stamps: pl.Series, style: DateStyle) -> pl.Series:
    """The wall times of stamps of a table."""
    if not style.is_utc:
        return stamps
    if style.zone is None:
        return stamps + style.ahead
    return stamps.dt.replace_time_zone("UTC").dt.convert_time_zone(style.zone).dt.replace_time_zone(None)


@dataclass(frozen=True)
class Days:
    """The days (D) that rows (N) belong to: dates, of how many days each is (1, or a longer step), and each row's."""

    dates: tuple[date, ...]
    lengths: tuple[int, ...]
    day_N: pl.Series

    @classmethod
    def of(cls, walls: pl.Series) -> Self:
        """The days of wall times in the order of time."""
        day_of_row = walls.dt.date()
        dates = day_of_row.unique().sort()
        day_N = day_of_row.replace_strict(dates, pl.int_range(len(dates), eager=True), return_dtype=pl.Int64)
        steps = dates.diff()[1:].dt.total_days().to_list()
        usual = sorted(steps)[len(steps) // 2] if steps else 1
        # A day without rows makes no day before it longer, but a month has 28 to 31 days.
        lengths = [1] * len(dates) if usual < _WEEK else [*steps, usual]
        return cls(tuple(dates.to_list()), tuple(lengths), day_N)


@dataclass(frozen=True)
class Clock:
    """How a day is cut into slots: of `unit` microseconds, from `first` on."""

    unit: int
    first: int

    @property
    def slots(self) -> int:
        """Slots of a day."""
        return DAY // self.unit

    @classmethod
    def of(cls, walls: pl.Series) -> Self:
        """The coarsest clock that keeps all times of day of a column apart, or one of five minutes."""
        times = sorted(set(_time_of_day(walls).unique().to_list()))
        first = times[0]
        unit = gcd(DAY, *(time - first for time in times))
        if DAY // unit > MOST_SLOTS:
            unit = DAY // MOST_SLOTS
        return cls(unit, first % unit)

    def slots_of(self, walls: pl.Series) -> pl.Series:
        """The slot of each wall time in its day."""
        return (((_time_of_day(walls) - self.first) // self.unit) % self.slots).cast(pl.Int64)

    def places_in_week(self, walls: pl.Series) -> pl.Series:
        """The slot of each wall time in its week, from Monday's first on."""
        return (walls.dt.weekday().cast(pl.Int64) - 1) * self.slots + self.slots_of(walls)


def _time_of_day(walls: pl.Series) -> pl.Series:
    since = walls.cast(pl.Datetime("us")).to_physical()
    return since % DAY
