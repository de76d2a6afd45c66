"""What a CSV holds, told from its first and last lines and a count of its lines. Light: no array library."""

import math
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice, pairwise
from pathlib import Path

from timellm_cli.config import DataConfig
from timellm_cli.data.cells import find_row_fault
from timellm_cli.data.columns import select_columns
from timellm_cli.data.source import (
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

_SAMPLE = 200
_BLOCK_BYTES = 2**20
_DAY = timedelta(days=1)


@dataclass(frozen=True)
class Probe:
    """A CSV at a glance. `columns` are the value columns a run would use, the target last.

    `rows` counts timestamps, with `fill` those it would add as well. `cadence` is None where the step is not constant.
    `fault` is why `read_table` would refuse the rows that were looked at, the first and the last ones.
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
    """Look at a file of any size: its first and last rows are parsed, the lines between only counted.

    Raises DataError for whatever those rows show to be wrong; `read_table` sees the rest.
    """
    source = open_source(path, None, data.date_column)
    columns = select_columns(source, data)
    with source.rows() as lines:
        head = list(islice(lines, 1, 1 + _SAMPLE))
    _check_cells(source, head, columns)
    rows, tail = _count_rows(source)
    place = source.header.index(data.date_column)
    first_texts = [cells[place].strip() for _, cells in head]
    last_texts = [cells[place].strip() for cells in tail if len(cells) > place]
    formats = fitting_formats([*first_texts, *last_texts])
    if not formats:
        places = [f"line {line}" for line, _ in head] + ["near the end"] * len(last_texts)
        form = (fitting_formats(first_texts[:1]) or [ISO])[0]
        texts = zip(places, [*first_texts, *last_texts], strict=True)
        where, text = next((where, text) for where, text in texts if parse_timestamp(text, form) is None)
        raise no_timestamp(source.name, where, text, data.date_column)
    spans = [_measure(first_texts, last_texts, form) for form in formats]
    start, end, cadence = next((span for span in spans if span[2]), spans[0])
    if data.fill == "linear" and cadence and end > start:
        rows = (end - start) // cadence + 1
    form = formats[next((place for place, span in enumerate(spans) if span[2]), 0)]
    fault = _find_fault(source, data, form, [[cells for _, cells in head], tail])
    first, last = first_texts[0], last_texts[-1]
    return Probe(path, columns, rows, source.encoding, source.delimiter, first, last, cadence, fault)


def _find_fault(source: CsvSource, data: DataConfig, form: str, runs: Sequence[list[list[str]]]) -> DataError | None:
    """The first fault of the head's or the tail's rows that filling does not mend."""
    date = source.header.index(data.date_column)
    places = {column: source.header.index(column) for column in select_columns(source, data)}
    for rows in runs:
        texts = [cells[date].strip() for cells in rows if len(cells) > date]
        stamps = [stamp for text in texts if (stamp := parse_timestamp(text, form))]
        if fault := find_row_fault(source.name, stamps, rows, places, fills=data.fill == "linear"):
            return fault
    return None


def _check_cells(source: CsvSource, lines: Sequence[tuple[int, list[str]]], columns: Sequence[str]) -> None:
    width = len(source.header)
    places = [(source.header.index(column), column) for column in columns]
    for line, cells in lines:
        if len(cells) > width:
            raise too_wide(source.name, line, len(cells), width)
        cells.extend([""] * (width - len(cells)))
        for place, column in places:
            cell = cells[place].strip()
            if cell in EMPTY_CELLS:
                continue
            try:
                number = float(cell)
            except ValueError:
                raise not_a_number(source.name, line, column, cell) from None
            if math.isinf(number):
                raise infinite_value(source.name, line, column)


def _measure(
    first_texts: Sequence[str], last_texts: Sequence[str], form: str
) -> tuple[datetime, datetime, timedelta | None]:
    """First and last timestamp and the step between rows, None where the calendar sets it or there is no common one."""
    runs = [[stamp for text in texts if (stamp := parse_timestamp(text, form))] for texts in (first_texts, last_texts)]
    start, end = runs[0][0], runs[1][-1]
    steps = Counter(later - earlier for run in runs for earlier, later in pairwise(run))
    if not steps:
        return start, end, None
    step = steps.most_common(1)[0][0]
    weekends = any(stamp.weekday() > 4 for run in runs for stamp in run)
    constant = (
        step > timedelta(0)
        and not any(other % step for other in steps)
        and (step != _DAY or weekends or len(steps) == 1)
    )
    return start, end, step if constant else None


def _count_rows(source: CsvSource) -> tuple[int, list[list[str]]]:
    """Rows below the header, and the cells of the last ones.

    Line ends are counted while they are rows; with the first quotation mark or blank line, lines are parsed instead.
    """
    rows, blocks = -1, deque[bytes](maxlen=2)
    for block in _whole_lines(source):
        if not _is_plain(block):
            with source.rows() as lines:
                return _count_parsed(lines)
        rows += block.count(b"\n")
        blocks.append(block)
    last = b"".join(blocks).splitlines()[-min(rows, _SAMPLE) :]
    text = [line.decode(source.encoding, errors="replace") for line in last]
    return rows, [cells for _, cells in numbered_rows(text, source.delimiter)]


def _count_parsed(lines: Iterator[tuple[int, list[str]]]) -> tuple[int, list[list[str]]]:
    rows, tail = -1, deque[list[str]](maxlen=_SAMPLE)
    for _, cells in lines:
        rows += 1
        tail.append(cells)
    return rows, list(tail)[-rows:]


def _whole_lines(source: CsvSource) -> Iterator[bytes]:
    """The file in blocks that end with a line; a block without a line end comes as it is."""
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
