"""How the bytes of a CSV become text: encoding, delimiter, lines above the header, header and line numbers.

Light: polars is imported where cells are read.

Only the first megabyte is used for this, so that a file of any size is described at once.
"""

import codecs
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
from timellm_cli.errors import DataError, did_you_mean, listed
from timellm_cli.units import format_count

if TYPE_CHECKING:
    import polars as pl

HEAD_BYTES = 2**20
DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}
BEYOND = "\0beyond"
QUOTES_HINT = "look for a quotation mark without a partner"
GUESSED_ENCODINGS = ("gb18030", "cp1252")
_NAMES = {"gb18030": "GBK (GB18030)", "cp1252": "Windows-1252"}
_DATUM = re.compile(r"[+-]?\d[\d.,:/T +Z-]*")
_MOST_LINES_ABOVE = 50
_BLANKS = " \t\n\r\v\f\x85\xa0"
"""Python also counts the control characters 1C to 1F as blanks, polars does not."""
_GZIP = b"\x1f\x8b"
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
    b"PAR1": "a Parquet file",
    b"\x89HDF": "an HDF5 file",
}


@dataclass(frozen=True)
class CsvFormat:
    """A CSV that can be opened again and again, and how to read it.

    `name` is for messages. `path` is None for a stream. `header` holds the column names without the blanks around them;
    `skipped` counts the lines above it, `body` all lines above the first row. Only the first `most_rows` rows are read.
    `notes` are sentences for the user.
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
    notes = [f"the text is read as {_NAMES[encoding]} (--encoding)"] if encoding in _NAMES and not data.encoding else []
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


def detect_delimiter(text: str, date_column: str, skipped: int = 0) -> str:
    """The delimiter with which the header names `date_column`, else the one that gives the most columns."""
    headers = {
        delimiter: [cell.strip() for cell in next(rows, (0, [""]))[1]]
        for delimiter in DELIMITERS
        for rows in [numbered_rows(io.StringIO(text, newline=""), delimiter, skipped)]
    }
    return max(headers, key=lambda delimiter: (date_column in headers[delimiter], len(headers[delimiter])))


def _looks_chinese(text: str) -> bool:
    foreign = [character for character in text if not character.isascii()]
    common = "".join(foreign).encode("gb2312", errors="ignore").decode("gb2312")
    return len(common) * 2 > len(foreign)


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
