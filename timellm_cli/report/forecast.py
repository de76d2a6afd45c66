"""A dated forecast as data, as CSV and as a JSON object."""

import csv
import io
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from timellm_cli.data.cadence import Stamps
from timellm_cli.data.date_style import DateStyle
from timellm_cli.data.scale import Floats


@dataclass(frozen=True, eq=False)
class Band:
    """The lower and upper end of a band of `level` percent, in the CSV's units, NaN where there is none."""

    level: int
    low_HC: Floats
    high_HC: Floats


@dataclass(frozen=True, eq=False)
class Forecast:
    """A forecast of H steps for C channels in the CSV's units, after a history of T rows.

    `columns` are in the order of the input. `actual_HC` holds what the input knows of the forecast's time, NaN beyond
    its end. `resolution_C` is the step below which a channel's digits mean nothing. `bands` are the narrowest first.
    """

    date_column: str
    columns: tuple[str, ...]
    history_dates_T: Stamps
    history_TC: Floats
    dates_H: Stamps
    values_HC: Floats
    actual_HC: Floats
    resolution_C: Floats
    style: DateStyle
    bands: tuple[Band, ...] = ()

    @property
    def known_steps(self) -> int:
        """How many of the forecast's steps the input already holds."""
        return int(np.isfinite(self.actual_HC).all(axis=1).sum())

    @property
    def dates(self) -> list[str]:
        """The forecast's timestamps as the input writes its own."""
        return [self.style.write(stamp) for stamp in self.dates_H]


def to_csv(forecast: Forecast, delimiter: str) -> str:
    """A header and H rows: the date, every channel in the order of the input, then each channel's bands.

    Their columns are named as other forecasting tools do: `OT-lo-95`, `OT-lo-80`, `OT-hi-80`, `OT-hi-95`.
    """
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter, lineterminator="\n")
    columns = [*_value_columns(forecast), *_band_columns(forecast)]
    writer.writerow([forecast.date_column, *(name for name, _, _ in columns)])
    for step, date in enumerate(forecast.dates):
        writer.writerow([date, *(_cell(values_H[step], resolution) for _, values_H, resolution in columns)])
    return text.getvalue()


_Column = tuple[str, Floats, float]
"""Name, values, and the step below which their digits mean nothing."""


def _value_columns(forecast: Forecast) -> list[_Column]:
    return list(zip(forecast.columns, forecast.values_HC.T, forecast.resolution_C.tolist(), strict=True))


def _band_columns(forecast: Forecast) -> list[_Column]:
    columns = []
    for place, (name, resolution) in enumerate(zip(forecast.columns, forecast.resolution_C.tolist(), strict=True)):
        lows = [(f"{name}-lo-{band.level}", band.low_HC[:, place], resolution) for band in reversed(forecast.bands)]
        highs = [(f"{name}-hi-{band.level}", band.high_HC[:, place], resolution) for band in forecast.bands]
        columns += [column for column in (*lows, *highs) if np.isfinite(column[1]).any()]
    return columns


def _cell(value: float, resolution: float) -> str:
    return f"{value:.{decimals_of(resolution)}f}" if math.isfinite(value) else ""


def to_json(forecast: Forecast) -> dict[str, Any]:
    """The same figures as the CSV, by channel; `actual` holds the steps that the input knows, or is None."""
    known = forecast.known_steps
    return {
        "last_known": forecast.style.write(forecast.history_dates_T[-1]),
        "steps": len(forecast.dates_H),
        "dates": forecast.dates,
        "forecast": _by_channel(forecast, forecast.values_HC),
        "bands": {
            str(band.level): {"lo": _by_channel(forecast, band.low_HC), "hi": _by_channel(forecast, band.high_HC)}
            for band in forecast.bands
        },
        "actual": _by_channel(forecast, forecast.actual_HC[:known]) if known else None,
    }


def decimals_of(resolution: float) -> int:
    """Decimals that show a step of `resolution`."""
    return max(0, math.ceil(-math.log10(resolution)))


def _by_channel(forecast: Forecast, values: Floats) -> dict[str, list[float | None]]:
    return {
        name: [round(float(value), decimals_of(resolution)) if math.isfinite(value) else None for value in channel]
        for name, channel, resolution in zip(forecast.columns, values.T, forecast.resolution_C, strict=True)
    }
