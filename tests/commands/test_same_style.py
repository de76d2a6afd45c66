"""A forecast is written as the file that it continues, to the letter, and is read back with it."""

from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from tests.conftest import Cli

ROWS, AHEAD = 240, 6
HOURS = [datetime(2020, 10, 20) + timedelta(hours=row) for row in range(ROWS + 2 * AHEAD)]
SMALL = ("--llm", "none", "--seq-len", 24, "--pred-len", AHEAD, "--max-steps", 2, "--run-name", "run")


def value(row: int) -> float:
    return 1000 + row * 7 % 24 * 10 + 0.5


Write = Callable[[int, datetime], str]
STYLES: dict[str, tuple[str, str, Write, tuple[str, ...]]] = {
    # delimiter, header, what stands before the value, options
    "ISO": (",", "date,OT", lambda row, at: f"{at}", ()),
    "date and time apart": (";", "Date;Time;load", lambda row, at: f"{at:%d/%m/%Y;%H:%M:%S}", ("--decimal", ".")),
    "year, month, day, hour": (
        ",", "Year,Month,Day,Hour,load", lambda row, at: f"{at.year},{at.month},{at.day},{at.hour}", (),
    ),
    "hours of 1 to 24": (
        ",", "date,HE,load", lambda row, at: f"{at:%m/%d/%Y},{at.hour + 1}", ("--date-column", "date,HE"),
    ),
    "months by name apart": ("\t", "day\ttime\tload", lambda row, at: f"{at:%d %b %Y}\t{at:%I:%M %p}", ()),
    "midnights without a time": (";", "date;load", lambda row, at: f"{at:%d.%m.%Y %H:%M}".removesuffix(" 00:00"), ()),
    "ranges": (",", "MTU,load", lambda row, at: f"{at:%d.%m.%Y %H:%M} - {at + timedelta(hours=1):%d.%m.%Y %H:%M}", ()),
    "Chinese": (",", "日期,负荷", lambda row, at: f"{at.year}年{at.month}月{at.day}日 {at.hour}时", ()),
    "offsets": (",", "time,load", lambda row, at: f"{at:%Y-%m-%dT%H:%M:%S}.000Z", ()),
    "a comma in a name": (",", '"date, local",load', lambda row, at: f"{at}", ()),
}  # fmt: skip


@pytest.mark.parametrize("style", STYLES)
def test_a_forecast_is_written_as_its_csv_and_read_back_with_it(cli: Cli, tmp_path: Path, style: str) -> None:
    delimiter, header, write, options = STYLES[style]
    before = [write(row, at) for row, at in enumerate(HOURS)]
    lines = [f"{text}{delimiter}{value(row)}" for row, text in enumerate(before)]
    path, longer = tmp_path / "own.csv", tmp_path / "longer.csv"
    path.write_text("\n".join([header, *lines[:ROWS]]) + "\n", encoding="utf-8")
    trained = cli("train", path, *SMALL, *options)
    assert trained.returncode == 0, trained.stderr
    best = tmp_path / "checkpoints" / "run" / "best.pt"
    first = cli("predict", best, path)
    assert first.returncode == 0, first.stderr
    heading, *forecast = first.stdout.splitlines()
    assert heading == header
    assert [line.rpartition(delimiter)[0] for line in forecast] == before[ROWS : ROWS + AHEAD]
    longer.write_text(path.read_text(encoding="utf-8") + "\n".join(forecast) + "\n", encoding="utf-8")
    second = cli("predict", best, longer)
    assert second.returncode == 0, second.stderr
    assert [line.rpartition(delimiter)[0] for line in second.stdout.splitlines()[1:]] == before[ROWS + AHEAD :]


@pytest.mark.parametrize(
    ("number", "options"),
    [
        (lambda value: f"{value:.2f}".replace(".", ","), ()),
        (lambda value: f"{value:,.1f}".translate(str.maketrans(",.", ".,")), ()),
        (lambda value: f"{value:,.0f}".replace(",", "."), ("--thousands", ".")),
        (lambda value: f"{value:,.1f}".replace(",", " "), ()),
    ],
    ids=["1000,50", "1.000,5", "1.000", "1 000.5"],
)
def test_a_forecast_has_the_decimal_sign_and_the_groups_of_digits_of_its_csv(
    cli: Cli, tmp_path: Path, number: Callable[[float], str], options: tuple[str, ...]
) -> None:
    path, longer = tmp_path / "own.csv", tmp_path / "longer.csv"
    text = "".join(f"{at};{number(value(row))}\n" for row, at in enumerate(HOURS[:ROWS]))
    path.write_text(f"date;OT\n{text}", encoding="utf-8")
    assert cli("train", path, *SMALL, *options).returncode == 0
    best = tmp_path / "checkpoints" / "run" / "best.pt"
    cells = [line.split(";")[1] for line in cli("predict", best, path).stdout.splitlines()[1:]]
    sign = "." if number(0.5).endswith(".5") else ","
    groups = next((sign for sign in ". " if number(1234567.5).count(sign) == 2), "")

    def read(cell: str) -> float:
        return float((cell.replace(groups, "") if groups else cell).replace(sign, "."))

    assert all(900 < read(cell) < 1400 and sign in cell for cell in cells)
    assert any(f"1{groups}" in cell for cell in cells)
    forecast = cli("predict", best, path).stdout.splitlines()[1:]
    longer.write_text(f"date;OT\n{text}" + "\n".join(forecast) + "\n", encoding="utf-8")
    again = cli("predict", best, longer)
    assert again.returncode == 0, again.stderr
    assert all(900 < read(line.split(";")[1]) < 1400 for line in again.stdout.splitlines()[1:])


