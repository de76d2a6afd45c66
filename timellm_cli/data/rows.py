"""The rows of a CSV, read by polars in one pass: timestamps in the one format that fits them all, and numbers.

The steps between the rows are not looked at here. Light: no array library.
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from operator import itemgetter
from typing import Self

import polars as pl

from timellm_cli.config import DataConfig
from timellm_cli.data.cadence import find_cadence
from timellm_cli.data.columns import INDEX_NAMES, date_columns, select_columns, target_of
from timellm_cli.data.csv_format import BEYOND, CsvFormat, too_wide
from timellm_cli.data.dates import HINT, DateFormat, DateStyle, find_formats, no_timestamp
from timellm_cli.data.numbers import decimal_sign, find_signs, no_number, numbers_of, numbers_rows, one_text
from timellm_cli.data.time_axis import Samples, find_axis
from timellm_cli.errors import DataError
from timellm_cli.units import format_count

_HEAD_ROWS = 200
_SLICE = 2**17
_DATED, _OFFSET, SERIES = "\0dated", "\0offset", "\0series"


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows in the order of time; with `series`, one series after the other.

    `series` (N) is the id of each row's series, an Enum of all ids in the order of their first rows; None without an id
    column. `stamps` (N) are wall times without a zone, or in UTC where `style.is_utc`; `walls` (N) are the wall times.
    `frame` holds the value columns in float64, the target last; null where a cell is empty. `date_format` is what
    `--date-format` would take. `order` has the rows' places in the file where they were sorted. Of
    several files, `files` has each one's first row and its rows, and `csv` is the first.
    """

    csv: CsvFormat
    stamps: pl.Series
    walls: pl.Series
    frame: pl.DataFrame
    style: DateStyle
    date_format: str
    order: pl.Series | None
    notes: tuple[str, ...]
    series: pl.Series | None = None
    files: tuple[tuple[int, Self], ...] = ()

    def cut(self, first: int, stop: int) -> Self:
        """Rows `first` (included) to `stop` (excluded)."""
        length = stop - first
        order = pl.int_range(first, stop, eager=True) if self.order is None else self.order.slice(first, length)
        return replace(
            self,
            stamps=self.stamps.slice(first, length),
            walls=self.walls.slice(first, length),
            frame=self.frame.slice(first, length),
            order=order,
            series=None if self.series is None else self.series.slice(first, length),
        )

    def place(self, row: int) -> int:
        """The place of a row in the file, counted from 0."""
        return row if self.order is None else int(self.order[row])

    def where(self, row: int) -> str:
        """File and line number of a row."""
        if self.files:
            place = self.place(row)
            start, own = self.files[bisect_right(self.files, place, key=itemgetter(0)) - 1]
            return own.where(place - start)
        return f"{self.csv.name}, line {self.csv.line(self.place(row))}"

    def require_numbers(self) -> None:
        """Raise DataError for the first column with a text or an infinite number."""
        for column in self.frame:
            faults = column.is_nan().fill_null(False)
            faults = faults if faults.any() else column.is_infinite().fill_null(False)
            if faults.any():
                repeats = self.series is None and self.stamps.n_unique() < len(self.stamps)
                raise no_number(self.csv, self.place(int(faults.arg_true()[0])), column, repeats)


def read_rows(csv: CsvFormat, data: DataConfig) -> Rows:
    """All rows of a CSV, in the order of time, or of series and time.

    Raises DataError for a file that is no CSV, columns that it lacks, and timestamps that cannot be read or that make
    sense in two ways. Cells that hold text are NaN; `require_numbers` refuses them.
    """
    columns, text = list(select_columns(csv, data)), _timestamp_text(csv, data)
    first_texts, signs = _look_at_head(csv, text, columns, data)
    groups = "" if signs.thousands == "none" else signs.thousands
    notes = (*csv.notes, *(() if signs == data else (_describe_signs(signs),)))
    csv = replace(csv, decimal=decimal_sign(signs), groups=groups, notes=notes)
    frame, form = _read(csv, text, first_texts, columns, signs)
    samples = _sample(csv, text, form, len(frame))
    frame, dropped = _drop_empty_rows(csv, frame, columns, data)
    columns, more = _channels(csv, frame, columns, data)
    walls = frame["wall0"]
    stamps, style = find_axis(csv, walls, frame.get_column(_OFFSET, default=None), form, samples, data)
    values, order = frame[columns], None
    series = _series(csv, frame, data)
    if not (stamps.is_sorted() if series is None else _is_in_order(series, stamps)):
        order = stamps.arg_sort()
        if series is not None:
            both = pl.DataFrame({"series": series.to_physical(), "stamp": stamps})
            order = both.select(pl.arg_sort_by("series", "stamp", maintain_order=True)).to_series()
        stamps, walls, values = stamps.gather(order), walls.gather(order), values[order]
        series = None if series is None else series.gather(order)
        more += ["the rows were sorted by time"] if series is None else []
    return Rows(csv, stamps, walls, values, style, form.name, order, (*notes, *dropped, *more), series)


