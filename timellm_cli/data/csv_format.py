"""How the bytes of a CSV become text: encoding, delimiter, header and line numbers. Light.

Only the first megabyte is used for this, so that a file of any size is described at once.
"""

import codecs
import csv
import io
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from timellm_cli.errors import DataError, did_you_mean, listed

HEAD_BYTES = 2**20
DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}
EMPTY_CELLS = ("", "NA", "N/A", "n/a", "#N/A", "NaN", "nan", "NAN", "null", "NULL", "None")
"""Texts of a cell without a value."""

GUESSED_ENCODINGS = ("gb18030", "cp1252")
QUOTES_HINT = "look for a quotation mark without a partner"
_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_FOREIGN = {
    b"PK\x03\x04": "an Excel workbook or a zip archive",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook",
    b"\x1f\x8b": "a gzip archive",
    b"PAR1": "a Parquet file",
    b"\x89HDF": "an HDF5 file",
}


@dataclass(frozen=True)
class CsvSource:
    """A CSV that can be opened again and again, and how to read it.

    `name` is for messages. `header` holds the column names without the blanks around them. `first_row` is the row below
    the header, counted from 0, from which `line` counts.
    """

    name: str
    open: Callable[[], BinaryIO]
    encoding: str
    delimiter: str
    header: tuple[str, ...]
    first_row: int = 0

    @contextmanager
    def rows(self) -> Iterator[Iterator[tuple[int, list[str]]]]:
        """The lines that are not blank, header first, as (line number in the file, cells)."""
        with self.open() as stream:
            text = io.TextIOWrapper(stream, encoding=self.encoding, errors="replace", newline="")
            yield numbered_rows(text, self.delimiter)

    def line(self, row: int) -> int:
        """Line number in the file of data row `row` (0 is `first_row`). Reads the file up to there."""
        below = self.first_row + row + 1
        with self.rows() as lines:
            return next(islice((number for number, _ in lines), below, None), below + 1)


def open_source(source: Path | BinaryIO, name: str | None, date_column: str) -> CsvSource:
    """Find out how to read a file, or a binary stream, which is read to its end.

    Raises DataError where it is missing, empty, not text, without rows, or has a first row longer than the header.
    """
    if isinstance(source, Path):
        _check_file(source)
        opener: Callable[[], BinaryIO] = lambda: source.open("rb")  # noqa: E731
        name = name or str(source)
    else:
        content = source.read()
        opener = lambda: io.BytesIO(content)  # noqa: E731
        name = name or "the input"
    with opener() as stream:
        head = stream.read(HEAD_BYTES)
    encoding = detect_encoding(head, name)
    text = decode_head(head, encoding)
    if not text.strip():
        fault = "has no line end in its first megabyte" if len(head) == HEAD_BYTES else "is empty"
        raise DataError(f"{name} {fault}", "the first line must name the columns, each line after it is a timestamp")
    delimiter = detect_delimiter(text, date_column)
    rows = numbered_rows(io.StringIO(text, newline=""), delimiter)
    header = _header(rows)
    first = next(rows, None)
    if first is None:
        raise DataError(f"{name} has a header but no rows", "each row below the header is one timestamp")
    if len(first[1]) > len(header):
        raise too_wide(name, first[0], len(first[1]), len(header))
    return CsvSource(name, opener, encoding, delimiter, header)


def too_wide(name: str, line: int, cells: int, columns: int) -> DataError:
    """The error of a line that has more cells than the header has names."""
    return DataError(
        f"{name}, line {line}: {cells} cells, but the header names {columns} columns",
        "look for a decimal comma or an unquoted comma in a cell of that line",
    )


def not_a_number(name: str, line: int, column: str, cell: str, count: int = 1) -> DataError:
    """The error of a cell that holds text. `count` is the number of such cells in the column."""
    more = f" ({count:,} such cells in the column)" if count > 1 else ""
    hint = (
        f"empty the cell (what counts as empty: {', '.join(EMPTY_CELLS[1:])}), or leave the column out with --columns"
    )
    if "," in cell:
        hint = "write numbers like 1234.5, without thousands separators or decimal commas"
    return DataError(f"{name}, line {line}, column '{column}': '{cell}' is no number{more}", hint)


