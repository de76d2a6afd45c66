"""How timestamps are written: read as ISO 8601 or in the usual ways of spreadsheets, and written in a file's own style.

Formats are `strptime` patterns, which pandas shares with the standard library. Light.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import TYPE_CHECKING

from timellm_cli.errors import DataError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

ISO = "ISO8601"
HINT = "write timestamps like 2024-01-31 13:00:00"
_YEAR_FIRST = ("%Y-%m-%d", "%Y/%m/%d", "%Y.%m.%d", "%Y年%m月%d日")
_DATES = (*_YEAR_FIRST, "%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%d-%m-%Y", "%m-%d-%Y")
_TIMES = ("", " %H:%M", " %H:%M:%S", " %H:%M:%S.%f", " %I:%M %p", " %I:%M:%S %p")
_FORMATS = (*(date + time for date in _DATES for time in _TIMES), "%Y-%m", "%Y/%m", "%Y")
_ISO_TIMES = ("", " %H:%M", " %H:%M:%S", "T%H:%M", "T%H:%M:%S", " %H:%M:%S.%f", "T%H:%M:%S.%f")
_UTC_OFFSET = re.compile(r":\d\d(?:[.,]\d+)?\s*(?P<offset>Z|(?P<sign>[+-])(?P<hours>\d\d):?(?P<minutes>\d\d))$")


def fitting_formats(texts: Sequence[str]) -> list[str]:
    """The formats that read every text: none, one, or two where day and month can be exchanged."""
    for form in (ISO, *_FORMATS):
        if all(parse_timestamp(text, form) is not None for text in texts):
            swapped = [other for other in _FORMATS if other != form and sorted(other) == sorted(form)]
            return [form, *(other for other in swapped if all(parse_timestamp(text, other) for text in texts))]
    return []


def parse_timestamp(text: str, form: str) -> datetime | None:
    """A timestamp without a time zone, converted to UTC where the text has an offset. None for another format."""
    try:
        stamp = datetime.fromisoformat(text) if form == ISO else datetime.strptime(text, form)
        return stamp.astimezone(UTC).replace(tzinfo=None) if stamp.tzinfo else stamp
    except (ValueError, OverflowError):  # OverflowError: the year in UTC is below 1 or above 9999
        return None


def has_utc_offset(text: str) -> bool:
    """Whether a timestamp ends in 'Z' or in an offset such as '+01:00'."""
    return _UTC_OFFSET.search(text) is not None


def no_timestamp(name: str, where: str, text: str, column: str) -> DataError:
    """The error of a cell that no format reads. `where` names its line."""
    return DataError(f"{name}, {where}, column '{column}': '{text}' is no timestamp", HINT)


@dataclass(frozen=True)
class DateStyle:
    """How a file writes its timestamps: '2016/7/1 0:00' is followed by '2016/7/1 1:00'.

    `form` is a `strptime` pattern. `date_digits` and `hour_digits` are the fewest digits of day and month and of the
    hour. `offset` is the text of the offset from UTC, `ahead_of_utc` its length.
    """

    form: str
    date_digits: int = 2
    hour_digits: int = 2
    offset: str = ""
    ahead_of_utc: timedelta = timedelta()

    def write(self, stamp: "np.datetime64") -> str:
        """A timestamp as text. `stamp` is in UTC where the file has offsets."""
        moment: datetime = stamp.astype("datetime64[us]").item() + self.ahead_of_utc
        parts = {
            "%Y": f"{moment.year:04}",
            "%m": f"{moment.month:0{self.date_digits}}",
            "%d": f"{moment.day:0{self.date_digits}}",
            "%H": f"{moment.hour:0{self.hour_digits}}",
            "%I": f"{(moment.hour - 1) % 12 + 1:0{self.hour_digits}}",
            "%M": f"{moment.minute:02}",
            "%S": f"{moment.second:02}",
            "%f": f"{moment.microsecond:06}",
            "%p": "AM" if moment.hour < 12 else "PM",
        }
        # strftime has no portable fields without leading zeros, and its %p depends on the locale.
        return re.sub("%[A-Za-z]", lambda directive: parts[directive[0]], self.form) + self.offset


def find_style(texts: Sequence[str], stamps_N: "NDArray[np.datetime64]") -> DateStyle:
    """The style that writes the timestamps of a file exactly as the file does; ISO 8601 in UTC where none does.

    `texts` are the file's timestamps. `stamps_N` are the same ones as read, and may have more between them.
    """
    offset, ahead = "", timedelta()
    if match := _UTC_OFFSET.search(texts[-1]):
        offset = match["offset"]
        ahead = timedelta(hours=int(match["hours"] or 0), minutes=int(match["minutes"] or 0))
        ahead = -ahead if match["sign"] == "-" else ahead
    forms = [
        form
        for fitting in fitting_formats([texts[0], texts[-1]])
        for form in ([f"%Y-%m-%d{time}" for time in _ISO_TIMES] if fitting == ISO else [fitting])
    ]
    for form, date_digits, hour_digits in product(forms, (2, 1), (2, 1)):
        style = DateStyle(form, date_digits, hour_digits, offset, ahead)
        if style.write(stamps_N[0]) != texts[0] or style.write(stamps_N[-1]) != texts[-1]:
            continue
        if set(texts) <= {style.write(stamp) for stamp in stamps_N}:
            return style
    whole_seconds = (stamps_N.astype("datetime64[s]") == stamps_N).all()
    return DateStyle("%Y-%m-%d %H:%M:%S" if whole_seconds else "%Y-%m-%d %H:%M:%S.%f")
