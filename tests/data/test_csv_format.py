"""Files that are missing, in any encoding, with any delimiter, or no CSV at all."""

import contextlib
import gzip
import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.data.csv_files import CUSTOM, daily_lines, hourly, write_csv
from timellm_cli.config import DataConfig
from timellm_cli.data.csv_format import blocks, numbered_rows
from timellm_cli.data.encoding import HEAD_BYTES, detect_encoding
from timellm_cli.data.open_csv import open_csv
from timellm_cli.data.read_table import read_table
from timellm_cli.errors import DataError

ENCODINGS = ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "gb18030", "gbk"]


def test_a_missing_file_names_the_nearest_and_lists_the_others(tmp_path: Path) -> None:
    for name in ("ETTh1.csv", "weather.csv"):
        (tmp_path / name).write_text("date,OT\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"ETTh11\.csv' not found; did you mean 'ETTh1\.csv'") as caught:
        open_csv(tmp_path / "ETTh11.csv", None, CUSTOM)
    assert caught.value.hint.endswith("ETTh1.csv, weather.csv")


def test_a_missing_folder_and_a_folder_instead_of_a_file_have_their_own_errors(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no folder"):
        open_csv(tmp_path / "nowhere" / "x.csv", None, CUSTOM)
    with pytest.raises(DataError, match="is a folder") as caught:
        open_csv(tmp_path, None, CUSTOM)
    assert "there is no CSV file in" in caught.value.hint


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"\n \n\r\n", "is empty"),
        (b"\xef\xbb\xbf", "is empty"),
        (b"date,OT\n", "has a header but no rows"),
        (b"date,OT\n2024-01-01,1,2\n", "line 2: 3 cells, but the header names 2 columns"),
        (b"PK\x03\x04rest", "is an Excel workbook or a zip archive"),
        (b"\x1f\x8b\x08rest", "cannot be read"),
        (b"\x7fELF\0\0\1\2\3", "is a binary file"),
        (b"date,\x81\x20\x8d\n2024-01-01,1\n", "its encoding is not known"),
        (b"d" * HEAD_BYTES + b"ate,OT\n2024-01-01,1\n", "has no line end in its first megabyte"),
    ],
)
def test_what_is_no_csv_is_refused_for_what_it_is(content: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        open_csv(io.BytesIO(content), "the file", CUSTOM)


def test_an_unknown_encoding_says_which_ones_were_tried() -> None:
    with pytest.raises(DataError) as caught:
        detect_encoding(b"date,\x81\x20\x8d\n", "the file")
    assert all(name in caught.value.hint for name in ("UTF-8", "UTF-16", "GBK", "Windows-1252"))


@pytest.mark.parametrize(
    ("text", "encoding", "expected"),
    [
        ("时间,负荷,油温", "gbk", "gb18030"),
        ("时间,负荷,油温", "utf-8", "utf-8"),
        ("日期,朱镕基", "gb18030", "gb18030"),
        ("date,T (°C),SWDR (W/m²)", "cp1252", "cp1252"),
        ("date,Außentemperatur,Größe", "cp1252", "cp1252"),
        ("date,OT", "ascii", "utf-8"),
    ],
)
def test_the_encoding_of_a_header_is_found(text: str, encoding: str, expected: str) -> None:
    assert detect_encoding(text.encode(encoding), "the file") == expected


def test_a_character_cut_at_the_end_of_the_head_is_no_fault(tmp_path: Path) -> None:
    lines = [f"{stamp},1,测量" for stamp in hourly(40_000)]
    for encoding in ("utf-8", "gbk"):
        path = write_csv(tmp_path / "long.csv", "date,OT,注", lines, encoding)
        assert path.stat().st_size > HEAD_BYTES
        for cut in range(3):
            head = path.read_bytes()[: HEAD_BYTES - cut]
            assert detect_encoding(head, "x") == {"utf-8": "utf-8", "gbk": "gb18030"}[encoding]


def test_gbk_headers_become_columns(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "x.csv", "日期,负荷,油温", daily_lines(), "gbk")
    data = DataConfig(dataset="custom", date_column="日期", target="负荷")
    table = read_table(path, data)
    assert table.columns == ("油温", "负荷")
    assert table.values[:, 1].tolist() == [day + 0.5 for day in range(1, 11)]
    assert table.csv.encoding == "gb18030"


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize(
    "text",
    [
        "{0}",
        "{0}~",
        "{0}~~~",
        "~{0}~",
        "{0}~   ~\t~",
        '{0}~2024-01-11,"1","2"',
        '{0}~"2024-01-11",1,"2"~',
        '{0}~2024-01-11, "1", 2',
    ],
)
def test_blank_lines_and_quotes_are_no_rows_of_their_own(tmp_path: Path, text: str, end: str) -> None:
    path = tmp_path / "x.csv"
    body = "~".join(["date,load,OT", *daily_lines()])
    path.write_bytes(text.format(body).replace("~", end).encode())
    assert len(read_table(path, CUSTOM).values) == (11 if "2024-01-11" in text else 10)


def test_a_row_of_control_characters_is_a_row_and_no_blank_line() -> None:
    text = "date,OT\n2024-01-01,1\n\n2024-01-02,2\n\x1d\x1d\n"
    with pytest.raises(DataError, match=r"line 5, column 'date': .* is no timestamp"):
        read_table(io.BytesIO(text.encode()), CUSTOM)


def test_two_thousand_columns_are_read(tmp_path: Path) -> None:
    names = [f"sensor {number}" for number in range(1999)]
    lines = [",".join([stamp, *(["0.125"] * 2000)]) for stamp in hourly(300)]
    table = read_table(write_csv(tmp_path / "wide.csv", ",".join(["date", *names, "OT"]), lines), CUSTOM)
    assert table.values.shape == (300, 2000)


def test_a_gzip_archive_is_read_as_its_content(small_csv: Path, tmp_path: Path) -> None:
    path = tmp_path / "small.csv.gz"
    path.write_bytes(gzip.compress(small_csv.read_bytes()))
    np.testing.assert_array_equal(read_table(path, CUSTOM).values, read_table(small_csv, CUSTOM).values)


def test_lines_above_the_header_are_skipped_as_asked_and_the_error_says_how_many() -> None:
    lines = ["Station 7", "source,none", "", "date,load,OT", *daily_lines()]
    content = "\n".join(lines).encode()
    with pytest.raises(DataError) as caught:
        read_table(io.BytesIO(content), CUSTOM)
    assert caught.value.hint == "--skip-rows 3"
    assert len(read_table(io.BytesIO(content), CUSTOM.model_copy(update={"skip_rows": 3})).values) == 10
    content = b"sep=;\n" + "\n".join(["date;load;OT", *(line.replace(",", ";") for line in daily_lines())]).encode()
    assert len(read_table(io.BytesIO(content), CUSTOM.model_copy(update={"decimal": "."})).values) == 10


@pytest.mark.parametrize(
    ("above", "header", "skipped"),
    [
        (["# Station 7", "# hourly, since 2020"], "date,load,OT", 2),
        (["# Station 7", "", "#"], "date,load,OT", 3),
        (["# one, two, three"], "date,load,OT", 1),
        (["# Station 7"], "#date,load,OT", 1),
        ([], "#date,load,OT", 0),
    ],
)
def test_comments_above_the_header_are_left_out_and_counted(above: list[str], header: str, skipped: int) -> None:
    content = "\n".join([*above, header, *daily_lines()]).encode()
    csv = open_csv(io.BytesIO(content), "the file", CUSTOM)
    assert (csv.header, csv.skipped) == (tuple(header.split(",")), skipped)
    assert any("above the header left out" in note for note in csv.notes) == bool(skipped)
    table = read_table(io.BytesIO(content), CUSTOM.model_copy(update={"date_column": csv.header[0]}))
    assert len(table.values) == 10 and table.notes == csv.notes


def test_an_index_called_by_a_hash_is_no_comment() -> None:
    lines = [f"{row},{line}" for row, line in enumerate(daily_lines(), 1)]
    table = read_table(io.BytesIO("\n".join(["#,date,load,OT", *lines]).encode()), CUSTOM)
    assert (table.columns, table.notes) == (("load", "OT"), ("column '#' numbers the rows and is no channel",))


def test_an_encoding_that_is_not_certain_is_said(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "x.csv", "date,Außentemperatur,Größe", daily_lines(), "cp1252")
    assert open_csv(path, None, CUSTOM).notes == ("the text is read as Windows-1252 (--encoding)",)
    assert open_csv(path, None, CUSTOM.model_copy(update={"encoding": "cp1252"})).notes == ()


def test_a_given_encoding_is_used(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "x.csv", "date,Größe", [f"2024-01-0{day},{day}" for day in range(1, 5)], "mac_roman")
    data = DataConfig(dataset="custom", target="Größe", encoding="mac_roman")
    assert read_table(path, data).columns == ("Größe",)


def test_the_delimiter_is_the_one_that_sets_the_date_column_apart(tmp_path: Path) -> None:
    path = write_csv(
        tmp_path / "x.csv", "date;a,b;c,d;e,f;OT", [f"2024-01-{day:02};1;2;3;{day}" for day in range(1, 5)]
    )
    assert read_table(path, CUSTOM).columns == ("a,b", "c,d", "e,f", "OT")


def test_line_numbers_count_blank_lines_and_quoted_line_breaks() -> None:
    text = '\n"date",OT,note\n\n2024-01-01,1,"two\nlines"\n   \n2024-01-02,x,\n'
    with pytest.raises(DataError, match=r"line 7, column 'OT': 'x'"):
        read_table(io.BytesIO(text.encode()), DataConfig(dataset="custom", columns=("OT",)))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    values=st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=3, max_size=30),
    encoding=st.sampled_from(ENCODINGS),
    delimiter=st.sampled_from([",", ";", "\t", "|"]),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
    name=st.sampled_from(["OT", "负荷", "load (MW)", "风速 m/s"]),
    quoted=st.booleans(),
    last_end=st.booleans(),
)
def test_a_csv_reads_back_the_same_in_any_encoding_and_with_any_delimiter(
    tmp_path: Path,
    values: list[float],
    encoding: str,
    delimiter: str,
    end: str,
    name: str,
    quoted: bool,
    last_end: bool,
) -> None:
    mark = '"' if quoted else ""
    rows = [["date", name], *([stamp, repr(value)] for stamp, value in zip(hourly(len(values)), values, strict=True))]
    text = end.join(delimiter.join(f"{mark}{cell}{mark}" for cell in row) for row in rows) + end * last_end
    path = tmp_path / "x.csv"
    path.write_bytes(text.encode(encoding))
    data = DataConfig(dataset="custom", target=name, decimal=".")
    table = read_table(path, data)
    assert table.columns == (name,)
    np.testing.assert_allclose(table.values[:, 0], values, rtol=1e-15)
    assert table.csv.delimiter == delimiter
    assert [str(stamp) for stamp in table.stamps] == [row[0] for row in rows[1:]]
    assert str(table.cadence) == "1 hour"
    with path.open("rb") as stream:
        np.testing.assert_array_equal(read_table(stream, data).values, table.values)


