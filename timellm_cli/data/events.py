"""Events of a calendar: a CSV with `start`, optional `end`, optional `series` or `channel`, and `text`. Light.

Days are whole: what happens at an hour is said in the text ("shops closed until 13:00").
"""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from timellm_cli.errors import DataError, did_you_mean, listed, quoted

_NAMES = ("start", "end", "series", "channel", "text")
_MOST_LETTERS = 500
_FOLDER = Path(__file__).parent.parent / "known_events"


@dataclass(frozen=True)
class Event:
    """`text` holds from day `first` to day `last`, both included, for one series or channel, or for all (None)."""

    first: date
    last: date
    who: str | None
    text: str


def events_path(name: str) -> Path:
    """The file of events: a path, or the one that comes with a known dataset. Raises DataError for neither."""
    path, known = Path(name), _FOLDER / f"{name}.csv"
    if path.is_file():
        return path
    if known.is_file():
        return known
    names = sorted(file.stem for file in _FOLDER.glob("*.csv"))
    raise DataError(
        f"there is no file of events '{name}'{did_you_mean(name, names)}",
        "give --events a CSV with the columns start, end, series or channel, text; events are known of "
        f"{listed(names, 9)}",
    )


def read_events(name: str) -> tuple[Event, ...]:
    """The events of a file. Raises DataError with file and line for a row that cannot be used."""
    path = events_path(name)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            header = [cell.strip().lower() for cell in next(reader, [])]
            _check_header(path, header)
            rows = [(reader.line_num, [cell.strip() for cell in row]) for row in reader if any(map(str.strip, row))]
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} is no CSV in UTF-8: {error}", "save it as CSV, in UTF-8") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}", "give a file that can be read") from None
    if not rows:
        raise DataError(f"{path} has a header but no events", "each line below the header is one event")
    return tuple(_event(f"{path}, line {line}", header, cells) for line, cells in rows)


def _check_header(path: Path, header: Sequence[str]) -> None:
    unknown = [name for name in header if name not in _NAMES]
    missing = [name for name in ("start", "text") if name not in header]
    twice = [name for name in _NAMES if header.count(name) > 1]
    if not (unknown or missing or twice or {"series", "channel"} <= set(header)):
        return
    what = f"no column {quoted(missing)}" if missing else f"a column {quoted(unknown)}" if unknown else ""
    what = what or (f"the column '{twice[0]}' twice" if twice else "both a column 'series' and a column 'channel'")
    near = did_you_mean(unknown[0], _NAMES) if unknown else ""
    raise DataError(
        f"{path} has {what}{near}; its columns are {quoted(header)}",
        "the first line names the columns: start, end (where an event has several days), series or channel (where it "
        "concerns one), text",
    )


def _event(where: str, header: Sequence[str], cells: Sequence[str]) -> Event:
    if len(cells) > len(header):
        raise DataError(
            f"{where}: {len(cells)} cells, but the header has {len(header)}",
            'a text with a comma stands in quotation marks: 2024-04-25,"Anzac Day, shops closed until 13:00"',
        )
    row = {**dict.fromkeys(_NAMES, ""), **dict(zip(header, cells, strict=False))}
    first = _day(where, "start", row["start"])
    last = _day(where, "end", row["end"]) if row["end"] else first
    if last < first:
        raise DataError(f"{where}: the event ends on {last}, before its start on {first}", "exchange the two")
    text = " ".join(row["text"].split()).rstrip(".")
    if not text:
        raise DataError(f"{where}: the event has no text", "say in a few words what happens")
    if len(text) > _MOST_LETTERS:
        raise DataError(f"{where}: the text has {len(text)} letters, more than {_MOST_LETTERS}", "say it shorter")
    return Event(first, last, row["series"] or row["channel"] or None, text)


def _day(where: str, name: str, text: str) -> date:
    try:
        return date.fromisoformat(text.removesuffix(" 00:00").removesuffix(" 00:00:00"))
    except ValueError:
        raise DataError(
            f"{where}: '{text}' in '{name}' is no day", "write days as 2024-04-25; say hours in the text"
        ) from None


def check_events(events: Sequence[Event], name: str, columns: Sequence[str], ids: Sequence[str]) -> None:
    """Raise DataError for an event of a series or channel that the table does not have."""
    known = {*columns, *ids}
    unknown = [event for event in events if event.who is not None and event.who not in known]
    if unknown:
        who = unknown[0].who or ""
        names = [name for name in (*ids, *columns) if name]
        raise DataError(
            f"{name}: no series or channel is called '{who}' (event of {unknown[0].first}){did_you_mean(who, names)}",
            f"the table has {quoted(names)}; leave the cell empty for an event that concerns all",
        )
