"""Scores of a forecast that was already made, against what happened: both are tables with timestamps."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import datetime
from itertools import groupby
from pathlib import Path

import numpy as np
import polars as pl

from timellm_cli.config import DataConfig
from timellm_cli.data.forecast_input import split_panel
from timellm_cli.data.open_csv import open_csv
from timellm_cli.data.rows import Rows
from timellm_cli.data.scale import Floats, Scaler
from timellm_cli.data.sources import VALUE_COLUMN, read_source
from timellm_cli.data.table import Table, make_table
from timellm_cli.errors import DataError, did_you_mean, quoted
from timellm_cli.evaluation.baselines import find_period
from timellm_cli.evaluation.metrics import HIGHEST_LEVEL, Metrics

_BAND = re.compile(r"(?P<base>.+)-(?P<side>lo|hi)-(?P<level>\d{1,2})")
_ACTUAL = "\0"
"""In front of the names of actual columns, where both tables are joined."""
_MOST_SEARCHED = 100
"""So many series at most show the season of all."""


@dataclass(frozen=True)
class ChannelScore:
    """One column of one series: how many values were scored, and what came out.

    `mse` and `mae` are standardised by the rows of the actual table before the forecast, None where it has too few.
    `coverage` is the share of the values inside each band, by its level, both in percent.
    """

    name: str
    values: int
    mse: float | None
    mae: float | None
    metrics: Metrics
    coverage: dict[int, float]


@dataclass(frozen=True)
class AgainstActual:
    """The scores of a forecast. `absent` values of it have no actual value; `season` are the rows that MASE looks back.

    `mean` are the means of the channels that have the figure, `mse` and `mae` likewise.
    """

    channels: tuple[ChannelScore, ...]
    absent: int
    season: int
    mean: Metrics
    mse: float | None
    mae: float | None
    coverage: dict[int, float]


def value_columns(columns: Sequence[str]) -> list[str]:
    """The columns of a forecast that are no bands of another one."""
    return [name for name in columns if not ((found := _BAND.fullmatch(name)) and found["base"] in columns)]


def read_lines(forecast: Path, actual: Path, data: DataConfig) -> tuple[Rows, Rows]:
    """Two files of a series a line, without dates: the n-th step of the one is the n-th of the other.

    Bands are in columns such as F1-lo-80. Raises DataError where the files have different numbers of steps.
    """
    csv, other = (open_csv(path, None, data) for path in (forecast, actual))
    ids = data.id_column or csv.header[0]
    steps = value_columns([name for name in csv.header if name != ids])
    theirs = len(other.header) - 1
    if len(steps) != theirs:
        raise DataError(
            f"{csv.name} has {len(steps):,} steps a line, and {other.name} has {theirs:,}",
            "without dates, both must hold the same steps: cut the second file to those that were forecast",
        )
    bands = {match["side"] + "-" + match["level"] for name in csv.header if (match := _BAND.fullmatch(name))}
    ours = read_source(forecast, data.model_copy(update={"exclude": tuple(set(csv.header) - {ids, *steps})}))
    assert ours.series is not None
    keys = ["stamp", "id"]
    table = ours.frame.with_columns(stamp=ours.stamps, id=ours.series.cast(pl.String))
    for band in sorted(bands):
        kept = {ids, *(f"{name}-{band}" for name in steps)}
        rows = read_source(forecast, data.model_copy(update={"exclude": tuple(set(csv.header) - kept)}))
        assert rows.series is not None
        ends = rows.frame.rename({VALUE_COLUMN: f"{VALUE_COLUMN}-{band}"})
        ends = ends.with_columns(stamp=rows.stamps, id=rows.series.cast(pl.String))
        table = table.join(ends, on=keys, how="left", maintain_order="left")
    return replace(ours, frame=table.drop(keys)), read_source(actual, data)


def match_columns(forecast: Sequence[str], actual: Sequence[str], names: tuple[str, str]) -> dict[str, str]:
    """The actual column of each value column of a forecast: of the same name, or where both have one alone, that.

    `names` are those of the files. Raises DataError where one is missing.
    """
    ours = value_columns(forecast)
    missing = [name for name in ours if name not in actual]
    if missing and len(ours) == len(actual) == 1:
        return {ours[0]: actual[0]}
    if missing:
        raise DataError(
            f"{names[1]} has no column {quoted(missing)} of {names[0]}; its columns are {quoted(actual)}"
            + did_you_mean(missing[0], actual),
            "both files name their value columns alike; leave others out with --exclude",
        )
    return {name: name for name in ours}


def score_against(forecast: Rows, actual: Rows, data: DataConfig) -> AgainstActual:
    """Score every value of `forecast` whose timestamp and series `actual` has. Values are raw. `data` says how to read.

    Raises DataError where the two have no timestamp in common, or only one has series.
    """
    columns = match_columns(forecast.frame.columns, actual.frame.columns, (forecast.csv.name, actual.csv.name))
    pairs = [(series, ours, theirs, _history(theirs, ours, data)) for series, ours, theirs in _pairs(forecast, actual)]
    season = _season([history for *_, history in pairs if history], columns, max(len(pair[1].stamps) for pair in pairs))
    scored: list[ChannelScore] = []
    absent = 0
    for series, ours, theirs, history in pairs:
        joined = ours.frame.with_columns(stamp=_moments(ours, theirs)).join(
            theirs.frame.select(pl.all().name.prefix(_ACTUAL)).with_columns(stamp=theirs.stamps).unique("stamp"),
            on="stamp",
            how="left",
            maintain_order="left",
        )
        for name, known in columns.items():
            own = joined.filter(pl.col(_ACTUAL + known).is_not_null() & pl.col(name).is_not_null())
            absent += len(joined) - len(own)
            if len(own):
                past_N = None if history is None else history.frame[known].fill_null(np.nan).to_numpy()
                label = " ".join(filter(None, (series, name if len(columns) > 1 or not series else "")))
                scored.append(_score(label, own, name, _ACTUAL + known, past_N, season))
    if not scored:
        raise DataError(
            f"no timestamp of {forecast.csv.name} is in {actual.csv.name}: the forecast goes from {_ends(forecast)}, "
            f"the other file from {_ends(actual)}",
            "give the file that holds what happened in the time of the forecast",
        )
    return _summarise(scored, absent, season)


def _ends(rows: Rows) -> str:
    first, last = rows.stamps.min(), rows.stamps.max()
    assert isinstance(first, datetime) and isinstance(last, datetime)
    return f"{rows.style.write(first)} to {rows.style.write(last)}"


def _pairs(forecast: Rows, actual: Rows) -> Iterator[tuple[str, Rows, Rows]]:
    """The id, the forecast and the actual rows of each series that both have."""
    if (forecast.series is None) != (actual.series is None):
        one, other = (forecast, actual) if forecast.series is not None else (actual, forecast)
        raise DataError(
            f"{one.csv.name} has several series, but {other.csv.name} is read as one",
            "name the column of ids with --id-column",
        )
    if forecast.series is None:
        yield "", forecast, actual
        return
    known = dict(split_panel(actual))
    yield from ((name, ours, known[name]) for name, ours in split_panel(forecast) if name in known)


def _moments(ours: Rows, theirs: Rows) -> pl.Series:
    """The forecast's timestamps in the way that the actual rows have them."""
    return ours.stamps if ours.style.is_utc == theirs.style.is_utc else ours.walls


