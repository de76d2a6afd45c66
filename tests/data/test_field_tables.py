"""Small files in the shape of those that people have, and the right answer for each (../shared/cases/tables)."""

import csv
from pathlib import Path

import pytest

from timellm_cli.config import DataConfig
from timellm_cli.data.cadence import continue_stamps
from timellm_cli.data.columns import date_columns, split_stamp, words_of
from timellm_cli.data.open_csv import open_csv
from timellm_cli.data.read_table import read_table
from timellm_cli.data.rows import read_rows
from timellm_cli.data.table import Table
from timellm_cli.errors import DataError


@pytest.fixture
def tables(shared_dir: Path) -> Path:
    folder = shared_dir / "cases" / "tables"
    if not folder.is_dir():
        pytest.skip("the small files from the field (../shared/cases/tables) are not beside this checkout")
    return folder


def configured(path: Path, **options: object) -> DataConfig:
    """With the first column as dates and the last one as target where nothing else is said."""
    data = DataConfig.model_validate({"dataset": "custom", "path": path, **options})
    header = open_csv(path, None, data).header
    dates = next((name for name in ("date", "Date", "time", "Datetime", "ds") if name in header), header[0])
    return data.model_copy(update={"date_column": dates, "target": header[-1], **options})


def read(path: Path, **options: object) -> Table:
    return read_table(path, configured(path, **options))


READ = [
    # file, options, rows, channels, what comes next
    ("postgres_plus08", {}, 300, 1, "2020-01-13 12:00:00+08"),
    ("js_ms_z", {}, 300, 1, "2020-01-13T12:00:00.000Z"),
    ("kaggle_energy", {}, 2500, 2, "2015-04-15 05:00:00+02:00"),
    ("hourly_berlin", {}, 300, 1, "2020-04-01 13:00:00+02:00"),
    ("daily_berlin", {}, 300, 1, "2020-10-27 00:00:00+01:00"),
    ("dst_autumn", {"timezone": "Europe/Berlin"}, 200, 1, "2020-10-28 07:00:00"),
    ("pjm_dst", {"timezone": "America/New_York"}, 4500, 1, "2019-03-07 11:00:00"),
    ("last_friday", {}, 200, 1, "2016-09-30"),
    ("fifteenth", {}, 240, 1, "2020-01-15"),
    ("years", {}, 309, 1, "2009"),
    ("dmy10", {}, 700, 1, "09/01/2020 20:40"),
    ("dmy10_new", {"date_format": "dayfirst"}, None, 1, None),
    ("de_int", {"thousands": "."}, 300, 1, "27.10.2020"),
    ("excel_de", {}, 800, 1, "03.02.2020 08:00"),
    ("ld2011", {"date_column": ""}, 800, 2, "2011-01-09 08:15:00"),
    ("gbk_cn", {}, 800, 1, "2020年2月3日 8时"),
    ("unix_s", {}, 900, 1, "1577890800"),
    ("entsoe", {}, 800, 1, "09.01.2019 08:00 - 09.01.2019 08:15"),
    ("mon_dd_yy", {}, 800, 1, "11-Mar-22"),
    ("yyyymmddhh", {}, 800, 1, "2020020308"),
    (
        "household", {"date_column": "Date,Time", "na": ("?",), "decimal": ".", "fill": "linear"}, 900, 1,
        "17/12/2006 08:24:00",
    ),
    ("cryptodd", {"skip_rows": 1, "exclude": ("unix",)}, 900, 1, "2020-02-07 12:00:00"),
    ("openmeteo", {"skip_rows": 3}, 900, 1, "2020-02-07T12:00"),
    ("trailing_empty_rows", {}, 800, 2, "2020-02-03 08:00:00"),
    ("trailing_row_comma", {}, 800, 2, "2020-02-03 08:00:00"),
    ("unnamed0", {"date_column": "date"}, 800, 2, "2020-02-03 08:00:00"),
    ("unnamed0_named", {"date_column": "date"}, 800, 2, "2020-02-03 08:00:00"),
    ("sentinel", {}, 1000, 1, "2020-02-11 16:00:00"),
    ("sentinel", {"na": ("-9999",), "fill": "linear"}, 1000, 1, "2020-02-11 16:00:00"),
    ("jena_dup", {"duplicates": "first"}, None, 2, "07.01.2010 06:10:00"),
    ("jena_dup", {"fill": "linear"}, None, 2, "07.01.2010 06:10:00"),
    ("stock_desc2", {}, 700, 1, "09/07/2022"),
    ("pjm_unsorted", {}, 1000, 1, "2018-02-11 16:00:00"),
    ("fiscal", {"fill": "linear"}, 120, 1, "2020-02-01"),
    ("jitter", {"snap": "10min"}, 800, 1, "2020-01-06 13:20:00"),
    ("stock_yahoo", {}, 1003, 6, "2021-12-31"),
    ("trading_hours", {}, 1000, 1, "2020-07-17 16:00:00"),
    ("trading_5min", {}, 1500, 1, "2020-01-28 11:00:00"),
    ("session_9_16", {}, 712, 1, "2020-05-05 09:00:00"),
    ("no_saturday", {}, 800, 1, "2022-07-22"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "options", "rows", "channels", "after"), READ, ids=lambda value: str(value)[:40])
