"""Tables of `timellm eval` that are shown on demand: all metrics of each line, and the folds of a backtest."""

from collections.abc import Iterator
from statistics import mean, stdev

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from timellm_cli.console import as_is
from timellm_cli.evaluation.evaluated import LeaderboardEntry
from timellm_cli.evaluation.leaderboard import Leaderboard
from timellm_cli.evaluation.spaced import SpacedTable
from timellm_cli.report.tables import titled_table
from timellm_cli.units import format_figure


def entry_name(entry: LeaderboardEntry, style: str = "") -> Text:
    """A run's own name as it is, or a baseline's."""
    return as_is(entry.name, style) if entry.runs else Text(entry.name)


def optional_figure(value: float | None) -> str:
    """A figure without a unit; '-' where there is none."""
    return "-" if value is None else f"{value:.4f}"


def raw_figure(value: float | None) -> str:
    """A figure in the units of the CSV; '-' where there is none."""
    return "-" if value is None else format_figure(value)


def render_metrics(leaderboard: Leaderboard) -> Table:
    """RMSE and WQL in standardised units, sMAPE, and what has the CSV's units."""
    several = "" if len(leaderboard.channels) == 1 else ", means of the channels"
    table = titled_table(f"further metrics; in CSV units{several}, on the right")
    table.add_column("model", overflow="fold")
    for heading in ("RMSE", "WQL", "sMAPE\n%", "CSV:\nMSE", "MAE", "RMSE", "WQL"):
        table.add_column(heading, justify="right")
    for entry in leaderboard.entries:
        if (one := entry.metrics) is None:
            continue
        table.add_row(
            entry_name(entry),
            optional_figure(one.rmse),
            optional_figure(one.wql),
            "-" if one.smape is None else f"{one.smape:.1f}",
            *map(raw_figure, (one.mse_raw, one.mae_raw, one.rmse_raw)),
            optional_figure(one.wql_raw),
            end_section=entry is leaderboard.models[-1],
        )
    return table


def render_folds(leaderboard: Leaderboard) -> Table:
    """The MSE of every line on every fold, and its mean and deviation over the folds."""
    table = titled_table("MSE by fold, standardised; each fold with the first day of its scored rows")
    table.add_column("model", overflow="fold")
    for rows in leaderboard.folds:
        table.add_column(f"fold {rows.fold}\n{rows.first[:10]}", justify="right")
    for heading in ("mean", "devi-\nation"):
        table.add_column(heading, justify="right")
    for entry in leaderboard.entries:
        if values := [one.mse for one in entry.folds]:
            cells = [f"{value:.4f}" for value in (*values, mean(values), stdev(values))]
            table.add_row(entry_name(entry), *cells, end_section=entry is leaderboard.models[-1])
    return table


def render_spaced(spaced: SpacedTable) -> Iterator[RenderableType]:
    """All lines on the windows of the slow baselines, the lowest MSE first, and what was left out."""
    title = f"on {spaced.origins:,} evenly spaced windows of each channel, {spaced.windows:,} in all, standardised"
    table = titled_table(title)
    table.add_column("model", overflow="fold")
    for heading in ("MSE", "MAE", "MASE"):
        table.add_column(heading, justify="right")
    levels = next((list(line.held) for line in spaced.lines if line.held), [])
    for heading in ("WQL", *(f"{level} % bands\nheld, %" for level in levels)) if levels else ():
        table.add_column(heading, justify="right")
    for line in sorted(spaced.lines, key=lambda line: line.mse):
        cells = [f"{line.mse:.4f}", f"{line.mae:.4f}", optional_figure(line.mase)]
        if levels:
            held = (f"{line.held[level]:.1f}" if level in line.held else "-" for level in levels)
            cells += [optional_figure(line.wql), *held]
        table.add_row(Text(line.name), *cells)
    yield table
    for name, reason in spaced.left_out.items():
        yield Text(f"note: {name} is left out, its time ran out: {reason} (--baseline-minutes)", style="yellow")
    for name, count in spaced.failed.items():
        yield Text(
            f"note: {name} could not be fitted on {count:,} windows; there it repeats the last value", style="yellow"
        )
