"""What is wrong with the rows that a glance at a CSV parses: `read_table` would refuse the file. Light."""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import pairwise

from timellm_cli.data.source import EMPTY_CELLS
from timellm_cli.errors import DataError

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