_CELLS = (
    b'1.5 nan inf 1e999 99999999999999999999999 True \xce\xc2 \xff - 0 1,5 1_0 \x00 " "" \'a 2024-01-03 '
    b"2024-01-02T00:00Z 2024 2024-01-01 2024-01-02 01/02/2024 02/01/2024 "
    b"1/2/24 20240101 2300-01-01 0001-01-01 9999-12-31 2024-02-30"
).split(b" ")
_LINES = st.lists(st.lists(st.sampled_from(_CELLS), max_size=3).map(b",".join), max_size=6).map(b"\n".join)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lines=_LINES, header=st.sampled_from([b"date,OT\n", b"date,OT,x\n2024-01-01,1,2\n", b""]))
def test_any_bytes_are_a_table_or_a_data_error(tmp_path: Path, lines: bytes, header: bytes) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes(header + lines)
    for fill in ("none", "linear"):
        data = DataConfig(dataset="custom", fill=fill)
        with contextlib.suppress(DataError):
            read_table(path, data)


@given(
    cells=st.lists(st.sampled_from(["7", '"a,b"', '"two\nlines"', '"a ""word"""', "", '"\n\n"', "é"]), min_size=1),
    size=st.integers(1, 40),
)
def test_blocks_of_a_file_end_where_lines_end_and_nothing_is_lost(cells: list[str], size: int) -> None:
    content = "".join(f"{number},{cell}\n" for number, cell in enumerate(cells)).encode()
    found = list(blocks(io.BytesIO(content), size))
    assert b"".join(found) == content
    lines = [row for block in found for _, row in numbered_rows(io.StringIO(block.decode(), newline=""), ",")]
    assert lines == [row for _, row in numbered_rows(io.StringIO(content.decode(), newline=""), ",")]


def test_a_table_read_in_blocks_is_the_table_read_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [f'{stamp},"{number % 3}, text\nof two lines",{number / 7}' for number, stamp in enumerate(hourly(300))]
    path = write_csv(tmp_path / "x.csv", "date,note,OT", lines)
    data = CUSTOM.model_copy(update={"exclude": ("note",)})
    whole = read_table(path, data)
    monkeypatch.setattr("timellm_cli.data.csv_format.BLOCK_BYTES", 200)
    table = read_table(path, data)
    assert table.frame.equals(whole.frame)
    assert table.stamps.equals(whole.stamps)
    assert (table.style, table.cadence, table.notes) == (whole.style, whole.cadence, whole.notes)
    wrong = write_csv(tmp_path / "y.csv", "date,note,OT", [*lines[:200], "yesterday,a,1", *lines[201:]])
    with pytest.raises(DataError, match=r"line 402, column 'date': 'yesterday' is no timestamp"):
        read_table(wrong, data)
