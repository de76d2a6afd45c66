"""Timestamps are read in the ways people write them, and written again as the file writes them."""

from datetime import datetime, timedelta

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from timellm_cli.data.dates import DateStyle, find_formats, find_style, parse_moment

HOURS = [datetime(2016, 7, 1, 22) + timedelta(hours=hour) for hour in range(30)]


def read(text: str) -> datetime:
    (form,) = find_formats([text])
    wall: datetime = pl.select(form.wall(pl.lit(pl.Series([text])))).item()
    return wall


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2016-07-01 00:00:00", datetime(2016, 7, 1)),
        ("2016-07-01T13:00", datetime(2016, 7, 1, 13)),
        ("2016-07-01 13:00:00.250", datetime(2016, 7, 1, 13, microsecond=250_000)),
        ("20160701", datetime(2016, 7, 1)),
        ("2016070113", datetime(2016, 7, 1, 13)),
        ("20160701T130000", datetime(2016, 7, 1, 13)),
        ("2016/7/1 0:15", datetime(2016, 7, 1, 0, 15)),
        ("2016年7月1日", datetime(2016, 7, 1)),
        ("2016年7月1日 0时", datetime(2016, 7, 1)),
        ("2016年07月01日 13时05分07秒", datetime(2016, 7, 1, 13, 5, 7)),
        ("2016年7月", datetime(2016, 7, 1)),
        ("31.12.2016 23:59", datetime(2016, 12, 31, 23, 59)),
        ("12/31/2016 11:30 PM", datetime(2016, 12, 31, 23, 30)),
        ("31/12/2016", datetime(2016, 12, 31)),
        ("01-Jan-20", datetime(2020, 1, 1)),
        ("Jan 5, 2020", datetime(2020, 1, 5)),
        ("5 January 2020", datetime(2020, 1, 5)),
        ("2016-07", datetime(2016, 7, 1)),
        ("2016", datetime(2016, 1, 1)),
        ("1950Q3", datetime(1950, 7, 1)),
        ("1950q3", datetime(1950, 7, 1)),
        ("Q3 1950", datetime(1950, 7, 1)),
        ("1577836800", datetime(2020, 1, 1)),
        ("1577836800.0", datetime(2020, 1, 1)),
        ("2020-W01", datetime(2019, 12, 30)),
        ("2020-W01-3", datetime(2020, 1, 1)),
        ("Wed, 01 Jan 2020 13:00:00 GMT", datetime(2020, 1, 1, 13)),
        ("2020. 1. 31.", datetime(2020, 1, 31)),
        ("2020 1 31 13", datetime(2020, 1, 31, 13)),
        ("2020 Jan", datetime(2020, 1, 1)),
        ("2016年7月1日13时", datetime(2016, 7, 1, 13)),
        ("1577836800000", datetime(2020, 1, 1)),
        ("2016-07-01 24:00", datetime(2016, 7, 2)),
        ("2016-07-31 24", datetime(2016, 8, 1)),
        ("2016123124", datetime(2017, 1, 1)),
        ("2016年12月31日 24时", datetime(2017, 1, 1)),
        ("2016年12月31日24时00分", datetime(2017, 1, 1)),
        ("2016 12 31 24", datetime(2017, 1, 1)),
        ("2016-07-01 13:00:00,250", datetime(2016, 7, 1, 13, microsecond=250_000)),
        ("2016-07-01 13:00 to 14:00", datetime(2016, 7, 1, 13)),
        ("01.01.2019 00:15 - 01.01.2019 00:30", datetime(2019, 1, 1, 0, 15)),
        ("2016-07-01T02:00:00+02:00", datetime(2016, 7, 1, 2)),
        ("2016-07-01 02:00:00+08", datetime(2016, 7, 1, 2)),
        ("2016-07-01T02:00:00-0530", datetime(2016, 7, 1, 2)),
        ("2016-07-01T00:00:00.000Z", datetime(2016, 7, 1)),
        ("2016-07-01 02:00:00 UTC", datetime(2016, 7, 1, 2)),
        ("2016-07-01 02:00:00 +0000 UTC", datetime(2016, 7, 1, 2)),
    ],
)
def test_the_usual_ways_to_write_a_timestamp_are_read(text: str, expected: datetime) -> None:
    assert read(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "yesterday",
        "14673",
        "2016-13-01",
        "2016-02-30",
        "3.5",
        "1/7/1",
        "2016-07-01 25:00",
        "2016-07-01 24:30",
        "2016-W54",
        "1950Q5",
    ],
)
def test_what_is_no_timestamp_fits_no_format(text: str) -> None:
    assert find_formats([text]) == []


