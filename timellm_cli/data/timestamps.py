"""How timestamps are written: ISO 8601 first, then the usual ways of spreadsheets. Light.

Formats are `strptime` patterns, which pandas shares with the standard library.
"""

import re
from collections.abc import Sequence
from datetime import UTC, datetime

from timellm_cli.errors import DataError

ISO = "ISO8601"
_DATES = (
    "%Y-%m-%d",
    "%Y/%m/%d",
    "%Y.%m.%d",
    "%Y年%m月%d日",
    "%d.%m.%Y",
    "%d/%m/%Y",
    "%m/%d/%Y",
    "%d-%m-%Y",
    "%m-%d-%Y",
)
_TIMES = ("", " %H:%M", " %H:%M:%S", " %H:%M:%S.%f", " %I:%M %p", " %I:%M:%S %p")
_FORMATS = (*(date + time for date in _DATES for time in _TIMES), "%Y-%m", "%Y/%m", "%Y")
_UTC_OFFSET = re.compile(r":\d\d(\.\d+)?\s*(Z|[+-]\d\d:?\d\d)$")

HINT = "write timestamps like 2024-01-31 13:00:00"


def fitting_formats(texts: Sequence[str]) -> list[str]:
    """The formats that read every text: two where day and month could change places, none where nothing fits."""
    for form in (ISO, *_FORMATS):
        if all(parse_timestamp(text, form) is not None for text in texts):
            swapped = [other for other in _FORMATS if other != form and sorted(other) == sorted(form)]
            return [form, *(other for other in swapped if all(parse_timestamp(text, other) for text in texts))]
    return []


def parse_timestamp(text: str, form: str) -> datetime | None:
    """One timestamp without a time zone (an offset from UTC is taken off), or None if it is not of that format."""
    try:
        stamp = datetime.fromisoformat(text) if form == ISO else datetime.strptime(text, form)
        return stamp.astimezone(UTC).replace(tzinfo=None) if stamp.tzinfo else stamp
    except (ValueError, OverflowError):  # the latter: a year before 1 or after 9999 by UTC
        return None


def has_utc_offset(text: str) -> bool:
    """Whether a timestamp ends in 'Z' or an offset such as '+01:00'."""
    return _UTC_OFFSET.search(text) is not None


def no_timestamp(name: str, where: str, text: str, column: str) -> DataError:
    """The error of a cell that no format reads; `where` is its line."""
    return DataError(f"{name}, {where}, column '{column}': '{text}' is no timestamp", HINT)
