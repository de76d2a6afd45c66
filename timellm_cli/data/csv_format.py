"""How the bytes of a CSV become text: encoding, delimiter, lines above the header, header and line numbers.

Light: polars is imported where cells are read.

Only the first megabyte is used for this, so that a file of any size is described at once.
"""

import csv
import io
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from timellm_cli.config import DataConfig
from timellm_cli.data.encoding import HEAD_BYTES
from timellm_cli.errors import DataError

if TYPE_CHECKING:
    import polars as pl

DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}
BLANKS = " "
"""The delimiter of columns that are aligned with any number of blanks."""
BEYOND = "\0beyond"
QUOTES_HINT = "look for a quotation mark without a partner"
MOST_LINES_ABOVE = 50
_BLANKS = " \t\n\r\v\f\x85\xa0"
"""Python also counts the control characters 1C to 1F as blanks, polars does not."""
BLOCK_BYTES = 2**22
_COLUMNS, _LINES, _CELL_BYTES = 1000, 1000, 8
"""So many columns are read at once; a block has at least so many lines, as each of its columns takes a millisecond."""


@dataclass(frozen=True)
class CsvFormat:
    """A CSV that can be opened again and again, and how to read it.

    `name` is for messages. `path` is None for a stream. `header` holds the column names without the blanks around them;
    `skipped` counts the lines above it, `body` all lines above the first row. Only the first `most_rows` rows are read.
    `decimal` is the decimal sign, `groups` the sign between groups of digits, `newline` the end of a line. `notes` are
    sentences for the user.
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
    groups: str = ""
    newline: str = "\n"
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
        return self._scan(self._utf8(), self.body)

    def _scan(self, source: Path | bytes, skipped: int = 0) -> "pl.LazyFrame":
        import polars as pl

        return pl.scan_csv(
            source,
            schema={**{str(index): pl.String for index in range(len(self.header))}, BEYOND: pl.String},
            separator=self.delimiter,
            has_header=False,
            skip_lines=skipped,
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

    def read(self, columns: Sequence["pl.Expr"], rows: Sequence[int] | None = None) -> "pl.DataFrame":
        """Columns of `scan` where each value is made from its own row alone: of all rows, or of those numbered `rows`.

        A large file is read in blocks of lines, and many columns some at a time: the texts of a cell need several times
        the memory of its number. Raises DataError for a file that is no CSV.
        """
        import polars as pl

        parts, first = [], 0
        for block in self._blocks():
            groups = [block.select(columns[at : at + _COLUMNS]) for at in range(0, len(columns), _COLUMNS)]
            most = None if self.most_rows is None else self.most_rows - first
            frames = [self.collect(group if most is None else group.head(most)) for group in groups]
            part = pl.concat(frames, how="horizontal") if len(frames) > 1 else frames[0]
            parts.append(part if rows is None else part[[row - first for row in rows if 0 <= row - first < len(part)]])
            first += len(part)
            if first == self.most_rows:
                break
        return pl.concat(parts)

    def _blocks(self) -> Iterator["pl.LazyFrame"]:
        """`scan` in one piece, or, of a large file that polars can read from its path, in pieces."""
        source = self._utf8()
        size = max(BLOCK_BYTES, _LINES * len(self.header) * _CELL_BYTES)
        if isinstance(source, bytes) or source.stat().st_size < 2 * size:
            yield self._scan(source, self.body)
            return
        with source.open("rb") as stream:
            for _ in range(self.body):
                stream.readline()
            yield from (self._scan(block) for block in blocks(stream, size))

    def _utf8(self) -> Path | bytes:
        """The CSV as UTF-8 with lines that end in a line feed: its path where it is like that, else its bytes."""
        with self.open() as stream:
            head = stream.read(HEAD_BYTES)
            spaced = self.delimiter == BLANKS or re.search(re.escape(self.delimiter.encode()) + b' +"', head)
            plain = self.encoding in ("utf-8", "utf-8-sig") and (b"\n" in head or b"\r" not in head)
            if self.path is not None and plain and not spaced and not is_gzip(self.path):
                return self.path
            text = (head + stream.read()).decode(self.encoding, errors="replace")
        text = text.replace("\r\n", "\n").replace("\r", "\n")
        if spaced:
            written = io.StringIO()
            cells = csv.reader(io.StringIO(text, newline=""), delimiter=self.delimiter, skipinitialspace=True)
            csv.writer(written, delimiter=self.delimiter, lineterminator="\n").writerows(cells)
            text = written.getvalue()
        return text.encode()


def blocks(stream: BinaryIO, size: int) -> Iterator[bytes]:
    """The lines of a file in blocks of about `size` bytes. No block ends between quotation marks."""
    rest = b""
    while block := stream.read(size):
        rest += block
        end = rest.rfind(b"\n") + 1
        quotes = rest.count(b'"', 0, end)
        while end and quotes % 2:
            previous = rest.rfind(b"\n", 0, end - 1) + 1
            quotes -= rest.count(b'"', previous, end)
            end = previous
        if end:
            yield rest[:end]
            rest = rest[end:]
    if rest:
        yield rest


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
        lines = stream.read(HEAD_BYTES).decode(csv_format.encoding, errors="replace").splitlines()[:MOST_LINES_ABOVE]
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
        lines = stream.read(HEAD_BYTES).decode(csv_format.encoding, errors="replace").splitlines()[:MOST_LINES_ABOVE]
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


def is_gzip(path: Path) -> bool:
    with path.open("rb") as stream:
        return stream.read(2) == b"\x1f\x8b"
