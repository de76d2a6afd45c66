"""How the bytes of a CSV become text: encoding, delimiter, lines above the header, header and line numbers.

Light: polars is imported where cells are read.

Only the first megabyte is used for this, so that a file of any size is described at once.
"""

import csv
import gzip
import io
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from timellm_cli.config import DataConfig
from timellm_cli.data.encoding import GUESSED_ENCODINGS, HEAD_BYTES, decode_head, detect_encoding
from timellm_cli.errors import DataError, did_you_mean, listed
from timellm_cli.units import format_count

if TYPE_CHECKING:
    import polars as pl

DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}
BEYOND = "\0beyond"
QUOTES_HINT = "look for a quotation mark without a partner"
_DATUM = re.compile(r"[+-]?\d[\d.,:/T +Z-]*")
_MOST_LINES_ABOVE = 50
_BLANKS = " \t\n\r\v\f\x85\xa0"
"""Python also counts the control characters 1C to 1F as blanks, polars does not."""
_PARQUET = b"PAR1"
_GZIP = b"\x1f\x8b"


@dataclass(frozen=True)
class CsvFormat:
    """A CSV that can be opened again and again, and how to read it.

    `name` is for messages. `path` is None for a stream. `header` holds the column names without the blanks around them;
    `skipped` counts the lines above it, `body` all lines above the first row. Only the first `most_rows` rows are read.
    `decimal` is the decimal sign. `notes` are sentences for the user.
    """

    name: str
    path: Path | None
    open: Callable[[], BinaryIO]
    encoding: str
    delimiter: str
    header: tuple[str, ...]
    skipped: int
    body: int
    most_rows: int | None = None
    decimal: str = "."
    notes: tuple[str, ...] = ()

    @contextmanager
    def rows(self) -> Iterator[Iterator[tuple[int, list[str]]]]:
        """The lines that are not blank, header first, as (line number in the file, cells)."""
        with self.open() as stream:
            text = io.TextIOWrapper(stream, encoding=self.encoding, errors="replace", newline="")
            yield numbered_rows(text, self.delimiter, self.skipped)

    def find(self, row: int) -> tuple[int, list[str]]:
        """Line number and cells of data row `row`, counted from 0, absent cells empty. Reads the file up to there."""
        with self.rows() as lines:
            line, cells = next(islice(lines, row + 1, None), (row + 2, []))
        return line, cells + [""] * (len(self.header) - len(cells))

    def line(self, row: int) -> int:
        """Line number of data row `row`, counted from 0."""
        return self.find(row)[0]

    def cell(self, name: str) -> "pl.Expr":
        """The texts of a column of `scan`, without the blanks around them; null for an absent cell."""
        import polars as pl

        return pl.col(str(self.header.index(name))).str.strip_chars()

    def number(self, name: str) -> "pl.Expr | None":  # noqa: ARG002
        """A column of `scan` as numbers where the file has types; None where cells are texts."""
        return None

    def dtype(self, name: str) -> "pl.DataType | None":  # noqa: ARG002
        """The type of a column; None where cells are texts."""
        return None

    def scan(self) -> "pl.LazyFrame":
        """The cells as text, the columns named by position. What stands beyond the header's columns is in `BEYOND`."""
        import polars as pl

        return pl.scan_csv(
            self._utf8(),
            schema={**{str(index): pl.String for index in range(len(self.header))}, BEYOND: pl.String},
            separator=self.delimiter,
            has_header=False,
            skip_lines=self.body,
            encoding="utf8-lossy",
            missing_columns="insert",
            extra_columns="ignore",
            truncate_ragged_lines=True,
            n_rows=self.most_rows,
        )

    def count_rows(self) -> int:
        """How many rows there are in all."""
        import polars as pl

        return int(self.collect(replace(self, most_rows=None).scan().select(pl.len())).item())

    def collect(self, query: "pl.LazyFrame") -> "pl.DataFrame":
        """The result of a query on `scan`. Raises DataError for a file that is no CSV."""
        import polars as pl

        try:
            return query.collect(engine="streaming")
        except pl.exceptions.PolarsError as error:
            with self.rows() as lines:
                for _ in lines:  # names the line, where Python's reader finds the fault as well
                    pass
            raise DataError(f"{self.name} is no valid CSV: {str(error).splitlines()[0][:120]}", QUOTES_HINT) from None

    def _utf8(self) -> Path | bytes:
        """The CSV as UTF-8 with lines that end in a line feed: its path where it is like that, else its bytes."""
        with self.open() as stream:
            head = stream.read(HEAD_BYTES)
            spaced = re.search(re.escape(self.delimiter.encode()) + b' +"', head)
            plain = self.encoding in ("utf-8", "utf-8-sig") and (b"\n" in head or b"\r" not in head)
            if self.path is not None and plain and not spaced and not _is_gzip(self.path):
                return self.path
            text = (head + stream.read()).decode(self.encoding, errors="replace")
        text = text.replace("\r\n", "\n").replace("\r", "\n")
        if spaced:
            written = io.StringIO()
            cells = csv.reader(io.StringIO(text, newline=""), delimiter=self.delimiter, skipinitialspace=True)
            csv.writer(written, delimiter=self.delimiter, lineterminator="\n").writerows(cells)
            text = written.getvalue()
        return text.encode()


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
        fault = "has no line end in its first megabyte" if len(head) == HEAD_BYTES else "is empty"
        raise DataError(f"{name} {fault}", "the first line must name the columns, each line after it is a timestamp")
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
    found = CsvFormat(name, path, opener, encoding, delimiter, header, skipped, body, notes=tuple(notes))
    if len(first) > len(header) and any(cell.strip() for cell in first[len(header) :]):
        raise too_wide(found, 0, data)
    return found


