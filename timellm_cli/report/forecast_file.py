"""A forecast as the file that it continues is laid out: CSV with its delimiter, dates and decimal sign, or Parquet."""

import csv
import io
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import polars as pl

from timellm_cli.data.columns import split_stamp, words_of
from timellm_cli.data.csv_format import CsvFormat
from timellm_cli.data.encoding import GUESSED_ENCODINGS
from timellm_cli.data.scale import Floats
from timellm_cli.report.forecast import Forecast, decimals_of, rounded

_Texts = tuple[str, list[str]]
"""Name of a column and its cells."""
_Numbers = tuple[str, Floats, float]
"""Name of a column, its values, and the step below which their digits mean nothing."""


@dataclass(frozen=True)
class Layout:
    """How the input lays out its table. `dates` are the columns of its timestamps; `wide`: a line is a series."""

    csv: CsvFormat
    dates: tuple[str, ...]
    wide: bool = False

    @property
    def mark(self) -> str:
        """What a file begins with: the mark by which Excel knows UTF-8, where the input has it or is no UTF-8."""
        return "\ufeff" if self.csv.encoding in ("utf-8-sig", *GUESSED_ENCODINGS) else ""

    def text(self, forecast: Forecast, *, header: bool = True, newline: str = "\n") -> str:
        """A header and H rows: the date, every channel in the order of the input, then each channel's bands.

        Their columns are named as other forecasting tools do: `OT-lo-95`, `OT-lo-80`, `OT-hi-80`, `OT-hi-95`. The id of
        one of many series comes first. In a wide table the id is followed by H values F1, F2, ... and their bands.
        """
        keys, numbers = self._table(forecast)
        text = io.StringIO()
        writer = csv.writer(text, delimiter=self.csv.delimiter, lineterminator=newline)
        if header:
            writer.writerow([name for name, *_ in (*keys, *numbers)])
        cells = [_cells(values, resolution, self.csv) for _, values, resolution in numbers]
        writer.writerows(zip(*(own for _, own in keys), *cells, strict=True))
        return text.getvalue()

    def frame(self, forecast: Forecast) -> pl.DataFrame:
        """The same table with types: dates and ids have those of a Parquet input, numbers are float64."""
        keys, numbers = self._table(forecast)
        columns = {name: self._typed(name, own, forecast) for name, own in keys}
        figures = {name: rounded(values, resolution) for name, values, resolution in numbers}
        return pl.DataFrame(columns | {name: pl.Series(own, dtype=pl.Float64) for name, own in figures.items()})

    def pieces(self, forecasts: Iterable[Forecast], path: Path) -> Iterator[bytes]:
        """The content of a file for these forecasts, which is Parquet where its name ends so."""
        if path.suffix.lower() == ".parquet":
            yield parquet_of([self.frame(forecast) for forecast in forecasts])
            return
        for number, forecast in enumerate(forecasts):
            mark = self.mark if number == 0 else ""
            yield (mark + self.text(forecast, header=number == 0, newline=self.csv.newline)).encode()

    def _table(self, forecast: Forecast) -> tuple[list[_Texts], list[_Numbers]]:
        """The columns of dates and ids, and those of numbers."""
        numbers = [*_value_columns(forecast), *_band_columns(forecast)]
        steps = len(forecast.dates)
        ids = (
            []
            if forecast.id_column is None
            else [(forecast.id_column, [forecast.series] * (1 if self.wide else steps))]
        )
        if not self.wide:
            return [*ids, *self._dates(forecast)], numbers
        return ids, [
            (f"F{step + 1}{name.removeprefix(forecast.columns[0])}", values_H[step : step + 1], resolution)
            for name, values_H, resolution in numbers
            for step in range(steps)
        ]

    def _dates(self, forecast: Forecast) -> list[_Texts]:
        cells = [split_stamp(text, self._words) for text in forecast.dates]
        if all(len(own) == len(self.dates) for own in cells):
            return [(name, list(own)) for name, own in zip(self.dates, zip(*cells, strict=True), strict=True)]
        return [(" ".join(self.dates), forecast.dates)]

    @cached_property
    def _words(self) -> tuple[int, ...]:
        return words_of(self.csv, self.dates)

    def _typed(self, name: str, texts: list[str], forecast: Forecast) -> pl.Series:
        """Texts with the type of the input's column. Dates of a CSV are wall times, or texts with offsets."""
        column = pl.Series(texts, dtype=pl.String)
        dtype = self.csv.dtype(name) if name in self.csv.header else None
        if dtype is None:
            is_naive = (name,) == self.dates and forecast.is_naive
            return pl.Series(forecast.dates_H).cast(pl.Datetime("us")) if is_naive else column
        if isinstance(dtype, pl.Datetime):
            form = "%Y-%m-%d %H:%M:%S%.f"
            moments = column.str.to_datetime(f"{form}%:z" if dtype.time_zone else form, time_unit="us")
            return moments.cast(dtype)
        return column.str.to_date("%Y-%m-%d") if dtype == pl.Date else column.cast(dtype)


def parquet_of(tables: list[pl.DataFrame]) -> bytes:
    """Tables, one below the other, as one Parquet file, whose bytes do not depend on how the rows were shared out."""
    whole = io.BytesIO()
    pl.concat(tables, how="diagonal").rechunk().write_parquet(whole)
    return whole.getvalue()


def _value_columns(forecast: Forecast) -> list[_Numbers]:
    return list(zip(forecast.columns, forecast.values_HC.T, forecast.resolution_C.tolist(), strict=True))


def _band_columns(forecast: Forecast) -> list[_Numbers]:
    columns = []
    for channel, (name, resolution) in enumerate(zip(forecast.columns, forecast.resolution_C.tolist(), strict=True)):
        lows = [(f"{name}-lo-{band.level}", band.low_HC[:, channel], resolution) for band in reversed(forecast.bands)]
        highs = [(f"{name}-hi-{band.level}", band.high_HC[:, channel], resolution) for band in forecast.bands]
        columns += [column for column in (*lows, *highs) if any(map(math.isfinite, column[1]))]
    return columns


def _cells(values: Floats, resolution: float, csv_format: CsvFormat) -> list[str]:
    grouped = "," if csv_format.groups else ""
    form = f"{{:{grouped}.{decimals_of(resolution)}f}}".format
    cells = [form(value) if math.isfinite(value) else "" for value in values.tolist()]
    signs = {ord(","): csv_format.groups, ord("."): csv_format.decimal}
    return cells if (csv_format.groups, csv_format.decimal) == ("", ".") else [cell.translate(signs) for cell in cells]
