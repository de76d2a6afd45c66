"""What can be said of each day of a table: one line of text, and the facts that it states. Light.

A line has the weekday (and date), what is special about the day, and what was special the day before and a week
earlier, which are the days that a forecast repeats. For steps longer than a day there is a line for each step, which
names what falls into it, and into the step before.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import Self

from timellm_cli.closed_days import holidays_of
from timellm_cli.config import AheadConfig
from timellm_cli.data.events import Event, check_events, read_events
from timellm_cli.errors import DataError

_WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_MONTHS = (
    "January", "February", "March", "April", "May", "June",
    "July", "August", "September", "October", "November", "December",
)  # fmt: skip
ORDINARY = "an ordinary day"


@dataclass(frozen=True)
class Line:
    """A line of text, the facts that it states, and whether something is special about the day itself."""

    text: str
    facts: frozenset[str]
    is_special: bool


@dataclass(frozen=True)
class DayLines:
    """The lines of days (D), the same for all channels of a group (G).

    `line_GD` are places in `lines`, which are distinct; `group_C` says which group each channel belongs to.
    """

    days: tuple[date, ...]
    lines: tuple[Line, ...]
    line_GD: tuple[tuple[int, ...], ...]
    group_C: tuple[int, ...]

    def special(self, group: int) -> list[bool]:
        """Which days have something special, for the channels of a group."""
        return [self.lines[line].is_special for line in self.line_GD[group]]

    def shuffled(self, seed: int) -> Self:
        """The same lines dealt out to other days, as a control: no line is of its day, but each is as frequent."""
        order = list(range(len(self.days)))
        random.Random(seed).shuffle(order)
        return replace(self, line_GD=tuple(tuple(line_D[day] for day in order) for line_D in self.line_GD))


@dataclass(frozen=True)
class Calendar:
    """What is known of any day: the holidays of a place, and events."""

    ahead: AheadConfig
    events: tuple[Event, ...]

    @classmethod
    def of(cls, ahead: AheadConfig, columns: Sequence[str], ids: Sequence[str]) -> Self:
        """The calendar of a configuration, for a table with these columns and series. Raises DataError for events."""
        if ahead.events is None:
            return cls(ahead, ())
        events = read_events(ahead.events)
        check_events(events, ahead.events, columns, ids)
        return cls(ahead, events)

    def special(self, day: date, events: Sequence[Event]) -> tuple[str, ...]:
        """What is special about a day: holidays, then these events."""
        found = []
        if (place := self.ahead.holiday_text) is not None:
            kind = "public holiday" if len(place.partition("-")[0]) <= 3 else "exchange holiday"
            found += [f"{name}, {kind}" for name in holidays_of(place, day.year).get(day, ())]
        found += [event.text for event in events if event.first <= day <= event.last]
        return tuple(dict.fromkeys(found))

    def lines(
        self, days: Sequence[date], lengths: Sequence[int], columns: Sequence[str], ids: Sequence[str]
    ) -> DayLines:
        """The lines of these days, each the first of so many (`lengths`, 1 for a day or less), for every channel.

        Channels are each column of every series, the first column first.
        """
        named = {event.who for event in self.events if event.who is not None}
        of_channel = [frozenset({column, name} & named) for column in columns for name in ids]
        groups = list(dict.fromkeys(of_channel))
        places: dict[Line, int] = {}
        line_GD = tuple(
            tuple(places.setdefault(line, len(places)) for line in self._lines_of(days, lengths, names))
            for names in groups
        )
        return DayLines(tuple(days), tuple(places), line_GD, tuple(groups.index(names) for names in of_channel))

    def outside(self, first: date, last: date) -> list[Event]:
        """The events that touch no day from `first` to `last`."""
        return [event for event in self.events if event.last < first or event.first > last]

    def _lines_of(self, days: Sequence[date], lengths: Sequence[int], names: frozenset[str]) -> list[Line]:
        events = [event for event in self.events if event.who is None or event.who in names]
        known: dict[date, tuple[str, ...]] = {}

        def special(day: date) -> tuple[str, ...]:
            if day not in known:
                known[day] = self.special(day, events)
            return known[day]

        return [self._line(day, length, special) for day, length in zip(days, lengths, strict=True)]

    def _line(self, day: date, length: int, special: Callable[[date], tuple[str, ...]]) -> Line:
        today = _in(special, day, length)
        if length == 1:
            before = {"Yesterday": special(day - timedelta(days=1)), "A week earlier": special(day - timedelta(days=7))}
        else:
            before = {"Before": _in(special, day - timedelta(days=length), length)}
        head = self._head(day, length)
        text = f"{head}: {'; '.join(today) or ORDINARY}." if head else f"{_capital('; '.join(today) or ORDINARY)}."
        text += "".join(f" {when}: {'; '.join(names)}." for when, names in before.items() if names)
        facts = set(self._facts_of_date(day))
        for when, names in {"Today": today, **before}.items():
            facts |= {f"{when}: {name}" for name in names} | ({f"{when}: something"} if names else set())
        return Line(text, frozenset(facts), bool(today))

    def _head(self, day: date, length: int) -> str:
        if self.ahead.weekday_text == "none":
            return ""
        dated = f"{day.day} {_MONTHS[day.month - 1]} {day.year}"
        if length > 1:
            return f"{length} days from {dated}" if self.ahead.weekday_text == "date" else _MONTHS[day.month - 1]
        weekday = _WEEKDAYS[day.weekday()]
        return f"{weekday} {dated}" if self.ahead.weekday_text == "date" else weekday

    def _facts_of_date(self, day: date) -> list[str]:
        if self.ahead.weekday_text == "none":
            return []
        month = [_MONTHS[day.month - 1]] if self.ahead.weekday_text == "date" else []
        return [_WEEKDAYS[day.weekday()], *month]


def _in(special: Callable[[date], tuple[str, ...]], first: date, length: int) -> tuple[str, ...]:
    """What is special about the days of a step, each once."""
    return tuple(dict.fromkeys(name for ahead in range(length) for name in special(first + timedelta(days=ahead))))


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def notes_on_events(calendar: Calendar, first: date, last: date, must_touch: bool) -> list[str]:
    """Notes on events outside of a table's days. Raises DataError where all are outside, if one `must_touch` them."""
    outside = calendar.outside(first, last)
    if not outside:
        return []
    where = f"outside of the table ({first} to {last})"
    if must_touch and len(outside) == len(calendar.events):
        raise DataError(
            f"{calendar.ahead.events}: none of {len(calendar.events)} events touches the table: all lie {where}; the "
            f"first is of {outside[0].first}",
            "give the events of these days, or leave --events out",
        )
    example = f"'{outside[0].text}' on {outside[0].first}"
    return [f"{len(outside)} of {len(calendar.events)} events lie {where}, such as {example}"]
