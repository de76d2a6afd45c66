"""Files of events: what is read, and what is refused with its line."""

from datetime import date
from itertools import pairwise
from pathlib import Path

import pytest

from timellm_cli.data.events import Event, check_events, events_path, read_events
from timellm_cli.errors import DataError


def written(tmp_path: Path, *lines: str) -> str:
    path = tmp_path / "events.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return str(path)


def test_an_event_has_days_a_text_and_perhaps_a_series(tmp_path: Path) -> None:
    name = written(
        tmp_path,
        "start,end,series,text",
        '2024-04-25,,,"Anzac Day, shops closed until 13:00."',
        "2024-05-01,2024-05-03,a,fair",
    )
    assert read_events(name) == (
        Event(date(2024, 4, 25), date(2024, 4, 25), None, "Anzac Day, shops closed until 13:00"),
        Event(date(2024, 5, 1), date(2024, 5, 3), "a", "fair"),
    )


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (("begin,text", "2024-01-01,x"), "no column 'start'"),
        (("start,txt,text", "2024-01-01,,x"), "did you mean 'text'"),
        (("start,series,channel,text", "2024-01-01,,,x"), "both a column 'series' and a column 'channel'"),
        (("start,text", "25/04/2024,x"), "line 2: '25/04/2024' in 'start' is no day"),
        (("start,text", "2024-04-25 13:00,x"), "say hours in the text"),
        (("start,end,text", "2024-04-25,2024-04-24,x"), "ends on 2024-04-24, before its start"),
        (("start,text", "2024-04-25,"), "the event has no text"),
        (("start,text", "2024-04-25,Anzac Day, closed"), "quotation marks"),
        (("start,text",), "a header but no events"),
    ],
)
def test_what_cannot_be_used_is_refused(tmp_path: Path, lines: tuple[str, ...], words: str) -> None:
    with pytest.raises(DataError) as caught:
        read_events(written(tmp_path, *lines))
    assert words in f"{caught.value.message} {caught.value.hint}"


def test_an_unknown_series_is_refused_with_the_similar_one() -> None:
    event = Event(date(2024, 4, 25), date(2024, 4, 25), "Quen Street", "x")
    with pytest.raises(DataError, match="did you mean 'Queen Street'"):
        check_events([event], "events.csv", ["Queen Street", "High Street"], [""])


def test_a_file_that_is_not_there_is_refused_with_the_known_events() -> None:
    with pytest.raises(DataError) as caught:
        events_path("auckland-pedestrian-2019")
    assert "did you mean 'auckland-pedestrians-2019'" in caught.value.message


def test_the_shipped_events_are_read() -> None:
    events = read_events("auckland-pedestrians-2019")
    assert events[0].first == date(2020, 3, 26)
    assert all(before.last < after.first for before, after in pairwise(events))