def _look_at_head(csv: CsvFormat, text: pl.Expr, columns: list[str], data: DataConfig) -> tuple[list[str], DataConfig]:
    """The first timestamps, and the configuration with the signs that the first numbers show."""
    cells = [csv.cell(name).alias(name) for name in columns]
    head = replace(csv, most_rows=min(_HEAD_ROWS, csv.most_rows or _HEAD_ROWS)).read([text, *cells])
    return head["text"].drop_nulls().to_list(), find_signs(csv, head[columns], data)


def _series(csv: CsvFormat, frame: pl.DataFrame, data: DataConfig) -> pl.Series | None:
    """The id of each row's series, in the order of their first rows. Raises DataError for a row without one."""
    if data.id_column is None:
        return None
    column = frame[SERIES]
    if column.null_count():
        line = csv.line(int(column.is_null().arg_true()[0]))
        raise DataError(f"{csv.name}, line {line}: the row has no '{data.id_column}'", "each row needs a series")
    return column.cast(pl.Enum(column.unique(maintain_order=True).cast(pl.String)))


def _is_in_order(series: pl.Series, stamps: pl.Series) -> bool:
    return all(((steps > 0) | ((steps == 0) & (times >= 0))).all() for steps, times in steps_between(series, stamps))


def steps_between(series: pl.Series, stamps: pl.Series) -> Iterator[tuple[pl.Series, pl.Series]]:
    """How far number of series and stamp rise from each row to the next, some rows at a time, to save memory."""
    numbers = series.to_physical()
    for first in range(0, max(len(stamps) - 1, 1), _SLICE):
        steps, times = (column.slice(first, _SLICE + 1).cast(pl.Int64).diff()[1:] for column in (numbers, stamps))
        yield steps, times


def _describe_signs(data: DataConfig) -> str:
    if data.thousands == "none":
        return "the numbers are read with decimal commas (--decimal)"
    groups, decimal = data.thousands, decimal_sign(data)
    return (
        f"the numbers are read with '{groups}' between groups of digits and '{decimal}' before decimals "
        "(--thousands, --decimal)"
    )


def _timestamp_text(csv: CsvFormat, data: DataConfig) -> pl.Expr:
    text = pl.concat_str([csv.cell(name) for name in date_columns(csv, data)], separator=" ")
    return pl.when(text.str.len_bytes() > 0).then(text).alias("text")


def _read(
    csv: CsvFormat, text: pl.Expr, head: list[str], columns: Sequence[str], data: DataConfig
) -> tuple[pl.DataFrame, DateFormat]:
    """Numbers and wall times (`wall0`), in the one format that reads every timestamp."""
    if not head:
        raise DataError(f"{csv.name}: the first {_HEAD_ROWS} rows have no timestamp in '{data.date_column}'", HINT)
    formats = find_formats(head, data.date_format) or find_formats(head[:1], data.date_format)
    if not formats:
        column = data.date_column + (f" (--date-format {data.date_format})" if data.date_format else "")
        raise no_timestamp(csv.name, f"line {csv.line(0)}", head[0], column)
    values = [numbers_of(csv, name, data).alias(name) for name in columns]
    if data.id_column is not None:
        values.append(csv.cell(data.id_column).replace("", None).cast(pl.Categorical).alias(SERIES))
    frame, unread = _parse(csv, text, formats, values)
    if min(map(len, unread)):
        formats = [form.with_all_times() for form in formats]
        frame, unread = _parse(csv, text, formats, values)
    if min(map(len, unread)):
        row = max(int(rows[0]) for rows in unread)
        line, cells = csv.find(row - int(_is_empty(frame.head(row), columns).sum()))
        cell = " ".join(cells[csv.header.index(name)].strip() for name in date_columns(csv, data))
        raise no_timestamp(csv.name, f"line {line}", cell, data.date_column)
    fitting = {form: frame[f"wall{i}"] for i, form in enumerate(formats) if not len(unread[i])}
    compared = fitting
    if len(fitting) > 1 and SERIES in frame.columns:  # only within a series do timestamps rise
        compared = {form: walls.filter(frame[SERIES] == frame[SERIES][0]) for form, walls in fitting.items()}
    best = _most_plausible(csv, compared, data, head[0])
    for index in range(len(formats)):
        frame.drop_in_place(f"wall{index}")
    return frame.insert_column(0, fitting[best].alias("wall0")), best


def _parse(
    csv: CsvFormat, text: pl.Expr, formats: Sequence[DateFormat], values: Sequence[pl.Expr]
) -> tuple[pl.DataFrame, list[pl.Series]]:
    """The values, and the wall times in each format, with the rows that it does not read."""
    beyond = pl.col(BEYOND).str.strip_chars()
    walls = [form.wall(text).alias(f"wall{i}") for i, form in enumerate(formats)]
    offsets = [formats[0].offset(text).alias(_OFFSET)] if formats[0].has_offset else []
    is_beyond = (beyond.is_not_null() & (beyond != "")).alias(BEYOND)
    frame = csv.read([text.is_not_null().alias(_DATED), is_beyond, *walls, *offsets, *values])
    return frame, [(frame[_DATED] & frame[wall.meta.output_name()].is_null()).arg_true() for wall in walls]


