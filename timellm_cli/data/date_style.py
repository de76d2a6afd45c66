"""Writes timestamps the way a file writes them: '2016/7/1 0:00' is followed by '2016/7/1 1:00'."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import product

import numpy as np
from numpy.typing import NDArray

from timellm_cli.data.timestamps import ISO, fitting_formats

_ISO_TIMES = ("", " %H:%M", " %H:%M:%S", "T%H:%M", "T%H:%M:%S", " %H:%M:%S.%f", "T%H:%M:%S.%f")
_OFFSET = re.compile(r":.*?(?P<offset>Z|(?P<sign>[+-])(?P<hours>\d\d):?(?P<minutes>\d\d))$")


@dataclass(frozen=True)
class DateStyle:
    """A `strptime` pattern, the digits that day and month and that the hour have at least, and the offset from UTC."""

    form: str
    date_digits: int = 2
    hour_digits: int = 2
    offset: str = ""
    ahead_of_utc: timedelta = timedelta()

    def write(self, stamp: np.datetime64) -> str:
        """A timestamp, in UTC where the file has offsets, as text."""
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
        # Not strftime: it has no unpadded fields that all platforms know, and spells %p by the locale.
        return re.sub("%[A-Za-z]", lambda directive: parts[directive[0]], self.form) + self.offset


def find_style(texts: Sequence[str], stamps_N: NDArray[np.datetime64]) -> DateStyle:
    """The style that writes the first, the last and every other timestamp just as the file has them.

    `texts` are the file's timestamps; `stamps_N` what they were read as, filled ones between them. Where no style fits
    all: ISO 8601 in UTC.
    """
    match = _OFFSET.search(texts[-1])
    offset = match["offset"] if match else ""
    ahead = timedelta(hours=int(match["hours"] or 0), minutes=int(match["minutes"] or 0)) if match else timedelta()
    if match and match["sign"] == "-":
        ahead = -ahead
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
