"""A CSV at a glance: its first and last rows are parsed, the lines between them only counted.

Light: no array library.
"""

import math
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice, pairwise
from pathlib import Path

from timellm_cli.config import DataConfig
from timellm_cli.data.columns import select_columns
from timellm_cli.data.csv_format import (
    EMPTY_CELLS,
    CsvSource,
    infinite_value,
    not_a_number,
    numbered_rows,
    open_source,
    too_wide,
)
from timellm_cli.data.timestamps import ISO, fitting_formats, no_timestamp, parse_timestamp
from timellm_cli.errors import DataError

_SAMPLED_ROWS = 200
_BLOCK_BYTES = 2**20
_HOUR, _DAY, _MONTH = timedelta(hours=1), timedelta(days=1), timedelta(days=28)


@dataclass(frozen=True)
class Probe:
    """What the first and last rows of a CSV show. `columns` are the value columns of a run, the target last.

    `rows` counts timestamps, with `fill` those it would add as well. `cadence` is None where the step is not constant.
    `fault` is the error with which `read_table` would refuse the sampled rows.
    """

    path: Path
    columns: tuple[str, ...]
    rows: int
    encoding: str
    delimiter: str
    first: str
    last: str
    cadence: timedelta | None
    fault: DataError | None = None


def probe_csv(path: Path, data: DataConfig) -> Probe:
    """Look at a file of any size.

    Raises DataError for columns, cells and timestamps that cannot be used. Faults between neighbouring rows are in the
    result; `read_table` finds the rest.
    """
    source = open_source(path, None, data.date_column)
    columns = select_columns(source, data)
    with source.rows() as lines:
        head = list(islice(lines, 1, 1 + _SAMPLED_ROWS))
    _check_cells(source, head, columns)
    rows, last_rows = _count_rows(source)
    parts = [[cells for _, cells in head], last_rows]
    date = source.header.index(data.date_column)
    texts = [[cells[date].strip() for cells in part if len(cells) > date] for part in parts]
    where = [f"line {line}" for line, _ in head] + ["near the end"] * len(texts[1])
    stamps, cadence = _read_timestamps(source.name, data.date_column, texts, where)
    start, end = stamps[0][0], stamps[1][-1]
    fills = data.fill == "linear"
    if fills and cadence and end > start:
        rows = (end - start) // cadence + 1
    indices = {column: source.header.index(column) for column in columns}
    faults = (
        _find_disorder(source.name, part_stamps)
        or _find_uneven_step(source.name, part_stamps, fills)
        or (None if fills else _find_empty_cell(source.name, part, indices))
        for part, part_stamps in zip(parts, stamps, strict=True)
    )
    return Probe(
        path=path,
        columns=columns,
        rows=rows,
        encoding=source.encoding,
        delimiter=source.delimiter,
        first=texts[0][0],
        last=texts[1][-1],
        cadence=cadence,
        fault=next((fault for fault in faults if fault), None),
    )


def _read_timestamps(
    name: str, column: str, texts: Sequence[Sequence[str]], where: Sequence[str]
) -> tuple[list[list[datetime]], timedelta | None]:
    """The timestamps of the first and the last rows, and their cadence, in the format that gives them a constant one.

    `where` says for each text where it is in the file. Raises DataError where no format reads all texts.
    """
    every = [text for part in texts for text in part]
    formats = fitting_formats(every)
    if not formats:
        form = (fitting_formats(every[:1]) or [ISO])[0]
        line, text = next(pair for pair in zip(where, every, strict=True) if parse_timestamp(pair[1], form) is None)
        raise no_timestamp(name, line, text, column)
    readings = []
    for form in formats:
        stamps = [[stamp for text in part if (stamp := parse_timestamp(text, form))] for part in texts]
        readings.append((stamps, _find_cadence(stamps)))
    return next((reading for reading in readings if reading[1]), readings[0])


