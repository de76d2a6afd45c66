"""Kinds of files that people bring to a forecasting tool: each with the options that read it, and the right answer.

No two are read by the same option or detector. The answers were written down before the files were first read. The
small files of ../shared/cases/tables are of these kinds, too; test_field_tables.py reads them.
"""

import gzip
import io
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

ROWS = 200
_START = datetime(2024, 1, 1)


@dataclass(frozen=True)
class Kind:
    """One kind: the bytes of a file, and what reading it must give.

    `options` are keys of the configuration's section `data`. A file that is read is continued by the timestamp `next`,
    its target ends with `last`, and one note holds `note`. A file that must be refused has `refused`, words of the
    error and its remedy.
    """

    name: str
    content: bytes
    next: str = ""
    last: float | None = None
    options: dict[str, object] = field(default_factory=dict)
    note: str = ""
    refused: str = ""
    ending: str = ".csv"

    @property
    def command(self) -> str:
        """What a person writes to train on it."""
        flags = " ".join(f"--{key.replace('_', '-')} '{value}'" for key, value in self.options.items())
        return f"timellm train FILE{self.ending} {flags}".strip()


def value(row: int) -> float:
    """The value of a row."""
    return 10.25 + row % 7


def moments(step: timedelta = timedelta(hours=1), rows: int = ROWS, start: datetime = _START) -> list[datetime]:
    return [start + row * step for row in range(rows)]


def write(stamps: Iterable[str], header: str = "date,OT", cell: str = "{}", separator: str = ",") -> str:
    """A CSV of one value column."""
    lines = [f"{stamp}{separator}{cell.format(value(row))}" for row, stamp in enumerate(stamps)]
    return "\n".join([header, *lines]) + "\n"


def hourly(form: str = "%Y-%m-%d %H:%M:%S", **how: str) -> str:
    return write((stamp.strftime(form) for stamp in moments()), **how)


def daily(form: str, **how: str) -> str:
    return write((stamp.strftime(form) for stamp in moments(timedelta(days=1))), **how)


