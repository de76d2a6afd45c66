"""The leaderboard as `timellm eval` prints it on a terminal."""

from collections.abc import Iterator, Sequence
from math import isfinite

from rich.console import RenderableType, group
from rich.table import Table
from rich.text import Text

from timellm_cli.evaluation.bands import USUAL_LEVELS, Coverage
from timellm_cli.evaluation.leaderboard import Leaderboard
from timellm_cli.evaluation.score import ChannelErrors, PartErrors
from timellm_cli.report.tables import titled_table
from timellm_cli.units import format_change, format_count, format_figure

_RAW = ("MSE in\nCSV units", "MAE in\nCSV units")
_MOST_CHANNELS = 40


@group()
def render(leaderboard: Leaderboard) -> Iterator[RenderableType]:
    """The leaderboard with its verdicts, notes and tables."""
    channels = len(leaderboard.channels)
    yield Text.assemble(
        (f"{leaderboard.data}, {leaderboard.split} split: ", "bold"),
        f"{leaderboard.windows:,} windows x {format_count(channels, 'channel')} = {leaderboard.samples:,} samples, "
        f"{format_count(leaderboard.pred_len, 'step')} each",
    )
    yield _models(leaderboard)
    for verdict in leaderboard.verdicts:
        yield Text(str(verdict))
    for entry in leaderboard.models:
        if entry.coverage:
            yield Text(f"{entry.name}: {_coverage(entry.coverage)}")
    for note in leaderboard.notes:
        yield Text(f"note: {note}", style="yellow")
    if channels > 1:
        yield _by_channel(leaderboard)
        if channels > _MOST_CHANNELS:
            yield Text(f"and {channels - _MOST_CHANNELS} more channels: --json has them all", style="dim")
    if leaderboard.pred_len > 1:
        yield _by_part(leaderboard)


def _models(leaderboard: Leaderboard) -> Table:
    has_raw = leaderboard.best.mae_raw is not None
    table = titled_table("errors" if has_raw else "errors, standardised")
    table.add_column("model", overflow="fold")
    _add_figures(table, ("MSE", "MAE", *(_RAW if has_raw else ())))
    _add_figures(table, ("MSE against\nbest baseline", ""))
    best = [entry for entry in leaderboard.entries if _shown(entry.mse) == _shown(leaderboard.best.mse)]
    lowest_mae = min((_shown(entry.mae) for entry in leaderboard.entries if isfinite(entry.mae)), default=0.0)
    for entry in leaderboard.entries:
        is_best = entry in best
        cells = [
            _figure(entry.mse, is_best, entry.mse_std),
            _figure(entry.mae, _shown(entry.mae) == lowest_mae, entry.mae_std),
        ]
        if entry.mse_raw is not None and entry.mae_raw is not None:
            cells += [Text(format_figure(entry.mse_raw)), Text(format_figure(entry.mae_raw))]
        table.add_row(
            Text.assemble((entry.name, "bold" if entry.runs else ""), "\n", (entry.explanation, "dim")),
            *cells,
            "" if entry is leaderboard.best_baseline else format_change(entry.mse, leaderboard.best_baseline.mse),
            Text("best" if len(best) == 1 else "equal", style="bold green") if is_best else "",
            end_section=entry is leaderboard.models[-1] or entry is leaderboard.entries[-1],
        )
    for method in leaderboard.published:
        table.add_row(
            Text.assemble(method.name, "\n", (method.source, "dim")),
            f"{method.mse:.3f}",
            f"{method.mae:.3f}",
            format_change(method.mse, leaderboard.best_baseline.mse),
            Text("published", style="dim"),
        )
    return table


def _coverage(coverages: Sequence[Coverage]) -> str:
    """The coverage of the usual levels, or of all levels if there are none of these."""
    shown = [one for one in coverages if one.level in USUAL_LEVELS] or coverages
    return "; ".join(
        f"{one.level} % bands held {one.coverage:.1f} ± {one.error:.1f} % of the values, mean width {one.width:.2f}"
        for one in shown
    )


def _by_channel(leaderboard: Leaderboard) -> Table:
    entry, baseline = leaderboard.best_model, leaderboard.best_baseline
    table = titled_table(f"{entry.name}, by channel")
    table.add_column("channel", overflow="fold")
    _add_figures(table, ("MSE", "MAE", f"MSE of\n{baseline.name}", *_RAW))
    for name, errors in list(entry.channels.items())[:_MOST_CHANNELS]:
        table.add_row(
            Text(name),
            *_side_by_side(errors, baseline.channels[name]),
            format_figure(errors.mse_raw),
            format_figure(errors.mae_raw),
        )
    return table


def _by_part(leaderboard: Leaderboard) -> Table:
    entry, baseline = leaderboard.best_model, leaderboard.best_baseline
    table = titled_table(f"{entry.name}, by part of the horizon")
    table.add_column("steps")
    _add_figures(table, ("MSE", "MAE", f"MSE of\n{baseline.name}"))
    for part, other in zip(entry.parts, baseline.parts, strict=True):
        steps = f"{part.first} to {part.last}" if part.last > part.first else f"{part.first}"
        table.add_row(steps, *_side_by_side(part, other))
    return table


def _add_figures(table: Table, headings: Sequence[str]) -> None:
    for heading in headings:
        table.add_column(heading, justify="right")


def _side_by_side(ours: ChannelErrors | PartErrors, theirs: ChannelErrors | PartErrors) -> tuple[Text, str, Text]:
    """Our MSE and MAE, and their MSE; the lower MSE is marked."""
    mine, other = _shown(ours.mse), _shown(theirs.mse)
    return _figure(ours.mse, mine < other), f"{ours.mae:.4f}", _figure(theirs.mse, other < mine)


def _shown(value: float) -> float:
    """A figure as precise as it is shown: what looks equal is not called better."""
    return round(value, 4)


def _figure(value: float, is_best: bool, spread: float | None = None) -> Text:
    text = Text(f"{value:.4f}", style="bold green" if is_best else "")
    return text if spread is None else Text.assemble(text, (f"\n± {spread:.4f}", "dim"))