@pytest.mark.parametrize(
    ("encoding", "newline", "mark"),
    [("utf-8", "\n", ""), ("utf-8-sig", "\r\n", "\ufeff"), ("cp1252", "\r\n", "\ufeff")],
)
def test_a_file_of_forecasts_ends_its_lines_as_its_csv_and_is_text_that_excel_reads(
    cli: Cli, tmp_path: Path, encoding: str, newline: str, mark: str
) -> None:
    path, output = tmp_path / "own.csv", tmp_path / "forecast.csv"
    lines = ["Tag;Käufe", *(f"{at:%d.%m.%Y %H:%M};{value(row):.2f}".replace(".50", ",50") for row, at in
                            enumerate(HOURS[:ROWS]))]  # fmt: skip
    path.write_bytes(newline.join([*lines, ""]).encode(encoding))
    assert cli("train", path, *SMALL).returncode == 0
    done = cli("predict", tmp_path / "checkpoints" / "run" / "best.pt", path, "-o", output)
    assert done.returncode == 0, done.stderr
    written = output.read_bytes().decode()
    assert written.startswith(f"{mark}Tag;Käufe{newline}")
    assert written.count(newline) == written.count("\n") == 1 + AHEAD


def in_berlin(unit: str) -> pl.Series:
    stamps = pl.Series(HOURS, dtype=pl.Datetime(unit))  # type: ignore[arg-type]
    return stamps.dt.replace_time_zone("UTC").dt.convert_time_zone("Europe/Berlin")


@pytest.mark.parametrize(
    "dates",
    [
        pl.Series([(HOURS[0] + timedelta(days=row)).date() for row in range(len(HOURS))]),
        pl.Series(HOURS, dtype=pl.Datetime("ns")),
        in_berlin("ms"),
        pl.Series([1_577_836_800 + 60 * row for row in range(len(HOURS))], dtype=pl.Int64),
        pl.Series([f"{at:%d.%m.%Y %H:%M}" for at in HOURS]),
    ],
    ids=["date", "ns", "zone", "integers", "texts"],
)
def test_a_forecast_in_parquet_has_the_types_of_its_input(cli: Cli, tmp_path: Path, dates: pl.Series) -> None:
    table = pl.DataFrame({"when": dates, "load": [value(row) for row in range(len(HOURS))]})
    path, written, longer = (tmp_path / f"{name}.parquet" for name in ("own", "forecast", "longer"))
    table[:ROWS].write_parquet(path)
    assert cli("train", path, *SMALL).returncode == 0
    best = tmp_path / "checkpoints" / "run" / "best.pt"
    first = cli("predict", best, path, "-o", written)
    assert first.returncode == 0, first.stderr
    forecast = pl.read_parquet(written)
    assert forecast.schema == table.schema
    assert forecast["when"].to_list() == table["when"][ROWS : ROWS + AHEAD].to_list()
    shown = [float(line.rpartition(",")[2]) for line in cli("predict", best, path).stdout.splitlines()[1:]]
    assert forecast["load"].to_list() == shown
    pl.concat([table[:ROWS], forecast]).write_parquet(longer)
    assert cli("predict", best, longer, "-o", tmp_path / "second.parquet").returncode == 0
    second = pl.read_parquet(tmp_path / "second.parquet")
    assert second["when"].to_list() == table["when"][ROWS + AHEAD :].to_list()


def test_a_forecast_of_a_csv_goes_to_parquet_with_times_bands_and_all(cli: Cli, tmp_path: Path) -> None:
    path, written = tmp_path / "own.csv", tmp_path / "forecast.parquet"
    lines = [f"{at:%d.%m.%Y %H:%M},{value(row)}" for row, at in enumerate(HOURS[:ROWS])]
    path.write_text("\n".join(["when,load", *lines]) + "\n", encoding="utf-8")
    assert cli("train", path, *SMALL, "--shortcut", "none").returncode == 0
    best = tmp_path / "checkpoints" / "run" / "best.pt"
    done = cli("predict", best, path, "-o", written, "--levels", "80")
    assert done.returncode == 0, done.stderr
    forecast = pl.read_parquet(written)
    assert forecast.columns == ["when", "load", "load-lo-80", "load-hi-80"]
    assert forecast["when"].to_list() == HOURS[ROWS : ROWS + AHEAD]
    assert (forecast["load-lo-80"] < forecast["load"]).all()


@pytest.mark.parametrize("ids", [["a", "b"], [7, 8]], ids=["texts", "integers"])
def test_a_forecast_of_many_series_in_parquet_has_the_types_of_its_input(
    cli: Cli, tmp_path: Path, ids: list[object]
) -> None:
    days = [at.date() for at in (HOURS[0] + timedelta(days=row) for row in range(ROWS + AHEAD))]
    parts = [
        pl.DataFrame(
            {"unique_id": [own] * len(days), "ds": days, "y": [value(row) * scale for row in range(len(days))]}
        )
        for own, scale in zip(ids, (1, 3), strict=True)
    ]
    path, written = tmp_path / "own.parquet", tmp_path / "forecast.parquet"
    pl.concat([part[:ROWS] for part in parts]).write_parquet(path)
    trained = cli("train", path, *SMALL, "--id-column", "unique_id")
    assert trained.returncode == 0, trained.stderr
    best = tmp_path / "checkpoints" / "run" / "best.pt"
    done = cli("predict", best, path, "-o", written)
    assert done.returncode == 0, done.stderr
    expected = pl.concat([part[ROWS:] for part in parts])
    forecast = pl.read_parquet(written)
    assert forecast.schema == expected.schema
    assert forecast.select("unique_id", "ds").equals(expected.select("unique_id", "ds"))