def months(form: str, every: int = 1, day: int = 1) -> str:
    found = [datetime(2000 + month // 12, month % 12 + 1, day) for month in range(0, 120 * every, every)]
    return write(stamp.strftime(form) for stamp in found)


def chosen(keep: Callable[[datetime], bool], step: timedelta, rows: int, form: str = "%Y-%m-%d %H:%M") -> str:
    """Rows of the moments that `keep` takes, `rows` of them."""
    found = []
    at = _START
    while len(found) < rows:
        if keep(at):
            found.append(at.strftime(form))
        at += step
    return write(found)


HOURLY = hourly()
LINES = HOURLY.splitlines()
NEXT, LAST = "2024-01-09 08:00:00", value(ROWS - 1)
DAY, HOUR, MINUTE = timedelta(days=1), timedelta(hours=1), timedelta(minutes=1)


def good(name: str, text: str | bytes, after: str = NEXT, last: float | None = LAST, **more: object) -> Kind:
    content = text if isinstance(text, bytes) else text.encode()
    known = {key: more.pop(key) for key in ("note", "ending") if key in more}
    return Kind(name, content, after, last, dict(more), **known)  # type: ignore[arg-type]


def bad(name: str, text: str | bytes, words: str, ending: str = ".csv", **options: object) -> Kind:
    return Kind(
        name, text if isinstance(text, bytes) else text.encode(), options=dict(options), refused=words, ending=ending
    )


def edited(row: int, line: str | None) -> str:
    """The hourly file with a row replaced by another line, or left out."""
    lines = LINES[:]
    lines[row + 1 : row + 2] = [] if line is None else [line]
    return "\n".join(lines) + "\n"


def of_zone(name: str, form: str, rows: int, start: datetime) -> list[str]:
    zone = ZoneInfo(name)
    first = start.replace(tzinfo=ZoneInfo("UTC"))
    return [(first + row * HOUR).astimezone(zone).strftime(form) for row in range(rows)]


def with_columns(header: str, cells: Callable[[int], str]) -> str:
    return "\n".join([header, *(f"{line},{cells(row)}" for row, line in enumerate(LINES[1:]))]) + "\n"


TEXT = [
    good("UTF-8", HOURLY),
    good("UTF-8 with a byte order mark", HOURLY.encode("utf-8-sig")),
    good("UTF-16, as Excel's Unicode text", HOURLY.replace(",", "\t").encode("utf-16")),
    good("UTF-16 without a mark", HOURLY.encode("utf-16-le")),
    good("GBK", hourly(header="date,负荷").encode("gbk"), target="负荷"),
    good("Windows-1252", hourly(header="date,Temp °C").encode("cp1252"), target="Temp °C"),
    good("an encoding that must be named", hourly(header="date,Größe").encode("mac_roman"), target="Größe", encoding="mac_roman"),
    good("lines that end in CR LF", HOURLY.replace("\n", "\r\n")),
    good("lines that end in CR", HOURLY.replace("\n", "\r")),
    good("no line end at the end", HOURLY.rstrip("\n")),
    good("semicolons", hourly(header="date;OT", separator=";")),
    good("tabs", hourly(header="date\tOT", separator="\t")),
    good("bars", hourly(header="date|OT", separator="|")),
    good("aligned with blanks", hourly("%Y-%m-%dT%H:%M", header="date              OT", separator="  "), "2024-01-09T08:00"),
    good("date and time aligned with blanks, and blanks at the end", write((f"{at:%Y-%m-%d}   {at:%H:%M}" for at in moments()), "day   clock  OT", "{}  ", " "), "2024-01-09 08:00", date_column="day,clock"),
    good("a first line sep=;", "sep=;\n" + hourly(header="date;OT", separator=";")),
    good("every cell quoted", "\n".join(",".join(f'"{cell}"' for cell in line.split(",")) for line in LINES) + "\n"),
    good("blanks after the comma", hourly(header="date, OT", separator=", ")),
    good("a comma at the end of every line", "\n".join(f"{line}," for line in LINES) + "\n"),
    good("a comma at the end of every row", "\n".join([LINES[0], *(f"{line}," for line in LINES[1:])]) + "\n"),
    good("gzip", gzip.compress(HOURLY.encode(), mtime=0), ending=".csv.gz"),
    bad("an Excel workbook", b"PK\x03\x04" + bytes(60), "Excel", ending=".xlsx"),
    bad("a web page", "<!DOCTYPE html>\n<html><body>Not found</body></html>\n", "web page"),
    bad("JSON", '[{"date": "2024-01-01", "OT": 1.5},\n {"date": "2024-01-02", "OT": 2.5}]\n', "JSON"),
    bad("an empty file", "", "is empty"),
    bad("a header alone", "date,OT\n", "no rows"),
]  # fmt: skip

NUMBERS = [
    good("decimal commas, certain", hourly(header="date;OT", separator=";").replace(".25", ",25"), note="decimal commas"),
    good("decimal commas, told", hourly(header="date;OT", separator=";", cell="{:.3f}").replace(".250", ",250"), decimal=","),
    good("decimal commas after dots", hourly(header="date;OT", separator=";", cell="1.{:.0f}0,25"), last=1130.25, note="'.' between groups"),
    good("thousands commas in quotes", hourly(cell='"1,2{:.2f}"'), last=1213.25, thousands=","),
    good("thousands blanks", hourly(cell="1 2{:.2f}"), last=1213.25, thousands=" "),
    good("thousands apostrophes", hourly(cell="1'2{:.2f}"), last=1213.25, thousands="'"),
    bad("whole numbers with thousands dots", hourly(header="date;OT", separator=";", cell="1.2{:.0f}"), "--thousands ."),
    good("exponents", hourly(cell="{:.4e}")),
    good("a plus sign", hourly(cell="+{}")),
    good("the typographic minus", hourly(cell="\u2212{}"), last=-LAST),
    bad("percent signs", hourly(cell="{}%"), "is no number"),
    bad("currency signs", hourly(cell="${}"), "is no number"),
    bad("a text among numbers", edited(50, "2024-01-03 02:00:00,broken"), "'broken' is no number"),
    bad("an infinite number", edited(50, "2024-01-03 02:00:00,inf"), "line 52"),
]  # fmt: skip

DATES = [
    good("dates alone", daily("%Y-%m-%d"), "2024-07-19"),
    good("T between date and time", hourly("%Y-%m-%dT%H:%M"), "2024-01-09T08:00"),
    good("UTC as Z", hourly("%Y-%m-%dT%H:%M:%SZ"), "2024-01-09T08:00:00Z"),
    good("milliseconds and Z", hourly("%Y-%m-%dT%H:%M:%S.000Z"), "2024-01-09T08:00:00.000Z"),
    good("an offset of hours", hourly("%Y-%m-%d %H:%M:%S+08"), "2024-01-09 08:00:00+08"),
    good("an offset without a colon", hourly("%Y-%m-%dT%H:%M:%S+0530"), "2024-01-09T08:00:00+0530"),
    good("the word UTC", hourly("%Y-%m-%d %H:%M:%S UTC"), "2024-01-09 08:00:00 UTC"),
    good("slashes, year first", hourly("%Y/%m/%d %H:%M"), "2024/01/09 08:00"),
    good("German dates", hourly("%d.%m.%Y %H:%M"), "09.01.2024 08:00"),
    good("the day first, by order", daily("%d/%m/%Y"), "19/07/2024"),
    good("the month first, by order", daily("%m/%d/%Y"), "07/19/2024"),
    bad("day or month first", write(f"01/0{day}/2024" for day in (2, 3, 4)), "--date-format dayfirst"),
    good("the day first, told", write(f"01/0{month}/2024" for month in (2, 3, 4)), "01/05/2024", value(2), date_format="dayfirst"),
    good("two digits of the year", daily("%d.%m.%y"), "19.07.24"),
    good("digits of date alone", daily("%Y%m%d"), "20240719"),
    good("digits of date and hour", hourly("%Y%m%d%H"), "2024010908"),
    good("compact ISO", hourly("%Y%m%dT%H%M%S"), "20240109T080000"),
    good("UNIX seconds", write(str(1704067200 + 3600 * row) for row in range(ROWS)), "1704787200"),
    good("UNIX milliseconds", write(str(1704067200000 + 3600000 * row) for row in range(ROWS)), "1704787200000"),
    good("month names after the day", daily("%d-%b-%y"), "19-Jul-24"),
    good("month names before the day", daily('"%b %d, %Y"'), "Jul 19, 2024"),
    good("whole month names", daily("%d %B %Y"), "19 July 2024"),
    good("days of the week before dates", daily('"%a, %d %b %Y"'), "Fri, 19 Jul 2024"),
    good("Chinese hours", write(f"{at.year}年{at.month}月{at.day}日 {at.hour}时" for at in moments()), "2024年1月9日 8时"),
    good("Chinese minutes and seconds", hourly("%Y年%m月%d日 %H时%M分%S秒"), "2024年01月09日 08时00分00秒"),
    good("Chinese months", write(f"{2000 + month // 12}年{month % 12 + 1}月" for month in range(120)), "2010年1月", value(119)),
    good("quarters after the year", write(f"{1950 + row // 4}Q{row % 4 + 1}" for row in range(ROWS)), "2000Q1"),
    good("quarters before the year", write(f"Q{row % 4 + 1} {1950 + row // 4}" for row in range(ROWS)), "Q1 2000"),
    good("years", write(str(1800 + row) for row in range(ROWS)), "2000"),
    good("year and month", months("%Y-%m"), "2010-01", value(119)),
    good("month and year in words", months("%b %Y"), "Jan 2010", value(119)),
    good("ISO weeks", write(f"{year}-W{week:02}" for year in (2022, 2023) for week in range(1, 53)), "2024-W01", value(103)),
    good("day of the year, told", daily("%Y-%j"), "2024-201", date_format="%Y-%j"),
    good("AM and PM", hourly("%m/%d/%Y %I:%M %p"), "01/09/2024 08:00 AM"),
    good("the hour 24", write(f"{(at - HOUR):%Y-%m-%d} 24:00" if not at.hour else f"{at:%Y-%m-%d %H:%M}" for at in moments(start=_START + HOUR)), "2024-01-09 09:00"),
    good("midnights without a time, in ISO 8601", write(f"{at:%Y-%m-%d}" if not at.hour else f"{at:%Y-%m-%d %H:%M:%S}" for at in moments())),
    good("midnights without a time", write(f"{at:%d.%m.%Y}" if not at.hour else f"{at:%d.%m.%Y %H:%M}" for at in moments()), "09.01.2024 08:00", None),
    good("ranges", write(f"{at:%d.%m.%Y %H:%M} - {at + HOUR:%d.%m.%Y %H:%M}" for at in moments()), "09.01.2024 08:00 - 09.01.2024 09:00"),
    good("fractions after a comma", hourly('"%Y-%m-%d %H:%M:%S,000"'), "2024-01-09 08:00:00,000"),
    good("date and time in two columns", hourly("%d/%m/%Y,%H:%M:%S", header="Date,Time,OT"), "09/01/2024 08:00:00", date_column="Date,Time"),
    good("year, month, day and hour in columns", write((f"{at.year},{at.month},{at.day},{at.hour}" for at in moments()), header="year,month,day,hour,OT"), "2024 1 9 8"),
    bad("a pattern that does not fit", HOURLY, "--date-format %d.%m.%Y", date_format="%d.%m.%Y"),
    bad("a date that does not exist", edited(50, "2024-02-30 02:00:00,1"), "line 52"),
    bad("row numbers instead of dates", write(map(str, range(ROWS))), "no timestamp"),
    bad("times without dates", write(f"{at:%H:%M}" for at in moments(rows=24)), "no timestamp"),
    bad("German month names", write(f"{day}. Januar 2024" for day in range(1, 29)), "no timestamp"),
]  # fmt: skip

BERLIN = of_zone("Europe/Berlin", "%Y-%m-%d %H:%M", ROWS, datetime(2023, 10, 25))
NEW_YORK = of_zone("America/New_York", "%Y-%m-%d %H:%M", ROWS, datetime(2024, 3, 7))
ZONES = [
    good("a doubled hour", write(BERLIN), "2023-11-02 09:00", timezone="Europe/Berlin"),
    good("an absent hour", write(NEW_YORK), "2024-03-15 04:00", timezone="America/New_York"),
    bad("a doubled hour without a zone", write(BERLIN), "--timezone"),
    good("offsets that change", write(f"{text[:-2]}:{text[-2:]}" for text in of_zone("Europe/Berlin", "%Y-%m-%d %H:%M:%S%z", ROWS, datetime(2023, 10, 25))), "2023-11-02 09:00:00+01:00"),
    good("local midnights with offsets", write(f"{date(2024, 1, 1) + row * DAY} 00:00:00+0{1 + (90 <= row < 300)}:00" for row in range(ROWS)), "2024-07-19 00:00:00+02:00"),
    good("local midnights, the zone named", write(f"{date(2024, 4, 10) + row * DAY} 00:00:00+02:00" for row in range(201)), "2024-10-28 00:00:00+01:00", None, timezone="Europe/Berlin"),
    good("days with a zone", daily("%Y-%m-%d"), "2024-07-19", timezone="Europe/Berlin"),
]  # fmt: skip


def month_days(*days: int) -> list[str]:
    return [f"{2010 + month // 12}-{month % 12 + 1:02}-{day:02}" for month in range(60) for day in days]


def _of_month(keep: Callable[[date], bool]) -> list[str]:
    every = (date(2010, 1, 1) + row * DAY for row in range(365 * 5 + 1))
    return [str(day) for day in every if keep(day)]


STEPS = [
    good("the 15th of each month", write(month_days(15)), "2015-01-15", value(59)),
    good("the 1st and the 15th", write(month_days(1, 15)), "2015-01-01", value(119)),
    good("旬: ten days of a month", write(month_days(1, 11, 21)), "2015-01-01", value(179)),
    good("ends of months", write(_of_month(lambda day: (day + DAY).day == 1)), "2015-01-31", value(59)),
    good("last Fridays", write(_of_month(lambda day: day.weekday() == 4 and (day + 7 * DAY).month != day.month)), "2015-01-30", value(59)),
    good("third Wednesdays", write(_of_month(lambda day: day.weekday() == 2 and 15 <= day.day <= 21)), "2015-01-21", value(59)),
    good("last working days", write(_of_month(lambda day: day.weekday() < 5 and all((day + ahead * DAY).month != day.month or (day + ahead * DAY).weekday() > 4 for ahead in (1, 2, 3)))), "2015-01-30", value(59)),
    good("quarters from February", months("%Y-%m-%d", 3).replace("-01-01", "-02-01").replace("-04-01", "-05-01").replace("-07-01", "-08-01").replace("-10-01", "-11-01"), "2030-02-01", value(119)),
    good("a census every ten years", write(f"{year}-04-01" for year in range(1790, 2021, 10)), "2030-04-01", value(23)),
    good("weeks", write(f"{at:%Y-%m-%d}" for at in moments(7 * DAY)), "2027-11-01"),
    good("36 hours", write(map(str, moments(36 * HOUR))), "2024-10-27 00:00:00"),
    good("64 Hz", write(f"{at:%H:%M:%S.%f}" for at in moments(timedelta(microseconds=15625))).replace("00:00", "2024-01-01 00:00"), "2024-01-01 00:00:03.125000"),
    bad("no steady step", write(str(_START + row * row * MINUTE) for row in range(60)), "irregular timestamps"),
]  # fmt: skip


def _weekday(at: datetime) -> bool:
    return at.weekday() < 5


def with_row_between(text: str) -> str:
    """A row at half past nine of the third day."""
    return text.replace("2024-01-03 10:00", "2024-01-03 09:30,5\n2024-01-03 10:00")


CLOSED = [
    good("working days", chosen(_weekday, DAY, ROWS, "%Y-%m-%d"), "2024-10-07"),
    good("six days a week", chosen(lambda at: at.weekday() != 6, DAY, ROWS, "%Y-%m-%d"), "2024-08-21"),
    good("nights closed", chosen(lambda at: 9 <= at.hour < 17, HOUR, ROWS), "2024-01-26 09:00"),
    good("a break at noon", chosen(lambda at: at.hour in (9, 10, 13, 14) and _weekday(at), HOUR, ROWS), "2024-03-11 09:00"),
    good("Sunday night to Friday night", chosen(lambda at: _weekday(at + 2 * HOUR), HOUR, 480), "2024-01-29 00:00", value(479)),
    good("Mondays and Thursdays", chosen(lambda at: at.weekday() in (0, 3), DAY, 60, "%Y-%m-%d"), "2024-07-29", value(59)),
    good("unequal times of the day", chosen(lambda at: at.hour in (6, 12, 15, 22), HOUR, 120), "2024-01-31 06:00", value(119)),
    good("some rows beside the sessions, as steps", with_row_between(chosen(lambda at: 9 <= at.hour < 17, HOUR, ROWS)), "2024-01-26 09:00", calendar="rows"),
    bad("working days as a regular calendar", chosen(_weekday, DAY, ROWS, "%Y-%m-%d"), "a gap", calendar="regular"),
    good("holidays of a region", write(str(day) for day in (date(2026, 1, 5) + row * DAY for row in range(354)) if day.weekday() < 5 and f"{day:%m-%d}" not in "01-26 02-06 04-03 04-06 04-27 06-01 07-10 10-26"), "2026-12-29", None, closed_on="NZ-AUK"),
    good("holidays of a stock exchange", write(str(day) for day in (date(2023, 1, 3) + row * DAY for row in range(356)) if day.weekday() < 5 and f"{day:%m-%d}" not in "01-16 02-20 04-07 05-29 06-19 07-04 09-04 11-23"), "2023-12-26", None, closed_on="NYSE"),
    good("open every day but on holidays", write(str(day) for day in (date(2023, 1, 2) + row * DAY for row in range(364)) if f"{day:%m-%d}" not in "04-07 04-10 05-01 05-18 05-29 10-03 12-25 12-26"), "2024-01-02", None, closed_on="DE"),
    bad("holidays of a place that is none", HOURLY, "no region of NZ is called 'AUX'; did you mean 'AUK'", closed_on="NZ-AUX"),
]  # fmt: skip

REPAIRS = [
    bad("a row that lacks", edited(50, None), "--fill linear"),
    bad("an empty cell", edited(50, "2024-01-03 02:00:00,"), "the cell is empty"),
    good("gaps, interpolated", edited(50, None), note="Histories are filled (linear)", fill="linear"),
    good("gaps, the value before", edited(50, "2024-01-03 02:00:00,"), note="Histories are filled (previous)", fill="previous"),
    good("gaps, zero", edited(50, None), note="Histories are filled (zero)", fill="zero"),
    bad("a timestamp twice", edited(50, f"{LINES[51]}\n2024-01-03 02:00:00,99"), "--duplicates first, last or mean"),
    good("a timestamp twice, the first", edited(199, f"{LINES[200]}\n2024-01-09 07:00:00,99"), note="the first one kept", duplicates="first"),
    good("a timestamp twice, the last", edited(199, f"{LINES[200]}\n2024-01-09 07:00:00,99"), last=99, note="the last one kept", duplicates="last"),
    good("a timestamp twice, the mean", edited(199, f"{LINES[200]}\n2024-01-09 07:00:00,99"), last=(LAST + 99) / 2, note="averaged", duplicates="mean"),
    good("equal rows with gaps to fill", edited(199, f"{LINES[200]}\n{LINES[200]}"), note="equal", fill="linear"),
    bad("seconds late", write(str(at + timedelta(seconds=index % 3)) for index, at in enumerate(moments())), "--snap 1h"),
    good("seconds late, rounded", write(str(at + timedelta(seconds=index % 3)) for index, at in enumerate(moments())), snap="1h"),
    good("newest first", "\n".join([LINES[0], *LINES[:0:-1]]) + "\n", note="sorted by time"),
    good("years in disorder", "\n".join([LINES[0], *LINES[101:], *LINES[1:101]]) + "\n", note="sorted by time"),
]  # fmt: skip

HEADERS = [
    bad("lines above the header", "Station 7\nunits: kW\n" + HOURLY, "--skip-rows"),
    good("lines above the header, told", "Station 7\nunits: kW\n" + HOURLY, skip_rows=2),
    good("comments above the header", "# station 7\n# kW\n" + HOURLY),
    bad("no header", "\n".join(LINES[1:]) + "\n", "header"),
    bad("a name twice", with_columns("date,OT,OT", lambda row: "1"), "OT"),
    good("blank lines between", HOURLY.replace("\n2024-01-03", "\n\n2024-01-03")),
    good("dates by another name", hourly(header="Timestamp,OT"), note="timestamps are in the column 'Timestamp'"),
    good("dates in a column without a name", hourly(header=",OT"), note="timestamps are in the column without a name"),
    good("a target by another name", hourly(header="date,consumption"), note="the target is 'consumption'"),
    good("a name with a comma", with_columns('date,OT,"load, MW"', lambda row: str(row % 5)), last=4, columns='"load, MW"', target="load, MW"),
    bad("two columns of dates", with_columns("start,OT,end", lambda row: LINES[row + 1].split(",")[0]), "2 columns hold timestamps"),
    bad("a column that is not there", HOURLY, "OTT", target="OTT"),
]  # fmt: skip

CELLS = [
    *(
        good(f"'{mark}' for no value", edited(50, f"2024-01-03 02:00:00,{mark}"), fill="linear", note="empty cells 1")
        for mark in ("NA", "null", "-", "#VALUE!", "NaN")
    ),
    good("a mark of one's own", edited(50, "2024-01-03 02:00:00,?"), na="?", fill="linear", note="empty cells 1"),
    good("-9999 for no value, said", edited(50, "2024-01-03 02:00:00,-9999"), note="-9999"),
    good("-9999 for no value, told", edited(50, "2024-01-03 02:00:00,-9999"), na="-9999", fill="linear", note="empty cells 1"),
    good("an index without a name", "\n".join([f",{LINES[0]}", *(f"{row},{line}" for row, line in enumerate(LINES[1:]))]) + "\n", note="numbers the rows"),
    good("an index with a name", "\n".join([f"id,{LINES[0]}", *(f"{row},{line}" for row, line in enumerate(LINES[1:], 1))]) + "\n", note="column 'id' numbers the rows"),
    good("one text in every row", with_columns("date,OT,site", lambda row: "north"), note="'north' in every row"),
    good("a constant column", with_columns("date,OT,limit", lambda row: "5"), note="constant", target="OT"),
    bad("a text column", with_columns("date,OT,state", lambda row: "on" if row % 2 else "off"), "--exclude state", target="OT"),
    good("a text column, left out", with_columns("date,OT,state", lambda row: "on" if row % 2 else "off"), exclude="state"),
    good("one column of several", with_columns("date,OT,other", lambda row: str(row % 3)), columns="OT", target="OT"),
    bad("a column without a value", with_columns("date,OT,empty", lambda row: ""), "the cell is empty", target="OT"),
    good("empty rows at the end", HOURLY + ",\n" * 20, note="20 empty rows at the end left out"),
    bad("a total at the end", HOURLY + "Total,2450.5\n", "line 202"),
    bad("a row too wide", edited(50, "2024-01-03 02:00:00,1,2"), "line 52"),
    bad("a row cut at the end", HOURLY.rstrip("\n")[:-20], "line 201"),
]  # fmt: skip


def parquet() -> bytes:
    """The hourly file as Parquet."""
    import polars as pl

    buffer = io.BytesIO()
    pl.DataFrame({"date": moments(), "OT": [value(row) for row in range(ROWS)]}).write_parquet(buffer)
    return buffer.getvalue()


def long(ids: str = "ab", starts: tuple[int, ...] = (0, 0), by_time: bool = False) -> list[str]:
    """The hourly rows of several series, each with its id before them, from its own first row on."""
    rows = [(name, row) for name, start in zip(ids, starts, strict=True) for row in range(start, ROWS)]
    rows = sorted(rows, key=lambda pair: pair[1]) if by_time else rows
    return ["id,date,OT", *(f"{name},{LINES[row + 1]}" for name, row in rows)]


def lines(*series: str) -> str:
    return "\n".join(["id,1,2,3,4", *series]) + "\n"


PANELS = [
    good("series one after the other", "\n".join(long()), id_column="id"),
    good("series row by row in turn", "\n".join(long(by_time=True)), id_column="id"),
    good("series that begin at different times", "\n".join(long(starts=(0, 50))), id_column="id"),
    bad("series whose ids are not named", "\n".join(long()), "--id-column"),
    bad("a row without an id", "\n".join([*long()[:-1], f",{LINES[-1]}"]), "line 401: the row has no 'id'", id_column="id"),
    bad("a timestamp twice in one series", "\n".join([*long(), long()[-1]]), "2024-01-09 07:00:00", id_column="id"),
    bad("a gap in one series", "\n".join([*long()[:250], *long()[251:]]), "--fill", id_column="id"),
    good("a gap in one series, filled", "\n".join([*long()[:250], *long()[251:]]), id_column="id", fill="linear", note="absent timestamps 1"),
    good("a series a line", lines("a,5,6,7,8", "b,1,2,3,4.5"), "2000-01-05", 4.5, date_column="none"),
    good("a series a line, of unequal lengths", lines("a,5,6,7,8", "b,1,2,,"), "2000-01-05", 2, date_column="none"),
    bad("an id in two lines", lines("a,5,6,7,8", "a,1,2,3,4"), "the id 'a' stands in several lines", date_column="none"),
]  # fmt: skip

CONTAINERS = [good("Parquet", parquet(), "2024-01-09 08:00:00", ending=".parquet")]

KINDS = [*TEXT, *NUMBERS, *DATES, *ZONES, *STEPS, *CLOSED, *REPAIRS, *HEADERS, *CELLS, *PANELS, *CONTAINERS]