def _most_plausible(csv: CsvFormat, fitting: dict[DateFormat, pl.Series], data: DataConfig, first: str) -> DateFormat:
    """The format whose timestamps are regular without a gap; else the one that has them in order.

    Raises DataError where several formats are equally plausible.
    """
    if len(fitting) == 1:
        return next(iter(fitting))
    rising = [form for form, walls in fitting.items() if (walls.drop_nulls().diff()[1:].cast(pl.Int64) > 0).all()]
    regular = [form for form in rising if _is_whole(fitting[form].drop_nulls())]
    best = regular or rising or list(fitting)[:1]
    if any(not fitting[best[0]].equals(fitting[other]) for other in best):
        raise DataError(
            f"{csv.name}, column '{data.date_column}': '{first}' could be {' or '.join(form.name for form in best)}, "
            "and both make sense",
            "say which with --date-format dayfirst or monthfirst, or a pattern",
        )
    return best[0]


def _is_whole(stamps: pl.Series) -> bool:
    cadence = find_cadence(stamps) if len(stamps) > 1 else None
    return cadence is not None and bool((cadence.numbers(stamps).diff()[1:] == 1).all())


def _is_empty(frame: pl.DataFrame, columns: Sequence[str]) -> pl.Series:
    """Which rows have neither a timestamp nor a value: blank lines, and what spreadsheets leave at the end."""
    undated = ~frame[_DATED]
    if not undated.any():
        return undated
    return frame.select(~pl.col(_DATED) & pl.all_horizontal(pl.col(columns).is_null())).to_series()


def _drop_empty_rows(
    csv: CsvFormat, frame: pl.DataFrame, columns: Sequence[str], data: DataConfig
) -> tuple[pl.DataFrame, list[str]]:
    """The rows that are not empty, and a note on an empty tail. Raises DataError for a row too wide or undated."""
    empty = _is_empty(frame, columns)
    kept = frame.filter(~empty) if empty.any() else frame
    if kept[BEYOND].any():
        raise too_wide(csv, int(kept[BEYOND].arg_true()[0]), data)
    if not len(kept):
        raise DataError(f"{csv.name} has a header but no rows", "each row below the header is one timestamp")
    if not kept[_DATED].all():
        line = csv.line(int((~kept[_DATED]).arg_true()[0]))
        raise DataError(f"{csv.name}, line {line}: the row has values but no timestamp", HINT)
    tail = int(empty.reverse().rle_id().eq(0).sum()) if empty[-1] else 0
    return kept, [f"{format_count(tail, 'empty row')} at the end left out"] if tail > 1 else []


def _channels(
    csv: CsvFormat, frame: pl.DataFrame, columns: Sequence[str], data: DataConfig
) -> tuple[list[str], list[str]]:
    """The columns that are channels, and notes on the others: an index, and one text in every row.

    Raises DataError for a column without a name.
    """
    kept, notes = [], []
    for name in columns:
        if name != target_of(data) and name not in data.columns:
            if INDEX_NAMES.fullmatch(name) and numbers_rows(frame[name]):
                what = f"column '{name}'" if name else "the column without a name"
                notes.append(f"{what} numbers the rows and is no channel")
                continue
            if frame[name].is_nan().all() and len(frame) > 1 and (text := one_text(csv, name)):
                notes.append(f"column '{name}' has '{text}' in every row and is no channel")
                continue
        if name == "" and frame[name].null_count() < len(frame):
            raise _unnamed(csv, csv.header.index(""))
        if name:
            kept.append(name)
    if csv.header.count("") > 1 and not data.columns:
        _require_empty(csv)
    return kept, notes


def _unnamed(csv: CsvFormat, index: int) -> DataError:
    return DataError(
        f"{csv.name}: column {index + 1} of {len(csv.header)} has values but no name",
        "name it in the header, or choose the value columns with --columns",
    )


def _require_empty(csv: CsvFormat) -> None:
    """Raise DataError for a column with values among several without a name, which spreadsheets leave empty."""
    unnamed = [index for index, name in enumerate(csv.header) if not name]
    blank = [(pl.col(str(index)).fill_null("").str.strip_chars() == "").all() for index in unnamed]
    for index, is_blank in zip(unnamed, csv.collect(csv.scan().select(blank)).row(0), strict=True):
        if not is_blank:
            raise _unnamed(csv, index)


def _sample(csv: CsvFormat, text: pl.Expr, form: DateFormat, count: int) -> Samples:
    """Texts and wall times of the first and the last rows and of some between: they show how the file writes dates."""
    rows = sorted({*range(min(count, 100)), *range(max(count - 100, 0), count), *range(0, count, max(count // 500, 1))})
    found = csv.read([text], rows).drop_nulls()
    found = found.with_columns(form.wall(pl.col("text")).alias("wall")).drop_nulls()
    return Samples(found["text"].to_list(), found["wall"].to_list())
