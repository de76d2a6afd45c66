"""The figures of the M4 competition: sMAPE, MASE and OWA against Naive2 (Makridakis et al., 2020).

Naive2 is the last value of the seasonally adjusted series, with its seasonal indices put back. A series is adjusted
where its autocorrelation at the season is beyond 90 % bounds; the indices are those of the classical multiplicative
decomposition. OWA is the mean of sMAPE and MASE, each over that of Naive2; below 1 is better than Naive2.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from timellm_cli.data.scale import Floats
from timellm_cli.errors import DataError, quoted

_BOUND = 1.645  # of a normal distribution, 90 %, both sides
_LEAST_SEASONS = 3


@dataclass(frozen=True)
class M4Figures:
    """Means over all series. sMAPE in percent."""

    series: int
    smape: float
    mase: float
    naive2_smape: float
    naive2_mase: float

    @property
    def owa(self) -> float:
        """The overall weighted average."""
        return (self.smape / self.naive2_smape + self.mase / self.naive2_mase) / 2


def read_series(path: Path) -> dict[str, Floats]:
    """The series of a file with one in each line: its id, then its values, as many as it has.

    Raises DataError for a file that cannot be read, and for a text among the values.
    """
    try:
        table = pl.read_csv(path, infer_schema_length=0, truncate_ragged_lines=True)
        ids, rest = table.to_series(0).to_list(), table[:, 1:]
        values_NK = rest.select(pl.all().str.strip_chars().replace("", None).cast(pl.Float64)).to_numpy()
    except FileNotFoundError:
        raise DataError(f"file '{path}' not found", "give the path of an existing CSV") from None
    except (pl.exceptions.PolarsError, OSError) as error:
        fault = str(error).splitlines()[0]
        raise DataError(f"'{path}' is no table with a series in each line: {fault}", "M4 has V1, V2, ...") from None
    known = {}
    for name, values_K in zip(ids, values_NK, strict=True):
        places = np.flatnonzero(np.isfinite(values_K))
        known[str(name)] = values_K[: places[-1] + 1] if len(places) else values_K[:0]
    return known


def score_m4(
    past: Mapping[str, Floats], actual: Mapping[str, Floats], forecast: Mapping[str, Floats], season: int
) -> M4Figures:
    """The figures of forecasts. Raises DataError where a series is missing, too short or has gaps."""
    if missing := [name for name in actual if name not in past or name not in forecast]:
        where = "the training file" if missing[0] not in past else "the forecast"
        raise DataError(f"{where} lacks {len(missing):,} series, such as {quoted(missing, 3)}", "all series are scored")
    errors = np.array([_errors(name, past[name], actual[name], forecast[name], season) for name in actual])
    if not len(errors):
        raise DataError("the test file has no series", "give the test file of M4, such as Monthly-test.csv")
    return M4Figures(len(errors), *map(float, errors.mean(axis=0)))


def _errors(name: str, past_T: Floats, actual_H: Floats, forecast_H: Floats, season: int) -> tuple[float, ...]:
    steps = len(actual_H)
    if len(forecast_H) < steps:
        raise DataError(f"series '{name}' has {len(forecast_H)} forecasts, but {steps} values to compare them with", "")
    if not all(np.isfinite(part).all() for part in (past_T, actual_H, forecast_H[:steps])):
        raise DataError(f"series '{name}' has a gap", "M4 has none")
    if len(past_T) <= season:
        raise DataError(f"series '{name}' has {len(past_T)} values, no more than a season of {season}", "")
    scale = np.abs(past_T[season:] - past_T[:-season]).mean()
    naive_H = naive2(past_T, steps, season)
    found = []
    for predicted_H in (forecast_H[:steps], naive_H):
        size_H = np.abs(actual_H) + np.abs(predicted_H)
        error_H = np.abs(actual_H - predicted_H)
        smape = 200 * np.divide(error_H, size_H, out=np.zeros(steps), where=size_H > 0).mean()
        found += [smape, error_H.mean() / scale if scale > 0 else 0.0]
    return tuple(found)


def naive2(past_T: Floats, steps: int, season: int) -> Floats:
    """Naive2's forecast of so many steps."""
    if not _is_seasonal(past_T, season):
        return np.full(steps, past_T[-1])
    index_T = np.resize(_seasonal_indices(past_T, season), len(past_T) + steps)
    return past_T[-1] / index_T[len(past_T) - 1] * index_T[len(past_T) :]


def _is_seasonal(past_T: Floats, season: int) -> bool:
    """Whether the autocorrelation at the season is beyond its 90 % bounds."""
    if season == 1 or len(past_T) < _LEAST_SEASONS * season:
        return False
    centred_T = past_T - past_T.mean()
    variance = float((centred_T**2).sum())
    if variance == 0:
        return False
    lags = np.array([(centred_T[lag:] * centred_T[:-lag]).sum() / variance for lag in range(1, season + 1)])
    bound = _BOUND * np.sqrt((1 + 2 * (lags[:-1] ** 2).sum()) / len(past_T))
    return bool(abs(lags[-1]) > bound)


def _seasonal_indices(past_T: Floats, season: int) -> Floats:
    """The indices of the classical multiplicative decomposition, from the first value on; their mean is 1."""
    weights = np.ones(season) / season
    if season % 2 == 0:
        weights = np.concatenate([[0.5], np.ones(season - 1), [0.5]]) / season
    half = len(weights) // 2
    trend_T = np.full(len(past_T), np.nan)
    trend_T[half : len(past_T) - half] = np.convolve(past_T, weights, mode="valid")
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio_T = past_T / trend_T
    figure = np.array([np.nanmean(ratio_T[place::season]) for place in range(season)])
    return figure / figure.mean()
