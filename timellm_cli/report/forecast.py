"""A dated forecast as JSON, a table for the terminal, and a picture. All in the CSV's units.

As a file it is laid out as the input (`forecast_file.py`).
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from rich.console import Group, RenderableType
from rich.text import Text

from timellm_cli.console import as_is
from timellm_cli.data.scale import Floats
from timellm_cli.files import replacing
from timellm_cli.report.charts import LATIN, families_for
from timellm_cli.report.tables import titled_table
from timellm_cli.units import format_count

Stamps = NDArray[np.datetime64]


@dataclass(frozen=True, eq=False)
class Band:
    """The lower and upper end of a band of `level` percent, in the CSV's units, NaN where there is none."""

    level: int
    low_HC: Floats
    high_HC: Floats


@dataclass(frozen=True, eq=False)
class Forecast:
    """A forecast of H steps for C channels in the CSV's units, after a history of T rows.

    `columns` are in the order of the input. Dates are wall times; `last_known` and `dates` (H) are theirs as the input
    writes them. `actual_HC` holds what the input knows of the forecast's time, NaN beyond
    its end. `resolution_C` is the step below which a channel's digits mean nothing. `bands` are the narrowest first.
    `series` is the id of one of many series, and `id_column` names their column. `is_naive`: dates have no offset.
    Where `summed` is not 0, the one value is the sum of so many steps, from `first_date` to the one in `dates`.
    """

    columns: tuple[str, ...]
    history_dates_T: Stamps
    history_TC: Floats
    dates_H: Stamps
    values_HC: Floats
    actual_HC: Floats
    resolution_C: Floats
    last_known: str
    dates: list[str]
    bands: tuple[Band, ...] = ()
    id_column: str | None = None
    series: str = ""
    is_naive: bool = True
    summed: int = 0
    first_date: str = ""

    @property
    def known_steps(self) -> int:
        """How many of the forecast's steps the input already holds."""
        return int(np.isfinite(self.actual_HC).all(axis=1).sum())