def test_only_day_month_and_year_can_be_confused() -> None:
    def names(*texts: str, wanted: str | None = None) -> list[str]:
        return [form.name for form in find_formats(texts, wanted)]

    assert names("01/02/2024", "03/04/2024") == ["%d/%m/%Y", "%m/%d/%Y"]
    assert names("01/02/2024", "13/02/2024") == ["%d/%m/%Y"]
    assert names("01/02/2024", "02/13/2024") == ["%m/%d/%Y"]
    assert names("01/02/2024", wanted="dayfirst") == ["%d/%m/%Y"]
    assert names("01/02/2024", wanted="monthfirst") == ["%m/%d/%Y"]
    assert names("01|02|2024", wanted="%m|%d|%Y") == ["%m|%d|%Y"]


def test_a_midnight_may_be_written_without_its_time() -> None:
    (form,) = find_formats(["2024-01-01", "2024-01-01 01:00:00"])
    column = pl.Series(["2024-01-01", "2024-01-01 01:00:00"])
    assert pl.select(form.wall(pl.lit(column))).to_series().to_list() == [datetime(2024, 1, 1), datetime(2024, 1, 1, 1)]


def styled(texts: list[str], stamps: list[datetime]) -> DateStyle:
    form = find_formats(texts)[0]
    return find_style(texts, stamps, form, DateStyle(form.name))


@pytest.mark.parametrize(
    "form",
    [
        "%Y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M", "%Y/%m/%d %H:%M", "%Y%m%d%H",
        "%d.%m.%Y %H:%M", "%m/%d/%Y %I:%M %p", "%d/%m/%Y %H:%M:%S", "%d-%b-%y %H:%M", "%d %B %Y %H:%M",
        "%Y年%m月%d日 %H时", "%d.%m.%y %H:%M",
    ],
)  # fmt: skip
def test_dates_continue_as_the_file_writes_them(form: str) -> None:
    days = [stamp + timedelta(days=14) for stamp in HOURS]  # a day beyond 12, so that the order is certain
    style = styled([stamp.strftime(form) for stamp in days], days)
    after = days[-1] + timedelta(hours=1)
    assert style.write(after) == after.strftime(form)


def test_unpadded_fields_stay_unpadded() -> None:
    texts = [f"{stamp.year}/{stamp.month}/{stamp.day} {stamp.hour}:00" for stamp in HOURS]
    style = styled(texts, HOURS)
    assert style.write(datetime(2016, 7, 3, 4)) == "2016/7/3 4:00"
    assert style.write(datetime(2016, 11, 23, 14)) == "2016/11/23 14:00"


def test_day_and_hour_may_differ_in_leading_zeros() -> None:
    days = [stamp + timedelta(days=14) for stamp in HOURS]
    texts = [f"{stamp.day}.{stamp.month}.{stamp.year} {stamp:%H:%M}" for stamp in days]
    assert styled(texts, days).write(datetime(2016, 7, 3, 4)) == "3.7.2016 04:00"


@pytest.mark.parametrize(
    ("texts", "stamps", "after", "written"),
    [
        (["1699", "1700"], [datetime(1699, 1, 1), datetime(1700, 1, 1)], datetime(1701, 1, 1), "1701"),
        (["1950Q1", "1950Q2"], [datetime(1950, 1, 1), datetime(1950, 4, 1)], datetime(1950, 7, 1), "1950Q3"),
        (["1950-Q1", "1950-Q2"], [datetime(1950, 1, 1), datetime(1950, 4, 1)], datetime(1950, 10, 1), "1950-Q4"),
        (
            ["1577836800", "1577836860"], [datetime(2020, 1, 1), datetime(2020, 1, 1, 0, 1)],
            datetime(2020, 1, 1, 0, 2), "1577836920",
        ),
        (
            ["2020-01-01 23:00", "2020-01-01 24:00"], [datetime(2020, 1, 1, 23), datetime(2020, 1, 2)],
            datetime(2020, 1, 3), "2020-01-02 24:00",
        ),
        (
            ["01.01.2019 00:00 - 01.01.2019 00:15", "01.01.2019 00:15 - 01.01.2019 00:30"],
            [datetime(2019, 1, 1), datetime(2019, 1, 1, 0, 15)], datetime(2019, 1, 1, 0, 30),
            "01.01.2019 00:30 - 01.01.2019 00:45",
        ),
    ],
)  # fmt: skip
def test_unusual_styles_continue(texts: list[str], stamps: list[datetime], after: datetime, written: str) -> None:
    assert styled(texts, stamps).write(after) == written


