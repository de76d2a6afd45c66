"""Which column holds the timestamps and which is the target, where the user did not say. Light: polars, for dates.

Only what the file leaves no doubt about is taken, and said; else the error lists the candidates. What is found goes
into the configuration, so that a checkpoint knows it and nothing is guessed of the files it forecasts.
"""

import re
import shlex
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice, pairwise

from timellm_cli.config import DataConfig
from timellm_cli.data.columns import INDEX_NAMES, date_columns, whole_names
from timellm_cli.data.csv_format import DELIMITERS, CsvFormat, data_starts_at
from timellm_cli.data.open_csv import open_csv
from timellm_cli.datasets import data_files
from timellm_cli.errors import DataError, quoted
from timellm_cli.settings import Settings

SAMPLE_ROWS = 200
_CHECKED = 20
_DATE, _TARGET = "data.date_column", "data.target"
_NUMBER = re.compile(r"[+-]?(\d+([.,]\d*)?|\d{1,3}([.,' ]\d{3})+([.,]\d*)?|[.,]\d+)([eE][+-]?\d+)?")
_TIME_OF_DAY = re.compile(r"\d{1,2}:\d\d(:\d\d([.,]\d+)?)?( ?[AaPp][Mm])?")
_NAMES_OF_DATES = re.compile(
    r"date|time|stamp|year|month|day|week|quarter|period|unix|epoch|^ds$|datum|zeit|fecha|日期|时间|年", re.IGNORECASE
)
_TARGET_NAMES = ("y", "ot", "target", "value")
_PARTS = (
    ("year", "yr", "yyyy", "年"), ("month", "mon", "mnth", "mm", "月"), ("day", "dd", "dom", "日"),
    ("hour", "hr", "hh", "he", "hour ending", "hour_ending", "时"), ("minute", "min", "分"), ("second", "sec", "秒"),
)  # fmt: skip
"""Names of columns that hold a part of a timestamp each, the largest part first."""


def settle(settings: Settings, *, strict: bool = True) -> Settings:
    """The settings with the date column and the target of a CSV of one's own, where the user named none.

    Names of columns that a comma had cut are whole. `notes` say what was found. Raises DataError that lists the
    candidates where there is doubt; without `strict` the defaults stay. A file that cannot be opened is left to its
    reader, which says why.
    """
    data = settings.config.data
    open_keys = [key for key in (_DATE, _TARGET) if settings.origins[key] == "default"]
    if data.dataset != "custom" or data.path is None or data.is_wide:
        return settings
    try:
        csv = open_csv(data_files(data.path)[0], None, data)
        lists = ("columns", "exclude", "future_columns")
        names = {f"data.{key}": whole_names(getattr(data, key), csv.header) for key in lists}
        settings = replace(settings, config=settings.config.with_values(names))
        data = settings.config.data
        sample = _Sample(csv, data)
    except DataError:
        return settings
    found: dict[str, str] = {}
    notes = []
    try:
        if _DATE in open_keys:
            found[_DATE], note = sample.find_dates()
            notes.append(note)
        if _TARGET in open_keys:
            dated = data.model_copy(update={"date_column": found.get(_DATE, data.date_column)})
            found[_TARGET], note = sample.find_target(date_columns(sample.csv, dated))
            notes.append(note)
    except DataError:
        if strict:
            raise
        return settings
    return replace(settings, config=settings.config.with_values(found), notes=tuple(filter(None, notes)))