def _history(theirs: Rows, ours: Rows, data: DataConfig) -> Table | None:
    """The actual rows before the forecast on their grid, null where there is none; None where that cannot be made."""
    stop = int((theirs.stamps < _moments(ours, theirs).min()).sum())
    try:
        return make_table(theirs.cut(0, stop), data.model_copy(update={"fill": "linear"}))
    except DataError:
        return None


def _season(histories: Sequence[Table], columns: Mapping[str, str], steps: int) -> int:
    """The rows of a season in the histories, as the seasonal naive baseline would find it; 1 where they show none."""
    some = histories[:: max(-(-len(histories) // _MOST_SEARCHED), 1)]
    found = [
        table.frame[known].interpolate().fill_null(strategy="mean").to_numpy()
        for table in some
        for known in columns.values()
    ]
    longest = max(map(len, found), default=0)
    period = find_period(found, some[0].cadence, longest // 2, steps) if longest > 3 else None
    return period.rows if period else 1


def _score(label: str, table: pl.DataFrame, name: str, known: str, past_N: Floats | None, season: int) -> ChannelScore:
    target_N, forecast_N = table[known].to_numpy(), table[name].to_numpy()
    error_N = target_N - forecast_N
    mse, mae = float(np.mean(error_N**2)), float(np.mean(np.abs(error_N)))
    both_N = np.abs(target_N) + np.abs(forecast_N)
    relative_N = np.divide(200 * np.abs(error_N), both_N, out=np.zeros_like(both_N), where=both_N > 0)
    bands = dict(_bands(table, name))
    coverage = {
        level: 100 * float(((low_N <= target_N) & (target_N <= high_N)).mean())
        for level, (low_N, high_N) in bands.items()
    }
    std = None if past_N is None else _deviation(past_N)
    loss, above = _quantile_loss(target_N, forecast_N, bands), float(np.abs(target_N).sum())
    wql = None if loss is None or not above else loss / above
    standardised_N = np.abs((target_N - np.nanmean(past_N)) / std) if std and past_N is not None else np.zeros(1)
    usual = None if past_N is None else _usual_step(past_N, season)
    metrics = Metrics(
        rmse=float(np.sqrt(mse)) / std if std else None,
        mase=mae / usual if usual else None,
        smape=float(relative_N.mean()),
        wql=loss / std / float(standardised_N.sum()) if std and loss is not None and standardised_N.sum() else None,
        mse_raw=mse,
        mae_raw=mae,
        rmse_raw=float(np.sqrt(mse)),
        wql_raw=wql,
    )
    return ChannelScore(label, len(table), mse / std**2 if std else None, mae / std if std else None, metrics, coverage)


def _bands(table: pl.DataFrame, name: str) -> Iterator[tuple[int, tuple[Floats, Floats]]]:
    """The level and both ends of each whole band of a column."""
    found = sorted(
        (int(match["level"]), match["side"])
        for column in table.columns
        if (match := _BAND.fullmatch(column)) and match["base"] == name and not table[column].null_count()
    )
    for level, sides in groupby(found, key=lambda one: one[0]):
        if [side for _, side in sides] == ["hi", "lo"]:
            yield level, (table[f"{name}-lo-{level}"].to_numpy(), table[f"{name}-hi-{level}"].to_numpy())


def _quantile_loss(target_N: Floats, forecast_N: Floats, bands: Mapping[int, tuple[Floats, Floats]]) -> float | None:
    """Twice the pinball loss, summed over the values, a mean over the quantiles; None without bands up to 90 %."""
    quantiles = [(0.5, forecast_N)]
    for level, (low_N, high_N) in bands.items():
        if level <= HIGHEST_LEVEL:
            quantiles += [(0.5 - level / 200, low_N), (0.5 + level / 200, high_N)]
    if len(quantiles) == 1:
        return None
    losses = [2 * np.maximum(q * (target_N - end_N), (q - 1) * (target_N - end_N)).sum() for q, end_N in quantiles]
    return float(np.mean(losses))


def _deviation(past_N: Floats) -> float | None:
    """The standard deviation of a history; None where it is constant or empty."""
    std = float(Scaler.fit(pl.DataFrame({"past": past_N[~np.isnan(past_N)]})).std_C[0]) if len(past_N) else 0.0
    return std if np.nanmin(past_N, initial=np.inf) < np.nanmax(past_N, initial=-np.inf) else None


def _usual_step(past_N: Floats, season: int) -> float | None:
    """The mean absolute difference of rows a season apart; None where there are none, or it is 0."""
    steps_N = np.abs(past_N[season:] - past_N[:-season])
    known_N = steps_N[~np.isnan(steps_N)]
    return float(known_N.mean()) or None if len(known_N) else None


def _summarise(channels: Sequence[ChannelScore], absent: int, season: int) -> AgainstActual:
    def mean(values: Sequence[float | None]) -> float | None:
        known = [value for value in values if value is not None]
        return float(np.mean(known)) if known else None

    levels, names = sorted({level for one in channels for level in one.coverage}), [one.name for one in fields(Metrics)]
    return AgainstActual(
        channels=tuple(channels),
        absent=absent,
        season=season,
        mean=Metrics(**{name: mean([getattr(own.metrics, name) for own in channels]) for name in names}),
        mse=mean([one.mse for one in channels]),
        mae=mean([one.mae for one in channels]),
        coverage={level: mean([one.coverage.get(level) for one in channels]) or 0.0 for level in levels},
    )
