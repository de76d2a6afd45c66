"""The text of days: weekday, holidays, events, and what was special on the days that a forecast repeats."""

from datetime import date, timedelta

import pytest

from timellm_cli.config import AheadConfig
from timellm_cli.data.day_lines import Calendar, notes_on_events
from timellm_cli.data.events import Event
from timellm_cli.errors import DataError

FAIR = Event(date(2024, 4, 26), date(2024, 4, 27), "b", "street fair")
COLUMNS = ("a", "b")


def calendar(*events: Event, **ahead: object) -> Calendar:
    return Calendar(AheadConfig(events="unread.csv", **ahead), events)


def days_from(first: date, count: int) -> list[date]:
    return [first + timedelta(days=number) for number in range(count)]


def texts(of: Calendar, days: list[date], channel: int = 0, length: int = 1) -> list[str]:
    found = of.lines(days, [length] * len(days), COLUMNS, ("",))
    return [found.lines[line].text for line in found.line_GD[found.group_C[channel]]]


def test_a_holiday_is_named_the_day_after_and_a_week_later_too() -> None:
    of = calendar(holiday_text="NZ-AUK", weekday_text="date")
    found = texts(of, days_from(date(2024, 4, 24), 9))
    assert found[0] == "Wednesday 24 April 2024: an ordinary day."
    assert found[1] == "Thursday 25 April 2024: Anzac Day, public holiday."
    assert found[2] == "Friday 26 April 2024: an ordinary day. Yesterday: Anzac Day, public holiday."
    assert found[8] == "Thursday 2 May 2024: an ordinary day. A week earlier: Anzac Day, public holiday."


def test_without_a_weekday_ordinary_days_share_one_line() -> None:
    found = calendar(holiday_text="NZ-AUK").lines(days_from(date(2024, 5, 6), 20), [1] * 20, COLUMNS, ("",))
    assert [line.text for line in found.lines] == ["An ordinary day."]


def test_an_event_of_one_channel_is_in_its_lines_alone() -> None:
    of = calendar(FAIR)
    days = [date(2024, 4, 26)]
    assert texts(of, days, channel=0) == ["An ordinary day."]
    assert texts(of, days, channel=1) == ["Street fair."]
    found = of.lines(days, [1], COLUMNS, ("",))
    assert [found.special(group) for group in found.group_C] == [[False], [True]]


def test_series_of_a_panel_have_events_of_their_own_for_each_column() -> None:
    found = calendar(FAIR).lines([date(2024, 4, 26)], [1], ("x", "y"), ("a", "b"))
    assert found.group_C == (0, 1, 0, 1), "channels are x of a, x of b, y of a, y of b"


def test_a_step_of_a_month_names_what_falls_into_it_and_before() -> None:
    of = calendar(Event(date(2024, 2, 10), date(2024, 2, 10), None, "fair"), weekday_text="weekday")
    found = texts(of, [date(2024, 2, 1), date(2024, 3, 1)], length=29)
    assert found == ["February: fair.", "March: an ordinary day. Before: fair."]


def test_facts_are_what_the_line_states() -> None:
    of = calendar(holiday_text="NZ-AUK", weekday_text="weekday")
    (line,) = of.lines([date(2024, 4, 25)], [1], COLUMNS, ("",)).lines
    assert line.facts == {"Thursday", "Today: something", "Today: Anzac Day, public holiday"}


def test_shuffled_lines_are_the_same_ones_on_other_days() -> None:
    found = calendar(holiday_text="NZ-AUK", weekday_text="weekday").lines(
        days_from(date(2024, 1, 1), 200), [1] * 200, COLUMNS, ("",)
    )
    dealt = found.shuffled(1)
    assert sorted(dealt.line_GD[0]) == sorted(found.line_GD[0])
    assert dealt.line_GD != found.line_GD
    assert dealt == found.shuffled(1) != found.shuffled(2)


def test_events_outside_of_the_table_are_named_and_none_inside_is_refused() -> None:
    late = Event(date(2025, 1, 3), date(2025, 1, 3), None, "concert")
    days = (date(2024, 1, 1), date(2024, 12, 31))
    assert notes_on_events(calendar(FAIR, late), *days, must_touch=True) == [
        "1 of 2 events lie outside of the table (2024-01-01 to 2024-12-31), such as 'concert' on 2025-01-03"
    ]
    with pytest.raises(DataError, match="none of 1 events touches the table"):
        notes_on_events(calendar(late), *days, must_touch=True)
    assert len(notes_on_events(calendar(late), *days, must_touch=False)) == 1