def column_of(form: str, step: timedelta, **changes: object) -> list[str]:
    """Texts in a style, of 60 steps."""
    style = DateStyle(form, **changes)  # type: ignore[arg-type]
    return [style.write(datetime(2016, 1, 1) + row * step) for row in range(60)]


@pytest.mark.parametrize(
    "texts",
    [
        column_of("%Yq%q", timedelta(days=95)),
        column_of("Q%q/%Y", timedelta(days=95)),
        column_of("unix", timedelta(days=1), between=".0"),
        column_of("%G-W%V", timedelta(days=7)),
        column_of("%a, %d %b %Y", timedelta(days=1)),
        column_of("%Y. %m. %d.", timedelta(days=1), date_digits=1),
        column_of("%Y %m %d", timedelta(days=1), date_digits=1),
        column_of("%Y %m %d %H", timedelta(hours=1), date_digits=1, hour_digits=1, late=True),
        column_of("%Y%m%d%H", timedelta(hours=1), late=True),
        column_of("%Y年%m月%d日%H时", timedelta(hours=1), date_digits=1, hour_digits=1, late=True),
        column_of("%Y-%m-%d %H:%M:%S%.f", timedelta(hours=1), fraction=9),
        column_of("%Y-%m-%d %H:%M:%S,%3f", timedelta(hours=1)),
        column_of("%d.%m.%Y %H:%M", timedelta(hours=1), between=" - ", length=timedelta(hours=1), end=5),
        column_of("%Y-%m-%d", timedelta(days=7), between=" ~ ", length=timedelta(days=6)),
    ],
    ids=lambda texts: texts[1],
)
def test_what_is_read_is_written_again_to_the_letter(texts: list[str]) -> None:
    (form,) = find_formats(texts[:-1])
    stamps = pl.select(form.wall(pl.lit(pl.Series(texts)))).to_series().to_list()
    style = find_style(texts[:-1], stamps[:-1], form, DateStyle(form.name))
    assert [style.write(stamp) for stamp in stamps] == texts


def test_days_of_the_year_and_unknown_directives_are_read_as_asked() -> None:
    texts = [f"2020 {day}" for day in range(1, 366)]
    (form,) = find_formats(texts, "%Y %j")
    stamps = [datetime(2020, 1, 1) + timedelta(days=day) for day in range(365)]
    assert find_style(texts, stamps, form, DateStyle(form.name)).write(datetime(2021, 2, 1)) == "2021 32"
    assert find_formats(["2020-01-01"], "%Q") == []


def test_an_offset_follows_its_zone_where_there_is_one() -> None:
    style = DateStyle("%Y-%m-%d %H:%M", offset="+01:00", ahead=timedelta(hours=1), is_utc=True)
    assert style.write(datetime(2024, 7, 1, 12)) == "2024-07-01 13:00+01:00"
    zoned = DateStyle("%Y-%m-%d %H:%M", offset="+01:00", ahead=timedelta(hours=1), is_utc=True, zone="Europe/Berlin")
    assert zoned.write(datetime(2024, 7, 1, 12)) == "2024-07-01 14:00+02:00"


def test_a_mixture_of_styles_becomes_iso() -> None:
    texts = [f"{stamp:%Y-%m-%d %H:%M}" for stamp in HOURS[:10]] + [f"{stamp:%Y-%m-%dT%H:%M:%S}" for stamp in HOURS[10:]]
    assert styled(texts, HOURS) == DateStyle("%Y-%m-%d %H:%M:%S")


def test_a_moment_is_read_in_the_style_of_the_file_or_in_iso() -> None:
    assert parse_moment("02/01/2024 05:00", "%m/%d/%Y %H:%M") == (datetime(2024, 2, 1, 5), False)
    assert parse_moment("2024-02-01T05:00", "%m/%d/%Y %H:%M") == (datetime(2024, 2, 1, 5), False)
    assert parse_moment("2024-02-01 05:00+02:00", "%m/%d/%Y") == (datetime(2024, 2, 1, 3), True)
    assert parse_moment("soon", "%m/%d/%Y") == (None, False)


@given(st.datetimes(datetime(1700, 1, 1), datetime(2200, 1, 1)))
def test_padded_styles_write_what_strftime_writes(moment: datetime) -> None:
    assert DateStyle("%Y-%m-%d %H:%M:%S%.f").write(moment) == moment.strftime("%Y-%m-%d %H:%M:%S.%f")
    assert DateStyle("%d/%m/%Y %I:%M %p").write(moment) == moment.strftime("%d/%m/%Y %I:%M %p")
