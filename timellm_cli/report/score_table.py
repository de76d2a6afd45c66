"""What `timellm eval` shows on a terminal."""

from collections.abc import Iterator, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from timellm_cli.evaluation.bands import USUAL_LEVELS, Coverage
from timellm_cli.evaluation.evaluated import ChannelErrors, PartErrors
from timellm_cli.evaluation.leaderboard import Comparison
from timellm_cli.report.tables import titled_table
from timellm_cli.units import format_change, format_count

_RAW = ("MSE in\nCSV units", "MAE in\nCSV units")
_MOST_CHANNELS = 40


def render(comparison: Comparison) -> RenderableType:
    """The whole report of a comparison for a terminal."""
    return Group(*_blocks(comparison))


def _blocks(comparison: Comparison) -> Iterator[RenderableType]:
    channels = len(comparison.channels)
    yield Text.assemble(
        (f"{comparison.data}, {comparison.split} split: ", "bold"),
        f"{comparison.windows:,} windows x {format_count(channels, 'channel')} = {comparison.samples:,} samples, "
        f"{format_count(comparison.pred_len, 'step')} each",
    )
    yield _models(comparison)
    for verdict in comparison.verdicts:
        yield Text(str(verdict))
    for entry in comparison.models:
        if entry.coverage:
            yield Text(f"{entry.name}: {_coverage(entry.coverage)}")
    for note in comparison.notes:
        yield Text(f"note: {note}", style="yellow")
    if channels > 1:
        yield _by_channel(comparison)
        if channels > _MOST_CHANNELS:
            yield Text(f"and {channels - _MOST_CHANNELS} more channels: --json has them all", style="dim")
    if comparison.pred_len > 1:
        yield _by_part(comparison)


def _models(comparison: Comparison) -> Table:
    table = titled_table("errors, standardised" if comparison.best.mae_raw is None else "errors")
    has_raw = comparison.best.mae_raw is not None
    table.add_column("model", overflow="fold")
    _add_figures(table, ("MSE", "MAE", *(_RAW if has_raw else ())))
    _add_figures(table, ("MSE against\nbest baseline", ""))
    lowest_mae = min(entry.mae for entry in comparison.entries)
    for entry in comparison.entries:
        is_best = entry is comparison.best
        cells = [
            _figure(entry.mse, is_best, entry.mse_std),
            _figure(entry.mae, entry.mae == lowest_mae, entry.mae_std),
        ]
        if entry.mse_raw is not None and entry.mae_raw is not None:
            cells += [Text(f"{entry.mse_raw:.4g}"), Text(f"{entry.mae_raw:.4g}")]
        table.add_row(
            Text.assemble((entry.name, "bold" if entry.runs else ""), "\n", (entry.explanation, "dim")),
            *cells,
            "" if entry is comparison.best_baseline else format_change(entry.mse, comparison.best_baseline.mse),
            Text("best", style="bold green") if is_best else "",
            end_section=entry is comparison.models[-1] or entry is comparison.entries[-1],
        )
    for method in comparison.published:
        table.add_row(
            Text.assemble(method.name, "\n", (method.source, "dim")),
            f"{method.mse:.3f}",
            f"{method.mae:.3f}",
            format_change(method.mse, comparison.best_baseline.mse),
            Text("published", style="dim"),
        )
    return table


def _coverage(coverages: Sequence[Coverage]) -> str:
    """The bands of the levels that are asked for most, or else of all there are."""
    shown = [one for one in coverages if one.level in USUAL_LEVELS] or coverages
    return "; ".join(
        f"{one.level} % bands held {one.coverage:.1f} % of the values, mean width {one.width:.2f}" for one in shown
    )


def _by_channel(comparison: Comparison) -> Table:
    entry, baseline = comparison.best_model, comparison.best_baseline
    table = titled_table(f"{entry.name}, by channel")
    table.add_column("channel", overflow="fold")
    _add_figures(table, ("MSE", "MAE", f"MSE of\n{baseline.name}", *_RAW))
    for name, errors in list(entry.channels.items())[:_MOST_CHANNELS]:
        table.add_row(
            Text(name),
            *_side_by_side(errors, baseline.channels[name]),
            f"{errors.mse_raw:.4g}",
            f"{errors.mae_raw:.4g}",
        )
    return table


def _by_part(comparison: Comparison) -> Table:
    entry, baseline = comparison.best_model, comparison.best_baseline
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
    """Our MSE and MAE and their MSE, the lower MSE marked."""
    return _figure(ours.mse, ours.mse < theirs.mse), f"{ours.mae:.4f}", _figure(theirs.mse, theirs.mse < ours.mse)


def _figure(value: float, is_best: bool, spread: float | None = None) -> Text:
    text = Text(f"{value:.4f}", style="bold green" if is_best else "")
    return text if spread is None else Text.assemble(text, (f"\n± {spread:.4f}", "dim"))
