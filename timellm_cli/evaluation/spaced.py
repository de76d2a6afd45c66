"""Windows at equal distances, on which slow baselines are scored, and every other line of the table with them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from timellm_cli.data.scale import Floats
from timellm_cli.data.windows import ForecastData
from timellm_cli.evaluation.classical import LEAST_ORIGINS, ClassicalForecasts
from timellm_cli.evaluation.score import Scores
from timellm_cli.evaluation.window_bands import figures_of, sums_of_windows

_MOST_GRIDS = 20


@dataclass(frozen=True, eq=False)
class SpacedErrors:
    """Errors of slow baselines on the chosen windows (P) of one fold, in the units of that fold's scores.

    `place_P` are positions among the scored windows, `known_P` counts their known targets, and `channel_P` are
    their channels. An absolute error times `scale_C` is in units of the seasonal naive error of the training rows.
    `bands_4P` are the sums of each window's bands (`window_bands.py`), where these were wanted.
    """

    place_P: NDArray[np.int64]
    channel_P: NDArray[np.int64]
    known_P: Floats
    scale_C: Floats
    mse_P: Mapping[str, Floats]
    mae_P: Mapping[str, Floats]
    left_out: Mapping[str, str]
    failed: Mapping[str, int]
    bands_4P: Mapping[str, Floats] = field(default_factory=dict)


@dataclass(frozen=True)
class SpacedLine:
    """The errors of one line on the chosen windows: standardised, and MASE as the mean of the channels.

    `wql` and what the bands `held` (percent, by level) are those of its bands, None and empty without.
    """

    name: str
    mse: float
    mae: float
    mase: float | None
    wql: float | None = None
    held: dict[int, float] = field(default_factory=dict)


@dataclass(frozen=True)
class SpacedTable:
    """Every line on the same windows at equal distances: `origins` of each channel, `windows` in all.

    `left_out` are the baselines that ran out of time, with how far they came. `failed` counts the windows where a fit
    failed and the last value was repeated instead.
    """

    origins: int
    windows: int
    lines: tuple[SpacedLine, ...]
    left_out: dict[str, str]
    failed: dict[str, int] = field(default_factory=dict)


def spaced_grids(data: ForecastData, split: str, limit: int | None) -> Iterator[list[int]]:
    """Positions among the scored windows: `LEAST_ORIGINS` of each channel, then about twice as many, to all of them."""
    samples = data.windows(split)
    counts_C = (samples.windows_C if limit is None else samples.windows_C.clamp(max=limit)).numpy()
    first_C = counts_C.cumsum() - counts_C
    origins = LEAST_ORIGINS
    for _ in range(_MOST_GRIDS):
        yield [
            int(first) + int(place)
            for first, count in zip(first_C, counts_C, strict=True)
            for place in np.unique(np.linspace(0, count - 1, min(origins, count)).round().astype(int))
        ]
        if origins >= counts_C.max():
            return
        origins = 2 * origins - 1  # every second one of these is one of the grid before


def histories_of(data: ForecastData, split: str, limit: int | None, places: Sequence[int]) -> Floats:
    """The histories (P x T, standardised, filled) of windows at these positions among the scored ones."""
    samples = data.windows(split)
    batch = samples.batch(samples.numbers(limit)[list(places)].tolist())
    return batch.history_BT.double().numpy()


def errors_of_classical(
    data: ForecastData,
    split: str,
    limit: int | None,
    places: Sequence[int],
    found: ClassicalForecasts,
    seasonal_C: Floats,
    std_C: Floats | None,
) -> SpacedErrors:
    """The errors of classical forecasts (in units of the data's scaler) on the windows at these positions."""
    samples = data.windows(split)
    number_P = samples.numbers(limit)[list(places)]
    future_PH = samples.batch(number_P.tolist()).future_BH.double().numpy()
    channel_P = samples.position(number_P).numpy()
    own_std_C = data.scaler.std_C[-samples.channels :]
    unit_C = own_std_C / (own_std_C if std_C is None else std_C)
    mse_P, mae_P, bands_4P = {}, {}, {}
    for name in found.by_name:
        forecast_PH = found.rows(name, places)
        if found.levels:
            ends = {
                level: (torch.from_numpy(low_PH - forecast_PH), torch.from_numpy(high_PH - forecast_PH))
                for level, (low_PH, high_PH) in found.ends(name, places).items()
            }
            own_error_PH = torch.from_numpy(forecast_PH - future_PH)
            bands_4P[name] = sums_of_windows(own_error_PH, torch.from_numpy(future_PH), ends).T.numpy()
        error_PH = (forecast_PH - future_PH) * unit_C[channel_P, None]
        with np.errstate(invalid="ignore"):
            mse_P[name], mae_P[name] = _mean(error_PH**2), _mean(np.abs(error_PH))
    with np.errstate(divide="ignore", invalid="ignore"):
        scale_C = np.where(seasonal_C > 0, 1 / (unit_C * seasonal_C), np.nan)
    known_P = (~np.isnan(future_PH)).sum(axis=1).astype(np.float64)
    return SpacedErrors(
        np.array(places), channel_P, known_P, scale_C, mse_P, mae_P, dict(found.left_out), dict(found.failed), bands_4P
    )


def _mean(errors_PH: Floats) -> Floats:
    """The mean of each row's known values; NaN for a row without any."""
    known_P = (~np.isnan(errors_PH)).sum(axis=1)
    means_P: Floats = np.where(known_P > 0, np.nansum(errors_PH, axis=1) / np.maximum(known_P, 1), np.nan)
    return means_P


def spaced_table(folds: Sequence[SpacedErrors], entries: Sequence[tuple[str, Scores]]) -> SpacedTable:
    """Slow baselines and the lines of the leaderboard on the chosen windows of all folds.

    A baseline that was left out in one fold is left out. `entries` have scores of every window of these folds.
    """
    left_out = {name: reason for fold in reversed(folds) for name, reason in fold.left_out.items()}
    lines = []
    for name, scores in entries:
        own = scores.folds or (scores,)
        errors = [
            (one.window_mse_W[fold.place_P], one.window_mae_W[fold.place_P])
            for one, fold in zip(own, folds, strict=True)
        ]
        bands = [
            one.bands_4W[:, fold.place_P] for one, fold in zip(own, folds, strict=True) if one.bands_4W is not None
        ]
        lines.append(_line(name, folds, errors, bands))
    for name in folds[0].mse_P:
        if all(name in fold.mse_P for fold in folds):
            bands = [fold.bands_4P[name] for fold in folds if name in fold.bands_4P]
            lines.append(_line(name, folds, [(fold.mse_P[name], fold.mae_P[name]) for fold in folds], bands))
    windows = sum(len(fold.place_P) for fold in folds)
    origins = sum(int(np.bincount(fold.channel_P).max()) for fold in folds)
    failed: dict[str, int] = {}
    for fold in folds:
        for name, count in fold.failed.items():
            failed[name] = failed.get(name, 0) + count
    return SpacedTable(origins, windows, tuple(lines), left_out, {name: n for name, n in failed.items() if n})


def _line(
    name: str, folds: Sequence[SpacedErrors], errors: Sequence[tuple[Floats, Floats]], bands: Sequence[Floats]
) -> SpacedLine:
    """`errors` and `bands` are of each fold; a line without bands in one has none."""
    known_P = np.concatenate([fold.known_P for fold in folds])
    channel_P = np.concatenate([fold.channel_P for fold in folds])
    mse_P, mae_P = (np.nan_to_num(np.concatenate([one[kind] for one in errors])) for kind in (0, 1))
    scale_P = np.concatenate([fold.scale_C[fold.channel_P] for fold in folds])
    known_C = np.bincount(channel_P, known_P)
    with np.errstate(divide="ignore", invalid="ignore"):
        scaled_C = np.bincount(channel_P, mae_P * known_P * scale_P) / known_C
    total = known_P.sum()
    finite_C = scaled_C[np.isfinite(scaled_C)]
    figures = figures_of(np.concatenate(bands, axis=1), known_P) if len(bands) == len(folds) else None
    return SpacedLine(
        name,
        float(mse_P @ known_P / total),
        float(mae_P @ known_P / total),
        float(finite_C.mean()) if len(finite_C) else None,
        figures.wql if figures else None,
        figures.held if figures else {},
    )
