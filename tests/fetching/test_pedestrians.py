"""The demo data: timestamps from the order of rows, two whole years, nothing filled."""

import csv
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from timellm_cli.datasets import DATASETS
from timellm_cli.errors import DataError
from timellm_cli.fetching.wheels import write_pedestrians, write_traffic

SENSORS = list(DATASETS["auckland-pedestrians"].columns)


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> list[list[str]]:
    """What becomes of a source as long as the real one whose every count is the row's own number, one cell empty."""
    folder = tmp_path_factory.mktemp("pedestrians")
    source, target = folder / "hourly_counts.csv", folder / "out.csv"
    lines = [",".join(["date", "hour", "year", *SENSORS])]
    lines += [",".join(["x", "x", "x", *[f"{row}.0"] * 20, "" if row == 40_000 else "7.0"]) for row in range(61_367)]
    source.write_text("\n".join(lines) + "\n", encoding="utf-8")
    write_pedestrians(source, target)
    with target.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


def test_two_years_are_kept_without_the_hour_that_clocks_skipped(rows: list[list[str]]) -> None:
    assert rows[0] == ["date", *SENSORS]
    stamps = [datetime.fromisoformat(row[0]) for row in rows[1:]]
    every_hour = [datetime(2023, 1, 1) + timedelta(hours=hour) for hour in range(17_544)]
    assert stamps == [stamp for stamp in every_hour if stamp != datetime(2024, 9, 29, 2)]


def test_a_timestamp_counts_the_rows_before_it(rows: list[list[str]]) -> None:
    by_stamp = {row[0]: row[1] for row in rows[1:]}
    hours_before = int((datetime(2023, 1, 1) - datetime(2019, 1, 1, 6)) / timedelta(hours=1))
    assert by_stamp["2023-01-01 00:00:00"] == str(hours_before) == "35058"
    before, after = by_stamp["2024-09-29 01:00:00"], by_stamp["2024-09-29 03:00:00"]
    assert int(after) == int(before) + 1


def test_an_empty_cell_stays_empty_and_counts_are_whole_numbers(rows: list[list[str]]) -> None:
    last = {row[1]: row[-1] for row in rows[1:]}
    assert last["40000"] == ""
    assert last["40001"] == "7"


def test_other_sensors_are_refused(tmp_path: Path) -> None:
    source = tmp_path / "hourly_counts.csv"
    source.write_text("date,hour,year,elsewhere\n", encoding="utf-8")
    with pytest.raises(DataError, match="21 sensors"):
        write_pedestrians(source, tmp_path / "out.csv")


def test_seven_years_of_the_sensors_that_have_them(tmp_path: Path) -> None:
    source, target = tmp_path / "hourly_counts.csv", tmp_path / "out.csv"
    lines = [",".join(["date", "hour", "year", *SENSORS])]
    lines += [",".join(["x", "x", "x", *(f"{place}.0" for place in range(21))]) for _ in range(61_367)]
    source.write_text("\n".join(lines) + "\n", encoding="utf-8")
    write_pedestrians(source, target, "auckland-pedestrians-2019")
    header, first, *_, last = target.read_text(encoding="utf-8").splitlines()
    known = DATASETS["auckland-pedestrians-2019"]
    assert tuple(header.split(",")[1:]) == known.columns
    assert first == "2019-01-02 00:00:00," + ",".join(str(SENSORS.index(name)) for name in known.columns)
    assert last.startswith("2025-12-31 23:00:00,")
    assert len(target.read_text(encoding="utf-8").splitlines()) == known.rows, "a header, and one hour is absent"


def test_traffic_has_one_row_an_hour_from_june_2015_on(tmp_path: Path) -> None:
    source, target = tmp_path / "traffic.csv", tmp_path / "out.csv"
    rows = ["2015-06-11 23:00:00,1", "2015-06-12 18:00:00,2", "2015-06-12 18:00:00,2", "2015-06-12 20:00:00,4"]
    source.write_text("\n".join(["date_time,traffic_volume", *rows, ""]), encoding="utf-8")
    write_traffic(source, target)
    assert target.read_text(encoding="utf-8").splitlines() == [
        "date,traffic_volume", "2015-06-12 18:00:00,2", "2015-06-12 20:00:00,4",
    ]  # fmt: skip
    source.write_text("when,volume\n", encoding="utf-8")
    with pytest.raises(DataError, match="has no columns 'date_time' and 'traffic_volume'"):
        write_traffic(source, target)