def infinite_value(name: str, line: int, column: str) -> DataError:
    """The error of a cell with an infinite number, or one too large for float64."""
    return DataError(f"{name}, line {line}, column '{column}': the value is infinite", "leave the cell empty")


def numbered_rows(lines: Iterable[str], delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """The rows that are not blank as (line number, cells). Raises DataError for unmatched quotation marks."""
    reader = csv.reader(lines, delimiter=delimiter, skipinitialspace=True)
    try:
        for cells in reader:
            if len(cells) > 1 or (cells and cells[0].strip()):
                yield reader.line_num, cells
    except csv.Error as error:
        raise DataError(f"no valid CSV at line {reader.line_num}: {error}", QUOTES_HINT) from None


def detect_encoding(head: bytes, name: str) -> str:
    """The encoding of a text that starts with `head`: by its BOM, else UTF-8, GB18030 (includes GBK) or Windows-1252.

    GB18030 decodes nearly any bytes: one degree sign of a Western file becomes a rare Chinese character. So it is
    chosen only where most of the characters are common ones (GB2312). Raises DataError for a file that is not text.
    """
    for magic, kind in _FOREIGN.items():
        if head.startswith(magic):
            raise DataError(f"{name} is {kind}, not a CSV", "export it as CSV text, then use that file")
    for bom, encoding in _BOMS:
        if head.startswith(bom):
            return encoding
    if b"\0" in head:
        for offset, encoding in ((1, "utf-16-le"), (0, "utf-16-be")):
            zeros = head[offset::2]
            if zeros.count(0) > len(zeros) / 2 and head[1 - offset :: 2].count(0) == 0:
                return encoding
        raise DataError(f"{name} is a binary file, not a CSV", "export it as CSV text, then use that file")
    for encoding in ("utf-8", *GUESSED_ENCODINGS):
        try:
            text = codecs.getincrementaldecoder(encoding)().decode(head, final=False)
        except UnicodeDecodeError:
            continue
        if encoding != "gb18030" or _looks_chinese(text):
            return encoding
    raise DataError(
        f"{name}: its encoding is not known",
        "UTF-8, UTF-16, GBK/GB18030 and Windows-1252 were tried; save the file as UTF-8",
    )


def decode_head(head: bytes, encoding: str) -> str:
    """The text of the first bytes, without a character or line that is cut off at the end."""
    text = codecs.getincrementaldecoder(encoding)(errors="replace").decode(head, final=False)
    return text[: max(text.rfind("\n"), text.rfind("\r")) + 1] if len(head) == HEAD_BYTES else text


def detect_delimiter(text: str, date_column: str) -> str:
    """The delimiter with which the header names `date_column`, else the one that gives the most columns."""
    headers = {delimiter: _header(numbered_rows(io.StringIO(text, newline=""), delimiter)) for delimiter in DELIMITERS}
    return max(headers, key=lambda delimiter: (date_column in headers[delimiter], len(headers[delimiter])))


def _header(rows: Iterator[tuple[int, list[str]]]) -> tuple[str, ...]:
    return tuple(cell.strip() for cell in next(rows, (1, [""]))[1])


def _looks_chinese(text: str) -> bool:
    foreign = [character for character in text if not character.isascii()]
    common = "".join(foreign).encode("gb2312", errors="ignore").decode("gb2312")
    return len(common) * 2 > len(foreign)


def _check_file(path: Path) -> None:
    if path.is_dir():
        raise DataError(f"'{path}' is a folder, not a CSV file", _list_nearby(path))
    if not path.exists():
        folder = path.parent
        if not folder.is_dir():
            raise DataError(f"file '{path}' not found: there is no folder '{folder}'", "check the path")
        names = [other.name for other in folder.glob("*.csv")]
        raise DataError(f"file '{path}' not found{did_you_mean(path.name, names)}", _list_nearby(folder))
    try:
        with path.open("rb"):
            pass
    except OSError as error:
        raise DataError(f"'{path}' cannot be opened: {error.strerror}", "check its permissions") from None


def _list_nearby(folder: Path) -> str:
    names = sorted(other.name for other in folder.glob("*.csv"))
    if not names:
        return f"there is no CSV file in '{folder}'"
    return f"CSV files in '{folder}': {listed(names, 8)}"
