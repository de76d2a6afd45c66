"""How a file writes its timestamps is found, and further ones are written the same way."""

from datetime import datetime, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from timellm_cli.data.timestamps import DateStyle, find_style

HOURS = np.datetime64("2016-07-01T22:00", "us") + np.arange(30) * np.timedelta64(3600, "s")


def written(form: str, stamps: np.ndarray = HOURS) -> list[str]:
    return [stamp.item().strftime(form) for stamp in stamps]


@pytest.mark.parametrize(
    "form",
    [
        "%Y-%m-%d %H:%M:%S",
        "%Y-%m-%d %H:%M",
        "%Y-%m-%dT%H:%M:%S",
        "%Y-%m-%dT%H:%M",
        "%Y/%m/%d %H:%M",
        "%d.%m.%Y %H:%M",
        "%m/%d/%Y %I:%M %p",
        "%d/%m/%Y %H:%M:%S",
    ],
)
def test_dates_continue_as_the_file_writes_them(form: str) -> None:
    style = find_style(written(form), HOURS)
    after = HOURS[-1] + np.timedelta64(3600, "s")
    assert style.write(after) == after.item().strftime(form)


def test_unpadded_fields_stay_unpadded() -> None:
    texts = [f"{stamp.item().year}/{stamp.item().month}/{stamp.item().day} {stamp.item().hour}:00" for stamp in HOURS]
    style = find_style(texts, HOURS)
    assert style.write(np.datetime64("2016-07-03T04:00")) == "2016/7/3 4:00"
    assert style.write(np.datetime64("2016-11-23T14:00")) == "2016/11/23 14:00"


def test_day_and_hour_may_differ_in_leading_zeros() -> None:
    texts = [f"{stamp.item().day}.{stamp.item().month}.{stamp.item().year} {stamp.item():%H:%M}" for stamp in HOURS]
    assert find_style(texts, HOURS).write(np.datetime64("2016-07-03T04:00")) == "3.7.2016 04:00"


def test_days_and_months_alone_have_no_time() -> None:
    days = np.arange("2024-01-30", "2024-03-05", dtype="datetime64[D]").astype("datetime64[us]")
    assert find_style(written("%Y-%m-%d", days), days).write(np.datetime64("2024-03-05")) == "2024-03-05"
    months = np.arange("2022-01", "2024-01", dtype="datetime64[M]").astype("datetime64[us]")
    assert find_style(written("%Y-%m", months), months).write(np.datetime64("2024-01-01")) == "2024-01"


@pytest.mark.parametrize(("offset", "hours"), [("Z", 0), ("+00:00", 0), ("+09:30", 9.5), ("-0500", -5)])
def test_an_offset_from_utc_stays(offset: str, hours: float) -> None:
    local = HOURS + np.timedelta64(int(hours * 3600), "s")
    style = find_style([text + offset for text in written("%Y-%m-%dT%H:%M:%S", local)], HOURS)
    assert (
        style.write(np.datetime64("2020-01-01T12:00"))
        == (datetime(2020, 1, 1, 12) + timedelta(hours=hours)).isoformat() + offset
    )


def test_day_and_month_are_distinguished_by_what_was_read() -> None:
    days = np.datetime64("2024-02-01", "us") + np.arange(5) * np.timedelta64(86400, "s")
    assert find_style(written("%d/%m/%Y", days), days).form == "%d/%m/%Y"
    assert find_style(written("%m/%d/%Y", days), days).form == "%m/%d/%Y"


def test_rows_that_were_filled_in_do_not_matter() -> None:
    texts = written("%d.%m.%Y %H:%M")
    assert find_style([*texts[:5], *texts[9:]], HOURS).form == "%d.%m.%Y %H:%M"


def test_a_mixture_of_styles_becomes_iso() -> None:
    texts = [*written("%Y-%m-%d %H:%M", HOURS[:10]), *written("%Y-%m-%dT%H:%M:%S", HOURS[10:])]
    assert find_style(texts, HOURS) == DateStyle("%Y-%m-%d %H:%M:%S")


@given(st.datetimes(datetime(1700, 1, 1), datetime(2200, 1, 1)))
def test_padded_styles_write_what_strftime_writes(moment: datetime) -> None:
    for form in ("%Y-%m-%d %H:%M:%S.%f", "%d/%m/%Y %I:%M %p"):
        assert DateStyle(form).write(np.datetime64(moment)) == moment.strftime(form)
