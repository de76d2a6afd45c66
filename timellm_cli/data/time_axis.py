"""Wall times to the axis on which steps are equal, and the style that writes it: offsets from UTC and time zones."""

import re
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import polars as pl

from timellm_cli.config import DataConfig
from timellm_cli.data.cadence import Every, find_cadence
from timellm_cli.data.columns import date_columns
from timellm_cli.data.csv_format import CsvFormat
from timellm_cli.data.dates import OFFSET_AT_END, DateFormat, DateStyle, find_style
from timellm_cli.errors import DataError

_DAY = timedelta(days=1)


@dataclass(frozen=True)
class Samples:
    """Some timestamps of a file: texts and wall times."""

    texts: list[str]
    walls: list[datetime]


def find_axis(
    csv: CsvFormat, walls: pl.Series, offsets: pl.Series | None, form: DateFormat, samples: Samples, data: DataConfig
) -> tuple[pl.Series, DateStyle]:
    """The timestamps (N) on which steps are equal, and the style that writes them as the file does.

    They are wall times where no offset changes, where steps are whole days, and where days are closed; else they are
    in UTC. Raises DataError
    for a wall time that `data.timezone` does not have.
    """
    if data.timezone is None and (zone := getattr(csv.dtype(date_columns(csv, data)[0]), "time_zone", None)):
        data = data.model_copy(update={"timezone": zone})
    stamps, style = _axis(csv, walls, offsets, form, samples, data)
    if bool((stamps.dt.year() > 9999).any()):
        raise DataError(f"{csv.name}: a timestamp lies beyond the year 9999, where dates end", "cut the file before it")
    return stamps, style


def _axis(
    csv: CsvFormat, walls: pl.Series, offsets: pl.Series | None, form: DateFormat, samples: Samples, data: DataConfig
) -> tuple[pl.Series, DateStyle]:
    if data.snap:
        every = data.snap.replace("min", "m")
        walls = walls.dt.round(every)
        samples = Samples(samples.texts, pl.Series(samples.walls, dtype=pl.Datetime("us")).dt.round(every).to_list())
    if offsets is not None:
        return _with_offsets(walls, offsets, samples, form, data)
    style = find_style(samples.texts, samples.walls, form, DateStyle(form.name))
    if data.timezone is None or data.closed_on or _is_daily(walls):
        return walls, style
    return _to_utc(csv, walls, data.timezone), replace(style, is_utc=True, zone=data.timezone)


def _is_daily(walls: pl.Series) -> bool:
    """Whether the steps are whole days, in wall time."""
    distinct = walls.unique().sort()
    cadence = find_cadence(distinct) if len(distinct) > 1 else None
    return cadence is not None and (not isinstance(cadence, Every) or not cadence.step % _DAY)


def _with_offsets(
    walls: pl.Series, offsets: pl.Series, samples: Samples, form: DateFormat, data: DataConfig
) -> tuple[pl.Series, DateStyle]:
    found = re.search(OFFSET_AT_END, samples.texts[-1])
    offset = found[0] if found else ""
    pairs = zip(samples.texts, samples.walls, strict=True)
    same = [(text.removesuffix(offset), wall) for text, wall in pairs if text.endswith(offset)]
    bare = replace(form, has_offset=False)
    style = find_style([text for text, _ in same], [wall for _, wall in same], bare, DateStyle(form.name))
    style = replace(style, offset=offset, ahead=offsets[-1], zone=data.timezone)
    if offsets.n_unique() == 1 or data.closed_on or _is_daily(walls):
        return walls, style
    return walls - offsets, replace(style, is_utc=True)


def _to_utc(csv: CsvFormat, walls: pl.Series, zone: str) -> pl.Series:
    """Local times in UTC. Of a doubled hour, the first is summer time."""
    is_first = walls.is_first_distinct()
    which = pl.select(pl.when(is_first).then(pl.lit("earliest")).otherwise(pl.lit("latest"))).to_series()
    local = pl.DataFrame({"wall": walls, "which": which}).select(
        pl.col("wall").dt.replace_time_zone(zone, ambiguous=pl.col("which"), non_existent="null")
    )["wall"]
    if local.null_count():
        row = int(local.is_null().arg_true()[0])
        raise DataError(
            f"{csv.name}, line {csv.line(row)}: {walls[row]} does not exist in {zone}, where clocks skip this hour",
            "name another --timezone, or none where the clock of the file never changes",
        )
    return local.dt.convert_time_zone("UTC").dt.replace_time_zone(None)
