"""A forecast in a few lines for the terminal: one row a channel, with a sparkline of history and forecast."""

import numpy as np
from rich.console import Group, RenderableType
from rich.text import Text

from timellm_cli.data.scale import Floats
from timellm_cli.report.forecast import Forecast, decimals_of
from timellm_cli.report.tables import titled_table
from timellm_cli.units import format_count

_BARS = "▁▂▃▄▅▆▇█"
_MOST_CHANNELS = 20
_COARSER = 1000
"""The table shows steps so many times the resolution of the CSV file."""
_NARROW = 100
"""Columns of a terminal below which the sparklines are short."""


def render(forecast: Forecast, width: int) -> RenderableType:
    """Each channel's last value, its sparkline, its first and last step and range; values in the CSV's units.

    `width` is that of the terminal, in characters.
    """
    is_narrow = width < _NARROW
    half = 10 if is_narrow else 20
    table = titled_table(_title(forecast))
    table.add_column("channel", overflow="fold")
    table.add_column("last\nknown", justify="right", no_wrap=True)
    table.add_column("history and\nforecast", no_wrap=True)
    headings = ["first\nstep", "last\nstep", *(() if is_narrow else ("lowest", "highest"))]
    known = forecast.known_steps
    for heading in [*headings, *(("MAE where\nknown",) if known else ())]:
        table.add_column(heading, justify="right", no_wrap=True)
    for channel, name in enumerate(forecast.columns[:_MOST_CHANNELS]):
        history_T, values_H = forecast.history_TC[:, channel], forecast.values_HC[:, channel]
        figures = [values_H[0], values_H[-1], *(() if is_narrow else (values_H.min(), values_H.max()))]
        if known:
            figures.append(np.abs(values_H[:known] - forecast.actual_HC[:known, channel]).mean())
        places = decimals_of(forecast.resolution_C[channel] * _COARSER)
        last, *cells = (f"{figure:,.{places}f}" for figure in (history_T[-1], *figures))
        table.add_row(Text(name), last, _sparkline(history_T, values_H, half), *cells)
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
    return f"{title}; the input already knows the first {known}" if known else title
