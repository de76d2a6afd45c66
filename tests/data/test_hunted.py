"""Cases that were thought up with their right answer before they were run: each about a number or a date."""

import io
from datetime import datetime, timedelta
from typing import Any

import pytest

from timellm_cli.config import DataConfig
from timellm_cli.data.cadence import continue_stamps
from timellm_cli.data.read_table import read_table
from timellm_cli.data.table import Table
from timellm_cli.errors import DataError


def read(text: str, **options: Any) -> Table:
    return read_table(
        io.BytesIO(text.encode()), DataConfig.model_validate({"dataset": "custom", **options}), name="my.csv"
    )


def rows(stamps: list[str], header: str = "date,OT", sign: str = ",") -> str:
    return "\n".join([header, *(f"{stamp}{sign}{row}" for row, stamp in enumerate(stamps, 1))]) + "\n"


def times(first: str, step: timedelta, count: int, form: str = "%Y-%m-%d %H:%M:%S") -> list[str]:
    start = datetime.fromisoformat(first)
    return [(start + row * step).strftime(form) for row in range(count)]


HOUR, DAY = timedelta(hours=1), timedelta(days=1)

DATES: dict[str, tuple[str, dict[str, Any], str]] = {
    # name: text, options, what comes next
    "a leap day in a daily file": (rows(["2024-02-26", "2024-02-27", "2024-02-28"]), {}, "2024-02-29"),
    "no leap day in 1900": (rows(["1900-02-26", "1900-02-27", "1900-02-28"]), {}, "1900-03-01"),
    "month ends through February": (rows(["2023-11-30", "2023-12-31", "2024-01-31"]), {}, "2024-02-29"),
    "the 30th of each month, clamped in February": (
        rows(["2022-12-30", "2023-01-30", "2023-02-28", "2023-03-30"]), {}, "2023-04-30"
    ),
    "28-day months are four weeks": (rows(["2023-02-05", "2023-03-05", "2023-04-02", "2023-04-30"]), {}, "2023-05-28"),
    "the second Tuesday": (rows(["2024-01-09", "2024-02-13", "2024-03-12"]), {}, "2024-04-09"),
    "half years": (rows(["2020-03-31", "2020-09-30", "2021-03-31", "2021-09-30"]), {}, "2022-03-31"),
    "a fiscal year that ends in June": (rows(["2019-06-30", "2020-06-30", "2021-06-30"]), {}, "2022-06-30"),
    "leap years only": (rows(["2012-02-29", "2016-02-29", "2020-02-29"]), {}, "2024-02-29"),
    "centuries": (rows(["1700", "1800", "1900", "2000"]), {}, "2100"),
    "a census every five years": (rows(["2000-01-01", "2005-01-01", "2010-01-01", "2015-01-01"]), {}, "2020-01-01"),
    "two digits of a year": (rows(["29.12.99", "30.12.99", "31.12.99"]), {}, "01.01.00"),
    "single digits throughout": (rows(["1/2/2024", "1/3/2024", "1/14/2024", "1/15/2024"][2:]), {}, "1/16/2024"),
    "midnight without a time, as a spreadsheet writes it": (
        rows(["2024-01-01 22:00", "2024-01-01 23:00", "2024-01-02 00:00", "2024-01-02 01:00"]), {}, "2024-01-02 02:00"
    ),
    "a minute before midnight of New Year": (
        rows(times("2023-12-31 23:57", timedelta(minutes=1), 3, "%Y-%m-%d %H:%M")), {}, "2024-01-01 00:00"
    ),
    "noon and midnight in twelve hours": (
        rows(["01/31/2024 10:00 PM", "01/31/2024 11:00 PM", "02/01/2024 12:00 AM"]), {}, "02/01/2024 01:00 AM"
    ),
    "64 a second": (
        rows(times("2024-01-01", timedelta(seconds=1) / 64, 4, "%Y-%m-%d %H:%M:%S.%f")), {}, "2024-01-01 00:00:00.062500"
    ),
    "tenths of a second with one digit": (
        rows(["2024-01-01 00:00:00.0", "2024-01-01 00:00:00.5", "2024-01-01 00:00:01.0"]), {}, "2024-01-01 00:00:01.5"
    ),
    "milliseconds since 1970": (rows(["1704067200000", "1704070800000", "1704074400000"]), {}, "1704078000000"),
    "seconds before 2001 have nine digits": (rows(["978307199", "978307259", "978307319"]), {}, "978307379"),
    "a quarter with a dash": (rows(["2023-Q3", "2023-Q4", "2024-Q1"]), {}, "2024-Q2"),
    "hours of the Chinese kind": (
        rows(["2024年1月9日 22时", "2024年1月9日 23时", "2024年1月10日 0时"]), {}, "2024年1月10日 1时"
    ),
    "months of the Chinese kind": (rows(["2023年11月", "2023年12月", "2024年1月"]), {}, "2024年2月"),
    "a range over midnight": (
        rows(["01.01.2024 22:00 - 01.01.2024 23:00", "01.01.2024 23:00 - 02.01.2024 00:00"]), {},
        "02.01.2024 00:00 - 02.01.2024 01:00",
    ),
    "an offset of half an hour": (
        rows([f"{stamp}+05:30" for stamp in times("2024-01-01", HOUR, 3)]), {}, "2024-01-01 03:00:00+05:30"
    ),
    "an offset west of Greenwich": (
        rows([f"{stamp}-0330" for stamp in times("2024-01-01T00:00", HOUR, 3, "%Y-%m-%dT%H:%M")]), {},
        "2024-01-01T03:00-0330",
    ),
    "spring forward with offsets": (
        rows(["2024-03-31T00:00+01:00", "2024-03-31T01:00+01:00", "2024-03-31T03:00+02:00"]), {},
        "2024-03-31T04:00+02:00",
    ),
    "an offset that a named zone changes next": (
        rows(["2024-03-30T23:00+01:00", "2024-03-31T00:00+01:00", "2024-03-31T01:00+01:00"]),
        {"timezone": "Europe/Berlin"}, "2024-03-31T02:00+01:00",
    ),
    "naive local time into its doubled hour": (
        rows(["2024-10-27 00:00", "2024-10-27 01:00", "2024-10-27 02:00"]), {"timezone": "Europe/Berlin"},
        "2024-10-27 02:00",
    ),
    "naive local time over its absent hour": (
        rows(["2024-03-30 23:00", "2024-03-31 00:00", "2024-03-31 01:00"]), {"timezone": "Europe/Berlin"},
        "2024-03-31 03:00",
    ),
    "days in a zone without a midnight": (
        rows(["2018-11-02", "2018-11-03", "2018-11-04"]), {"timezone": "America/Sao_Paulo"}, "2018-11-05"
    ),
    "Friday is followed by Monday": (
        rows([f"{day:%Y-%m-%d}" for day in (datetime(2024, 1, 1) + n * DAY for n in range(33)) if day.weekday() < 5]), {},
        "2024-02-05",
    ),
    "a market open on Sunday": (
        rows([f"{day:%Y-%m-%d}" for day in (datetime(2024, 1, 1) + n * DAY for n in range(33)) if day.weekday() not in (4, 5)]),
        {}, "2024-02-04",
    ),
    "a lunch break": (
        rows([
            f"{day + hour * HOUR:%Y-%m-%d %H:%M}" for day in (datetime(2024, 1, 1) + n * DAY for n in range(28))
            for hour in (9, 10, 11, 13, 14) if day.weekday() < 5
        ]), {}, "2024-01-29 09:00",
    ),
    "snapping up to the next day": (
        rows(["2024-01-01 23:59:58", "2024-01-02 23:59:59", "2024-01-04 00:00:01"]), {"snap": "1d"}, "2024-01-05 00:00:00"
    ),
    "a pattern of one's own": (rows(["01|31|24", "02|01|24", "02|02|24"]), {"date_format": "%m|%d|%y"}, "02|03|24"),
}  # fmt: skip


