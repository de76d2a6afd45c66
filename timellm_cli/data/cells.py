"""The cells of a CSV: parsed by pandas a piece at a time, and collected as timestamps and numbers.

A file of any size is read in little more memory than its numbers take.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd

from timellm_cli.data.cadence import Stamps, find_grid
from timellm_cli.data.csv_format import EMPTY_CELLS, QUOTES_HINT, CsvSource, infinite_value, not_a_number, too_wide
from timellm_cli.data.scale import Floats
from timellm_cli.data.timestamps import HINT, fitting_formats, no_timestamp
from timellm_cli.errors import DataError

_PIECE_CELLS, _PIECE_ROWS = 2**21, 2**15
_FORMAT_ROWS = 200
_BLOCK_BYTES = 33 * 2**20
"""From about this size on, glibc returns freed memory to the system at once."""


def read_pieces(csv: CsvSource, date_column: str, at_once: bool = False) -> Iterator[pd.DataFrame]:
    """All columns, named by position: the rows a piece at a time, or all of them. Timestamps stay text.

    Raises DataError for a file that is no CSV.
    """
    width = len(csv.header)
    options: dict[str, Any] = {} if at_once else {"chunksize": min(max(_PIECE_CELLS // width, 1), _PIECE_ROWS)}
    try:
        with csv.open() as stream:
            parsed = pd.read_csv(
                stream,
                sep=csv.delimiter,
                encoding=csv.encoding,
                encoding_errors="replace",
                header=0,
                names=range(width),
                index_col=False,
                dtype={csv.header.index(date_column): str},
                keep_default_na=False,
                na_values=list(EMPTY_CELLS),
                skipinitialspace=True,
                low_memory=False,
                **options,
            )
            yield from [parsed] if at_once else parsed
    except pd.errors.ParserError as error:
        with csv.rows() as lines:
            for line, cells in lines:
                if len(cells) > width:
                    raise too_wide(csv.name, line, len(cells), width) from None
        raise DataError(f"{csv.name} is no valid CSV: {error}", QUOTES_HINT) from None


class TimestampReader:
    """Collects the texts of the date column as timestamps in microseconds, without a time zone.

    They are in UTC where the file gives offsets. Every format that fits the first rows is tried to the end of the
    file: only the whole column may show whether days or months come first. `first` is the first text.
    """

    def __init__(self, csv: CsvSource, column: str) -> None:
        self._csv, self._column = csv, column
        self._rows = 0
        self._empty_row: int | None = None
        self._read: dict[str, list[Stamps]] = {}  # by format
        self._unread: dict[str, tuple[int, str]] = {}  # by format, the first row and text that it does not read
        self.first = ""

    def add(self, texts: "pd.Series[str]") -> "pd.Series[str]":
        """Add the next rows. Returns the texts without the blanks around them."""
        texts = texts.str.strip()
        empty = texts.isna().to_numpy()
        if self._empty_row is None and empty.any():
            self._empty_row = self._rows + int(empty.argmax())
        if self._empty_row is None:
            self._parse(texts)
        self._rows += len(texts)
        return texts

    def finish(self) -> Stamps:
        """All timestamps (N).

        Raises DataError for a single row, an empty cell, a text that is no timestamp, and dates that make sense both
        day first and month first.
        """
        csv = self._csv
        if self._rows < 2:
            raise DataError(f"{csv.name} has a single row, which has no cadence", "at least two rows are needed")
        if self._empty_row is not None:
            where = f"{csv.name}, line {csv.line(self._empty_row)}"
            raise DataError(f"{where}: no timestamp in column '{self._column}'", HINT)
        readings = [_join(self._read.pop(form)) for form in list(self._read)]
        if not readings:
            row, text = max(self._unread.values())
            raise no_timestamp(csv.name, f"line {csv.line(row)}", text, self._column)
        if len(readings) > 1:
            readings = _plausible(readings)
        if len(readings) > 1:
            raise DataError(
                f"{csv.name}, column '{self._column}': '{self.first}' could be day first or month first, "
                "and both make sense",
                HINT,
            )
        return readings[0]

    def _parse(self, texts: "pd.Series[str]") -> None:
        if not self._rows:
            self.first = texts.iloc[0]
            formats = fitting_formats(list(texts.iloc[:_FORMAT_ROWS])) or fitting_formats([self.first])
            self._read = {form: [] for form in formats}
            self._unread = {} if formats else {"": (0, self.first)}
        for form in list(self._read):
            parsed = pd.to_datetime(texts, format=form, errors="coerce", utc=True).dt.tz_localize(None)
            stamps_N = parsed.to_numpy().astype("datetime64[us]")
            if (unread_N := np.isnat(stamps_N)).any():
                row = int(unread_N.argmax())
                self._unread[form] = (self._rows + row, texts.iloc[row])
                del self._read[form]
            else:
                self._read[form].append(stamps_N)


def _join(pieces: list[Stamps]) -> Stamps:
    return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)


def _plausible(readings: list[Stamps]) -> list[Stamps]:
    """The readings that are regular without a gap; else those in order; else the first. Equal ones count once."""
    ordered = [stamps_N for stamps_N in readings if (stamps_N[1:] > stamps_N[:-1]).all()]
    regular = [stamps_N for stamps_N in ordered if (grid := find_grid(stamps_N)) and len(grid.stamps) == len(stamps_N)]
    best = regular or ordered or readings[:1]
    return list({stamps_N.tobytes(): stamps_N for stamps_N in best}.values())


class NumberReader:
    """Collects the cells of some columns as float64. An empty cell becomes NaN."""

    def __init__(self, csv: CsvSource, columns: Sequence[str]) -> None:
        self._csv, self._columns = csv, columns
        self._blocks: list[Floats] = []
        self._rows = 0
        self._free_rows = 0  # of the last block
        self._first_text: dict[str, tuple[int, str]] = {}
        self._text_cells: dict[str, int] = {}
        self._first_infinite: dict[str, int] = {}

    def add(self, cells: pd.DataFrame) -> None:
        """Add the next rows. The frame's columns are in the order of the reader's."""
        if all(_is_number(dtype) for dtype in cells.dtypes.unique()):
            values_NC = cells.to_numpy(np.float64)
        else:
            numbers = [self._read(column, cells.iloc[:, index]) for index, column in enumerate(self._columns)]
            values_NC = np.column_stack(numbers)
        infinite_NC = np.isinf(values_NC)
        for index in np.flatnonzero(infinite_NC.any(axis=0)).tolist():
            self._first_infinite.setdefault(self._columns[index], self._rows + int(infinite_NC[:, index].argmax()))
        self._store(values_NC)

    def finish(self) -> list[Floats]:
        """The rows in blocks (n, C). Raises DataError for the first column with a cell that is no finite number."""
        csv = self._csv
        for column in self._columns:
            if column in self._first_text:
                row, cell = self._first_text[column]
                raise not_a_number(csv.name, csv.line(row), column, cell, self._text_cells[column])
            if column in self._first_infinite:
                raise infinite_value(csv.name, csv.line(self._first_infinite[column]), column)
        if self._free_rows:
            self._blocks[-1] = self._blocks[-1][: -self._free_rows]
        return self._blocks

    def _read(self, column: str, cells: "pd.Series[float]") -> Floats:
        numbers = cells
        if not _is_number(cells.dtype):
            numbers = pd.to_numeric(cells.astype("object").where(cells.isna(), cells.astype(str)), errors="coerce")
            text_N = (numbers.isna() & cells.notna()).to_numpy()
            if text_N.any():
                row = int(text_N.argmax())
                self._first_text.setdefault(column, (self._rows + row, str(cells.iloc[row])))
                self._text_cells[column] = self._text_cells.get(column, 0) + int(text_N.sum())
        return np.asarray(numbers, dtype=np.float64)

    def _store(self, values_NC: Floats) -> None:
        self._rows += len(values_NC)
        while len(values_NC):
            if not self._free_rows:
                self._free_rows = max(_BLOCK_BYTES // (8 * len(self._columns)), 1)
                self._blocks.append(np.empty((self._free_rows, len(self._columns))))
            fitting_NC, values_NC = values_NC[: self._free_rows], values_NC[self._free_rows :]
            start = len(self._blocks[-1]) - self._free_rows
            self._blocks[-1][start : start + len(fitting_NC)] = fitting_NC
            self._free_rows -= len(fitting_NC)


def _is_number(dtype: Any) -> bool:
    return pd.api.types.is_numeric_dtype(dtype) and not pd.api.types.is_bool_dtype(dtype)
