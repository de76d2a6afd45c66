"""How timestamps are written: read in the ways people write them, and written again in a file's own style.

Patterns are `strptime`'s, which polars shares but for `%.f`, a fraction of a second with its point. A timestamp that
ends in an offset from UTC is its wall time beside that offset.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import product
from zoneinfo import ZoneInfo

import polars as pl

from timellm_cli.errors import DataError

HINT = "write timestamps like 2024-01-31 13:00:00, or say how they are written with --date-format"
_DATES = (
    "%Y-%m-%d", "%Y/%m/%d", "%Y.%m.%d", "%Y年%m月%d日", "%Y%m%d",
    "%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%d-%m-%Y", "%m-%d-%Y",
    "%d.%m.%y", "%d/%m/%y", "%m/%d/%y",
    "%d-%b-%y", "%d-%b-%Y", "%d %b %Y", "%d %B %Y", "%b %d, %Y", "%B %d, %Y", "%b %d %Y", "%a, %d %b %Y",
    "%Y %m %d", "%Y %b %d", "%Y. %m. %d.", "%Y-%m", "%Y/%m", "%Y年%m月", "%Y %m", "%Y %b", "%b %Y", "%B %Y", "%b-%y",
    "%G-W%V", "%G-W%V-%u", "%Y",
)  # fmt: skip
_TIMES = (
    "", " %H:%M:%S", " %H:%M", "T%H:%M:%S", "T%H:%M", " %H:%M:%S%.f", "T%H:%M:%S%.f", " %H:%M:%S,%3f",
    " %I:%M %p", " %I:%M:%S %p", "%H", " %H", "%H%M", "%H%M%S", "T%H%M%S", "T%H%M",
    " %H时", " %H时%M分", " %H时%M分%S秒", "%H时", "%H时%M分", "%H时%M分%S秒", " %H %M", " %H %M %S",
)  # fmt: skip
_REGEX = {
    "%Y": r"\d{4}", "%y": r"\d\d", "%m": r"\d\d?", "%d": r"\d\d?", "%H": r"\d\d?", "%I": r"\d\d?", "%M": r"\d\d",
    "%S": r"\d\d", "%.f": r"\.\d+", "%3f": r"\d{3}", "%b": "[A-Za-z]{3}", "%B": "[A-Za-z]{3,}", "%p": "[AaPp][Mm]",
    "%a": "[A-Z][a-z]{2}", "%G": r"\d{4}", "%V": r"\d\d", "%u": "[1-7]",
}  # fmt: skip
_DAY = timedelta(days=1)
_DIRECTIVE = re.compile(r"%\.?\d?[A-Za-z]")
_UNIX = {"unix": 10**6, "unix-ms": 10**3}
_AHEAD = r"\s*(Z|UTC|GMT|[+-]\d\d(?::?\d\d)?(?: UTC)?)$"
_OFFSET = r"(?::\d\d(?:[.,]\d+)?|T\d{2,6})" + _AHEAD
OFFSET_AT_END = _AHEAD
_BETWEEN = r"(?:\s+[-–]\s+|\s+to\s+|\s*~\s*)"
_RANGE = _BETWEEN + r"\S.*$"
_LATE = r"([ T日]|^\d{8})24(:00|时$|时:00|时00分|00|$)"
"""The hour 24, with what stands before and after it."""
_QUARTER = r"^(?:(\d{4})[ :/-]?[Qq]([1-4])|[Qq]([1-4])[ :/-]?(\d{4}))$"
_NUMBERS = {"unix": r"^-?\d{9,10}(?:\.0+)?$", "unix-ms": r"^-?\d{12,13}(?:\.0+)?$", "quarter": _QUARTER}
"""Seconds and milliseconds since 1970, and quarters, by their form."""


@dataclass(frozen=True)
class DateFormat:
    """One way to read a column of texts: `patterns` are tried in order. `name` is what `--date-format` takes.

    `has_offset`: each text ends in an offset from UTC. `is_range`: a text is 'start - end', which counts as its start.
    `late`: midnight may be written as the hour 24 of the day before.
    """

    patterns: tuple[str, ...]
    has_offset: bool = False
    is_range: bool = False
    late: bool = False

    @property
    def name(self) -> str:
        """The first pattern, from which the others differ in the time alone."""
        return self.patterns[0]

    def wall(self, text: pl.Expr) -> pl.Expr:
        """The wall time of each text, in microseconds; null where no pattern reads it, and outside of 1000 to 9999."""
        wall = self._wall(text)
        is_read = wall.dt.year().is_between(1000, 9999)
        return pl.when(is_read & text.str.contains(_OFFSET) if self.has_offset else is_read).then(wall)

    def _wall(self, text: pl.Expr) -> pl.Expr:
        if self.name in _UNIX:
            whole = text.str.replace(r"\.0+$", "")
            return (whole.cast(pl.Int64, strict=False) * _UNIX[self.name]).cast(pl.Datetime("us"))
        if self.name == "quarter":
            year, quarter = (
                pl.coalesce(text.str.extract(_QUARTER, group) for group in pair) for pair in ((1, 4), (2, 3))
            )
            return pl.datetime(year.cast(pl.Int32), quarter.cast(pl.Int32) * 3 - 2, 1).dt.cast_time_unit("us")
        if self.is_range:
            text = text.str.replace(_RANGE, "")
        if self.has_offset:
            text = text.str.replace(OFFSET_AT_END, "")
        return pl.coalesce(*(reading for pattern in self.patterns for reading in _read(text, pattern, self.late)))

    def offset(self, text: pl.Expr) -> pl.Expr:
        """The offset from UTC at the end of each text."""
        found = text.str.extract(_OFFSET, 1)
        sign = pl.when(found.str.starts_with("-")).then(-1).otherwise(1)
        hours = found.str.slice(1, 2).cast(pl.Int32, strict=False).fill_null(0)
        minutes = found.str.replace(":", "").str.slice(3, 2).cast(pl.Int32, strict=False).fill_null(0)
        return pl.when(found.is_null()).then(None).otherwise(pl.duration(minutes=sign * (hours * 60 + minutes)))

    def with_all_times(self) -> "DateFormat":
        """The same date with every time of day that can stand behind it: a midnight may be written without one."""
        date = max((date for date in _DATES if self.name.startswith(date)), key=len, default=None)
        if date is None or "%d" not in date:
            return self
        more = [date + time for time in _TIMES if date + time not in self.patterns and _can_follow(date, time)]
        return replace(self, patterns=(*self.patterns, *more), late=True)


def _read(text: pl.Expr, pattern: str, late: bool) -> Iterator[pl.Expr]:
    """Readings of a pattern: as it is, and with `late` with the hour 24, which is 0 of the next day."""
    added, form = "", pattern
    if not any(directive in pattern for directive in ("%d", "%j", "%u")):
        has_month = any(directive in pattern for directive in ("%m", "%b", "%B"))
        added, more = ("-1", "-%u") if "%V" in pattern else ("-01", "-%d") if has_month else ("-01-01", "-%m-%d")
        form += more
    if ("%H" in pattern or "%I" in pattern) and "%M" not in pattern:
        added, form = added + ":00", form + ":%M"
    text = text + added
    yield text.str.to_datetime(form, time_unit="us", strict=False)
    if late and "%H" in pattern:
        midnight = text.str.replace(_LATE, "${1}00${2}").str.to_datetime(form, time_unit="us", strict=False)
        yield pl.when(text.str.contains(_LATE)).then(midnight + timedelta(days=1))


def find_formats(texts: Sequence[str], wanted: str | None = None) -> list[DateFormat]:
    """The formats that read every text: none, one, or several where day, month or year can be exchanged.

    `wanted` is the value of `--date-format`.
    """
    known = [text for text in texts if text]
    if not known:
        return []
    base = DateFormat(
        ("",),
        _all_match(_OFFSET, known),
        _all_match(_RANGE, known),
        any(re.search(_LATE, text) for text in known),
    )
    trunks = [re.sub(OFFSET_AT_END, "", text) if base.has_offset else text for text in known]
    trunks = [re.sub(_RANGE, "", text) if base.is_range else text for text in trunks]
    if wanted and wanted not in ("dayfirst", "monthfirst"):
        candidates = [replace(base, patterns=("quarter" if "%q" in wanted else wanted,))]
    else:
        candidates = [replace(base, patterns=patterns) for patterns in _matching(trunks)]
    column = pl.lit(pl.Series("text", known, dtype=pl.String))
    numbers = [DateFormat((name,)) for name, form in _NUMBERS.items() if not wanted and _all_match(form, trunks)]
    fitting = [form for form in candidates if not pl.select(form.wall(column)).to_series().null_count()] or numbers
    names = {form.name for form in fitting}
    order = re.compile({"dayfirst": r"%d.*%m", "monthfirst": r"%m.*%d"}.get(wanted or "", ""))
    return [
        form for form in fitting if order.search(form.name) and form.name.replace("%B", "%b") not in names - {form.name}
    ]


def _all_match(regex: str, texts: Sequence[str]) -> bool:
    return all(re.search(regex, text) for text in texts)


def _matching(texts: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """The patterns of one date that match a text each and all texts together, the most frequent one first."""
    for date in _DATES:
        times = [time for time in _TIMES if _can_follow(date, time)]
        matches = {date + time: re.compile(_to_regex(date + time)) for time in times}
        counts = {form: sum(bool(regex.fullmatch(text)) for text in texts) for form, regex in matches.items()}
        found = sorted((form for form in counts if counts[form]), key=lambda form: -counts[form])
        if found and sum(counts.values()) >= len(texts):
            yield tuple(found)


def _can_follow(date: str, time: str) -> bool:
    """Whether a time stands behind a date: without a space only behind digits alone or 日, and never behind a month."""
    glued = "%Y年%m月%d日" if "时" in time else "%Y%m%d"
    return not time or ("%d" in date and (not time.startswith("%") or date == glued))


def _to_regex(pattern: str) -> str:
    compact = re.search(r"%[YmdHMS]%", pattern) is not None
    parts = re.split(f"({_DIRECTIVE.pattern})", pattern)
    widths = _REGEX | dict.fromkeys(("%m", "%d", "%H"), r"\d\d") if compact else _REGEX
    return "".join(widths[part] if part in widths else re.escape(part) for part in parts)


def parse_moment(text: str, form: str) -> tuple[datetime | None, bool]:
    """One timestamp, and whether it has an offset; then it is in UTC. None where it is neither in `form` nor common."""
    column = pl.lit(pl.Series([text.strip()]))
    for found in (*find_formats([text.strip()], form), *find_formats([text.strip()])):
        wall: datetime = pl.select(found.wall(column)).item()
        return (wall - pl.select(found.offset(column)).item(), True) if found.has_offset else (wall, False)
    return None, False


def no_timestamp(name: str, where: str, text: str, column: str) -> DataError:
    """The error of a cell that no format reads. `where` names its line."""
    return DataError(f"{name}, {where}, column '{column}': '{text}' is no timestamp", HINT)


_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
    "December",
)  # fmt: skip


@dataclass(frozen=True)
class DateStyle:
    """How a file writes its timestamps: '2016/7/1 0:00' is followed by '2016/7/1 1:00'.

    `form` is a pattern. `date_digits` and `hour_digits` are the fewest digits of day and month and of the hour,
    `fraction` the digits of a fraction of a second. `offset` is the text of the last offset, `ahead` its length; a
    timestamp is in UTC where `is_utc`, and gets the offset of `zone` where there is one. `late` writes midnight as the
    hour 24 of the day before, `midnight` is the pattern of midnights that are written without a time. `length` is that
    of a range 'start - end', which has the last `end` characters of its end. Seconds since 1970 end in `between`.
    """

    form: str
    date_digits: int = 2
    hour_digits: int = 2
    fraction: int = 6
    offset: str = ""
    ahead: timedelta = timedelta()
    is_utc: bool = False
    zone: str | None = None
    late: bool = False
    midnight: str = ""
    between: str = ""
    length: timedelta | None = None
    end: int = 0

    def wall(self, stamp: datetime) -> datetime:
        """Wall time of a stamp of the table."""
        if not self.is_utc:
            return stamp
        if self.zone is not None:
            return stamp.replace(tzinfo=UTC).astimezone(ZoneInfo(self.zone)).replace(tzinfo=None)
        return stamp + self.ahead

    def write(self, stamp: datetime) -> str:
        """A stamp of the table as text."""
        wall = self.wall(stamp)
        text = self._write(wall) + self._offset_of(stamp, wall)
        return text if self.length is None else text + self.between + self._write(wall + self.length)[-self.end :]

    def _offset_of(self, stamp: datetime, wall: datetime) -> str:
        if not self.offset or self.zone is None:
            return self.offset
        ahead = wall - stamp if self.is_utc else wall.replace(tzinfo=ZoneInfo(self.zone)).utcoffset()
        assert ahead is not None
        minutes = round(ahead / timedelta(minutes=1))
        hours = f"{'-' if minutes < 0 else '+'}{abs(minutes) // 60:02}"
        colon = ":" if ":" in self.offset else ""
        return hours if len(self.offset) == 3 and not minutes % 60 else f"{hours}{colon}{abs(minutes) % 60:02}"

    def _write(self, moment: datetime) -> str:
        if self.form in _UNIX:
            return f"{(moment - datetime(1970, 1, 1)) // timedelta(microseconds=_UNIX[self.form])}{self.between}"
        hour, is_midnight = moment.hour, moment.time() == datetime.min.time()
        if self.late and is_midnight:
            moment, hour = moment - timedelta(days=1), 24
        year, week, day = moment.isocalendar()
        parts = {
            "%q": str((moment.month + 2) // 3),
            "%G": f"{year:04}",
            "%V": f"{week:02}",
            "%u": str(day),
            "%a": _DAYS[day - 1],
            "%j": f"{moment.timetuple().tm_yday:0{self.date_digits + 1 if self.date_digits > 1 else 1}}",
            "%Y": f"{moment.year:04}",
            "%y": f"{moment.year % 100:02}",
            "%m": f"{moment.month:0{self.date_digits}}",
            "%d": f"{moment.day:0{self.date_digits}}",
            "%b": _MONTHS[moment.month - 1][:3],
            "%B": _MONTHS[moment.month - 1],
            "%H": f"{hour:0{self.hour_digits}}",
            "%I": f"{(hour - 1) % 12 + 1:0{self.hour_digits}}",
            "%M": f"{moment.minute:02}",
            "%S": f"{moment.second:02}",
            "%.f": f".{moment.microsecond:06}".ljust(self.fraction + 1, "0")[: self.fraction + 1],
            "%3f": f"{moment.microsecond // 1000:03}",
            "%p": "AM" if hour < 12 else "PM",
        }
        # strftime has no portable fields without leading zeros, and its %p depends on the locale.
        form = self.midnight if self.midnight and is_midnight else self.form
        return _DIRECTIVE.sub(lambda directive: parts.get(directive[0], directive[0]), form)


def find_style(texts: Sequence[str], stamps: Sequence[datetime], form: DateFormat, base: DateStyle) -> DateStyle:
    """The style that writes these timestamps exactly as the file does; ISO 8601 where none does.

    `stamps` are the table's, one for each text. `base` has the offset and the zone.
    """
    if form.name == "quarter":
        return replace(base, form=re.sub(r"\d{4}", "%Y", re.sub(r"(?<=[Qq])\d", "%q", texts[0])))
    if form.name in _UNIX:
        return replace(base, form=form.name, between="".join(re.findall(r"\.0+$", texts[0])))
    if form.is_range and (match := re.search(_BETWEEN, texts[0])):
        style = find_style([re.sub(_RANGE, "", text) for text in texts], stamps, replace(form, is_range=False), base)
        start, end = texts[0][: match.start()], texts[0][match.end() :]
        until, _ = parse_moment(start[: -len(end)] + end, form.name)  # the end may be a time of day alone
        if until is None:
            return style
        length = (until - style.wall(stamps[0])) % _DAY if len(end) < len(start) else until - style.wall(stamps[0])
        return replace(style, between=match[0], length=length, end=len(end) if len(end) < len(start) else 0)
    digits = max((len(found[1]) for text in texts if (found := re.search(r":\d\d\.(\d+)", text))), default=6)
    late = any(re.search(_LATE, text) for text in texts)
    bare = next((pattern for pattern in form.patterns if pattern in _DATES), "")
    for pattern, midnight, day, hour in product(form.patterns, dict.fromkeys(("", bare)), (2, 1), (2, 1)):
        is_late = late and "%H" in pattern
        style = replace(base, form=pattern, date_digits=day, hour_digits=hour, fraction=digits, late=is_late)
        style = replace(style, midnight=midnight)
        if all(style.write(stamp) == text for stamp, text in zip(stamps, texts, strict=True)):
            return style
    whole_seconds = not any(stamp.microsecond for stamp in stamps)
    return replace(base, form="%Y-%m-%d %H:%M:%S" + ("" if whole_seconds else "%.f"))