def _count_comments(text: str) -> int:
    """How many lines above the header are comments, which begin with '#'.

    The last of them is the header where as many cells as it has stand below it, and one of them is a number or a date.
    """
    lines = [line.strip() for line in islice(io.StringIO(text), _MOST_LINES_ABOVE)]
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
        is_gzip = _is_gzip(source)
        return (lambda: gzip.open(source) if is_gzip else source.open("rb")), source  # type: ignore[return-value]
    content = source.read()
    content = gzip.decompress(content) if content.startswith(_GZIP) else content
    return (lambda: io.BytesIO(content)), None


def _is_gzip(path: Path) -> bool:
    with path.open("rb") as stream:
        return stream.read(2) == _GZIP


def too_wide(csv_format: CsvFormat, row: int, data: DataConfig) -> DataError:
    """The error of a row that has more cells than the header has names."""
    line, cells = csv_format.find(row)
    above = row == 0 and (lines_above_header(csv_format, data.date_column.split(",")) or data_starts_at(csv_format))
    return DataError(
        f"{csv_format.name}, line {line}: {len(cells)} cells, but the header names {len(csv_format.header)} columns",
        f"--skip-rows {above}" if above else "look for a decimal comma or an unquoted comma in a cell of that line",
    )


def lines_above_header(csv_format: CsvFormat, names: Sequence[str]) -> int:
    """How many lines to skip so that the header has these names; 0 where no line near the start has them."""
    with csv_format.open() as stream:
        lines = stream.read(HEAD_BYTES).decode(csv_format.encoding, errors="replace").splitlines()[:_MOST_LINES_ABOVE]
    for number, line in enumerate(lines):
        if any(set(names) <= {cell.strip(' "') for cell in line.split(delimiter)} for delimiter in DELIMITERS):
            return number
    return 0


def data_starts_at(csv_format: CsvFormat) -> int:
    """How many lines to skip so that the first row has a timestamp; 0 where no line near the start is like that."""
    from timellm_cli.data.dates import find_formats

    def has_stamp(cells: list[str]) -> bool:
        return any(re.search(r"\d\D+\d", cell) and find_formats([cell]) for cell in cells)

    with csv_format.open() as stream:
        lines = stream.read(HEAD_BYTES).decode(csv_format.encoding, errors="replace").splitlines()[:_MOST_LINES_ABOVE]
    for delimiter in (csv_format.delimiter, *DELIMITERS):
        rows = [[cell.strip(' "') for cell in line.split(delimiter)] for line in lines]
        for number, (header, first) in enumerate(pairwise(rows)):
            if 1 < len(header) == len(first) and has_stamp(first) and not has_stamp(header):
                return number
    return 0


def numbered_rows(lines: Iterable[str], delimiter: str, skipped: int = 0) -> Iterator[tuple[int, list[str]]]:
    """The rows with a cell that is not blank, as (line number, cells), without the first `skipped` lines.

    Raises DataError for unmatched quotation marks.
    """
    reader = csv.reader(islice(lines, skipped, None), delimiter=delimiter, skipinitialspace=True)
    try:
        for cells in reader:
            if any(cell.strip() or cell.strip(_BLANKS) for cell in cells):
                yield reader.line_num + skipped, cells
    except csv.Error as error:
        line = reader.line_num + skipped
        raise DataError(
            f"no valid CSV at line {line}: {error}", "look for a quotation mark without a partner"
        ) from None


def detect_delimiter(text: str, date_column: str, skipped: int = 0) -> str:
    """The delimiter with which the header names `date_column`, else the one that gives the most columns."""
    headers = {
        delimiter: [cell.strip() for cell in next(rows, (0, [""]))[1]]
        for delimiter in DELIMITERS
        for rows in [numbered_rows(io.StringIO(text, newline=""), delimiter, skipped)]
    }
    return max(headers, key=lambda delimiter: (date_column in headers[delimiter], len(headers[delimiter])))


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