class _Sample:
    """The cells of the first rows, by column."""

    def __init__(self, csv: CsvFormat, data: DataConfig) -> None:
        self.csv = csv
        self.data = data
        with csv.rows() as lines:
            rows = [cells for _, cells in islice(lines, 1, 1 + SAMPLE_ROWS)]
        left_out = {name for name in csv.header if csv.header.count(name) > 1}
        left_out |= {*data.exclude, *data.future_columns, *([data.id_column] if data.id_column else [])}
        self.columns = {
            name: [text for cells in rows if place < len(cells) and (text := cells[place].strip())]
            for place, name in enumerate(csv.header)
            if name not in left_out
        }

    def find_dates(self) -> tuple[str, str]:
        """The value of `date_column`, and a note where it is not the default. Raises DataError where there is doubt."""
        named = self.data.date_column
        texts = [name for name, cells in self.columns.items() if _is_dated(cells, self.data.date_format)]
        found = [named] if named in texts else texts or self._of_parts() or self._of_digits()
        if not found and named in self.columns:
            return named, ""
        if len(found) > 1:
            raise DataError(
                f"{self.csv.name}: {len(found)} columns hold timestamps: {quoted(found)}",
                f"say which, and leave the rest out: --date-column {shlex.quote(found[0])} "
                f"--exclude {shlex.quote(','.join(found[1:]))}",
            )
        if not found:
            raise self._no_dates()
        if _reads(found[:1], None):
            raise DataError(
                f"{self.csv.name}: the first line is a row of data ('{found[0]}' is a timestamp), not a header",
                "write a line that names the columns above it",
            )
        dates = self._with_times(found[0]) if found in (texts, [named]) else found[0]
        if dates == named:
            return named, ""
        named_so = f"column '{dates}'" if dates in self.columns else f"columns '{dates}'"
        return dates, f"timestamps are in the {named_so if dates else 'column without a name'} (--date-column)"

    def find_target(self, dates: Sequence[str]) -> tuple[str, str]:
        """The value of `target`, and a note where it is not the default. Raises DataError where there is doubt."""
        named, chosen = self.data.target, self.data.columns
        values = [
            name
            for name, cells in self.columns.items()
            if name
            and name not in dates
            and (name in chosen or not chosen)
            and _is_numeric(cells)
            and not _is_index(name, cells)
        ]
        if named in values or not values:
            return named, ""
        usual = [name for name in values if name.lower() in _TARGET_NAMES]
        if len(values) == 1 or len(usual) == 1:
            target = usual[0] if len(usual) == 1 else values[0]
            why = "the only column of numbers" if len(values) == 1 else "by its name"
            return target, f"the target is '{target}', {why} (--target)"
        if self.data.features == "M":
            return values[-1], (
                f"the target is '{values[-1]}', the last column (--target); with features M every column is "
                "forecast and scored alike"
            )
        raise DataError(
            f"{self.csv.name}: no target is named for features {self.data.features}, and {len(values)} columns hold "
            f"numbers: {quoted(values)}",
            f"say which with --target, such as --target {shlex.quote(values[-1])}",
        )

    def _of_parts(self) -> list[str]:
        """Year, month, day and so on in columns of their own, as one value of `date_column`."""
        by_name = {name.lower(): name for name in self.columns}
        parts = [next((by_name[name] for name in names if name in by_name), None) for names in _PARTS]
        known = parts[: parts.index(None)] if None in parts else parts
        return [",".join(filter(None, known))] if len(known) > 1 else []

    def _of_digits(self) -> list[str]:
        """Columns of digits alone that are dates by their form, their order, and their name or place."""
        first = next(iter(self.columns), None)
        return [
            name
            for name, cells in self.columns.items()
            if cells
            and all(re.fullmatch(r"\d+(\.0+)?", cell) for cell in cells)
            and (_NAMES_OF_DATES.search(name) or (name == first and len(cells[0]) >= 8))
            and _reads(cells, self.data.date_format)
            and _is_rising([float(cell) for cell in cells])
        ]

    def _with_times(self, date: str) -> str:
        """Date and time, where the times of day stand in a column of their own."""
        cells = self.columns[date]
        if any(re.search(r"\d:\d|\dT\d|时", cell) for cell in cells):
            return date
        times = [name for name, texts in self.columns.items() if texts and all(map(_TIME_OF_DAY.fullmatch, texts))]
        if not times and len(set(cells)) < len(cells):
            hours = [name for name in self.columns if name.lower() in _PARTS[3]]
            times = [
                name for name in hours if all(re.fullmatch(r"[01]?\d|2[0-4]", cell) for cell in self.columns[name])
            ]
        return f"{date},{times[0]}" if len(times) == 1 else date

    def _no_dates(self) -> DataError:
        message = f"{self.csv.name}: no column holds timestamps; columns are {quoted(self.csv.header)}"
        if above := data_starts_at(self.csv):
            return DataError(f"{message}; the rows begin further below", f"--skip-rows {above}")
        if len(self.csv.header) == 1:
            return DataError(message, f"columns may be separated by {', '.join(DELIMITERS.values())}")
        return DataError(message, "say which one with --date-column, and how they are written with --date-format")


def _is_dated(cells: Sequence[str], date_format: str | None) -> bool:
    """Whether the texts are timestamps, and not numbers as well. A few may be misspelt: their reader names the line."""
    return bool(cells) and not _NUMBER.fullmatch(cells[0]) and _reads(cells, date_format)


def _reads(cells: Sequence[str], date_format: str | None) -> bool:
    from timellm_cli.data.dates import find_formats

    def is_read(text: str) -> bool:
        return bool(find_formats([text], date_format) or (date_format and find_formats([text])))

    some = cells[:_CHECKED]
    return bool(re.search(r"\d", some[0])) and is_read(some[0]) and sum(map(is_read, some)) * 2 > len(some)


def _is_numeric(cells: Sequence[str]) -> bool:
    return sum(bool(_NUMBER.fullmatch(cell)) for cell in cells) * 2 > len(cells)


def _is_index(name: str, cells: Sequence[str]) -> bool:
    """Whether a column counts the rows from 0 or 1."""
    counted = [[str(number + start) for number in range(len(cells))] for start in (0, 1)]
    return bool(INDEX_NAMES.fullmatch(name)) and list(cells) in counted


def _is_rising(numbers: Sequence[float]) -> bool:
    steps = [after - before for before, after in pairwise(numbers)]
    return all(step >= 0 for step in steps) or all(step <= 0 for step in steps)
