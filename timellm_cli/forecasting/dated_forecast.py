"""From the model's output to a dated forecast in the CSV's units: the part that every kind of `predict` shares."""

from dataclasses import dataclass
from datetime import datetime

import numpy as np
import torch

from timellm_cli.data.dates import DateStyle
from timellm_cli.data.forecast_input import ForecastInput
from timellm_cli.data.scale import Floats, Scaler
from timellm_cli.errors import ConfigError
from timellm_cli.report.forecast import Band, Forecast, Stamps
from timellm_cli.training.checkpoint import Checkpoint

_DIGITS = 1e-5
"""Digits of a forecast that mean something, as a share of a channel's standard deviation: about float32's."""


@dataclass(frozen=True, eq=False)
class Times:
    """Wall times of a history (T) and a forecast (H), and the forecast's timestamps as the file writes them."""

    history_T: Stamps
    forecast_H: Stamps
    texts: list[str]


@dataclass(frozen=True)
class Shape:
    """What becomes of a forecast: bands of these levels, no value below `lowest`, with `is_sum` the sum of all steps.

    `lowest` is in the CSV's units.
    """

    levels: tuple[int, ...] = ()
    lowest: float | None = None
    is_sum: bool = False

    def require_bands(self, trained: Checkpoint, steps: int) -> None:
        """Raise ConfigError where the checkpoint has no bands of the sum of so many steps."""
        intervals, pred_len = trained.intervals, trained.config.window.pred_len
        if not self.is_sum or not self.levels or intervals is None:
            return
        if steps > pred_len:
            raise ConfigError(
                f"--levels with --sum: steps up to {pred_len} (pred_len) were validated, and the sum is of {steps:,}",
                f"--steps {pred_len}, or leave --levels out",
            )
        if intervals.sums_LCH is None:
            raise ConfigError(
                "this checkpoint has no bands of sums: it is older than they are, or too few of its validation windows "
                "are without a gap",
                "train again, or leave --levels out",
            )


def times_of(given: ForecastInput, steps: int) -> Times:
    """The times of a forecast of so many steps after `given`."""
    style, stamps = given.table.style, given.dates(steps)
    history_T, forecast_H = _walls(style, given.table.stamps.to_list()), _walls(style, stamps)
    return Times(history_T, forecast_H, [style.write(stamp) for stamp in stamps])


def date_forecast(
    given: ForecastInput,
    trained: Checkpoint,
    scaler: Scaler,
    history_TC: Floats,
    future_HC: Floats,
    shape: Shape,
    times: Times | None = None,
) -> Forecast:
    """The forecast after `given`: values and bands in the CSV's units, dates, and columns in the order of the input.

    `history_TC` and `future_HC` are standardised by `scaler`. `times` are `times_of` this forecast, where known.
    """
    restored_HC = scaler.restore(future_HC)
    floor = -np.inf if shape.lowest is None else shape.lowest
    values_HC, actual_HC, summed = np.maximum(restored_HC, floor), given.actual(len(restored_HC)), 0
    positions = [trained.columns.index(column) for column in given.order]
    times = times or times_of(given, len(values_HC))
    bands = _bands(given, trained, scaler, history_TC, restored_HC, shape)
    if shape.is_sum:
        summed, floor = len(values_HC), floor * len(values_HC)
        restored_HC, values_HC, actual_HC = (one.sum(axis=0)[None] for one in (restored_HC, values_HC, actual_HC))
        bands = tuple((level, half_HC[-1:]) for level, half_HC in bands)
    last = slice(-1, None) if shape.is_sum else slice(None)
    return Forecast(
        columns=given.order,
        history_dates_T=times.history_T,
        history_TC=given.table.values[:, positions],
        dates_H=times.forecast_H[last],
        values_HC=values_HC[:, positions],
        actual_HC=actual_HC[:, positions],
        resolution_C=scaler.std_C[positions] * _DIGITS,
        last_known=given.table.style.write(given.table.stamps[-1]),
        dates=times.texts[last],
        is_naive=not given.table.style.offset,
        bands=tuple(
            Band(
                level,
                np.maximum(restored_HC - half_HC, floor)[:, positions],
                np.maximum(restored_HC + half_HC, floor)[:, positions],
            )
            for level, half_HC in bands
        ),
        summed=summed,
        first_date=times.texts[0],
    )


def _bands(
    given: ForecastInput,
    trained: Checkpoint,
    scaler: Scaler,
    history_TC: Floats,
    values_HC: Floats,
    shape: Shape,
) -> tuple[tuple[int, Floats], ...]:
    """Level and half-widths (H, C) in the CSV's units; NaN beyond pred_len and for channels that were not validated.

    For a sum, row h is that of the first h + 1 steps.
    """
    if not shape.levels:
        return ()
    intervals, window = trained.intervals, trained.config.window
    assert intervals is not None
    row_C = intervals.rows_of(given.table)
    validated = (row_C >= 0).nonzero()[:, 0].tolist()
    history_BT = torch.from_numpy(history_TC[-window.seq_len :, validated].T.copy())
    known = min(len(values_HC), window.pred_len)
    bands = []
    around = intervals.around_sums if shape.is_sum else intervals.around
    for level in shape.levels:
        half_HC = np.full_like(values_HC, np.nan)
        half_BH = around(level, history_BT, row_C[validated]).numpy()
        half_HC[:known, validated] = half_BH.T[:known] * scaler.std_C[validated]
        bands.append((level, half_HC))
    return tuple(bands)


def _walls(style: DateStyle, stamps: list[datetime]) -> Stamps:
    return np.array([style.wall(stamp) for stamp in stamps], dtype="datetime64[us]")
