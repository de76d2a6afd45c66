"""How timestamps are read, and what their cadence is."""

from datetime import datetime

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from timellm_cli.data.cadence import continue_timestamps, find_grid, parse_cadence, show_step
from timellm_cli.data.timestamps import ISO, fitting_formats, has_utc_offset, parse_timestamp


def stamps(*texts: str) -> np.ndarray:
    """Texts as microseconds."""
    return np.array(texts, dtype="datetime64[us]")


def some(first: str, rows: int, cadence: str) -> np.ndarray:
    """`rows` timestamps of a pandas frequency."""
    return pd.date_range(first, periods=rows, freq=cadence).to_numpy().astype("datetime64[us]")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2016-07-01 00:00:00", datetime(2016, 7, 1)),
        ("2016-07-01T13:00", datetime(2016, 7, 1, 13)),
        ("20160701", datetime(2016, 7, 1)),
        ("2016/7/1 0:15", datetime(2016, 7, 1, 0, 15)),
        ("2016年7月1日", datetime(2016, 7, 1)),
        ("31.12.2016 23:59", datetime(2016, 12, 31, 23, 59)),
        ("12/31/2016 11:30 PM", datetime(2016, 12, 31, 23, 30)),
        ("31/12/2016", datetime(2016, 12, 31)),
        ("2016-07", datetime(2016, 7, 1)),
        ("2016", datetime(2016, 1, 1)),
        ("2016-07-01T02:00:00+02:00", datetime(2016, 7, 1)),
        ("2016-07-01T00:00:00Z", datetime(2016, 7, 1)),
    ],
)
def test_the_usual_ways_to_write_a_timestamp_are_read(text: str, expected: datetime) -> None:
    formats = fitting_formats([text])
    assert len(formats) == 1
    assert parse_timestamp(text, formats[0]) == expected


@pytest.mark.parametrize("text", ["", "yesterday", "1467331200", "2016-13-01", "2016-02-30", "3.5"])
def test_what_is_no_timestamp_fits_no_format(text: str) -> None:
    assert fitting_formats([text]) == []


def test_only_day_and_month_can_be_confused() -> None:
    assert fitting_formats(["01/02/2024", "03/04/2024"]) == ["%d/%m/%Y", "%m/%d/%Y"]
    assert fitting_formats(["01/02/2024", "13/02/2024"]) == ["%d/%m/%Y"]
    assert fitting_formats(["01/02/2024", "02/13/2024"]) == ["%m/%d/%Y"]


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("2024-01-01 00:00:00+01:00", True),
        ("2024-01-01T00:00Z", True),
        ("2024-01-01", False),
        ("2024-01-01 00:00", False),
    ],
)
def test_an_offset_from_utc_is_noticed(text: str, answer: bool) -> None:
    assert has_utc_offset(text) is answer


@pytest.mark.parametrize("step", ["250ms", "s", "15min", "h", "36h", "24h", "168h", "720h"])
def test_a_constant_step_is_a_length_of_time(step: str) -> None:
    column = some("2024-02-27 05:00", 40, step)
    grid = find_grid(column)
    assert grid is not None
    assert grid.cadence == pd.Timedelta(column[1] - column[0])
    np.testing.assert_array_equal(grid.stamps, column)


@pytest.mark.parametrize("cadence", ["MS", "ME", "2MS", "QS-FEB", "QE-DEC", "YS-JAN", "YE-MAR", "B", "BME", "WOM-3FRI"])
def test_a_step_that_the_calendar_sets_is_named_whatever_the_first_row_is_and_continues(cadence: str) -> None:
    column = some("2021-01-01 06:00", 40, cadence)
    names = set()
    for first in range(4):
        grid = find_grid(column[first:30])
        assert grid is not None
        assert isinstance(grid.cadence, str)
        np.testing.assert_array_equal(continue_timestamps(column[29], grid.cadence, 10), column[30:])
        names.add(grid.cadence)
    assert len(names) == 1


def test_years_of_365_days_are_years_and_not_365_days() -> None:
    grid = find_grid(stamps("2021-01-01", "2022-01-01", "2023-01-01", "2024-01-01"))
    assert grid is not None
    assert continue_timestamps(grid.stamps[-1], grid.cadence, 1) == stamps("2025-01-01")


@pytest.mark.parametrize(
    ("cadence", "dropped"),
    [("h", [5, 6, 30]), ("D", [3, 11]), ("MS", [4]), ("ME", [2, 20]), ("QS-JAN", [7]), ("B", [6, 12, 13])],
)
def test_a_grid_with_gaps_is_found_complete(cadence: str, dropped: list[int]) -> None:
    column = some("2022-01-31", 36, cadence)
    grid = find_grid(np.delete(column, dropped))
    assert grid is not None
    np.testing.assert_array_equal(grid.stamps, column)
    whole = find_grid(column)
    assert whole is not None
    assert grid.cadence == whole.cadence


@pytest.mark.parametrize(
    "column",
    [
        stamps("2024-01-01 00:00", "2024-01-01 01:00", "2024-01-01 02:00", "2024-01-01 02:30", "2024-01-01 03:30"),
        stamps("2024-01-01 00:00:00", "2024-01-01 00:00:01", "2024-06-01", "2024-07-01", "2024-08-01"),
    ],
)
def test_timestamps_off_any_grid_are_found_irregular(column: np.ndarray) -> None:
    assert find_grid(column) is None


@given(
    st.datetimes(datetime(1900, 1, 1), datetime(2100, 1, 1)),
    st.timedeltas(min_value=pd.Timedelta("1ms").to_pytimedelta(), max_value=pd.Timedelta("27D").to_pytimedelta()),
    st.integers(2, 30),
    st.integers(1, 5),
)
def test_any_constant_step_is_found_continued_and_survives_as_text(
    first: datetime, step: object, rows: int, more: int
) -> None:
    cadence = pd.Timedelta(step)
    column = np.datetime64(first, "us") + np.arange(rows + more) * cadence.to_timedelta64().astype("timedelta64[us]")
    grid = find_grid(column[:rows])
    assert grid is not None
    assert grid.cadence == parse_cadence(str(grid.cadence)) == cadence
    np.testing.assert_array_equal(continue_timestamps(column[rows - 1], cadence, more), column[rows:])


@pytest.mark.parametrize("text", ["MS", "QE-DEC", "B", "2MS"])
def test_the_cadence_of_a_calendar_survives_as_text(text: str) -> None:
    assert parse_cadence(text) == text


@pytest.mark.parametrize(
    ("step", "words"),
    [
        ("1h", "01:00:00"), ("1D", "1 day"), ("7D", "7 days"), ("36h", "1 day 12:00:00"), ("60h", "2 days 12:00:00"),
        ("1500ms", "00:00:01.500000"), ("MS", "MS"), ("B", "B"),
    ],
)  # fmt: skip
def test_a_step_is_written_in_words(step: str, words: str) -> None:
    assert show_step(parse_cadence(step) if step in ("MS", "B") else pd.Timedelta(step)) == words


@pytest.mark.parametrize("text", ["0001-01-01T00:00:00+08:00", "9999-12-31T23:59:59-08:00"])
def test_a_placeholder_at_the_end_of_time_is_no_timestamp(text: str) -> None:
    """The former is the default date of .NET east of Greenwich."""
    assert parse_timestamp(text, ISO) is None
    assert fitting_formats([text]) == []