@pytest.mark.parametrize("name", DATES)
def test_the_date_that_follows(name: str) -> None:
    text, options, after = DATES[name]
    table = read(text, **options)
    assert table.style.write(continue_stamps(table.stamps[-1], table.cadence, 1)[0]) == after


DAYS = [f"2024-01-0{day}" for day in range(1, 6)]

NUMBERS: dict[str, tuple[list[str], dict[str, Any], list[float | None], str]] = {
    # name: cells, options, values, delimiter
    "exponents": (["1e3", "-2.5E-2", "+3e+0", "4", "5"], {}, [1000, -0.025, 3, 4, 5], ","),
    "a point without digits on one side": ([".5", "1.", "-.25", "4", "5"], {}, [0.5, 1, -0.25, 4, 5], ","),
    "blanks around numbers": ([" 1", "2 ", " 3 ", "4", "5"], {}, [1, 2, 3, 4, 5], ","),
    "quoted numbers": (['"1"', '"2.5"', "3", "4", "5"], {}, [1, 2.5, 3, 4, 5], ","),
    "negative zero": (["-0.0", "1", "2", "3", "4"], {}, [0, 1, 2, 3, 4], ","),
    "the largest whole number of float64": (["9007199254740992", "1", "2", "3", "4"], {}, [2**53, 1, 2, 3, 4], ","),
    "seventeen digits": (["0.1234567890123456789", "1", "2", "3", "4"], {}, [0.12345678901234568, 1, 2, 3, 4], ","),
    "a dash for no value": (["1", "-", "3", "4", "5"], {"fill": "linear"}, [1, None, 3, 4, 5], ","),
    "a spreadsheet's error for no value": (["1", "#DIV/0!", "3", "4", "5"], {"fill": "linear"}, [1, None, 3, 4, 5], ","),
    "a mark that looks like a number": (["1", "-999", "3", "4", "5"], {"na": ("-999",), "fill": "zero"}, [1, None, 3, 4, 5], ","),
    "decimal commas with one decimal": (["1,5", "2,5", "3,5", "4,5", "5,5"], {}, [1.5, 2.5, 3.5, 4.5, 5.5], ";"),
    "decimal commas with three decimals, one of them below one": (
        ["1,234", "0,500", "3,125", "4,000", "5,250"], {}, [1.234, 0.5, 3.125, 4, 5.25], ";",
    ),
    "German thousands": (["1.234,5", "999,0", "12.345.678,9", "4,0", "5,0"], {}, [1234.5, 999, 12345678.9, 4, 5], ";"),
    "English thousands in a tab file": (["1,234.5", "999.0", "4.0", "5.0", "6.0"], {"thousands": ","}, [1234.5, 999, 4, 5, 6], "\t"),
    "French thousands": (["1\u202f234,5", "999,0", "12\u00a0345\u00a0678,9", "4,0", "5,0"], {}, [1234.5, 999, 12345678.9, 4, 5], ";"),
    "thousands with blanks": (["1 234.5", "999.0", "4.0", "5.0", "6.0"], {}, [1234.5, 999, 4, 5, 6], ";"),
    "Swiss thousands": (["1'234.5", "999", "4", "5", "6"], {"thousands": "'"}, [1234.5, 999, 4, 5, 6], ";"),
}  # fmt: skip


