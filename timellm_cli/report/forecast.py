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
class Forecast:
    """A forecast of H steps for C channels in the CSV's units, after a history of T rows.

    `columns` are in the order of the input. `actual_HC` holds what the input knows of the forecast's time, NaN beyond
    its end. `resolution_C` is the step below which a channel's digits mean nothing.
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

    @property
    def known_steps(self) -> int:
        """How many of the forecast's steps the input already holds."""
        return int(np.isfinite(self.actual_HC).all(axis=1).sum())

    @property
    def dates(self) -> list[str]:
        """The forecast's timestamps as the input writes its own."""
        return [self.style.write(stamp) for stamp in self.dates_H]


def to_csv(forecast: Forecast, delimiter: str) -> str:
    """A header and H rows: the date and every channel, in the order of the input."""
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter, lineterminator="\n")
    writer.writerow([forecast.date_column, *forecast.columns])
    decimals = [decimals_of(resolution) for resolution in forecast.resolution_C]
    for date, values in zip(forecast.dates, forecast.values_HC, strict=True):
        writer.writerow([date, *(f"{value:.{places}f}" for value, places in zip(values, decimals, strict=True))])
    return text.getvalue()


def to_json(forecast: Forecast) -> dict[str, Any]:
    """The same figures as the CSV, by channel; `actual` holds the steps that the input knows, or is None."""
    known = forecast.known_steps
    return {
        "last_known": forecast.style.write(forecast.history_dates_T[-1]),
        "steps": len(forecast.dates_H),
        "dates": forecast.dates,
        "forecast": _by_channel(forecast, forecast.values_HC),
        "actual": _by_channel(forecast, forecast.actual_HC[:known]) if known else None,
    }


def decimals_of(resolution: float) -> int:
    """Decimals that show a step of `resolution`."""
    return max(0, math.ceil(-math.log10(resolution)))


def _by_channel(forecast: Forecast, values: Floats) -> dict[str, list[float]]:
    return {
        name: [round(float(value), decimals_of(resolution)) for value in channel]
        for name, channel, resolution in zip(forecast.columns, values.T, forecast.resolution_C, strict=True)
    }
