"""The cells of a CSV, parsed by pandas in pieces, and numbers put together from them.

A file of any size is read with little more memory than its numbers take.

What is wrong with the rows that a glance at a CSV parses: `read_table` would refuse the file. Light.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from timellm_cli.data.scale import Floats
from timellm_cli.data.source import (
    EMPTY_CELLS,
    QUOTES_HINT,
    CsvSource,
    infinite_value,
    not_a_number,
    too_wide,
)
from timellm_cli.errors import DataError

_PIECE_CELLS, _PIECE_ROWS = 2**21, 2**15
_BLOCK_BYTES = 33 * 2**20
"""Just above the size from which on glibc gives memory back as soon as it is let go."""


def read_pieces(csv: CsvSource, date_column: str, at_once: bool = False) -> Iterator[pd.DataFrame]:
    """All columns, named by position, a piece of the rows at a time, or all of them; the timestamps stay text.

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


class Numbers:
    """Collects the cells of some columns as float64, NaN where a cell is empty."""

    def __init__(self, csv: CsvSource, columns: Sequence[str]) -> None:
        self._csv, self._columns = csv, columns
        self._blocks: list[Floats] = []
        self._rows, self._room = 0, 0
        self._text: dict[str, tuple[int, str]] = {}
        self._texts: dict[str, int] = {}
        self._infinite: dict[str, int] = {}

    def add(self, cells: pd.DataFrame) -> None:
        """Take in the next rows; the frame's columns are in the order of ours."""
        if all(
            pd.api.types.is_numeric_dtype(dtype) and not pd.api.types.is_bool_dtype(dtype)
            for dtype in cells.dtypes.unique()
        ):
            values_NC = cells.to_numpy(np.float64)
        else:
            numbers = [self._read(column, cells.iloc[:, place]) for place, column in enumerate(self._columns)]
            values_NC = np.column_stack(numbers)
        infinite_NC = np.isinf(values_NC)
        if infinite_NC.any():
            for place in np.flatnonzero(infinite_NC.any(axis=0)).tolist():
                self._infinite.setdefault(self._columns[place], self._rows + int(infinite_NC[:, place].argmax()))
        self._store(values_NC)

    def finish(self) -> list[Floats]:
        """The rows in blocks (N, C). Raises DataError for the first column with a cell that is no finite number."""
        for column in self._columns:
            if column in self._text:
                row, cell = self._text[column]
                raise not_a_number(self._csv.name, self._csv.line(row), column, cell, self._texts[column])
            if column in self._infinite:
                raise infinite_value(self._csv.name, self._csv.line(self._infinite[column]), column)
        if self._room:
            self._blocks[-1] = self._blocks[-1][: -self._room]
        return self._blocks

    def _read(self, column: str, cells: "pd.Series[float]") -> Floats:
        numbers = cells
        if pd.api.types.is_bool_dtype(cells) or not pd.api.types.is_numeric_dtype(cells):
            numbers = pd.to_numeric(cells.astype("object").where(cells.isna(), cells.astype(str)), errors="coerce")
            wrong = (numbers.isna() & cells.notna()).to_numpy()
            if wrong.any():
                row = int(wrong.argmax())
                self._text.setdefault(column, (self._rows + row, str(cells.iloc[row])))
                self._texts[column] = self._texts.get(column, 0) + int(wrong.sum())
        return np.asarray(numbers, dtype=np.float64)

    def _store(self, values_NC: Floats) -> None:
        self._rows += len(values_NC)
        while len(values_NC):
            if not self._room:
                self._room = max(_BLOCK_BYTES // (8 * len(self._columns)), 1)
                self._blocks.append(np.empty((self._room, len(self._columns))))
            taken, values_NC = values_NC[: self._room], values_NC[self._room :]
            start = len(self._blocks[-1]) - self._room
            self._blocks[-1][start : start + len(taken)] = taken
            self._room -= len(taken)


_MONTH = timedelta(days=28)
_OF_WORKING_DAYS = (timedelta(hours=1), timedelta(days=1))
"""Steps that may skip nights and weekends without a gap."""


def find_row_fault(
    name: str, stamps: Sequence[datetime], cells: Sequence[Sequence[str]], columns: dict[str, int], fills: bool
) -> DataError | None:
    """The first fault of neighbouring rows, or None. `columns` gives the places of the values; `fills` mends gaps.

    Steps of a month and more are left to `read_table`, which knows the calendar.
    """
    return _find_disorder(name, stamps) or _find_uneven_step(name, stamps, fills) or (
        None if fills else _find_empty_cell(name, cells, columns)
    )  # fmt: skip


def _find_disorder(name: str, stamps: Sequence[datetime]) -> DataError | None:
    for before, here in pairwise(stamps):
        if here == before:
            return DataError(f"{name}: two rows have the timestamp {here}", "keep one row for each timestamp")
        if here < before:
            newest_first = all(later < earlier for earlier, later in pairwise(stamps))
            hint = "the file is newest first; reverse its rows" if newest_first else "sort the rows by time"
            return DataError(f"{name}: {here} comes after {before}", hint)
    return None


def _find_uneven_step(name: str, stamps: Sequence[datetime], fills: bool) -> DataError | None:
    steps = [(later - earlier, earlier, later) for earlier, later in pairwise(stamps)]
    counts = Counter(step for step, _, _ in steps)
    usual = counts.most_common(1)[0][0] if counts else _MONTH
    if usual >= _MONTH:
        return None
    # Filling needs a step that divides all others, which the whole file may show to be the usual one.
    may_be_mended = fills and not any(step % min(counts) for step in counts)
    for step, _, here in steps:
        if step % usual and not may_be_mended:
            return DataError(
                f"{name}: irregular timestamps: {here} comes {step} after the row before; the usual step is {usual}",
                "resample the file to equal steps of time",
            )
    skips_nights = usual in _OF_WORKING_DAYS and all(stamp.weekday() < 5 for stamp in stamps)
    for step, before, here in steps:
        if step > usual and not fills and not skips_nights:
            return DataError(
                f"{name}: a gap: {here} comes after {before}, but the step is {usual}",
                "--fill linear interpolates it",
            )
    return None


def _find_empty_cell(name: str, rows: Sequence[Sequence[str]], columns: dict[str, int]) -> DataError | None:
    for cells in rows:
        for column, place in columns.items():
            if place >= len(cells) or cells[place].strip() in EMPTY_CELLS:
                return DataError(f"{name}, column '{column}': a cell is empty", "--fill linear interpolates it")
    return None