def _check_cells(source: CsvSource, lines: Sequence[tuple[int, list[str]]], columns: Sequence[str]) -> None:
    """Fill up short rows with empty cells. Raises DataError for long rows and for cells that are no finite number."""
    width = len(source.header)
    indices = [(source.header.index(column), column) for column in columns]
    for line, cells in lines:
        if len(cells) > width:
            raise too_wide(source.name, line, len(cells), width)
        cells.extend([""] * (width - len(cells)))
        for index, column in indices:
            cell = cells[index].strip()
            if cell in EMPTY_CELLS:
                continue
            try:
                number = float(cell)
            except ValueError:
                raise not_a_number(source.name, line, column, cell) from None
            if math.isinf(number):
                raise infinite_value(source.name, line, column)


def _find_cadence(parts: Sequence[Sequence[datetime]]) -> timedelta | None:
    """The step between rows; None where the calendar sets it or the rows have no common one."""
    steps = Counter(later - earlier for stamps in parts for earlier, later in pairwise(stamps))
    if not steps:
        return None
    step = steps.most_common(1)[0][0]
    weekends = any(stamp.weekday() > 4 for stamps in parts for stamp in stamps)
    constant = (
        step > timedelta(0)
        and not any(other % step for other in steps)
        and (step != _DAY or weekends or len(steps) == 1)
    )
    return step if constant else None


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
    """Irregular steps and gaps. Steps of a month and more are left to `read_table`, which knows the calendar."""
    steps = [(later - earlier, earlier, later) for earlier, later in pairwise(stamps)]
    counts = Counter(step for step, _, _ in steps)
    usual = counts.most_common(1)[0][0] if counts else _MONTH
    if usual >= _MONTH:
        return None
    # Filling needs a step that divides all others. The whole file may show that it is the usual one.
    can_be_filled = fills and not any(step % min(counts) for step in counts)
    for step, _, here in steps:
        if step % usual and not can_be_filled:
            return DataError(
                f"{name}: irregular timestamps: {here} comes {step} after the row before; the usual step is {usual}",
                "resample the file to equal steps of time",
            )
    # Hourly and daily rows of working days may skip nights and weekends.
    skips_nights = usual in (_HOUR, _DAY) and all(stamp.weekday() < 5 for stamp in stamps)
    for step, before, here in steps:
        if step > usual and not fills and not skips_nights:
            return DataError(
                f"{name}: a gap: {here} comes after {before}, but the step is {usual}",
                "--fill linear interpolates it",
            )
    return None


def _find_empty_cell(name: str, rows: Sequence[Sequence[str]], indices: dict[str, int]) -> DataError | None:
    for cells in rows:
        for column, index in indices.items():
            if index >= len(cells) or cells[index].strip() in EMPTY_CELLS:
                return DataError(f"{name}, column '{column}': a cell is empty", "--fill linear interpolates it")
    return None


def _count_rows(source: CsvSource) -> tuple[int, list[list[str]]]:
    """The number of rows below the header, and the cells of the last ones.

    Line ends are counted; from the first quotation mark or blank line on, the whole file is parsed instead.
    """
    rows, blocks = -1, deque[bytes](maxlen=2)
    for block in _whole_lines(source):
        if not _is_plain(block):
            with source.rows() as lines:
                rows, last_rows = -1, deque[list[str]](maxlen=_SAMPLED_ROWS)
                for _, cells in lines:
                    rows += 1
                    last_rows.append(cells)
            return rows, list(last_rows)[-rows:]
        rows += block.count(b"\n")
        blocks.append(block)
    last_lines = b"".join(blocks).splitlines()[-min(rows, _SAMPLED_ROWS) :]
    text = [line.decode(source.encoding, errors="replace") for line in last_lines]
    return rows, [cells for _, cells in numbered_rows(text, source.delimiter)]


def _whole_lines(source: CsvSource) -> Iterator[bytes]:
    """The file in blocks that end with a line. A block without a line end is given as it is."""
    rest = b""
    with source.open() as stream:
        while block := stream.read(_BLOCK_BYTES):
            cut = block.rfind(b"\n") + 1 or len(block)
            yield rest + block[:cut]
            rest = block[cut:]
    if rest:
        yield rest


def _is_plain(block: bytes) -> bool:
    """Whether every line end is a row's: no blank lines, no quotation marks, no UTF-16, and the last line ends."""
    blank = any(mark in block for mark in (b"\n\n", b"\n\r", b"\n ", b"\n\t")) or block[:1].isspace()
    return block.endswith(b"\n") and b'"' not in block and b"\0" not in block and not blank
