"""From a file or a stream to a `CsvFormat`: what kind of file it is, its encoding, its delimiter and its header.

Light: polars is imported where cells are read.
"""

import gzip
import io
import re
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from timellm_cli.config import DataConfig
from timellm_cli.data.csv_format import (
    BLANKS,
    DELIMITERS,
    MOST_LINES_ABOVE,
    CsvFormat,
    is_gzip,
    numbered_rows,
    too_wide,
)
from timellm_cli.data.encoding import GUESSED_ENCODINGS, HEAD_BYTES, decode_head, detect_encoding
from timellm_cli.errors import DataError, did_you_mean, listed
from timellm_cli.units import format_count

_DATUM = re.compile(r"[+-]?\d[\d.,:/T +Z-]*")
_PARQUET = b"PAR1"
_GZIP = b"\x1f\x8b"


def open_csv(source: Path | BinaryIO, name: str | None, data: DataConfig) -> CsvFormat:
    """Find out how to read a file, or a binary stream, which is read to its end.

    Raises DataError where it is missing, empty, not text or without rows, or has a first row longer than the header.
    """
    name = name or (str(source) if isinstance(source, Path) else "the input")
    try:
        opener, path = _opener(source)
        with opener() as stream:
            head = stream.read(HEAD_BYTES)
    except (OSError, EOFError) as error:
        raise DataError(f"{name} cannot be read: {error}", "check the file") from None
    if head.startswith(_PARQUET):
        from timellm_cli.data.parquet_format import open_parquet

        with opener() as stream:
            return open_parquet(path or stream.read(), name)
    encoding = data.encoding or detect_encoding(head, name)
    text = decode_head(head, encoding)
    if not text.strip():
        fault = f"{name} has no line end in its first megabyte" if len(head) == HEAD_BYTES else f"{name} is empty"
        raise DataError(fault, "the first line must name the columns, each line after it is a timestamp")
    skipped = data.skip_rows
    named = re.match(r"sep=(.)\r?\n", text)
    if not skipped:
        skipped = 1 if named else _count_comments(text)
    delimiter = named[1] if named else detect_delimiter(text, data.date_column, skipped)
    rows = numbered_rows(io.StringIO(text, newline=""), delimiter, skipped)
    body, names = next(rows, (1, [""]))
    header = tuple(cell.strip() for cell in names)
    _, first = next(rows, (0, None))
    if first is None:
        raise DataError(f"{name} has a header but no rows", "each row below the header is one timestamp")
    notes = (
        [f"the text is read as {GUESSED_ENCODINGS[encoding]} (--encoding)"]
        if encoding in GUESSED_ENCODINGS and not data.encoding
        else []
    )
    if skipped and not named and not data.skip_rows:
        notes.append(f"{format_count(skipped, 'line')} above the header left out, as '#' marks comments (--skip-rows)")
    found = CsvFormat(
        name, path, opener, encoding, delimiter, header, skipped, body, newline=_line_end(text), notes=tuple(notes)
    )
    if len(first) > len(header) and any(cell.strip() for cell in first[len(header) :]):
        raise too_wide(found, 0, data)
    return found


def _line_end(text: str) -> str:
    return "\r\n" if "\r\n" in text else "\n"


def _count_comments(text: str) -> int:
    """How many lines above the header are comments, which begin with '#'.

    The last of them is the header where as many cells as it has stand below it, and one of them is a number or a date.
    """
    lines = [line.strip() for line in islice(io.StringIO(text), MOST_LINES_ABOVE)]
    end = next((number for number, line in enumerate(lines) if line and not line.startswith("#")), 0)
    last = max((number for number in range(end) if lines[number]), default=0)
    for delimiter in DELIMITERS:
        cells = [cell.strip(' "') for cell in lines[end].split(delimiter)]
        if end and 1 < len(cells) == len(lines[last].split(delimiter)) and any(map(_DATUM.fullmatch, cells)):
            return last
    return end


def _opener(source: Path | BinaryIO) -> tuple[Callable[[], BinaryIO], Path | None]:
    if isinstance(source, Path):
        check_file(source)
        packed = is_gzip(source)
        return (lambda: gzip.open(source) if packed else source.open("rb")), source  # type: ignore[return-value]
    content = source.read()
    content = gzip.decompress(content) if content.startswith(_GZIP) else content
    return (lambda: io.BytesIO(content)), None


def detect_delimiter(text: str, date_column: str, skipped: int = 0) -> str:
    """The delimiter with which the header names `date_column`, else the one that gives the most columns.

    Where none parts anything, columns may be aligned with blanks: header and first row have as many words.
    """
    lines = {
        delimiter: [cells for _, cells in islice(numbered_rows(io.StringIO(text, newline=""), delimiter, skipped), 2)]
        for delimiter in (*DELIMITERS, BLANKS)
    }
    headers = {delimiter: [cell.strip() for cell in rows[0]] if rows else [""] for delimiter, rows in lines.items()}
    words = [sum(map(bool, cells)) for cells in lines[BLANKS]]
    if len(words) == 2 and words[0] == words[1] > 1 and all(len(headers[delimiter]) == 1 for delimiter in DELIMITERS):
        return BLANKS
    return max(DELIMITERS, key=lambda delimiter: (date_column in headers[delimiter], len(headers[delimiter])))


def check_file(path: Path) -> None:
    """Raise DataError where there is no file of that name, or none that can be opened."""
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
