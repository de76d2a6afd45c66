"""A picture of history and forecast: one panel a channel, dates below, the CSV's units at the side."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from timellm_cli.files import replacing
from timellm_cli.report.fonts import LATIN, families_for
from timellm_cli.report.forecast import Forecast

MOST_PANELS = 16
_INK, _QUIET, _GRID = "#1f2933", "#7b8794", "#e4e7eb"
_HISTORY, _FORECAST, _ACTUAL = "#52606d", "#d9480f", "#9fb3c8"
_TAIL = 2.5
"""History shown, in lengths of the forecast."""


def plot_forecast(forecast: Forecast, path: Path) -> list[str]:
    """Write the picture to `path` (PNG); returns what a reader should know of it. Raises OSError from writing."""
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
    tail = max(round(_TAIL * len(forecast.dates_H)), 24)
    history_T, values_H = forecast.history_TC[-tail:, channel], forecast.values_HC[:, channel]
    history_dates_T = forecast.history_dates_T[-tail:]
    # The forecast's line starts at the last known value, so that the two meet.
    dates = np.concatenate([history_dates_T[-1:], forecast.dates_H])
    panel.plot(history_dates_T, history_T, color=_HISTORY, linewidth=1.2, label="history")
    if forecast.known_steps:
        actual = np.concatenate([history_T[-1:], forecast.actual_HC[:, channel]])
        panel.plot(dates, actual, color=_ACTUAL, linewidth=1.6, label="what happened")
    for band, strength in zip(reversed(forecast.bands), _strengths(len(forecast.bands)), strict=True):
        low_H, high_H = band.low_HC[:, channel], band.high_HC[:, channel]
        panel.fill_between(
            forecast.dates_H, low_H, high_H, color=_FORECAST, alpha=strength, linewidth=0, label=f"{band.level} %"
        )
    panel.plot(dates, np.concatenate([history_T[-1:], values_H]), color=_FORECAST, linewidth=1.6, label="forecast")
    panel.axvspan(dates[0], dates[-1], color=_FORECAST, alpha=0.05, linewidth=0)
    panel.axvline(dates[0], color=_QUIET, linewidth=0.8, linestyle=(0, (3, 3)))
    panel.set_xlim(history_dates_T[0], dates[-1])
    return _dress(panel, forecast.columns[channel], channel)


def _strengths(bands: int) -> list[float]:
    """How opaque each band is, widest first: where several lie on each other, they add up."""
    return [0.14 + 0.06 * place for place in range(bands)]


def _dress(panel: Axes, name: str, channel: int) -> list[str]:
    """Title, axes and grid. A name that no font here can draw is replaced by its place among the channels."""
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