@pytest.mark.parametrize("name", NUMBERS)
def test_the_number_that_is_meant(name: str) -> None:
    cells, options, values, sign = NUMBERS[name]
    text = f"date{sign}OT\n" + "\n".join(f"{day}{sign}{cell}" for day, cell in zip(DAYS, cells, strict=True)) + "\n"
    assert read(text, **options).frame["OT"].to_list() == values


REFUSED: dict[str, tuple[str, dict[str, Any], str]] = {
    "a year before Christ": (rows(["01.02.2024", "02.02.2024", "07.02.-024"]), {}, "'07.02.-024' is no timestamp"),
    "a year of two digits among years of four": (rows(["01.02.2024", "02.02.2024", "03.02.24"]), {}, "is no timestamp"),
    "an offset beyond the last year": (
        rows(["9999-12-31T22:00:00-05:00", "9999-12-31T23:00:00-05:00", "9999-12-31T23:30:00-06:00"]), {}, "beyond the year 9999"
    ),
    "a percentage": (rows(DAYS).replace(",3", ",3%"), {}, "'3%' is no number"),
    "a unit": (rows(DAYS).replace(",3", ",3 kW"), {}, "'3 kW' is no number"),
    "an underscore within a number": (rows(DAYS).replace(",3", ",1_000"), {}, "'1_000' is no number"),
    "hexadecimal digits": (rows(DAYS).replace(",3", ",0x10"), {}, "'0x10' is no number"),
    "Arabic digits": (rows(DAYS).replace(",3", ",\u0663"), {}, "is no number"),
    "the 31st of June": (rows(["2024-06-29", "2024-06-30", "2024-06-31"]), {}, "'2024-06-31' is no timestamp"),
    "the hour 25": (rows(["2024-06-30 23:00", "2024-06-30 25:00"]), {}, "'2024-06-30 25:00' is no timestamp"),
    "a zone that nobody has": (rows(DAYS), {"timezone": "Mars/Base"}, "no time zone is called"),
    "a thousands sign within a group": (rows(DAYS, sign=";").replace("date,", "date;").replace(";3", ";1.00"), {"thousands": "."}, "'1.00' is no number"),
    "a date that is day first above and month first below": (
        rows(["13/01/2024", "14/01/2024", "01/15/2024"]), {}, "'01/15/2024' is no timestamp"
    ),
    "an hour without its offset among rows that have one": (
        rows(["2024-01-01 00:00:00Z", "2024-01-01 1"]), {}, "'2024-01-01 1' is no timestamp"
    ),
    "an offset in one row alone": (rows(["2024-01-01 00:00", "2024-01-01 01:00+01:00"]), {}, "is no timestamp"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_right_reading_is_refused(name: str) -> None:
    text, options, words = REFUSED[name]
    with pytest.raises((DataError, ValueError), match=words.replace("(", r"\(")):
        read(text, **options)
