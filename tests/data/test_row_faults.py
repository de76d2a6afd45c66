"""A glance finds what reading would refuse, and nothing that reading accepts."""

from datetime import datetime, timedelta
from pathlib import Path

import pytest

from timellm_cli.config import DataConfig
from timellm_cli.data.preview import probe_csv
from timellm_cli.data.table import read_table
from timellm_cli.errors import DataError

START = datetime(2024, 1, 1)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


def write(path: Path, stamps: list[datetime], empty: int | None = None) -> Path:
    lines = [f"{stamp},{'' if row == empty else row}" for row, stamp in enumerate(stamps)]
    path.write_text("\n".join(["date,OT", *lines]) + "\n", encoding="utf-8")
    return path


def hourly(*left_out: int) -> list[datetime]:
    return [START + row * HOUR for row in range(600) if row not in left_out]


FAULTS = {
    "newest first": (hourly()[::-1], None, "reverse its rows"),
    "out of order": ([*hourly()[:9], *hourly()[10:12], hourly()[9], *hourly()[12:]], None, "sort the rows"),
    "twice": ([*hourly()[:10], *hourly()[9:]], None, "keep one row"),
    "irregular": ([*hourly(), START + 599.5 * HOUR], None, "equal steps"),
    "a gap in front": (hourly(7), None, "--fill linear"),
    "a gap at the end": (hourly(590), None, "--fill linear"),
    "an empty cell": (hourly(), 598, "--fill linear"),
}


@pytest.mark.parametrize("kind", FAULTS)
def test_a_fault_of_the_first_and_last_rows_is_found_as_reading_finds_it(tmp_path: Path, kind: str) -> None:
    stamps, empty, hint = FAULTS[kind]
    path = write(tmp_path / "faulty.csv", stamps, empty)
    data = DataConfig(dataset="custom", path=path)
    fault = probe_csv(path, data).fault
    assert fault is not None and hint in fault.hint
    with pytest.raises(DataError) as refused:
        read_table(path, data)
    assert hint in refused.value.hint


@pytest.mark.parametrize("kind", ["a gap in front", "a gap at the end", "an empty cell"])
def test_what_filling_mends_is_no_fault(tmp_path: Path, kind: str) -> None:
    stamps, empty, _ = FAULTS[kind]
    path = write(tmp_path / "gaps.csv", stamps, empty)
    assert probe_csv(path, DataConfig(dataset="custom", path=path, fill="linear")).fault is None


@pytest.mark.parametrize(
    "stamps",
    [
        hourly(),
        hourly(300),  # between the rows that are looked at
        [START + day * DAY for day in range(500) if (START + day * DAY).weekday() < 5],
        [datetime(2000 + month // 12, month % 12 + 1, 1) for month in range(120)],
        [START + row * 15 * timedelta(minutes=1) for row in range(50)],
    ],
    ids=["hourly", "a gap in the middle", "working days", "monthly", "short"],
)
def test_regular_rows_have_no_fault(tmp_path: Path, stamps: list[datetime]) -> None:
    path = write(tmp_path / "regular.csv", stamps)
    assert probe_csv(path, DataConfig(dataset="custom", path=path)).fault is None