def test_a_file_from_the_field_is_read_and_continued_in_its_own_style(
    tables: Path, name: str, options: dict[str, object], rows: int | None, channels: int, after: str | None
) -> None:
    table = read(tables / f"{name}.csv", **options)
    assert rows in (None, len(table.stamps))
    assert len(table.columns) == channels
    if after is not None:
        assert table.style.write(continue_stamps(table.stamps[-1], table.cadence, 1)[0]) == after


@pytest.mark.parametrize(("name", "options"), [case[:2] for case in READ], ids=lambda value: str(value)[:40])
def test_what_follows_a_file_is_read_back_in_its_style_to_the_letter(
    tables: Path, tmp_path: Path, name: str, options: dict[str, object]
) -> None:
    path = tables / f"{name}.csv"
    table, data = read(path, **options), configured(path, **options)
    dates = date_columns(table.csv, data)
    texts = [table.style.write(stamp) for stamp in continue_stamps(table.stamps[-1], table.cadence, 40)]
    cells = [split_stamp(text, words_of(table.csv, dates)) for text in texts]
    assert {len(own) for own in cells} == {len(dates)}
    assert [" ".join(own) for own in cells] == texts
    after = tmp_path / "after.csv"
    with after.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter=table.csv.delimiter)
        writer.writerow([*dates, *table.columns])
        writer.writerows(
            [*own, *(f"{row}{table.csv.decimal}5" for _ in table.columns)] for row, own in enumerate(cells)
        )
    known = {"date_format": table.date_format, "skip_rows": 0, "exclude": ()}
    rows = read_rows(open_csv(after, None, data.model_copy(update=known)), data.model_copy(update=known))
    assert [rows.style.write(stamp) for stamp in rows.stamps] == texts
    assert rows.frame[table.columns[-1]].to_list() == [row + 0.5 for row in range(40)]


@pytest.mark.parametrize("name", ["nixtla_long", "nixtla_y_only"])
def test_a_long_table_is_a_panel(tables: Path, name: str) -> None:
    table = read(tables / f"{name}.csv", id_column="unique_id")
    assert (table.series.ids, table.series.rows) == (("H0", "H1", "H2"), (400,) * 3)
    assert table.columns == ("y",)
    assert table.style.write(continue_stamps(table.stamps[-1], table.cadence, 1)[0]) == "2020-01-17 16:00:00"


@pytest.mark.parametrize(
    ("name", "words", "remedy"),
    [
        ("de_int", "'1.001' could be 1001 or 1.001", "--thousands ."),
        ("dst_autumn", "2020-10-25 02:00:00 is that of another row", "--timezone"),
        ("pjm_dst", "2018-11-04 01:00:00 is that of another row", "--timezone"),
        ("dmy10_new", "could be %d/%m/%Y %H:%M or %m/%d/%Y %H:%M", "--date-format dayfirst"),
        ("cryptodd", "4 cells, but the header names 1", "--skip-rows 1"),
        ("household", "'58.253' could be 58253 or 58.253", "--decimal ."),
        ("jena_dup", "70 rows repeat a timestamp", "--duplicates first, last or mean"),
        ("jitter", "irregular timestamps", "--snap 10min"),
        ("fiscal", "a gap", "--fill linear"),
        ("nixtla_long", "'H0' is no number", "--id-column unique_id, as timestamps repeat"),
    ],
)
def test_a_file_that_needs_a_word_is_refused_with_that_word(tables: Path, name: str, words: str, remedy: str) -> None:
    with pytest.raises(DataError) as caught:
        options = {"date_column": "date"} if name == "cryptodd" else {}
        read(tables / f"{name}.csv", **options)
    assert words in caught.value.message
    assert remedy in caught.value.hint