def to_json(forecast: Forecast) -> dict[str, Any]:
    """The same figures as the CSV, by channel; `actual` holds the steps that the input knows, or is None."""
    known = forecast.known_steps
    return {
        "last_known": forecast.last_known,
        "steps": len(forecast.dates_H),
        **({"summed_steps": forecast.summed, "summed_from": forecast.first_date} if forecast.summed else {}),
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


def rounded(values: Floats, resolution: float) -> list[float | None]:
    """The values with the decimals that mean something; None for what is not finite."""
    decimals = decimals_of(resolution)
    return [round(value, decimals) if math.isfinite(value) else None for value in values.tolist()]


def _by_channel(forecast: Forecast, values: Floats) -> dict[str, list[float | None]]:
    return {
        name: rounded(channel, resolution)
        for name, channel, resolution in zip(forecast.columns, values.T, forecast.resolution_C, strict=True)
    }


def join_forecasts(forecasts: Sequence[Forecast]) -> Forecast:
    """The forecasts of series that end together, as the channels of one: for a table or a picture."""
    first = forecasts[0]
    same = [one for one in forecasts if one.last_known == first.last_known and one.columns == first.columns]

    def joined(values: Iterable[Floats]) -> Floats:
        return np.concatenate(list(values), axis=-1)

    one_column = len(first.columns) == 1
    return replace(
        first,
        columns=tuple(one.series if one_column else f"{one.series} {name}" for one in same for name in one.columns),
        history_TC=joined(one.history_TC for one in same),
        values_HC=joined(one.values_HC for one in same),
        actual_HC=joined(one.actual_HC for one in same),
        resolution_C=joined(one.resolution_C for one in same),
        bands=tuple(
            Band(
                band.level,
                joined(one.bands[place].low_HC for one in same),
                joined(one.bands[place].high_HC for one in same),
            )
            for place, band in enumerate(first.bands)
        ),
    )


_BARS = "▁▂▃▄▅▆▇█"
_MOST_CHANNELS = 20
_COARSER = 1000
"""The table shows steps this many times as coarse as the resolution of the CSV file."""
_NARROW = 100
"""A terminal of fewer columns gets shorter sparklines."""


def render(forecast: Forecast, width: int) -> RenderableType:
    """Each channel's last value, its sparkline, its first and last step and range; values in the CSV's units.

    `width` is that of the terminal, in characters.
    """
    is_narrow = width < _NARROW
    half = 10 if is_narrow else 20
    table = titled_table(_title(forecast))
    table.add_column("channel", overflow="fold")
    table.add_column("last\nknown", justify="right", no_wrap=True)
    table.add_column("history,\nforecast", no_wrap=True)
    headings = ["first\nstep", "last\nstep", *(() if is_narrow else ("lowest", "highest"))]
    known = forecast.known_steps
    bands = forecast.bands[-1:] if is_narrow else forecast.bands[-2:]
    of_bands = [f"{band.level} % band,\nlast step" for band in bands]
    for heading in [*headings, *of_bands, *(("MAE,\nknown",) if known else ())]:
        table.add_column(heading, justify="right", no_wrap=True)
    for channel, name in enumerate(forecast.columns[:_MOST_CHANNELS]):
        history_T, values_H = forecast.history_TC[:, channel], forecast.values_HC[:, channel]
        figures = [values_H[0], values_H[-1], *(() if is_narrow else (values_H.min(), values_H.max()))]
        if known:
            figures.append(np.abs(values_H[:known] - forecast.actual_HC[:known, channel]).mean())
        decimals = decimals_of(forecast.resolution_C[channel] * _COARSER)
        last, *cells = (f"{figure:,.{decimals}f}" for figure in (history_T[-1], *figures))
        ends = [(band.low_HC[-1, channel], band.high_HC[-1, channel]) for band in bands]
        shown = [f"{low:,.{decimals}f} to\n{high:,.{decimals}f}" if np.isfinite(low) else "-" for low, high in ends]
        place = len(headings)
        cells[place:place] = shown
        table.add_row(as_is(name), last, _sparkline(history_T, values_H, half), *cells)
    rest = len(forecast.columns) - _MOST_CHANNELS
    return Group(table, Text(f"and {rest} more channels", style="dim")) if rest > 0 else table


def draw_bars(values: Floats, lowest: float, highest: float, width: int) -> str:
    """At most `width` block characters; each stands for the mean of an equal share of the values."""
    shares = np.array_split(values, min(width, len(values)))
    span = highest - lowest
    heights = [(share.mean() - lowest) / span if span > 0 else 0.5 for share in shares]
    return "".join(_BARS[min(int(height * len(_BARS)), len(_BARS) - 1)] for height in heights)


def _sparkline(history_T: Floats, values_H: Floats, half: int) -> Text:
    """History dim, forecast bright, `half` characters each; as many rows of one as of the other where there are."""
    tail = history_T[-len(values_H) :]
    lowest, highest = min(tail.min(), values_H.min()), max(tail.max(), values_H.max())
    return Text.assemble(
        (draw_bars(tail, lowest, highest, half), "dim"), (draw_bars(values_H, lowest, highest, half), "bold cyan")
    )


def _title(forecast: Forecast) -> str:
    dates, known = forecast.dates, forecast.known_steps
    title = f"Forecast of {format_count(len(dates), 'step')}, {dates[0]} to {dates[-1]}"
    if forecast.summed:
        title = f"Sum of {format_count(forecast.summed, 'step')}, {forecast.first_date} to {dates[-1]}"
    return f"{title}; the input already knows the first {known}" if known else title


MOST_PANELS = 16
_INK, _QUIET, _GRID = "#1f2933", "#7b8794", "#e4e7eb"
_HISTORY, _FORECAST, _ACTUAL = "#52606d", "#d9480f", "#9fb3c8"
_HISTORY_LENGTH = 2.5
"""Length of the history that is shown, as a multiple of the forecast's."""


def plot_forecast(forecast: Forecast, path: Path) -> list[str]:
    """Write the picture to `path` (PNG); returns notes for its reader. Raises OSError from writing."""
    shown = min(len(forecast.columns), MOST_PANELS)
    columns = 1 if shown <= 3 else 2
    rows = -(-shown // columns)
    figure = Figure(figsize=(10 if columns == 1 else 13, 1.1 + 2.4 * rows), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(rows, columns, sharex=True, squeeze=False).flatten()
    notes = [f"the picture shows {shown} of {len(forecast.columns)} channels"] if shown < len(forecast.columns) else []
    for channel, panel in enumerate(panels[:shown]):
        notes += _draw_channel(panel, forecast, channel)
    for panel in panels[shown:]:
        panel.set_visible(False)
    for panel in panels[max(shown - columns, 0) : shown]:
        panel.tick_params(axis="x", labelbottom=True)
    title = f"Forecast of {len(forecast.dates)} steps, {forecast.dates[0]} to {forecast.dates[-1]}"
    figure.suptitle(title, x=0.01, ha="left", fontsize=13, color=_INK, fontfamily=families_for(title) or [LATIN])
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper right", ncols=len(labels), frameon=False, labelcolor=_INK)
    with replacing(path) as file:
        figure.savefig(file, format="png", facecolor="white")
    return notes


def _draw_channel(panel: Axes, forecast: Forecast, channel: int) -> list[str]:
    tail = max(round(_HISTORY_LENGTH * len(forecast.dates_H)), 24)
    history_T, values_H = forecast.history_TC[-tail:, channel], forecast.values_HC[:, channel]
    history_dates_T = forecast.history_dates_T[-tail:]
    # The forecast's line starts at the last known value, so that the two meet.
    dates = np.concatenate([history_dates_T[-1:], forecast.dates_H])
    panel.plot(history_dates_T, history_T, color=_HISTORY, linewidth=1.2, label="history")
    if forecast.known_steps:
        actual = np.concatenate([history_T[-1:], forecast.actual_HC[:, channel]])
        panel.plot(dates, actual, color=_ACTUAL, linewidth=1.6, label="what happened")
    for number, band in enumerate(reversed(forecast.bands)):
        ends = band.low_HC[:, channel], band.high_HC[:, channel]
        style: dict[str, Any] = {"color": _FORECAST, "alpha": 0.14 + 0.06 * number, "linewidth": 0}
        panel.fill_between(forecast.dates_H, *ends, label=f"{band.level} %", **style)
    panel.plot(dates, np.concatenate([history_T[-1:], values_H]), color=_FORECAST, linewidth=1.6, label="forecast")
    panel.axvspan(dates[0], dates[-1], color=_FORECAST, alpha=0.05, linewidth=0)
    panel.axvline(dates[0], color=_QUIET, linewidth=0.8, linestyle=(0, (3, 3)))
    panel.set_xlim(history_dates_T[0], dates[-1])
    return _dress(panel, forecast.columns[channel], channel)


def _dress(panel: Axes, name: str, channel: int) -> list[str]:
    """Title, axes and grid. A name that no font here can draw is replaced by its number among the channels."""
    families = families_for(name)
    title = name if families else f"channel {channel + 1}"
    panel.set_title(title.replace("$", r"\$"), loc="left", fontsize=10, color=_INK, fontfamily=families or [LATIN])
    locator = AutoDateLocator(minticks=4, maxticks=9)
    panel.xaxis.set_major_locator(locator)
    panel.xaxis.set_major_formatter(ConciseDateFormatter(locator))
    panel.yaxis.set_major_locator(MaxNLocator(5))
    panel.grid(axis="y", color=_GRID, linewidth=0.8)
    panel.set_axisbelow(True)
    panel.spines[["top", "right", "left"]].set_visible(False)
    panel.spines["bottom"].set_color(_QUIET)
    panel.tick_params(colors=_QUIET, labelsize=8, length=0)
    return [] if families else [f"no font here can draw '{name}'; its panel is titled '{title}'"]
