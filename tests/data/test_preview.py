"""A probe says what the table will be, without reading it."""

import subprocess
import sys
import tracemalloc
from datetime import timedelta
from pathlib import Path

import pytest

from tests.data.csv_files import CUSTOM, FILL, daily_lines, hourly, write_csv
from timellm_cli.config import DataConfig
from timellm_cli.data.preview import probe_csv
from timellm_cli.data.table import read_table
from timellm_cli.errors import DataError


def test_a_probe_agrees_with_the_table(small_csv: Path) -> None:
    probe, table = probe_csv(small_csv, CUSTOM), read_table(small_csv, CUSTOM)
    assert probe.path == small_csv
    assert (probe.rows, probe.columns) == (len(table.values), table.columns) == (400, ("load", "OT"))
    assert (probe.encoding, probe.delimiter) == ("utf-8", ",")
    assert (probe.first, probe.last) == ("2024-01-01 00:00:00", "2024-01-17 15:00:00")
    assert probe.cadence == timedelta(hours=1) == table.cadence


def test_etth1_is_probed_with_its_17420_rows(shared_dir: Path) -> None:
    probe = probe_csv(shared_dir / "data" / "ETT-small" / "ETTh1.csv", DataConfig(dataset="ETTh1"))
    assert (probe.rows, probe.columns[-1], probe.last) == (17_420, "OT", "2018-06-26 19:00:00")


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize(
    "text",
    ["{0}", "{0}~", "{0}~~~", "~{0}~", "{0}~   ~\t~", '{0}~2024-01-11,"1","2"', '{0}~"2024-01-11",1,"2~"~'],
)
def test_rows_are_counted_as_the_parser_counts_them(tmp_path: Path, text: str, end: str) -> None:
    path = tmp_path / "x.csv"
    body = "~".join(["date,load,OT", *daily_lines()])
    path.write_bytes(text.format(body).replace("~", end).encode())
    assert probe_csv(path, CUSTOM).rows == len(read_table(path, CUSTOM).values)


def test_rows_to_be_filled_are_counted_when_filling(tmp_path: Path) -> None:
    lines = [f"{stamp},{row}" for row, stamp in enumerate(hourly(600)) if row not in (300, 301, 450)]
    path = write_csv(tmp_path / "x.csv", "date,OT", lines)
    assert probe_csv(path, CUSTOM).rows == 597
    assert probe_csv(path, FILL).rows == len(read_table(path, FILL).values) == 600


@pytest.mark.parametrize(
    "stamps", [[f"2024-{month:02}-01" for month in range(1, 13)], [f"{year}-07-01" for year in range(1990, 2020)]]
)
def test_a_step_that_the_calendar_sets_has_no_length(tmp_path: Path, stamps: list[str]) -> None:
    path = write_csv(tmp_path / "x.csv", "date,OT", [f"{stamp},{row}" for row, stamp in enumerate(stamps)])
    for data in (CUSTOM, FILL):
        probe = probe_csv(path, data)
        assert (probe.cadence, probe.rows) == (None, len(stamps))


def test_business_days_are_not_filled_up_to_weeks(tmp_path: Path) -> None:
    stamps = [f"2024-07-{day:02}" for day in range(1, 32) if day % 7 not in (6, 0)]
    path = write_csv(tmp_path / "x.csv", "date,OT", [f"{stamp},{row}" for row, stamp in enumerate(stamps)])
    assert probe_csv(path, FILL).rows == len(read_table(path, FILL).values) == 23


@pytest.mark.parametrize(
    ("row", "line", "message"),
    [
        (3, "2024-01-04,x,1", "line 5, column 'load': 'x' is no number"),
        (3, "2024-01-04,1,inf", "line 5, column 'OT': the value is infinite"),
        (3, "2024-01-04,1,2,3", "line 5: 4 cells, but the header names 3 columns"),
        (0, "soon,1,2", "line 2, column 'date': 'soon' is no timestamp"),
        (3, "2024-01-41,1,2", "line 5, column 'date': '2024-01-41' is no timestamp"),
    ],
)
def test_what_is_wrong_in_the_first_rows_is_refused(tmp_path: Path, row: int, line: str, message: str) -> None:
    lines = daily_lines()
    lines[row] = line
    with pytest.raises(DataError, match=message):
        probe_csv(write_csv(tmp_path / "x.csv", "date,load,OT", lines), CUSTOM)


def test_a_last_line_that_is_no_row_is_noticed(tmp_path: Path) -> None:
    lines = [f"{stamp},{row}" for row, stamp in enumerate(hourly(900))]
    path = write_csv(tmp_path / "x.csv", "date,OT", [*lines, "Total,404550"])
    with pytest.raises(DataError, match="near the end, column 'date': 'Total' is no timestamp"):
        probe_csv(path, CUSTOM)


def test_the_middle_of_a_long_file_is_counted_in_little_memory_and_not_parsed(tmp_path: Path) -> None:
    path = tmp_path / "long.csv"
    day = "".join(
        f"2024-01-01 {hour:02}:{minute:02}:00,1.25,-3.5,{minute}\n" for hour in range(24) for minute in range(60)
    )
    with path.open("w", encoding="utf-8", newline="") as stream:
        stream.write("date,a,b,OT\n")
        for number in range(1000):
            stream.write("no timestamp,no number\n" if number == 500 else "")
            stream.write(day)
    assert path.stat().st_size > 40 * 2**20
    tracemalloc.start()
    probe = probe_csv(path, CUSTOM)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert probe.rows == 1_440_001
    assert peak < 16 * 2**20


def test_two_thousand_columns_are_probed(tmp_path: Path) -> None:
    names = [f"sensor {number}" for number in range(1999)]
    lines = [",".join([stamp, *(["0.125"] * 2000)]) for stamp in hourly(300)]
    probe = probe_csv(write_csv(tmp_path / "wide.csv", ",".join(["date", *names, "OT"]), lines), CUSTOM)
    assert (probe.rows, len(probe.columns)) == (300, 2000)


def test_probing_imports_no_array_library(small_csv: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from timellm_cli.config import DataConfig\n"
        "from timellm_cli.data.preview import probe_csv\n"
        f"assert probe_csv(Path({str(small_csv)!r}), DataConfig(dataset='custom')).rows == 400\n"
        "print([name for name in ('numpy', 'pandas', 'torch') if name in sys.modules])"
    )
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert finished.stdout.strip() == "[]"
