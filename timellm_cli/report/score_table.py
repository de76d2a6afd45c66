"""The leaderboard as `timellm eval` prints it on a terminal."""

from collections.abc import Iterator, Sequence
from math import isfinite

from rich.console import RenderableType, group
from rich.table import Table
from rich.text import Text

from timellm_cli.console import as_is, translated
from timellm_cli.evaluation.bands import USUAL_LEVELS
from timellm_cli.evaluation.coverage import Coverage
from timellm_cli.evaluation.leaderboard import Leaderboard
from timellm_cli.evaluation.score import ChannelErrors, PartErrors
from timellm_cli.report.arms_table import render_arms
from timellm_cli.report.metric_tables import entry_name, optional_figure, render_folds, render_metrics, render_spaced
from timellm_cli.report.tables import describe_samples, titled_table
from timellm_cli.units import format_change, format_count, format_figure

_RAW = ("MSE in\nCSV units", "MAE in\nCSV units")
_MOST_CHANNELS = 40
_WORST = 10


@group()
def render(leaderboard: Leaderboard, with_metrics: bool = False) -> Iterator[RenderableType]:
    """The leaderboard with its verdicts, notes and tables, and with a table of all metrics where that is wanted."""
    channels = len(leaderboard.channels)
    yield Text.assemble(
        (f"{leaderboard.data}, {leaderboard.split} split: ", "bold"),
        f"{describe_samples(leaderboard.windows, leaderboard.samples, leaderboard.series)}, "
        f"{format_count(leaderboard.pred_len, 'step')} each",
    )
    yield _models(leaderboard)
    if with_metrics:
        yield render_metrics(leaderboard)
    if leaderboard.folds:
        yield render_folds(leaderboard)
    if leaderboard.spaced:
        yield from render_spaced(leaderboard.spaced)
    if leaderboard.arms:
        yield render_arms(leaderboard.arms)
    for verdict in leaderboard.verdicts:
        evidence = (" (", (verdict.evidence, "dim"), ")") if verdict.evidence else ()
        yield Text.assemble((verdict.sentence, "none"), *evidence)
    for entry in leaderboard.models:
        yield from (Text(line) for line in _coverage(entry.name, entry.coverage))
    for note in leaderboard.notes:
        yield Text(f"note: {note}", style="yellow")
    if leaderboard.series is not None:
        yield _mean_of_series(leaderboard)
    if channels > 1:
        yield _by_channel(leaderboard)
        shown = _MOST_CHANNELS if leaderboard.series is None else _WORST
        if channels > shown:
            yield Text(f"and {channels - shown:,} more: --json has them all", style="dim")
    if leaderboard.pred_len > 1:
        yield _by_part(leaderboard)


def _models(leaderboard: Leaderboard) -> Table:
    table = titled_table("errors, standardised")
    table.add_column("model", overflow="fold")
    _add_figures(table, ("MSE", "MAE", "MASE"))
    _add_figures(table, ("MSE against\nbest baseline", ""))
    best = [entry for entry in leaderboard.entries if _shown(entry.mse) == _shown(leaderboard.best.mse)]
    lowest_mae = min((_shown(entry.mae) for entry in leaderboard.entries if isfinite(entry.mae)), default=0.0)
    for entry in leaderboard.entries:
        is_best = entry in best
        cells: list[Text | str] = [
            _figure(entry.mse, is_best, entry.mse_std),
            _figure(entry.mae, _shown(entry.mae) == lowest_mae, entry.mae_std),
            optional_figure(entry.metrics.mase if entry.metrics else None),
        ]
        table.add_row(
            Text.assemble(entry_name(entry, "bold" if entry.runs else ""), "\n", (entry.explanation, "dim")),
            *cells,
            "" if entry is leaderboard.best_baseline else format_change(entry.mse, leaderboard.best_baseline.mse),
            Text("best" if len(best) == 1 else "equal", style="bold green") if is_best else "",
            end_section=entry is leaderboard.models[-1] or entry is leaderboard.entries[-1],
        )
    for method in leaderboard.published:
        table.add_row(
            Text.assemble(as_is(method.name), "\n", (method.source, "dim")),
            f"{method.mse:.3f}",
            "-" if method.mae is None else f"{method.mae:.3f}",
            "",
            format_change(method.mse, leaderboard.best_baseline.mse),
            Text("published", style="dim"),
        )
    return table


def _coverage(name: str, coverages: Sequence[Coverage]) -> Iterator[str]:
    """The coverage of the usual levels, or of all levels if there are none of these, a sentence each.

    Without its error where too few windows were scored to know it.
    """
    for one in [one for one in coverages if one.level in USUAL_LEVELS] or coverages:
        held = f"{one.coverage:.1f} ± {one.error:.1f}" if isfinite(one.error) else f"{one.coverage:.1f}"
        yield f"{name}: {one.level} % bands held {held} % of the values, mean width {one.width:.2f}"


def _by_channel(leaderboard: Leaderboard) -> Table:
    """The first channels of a table; of a panel the series with the highest MSE, and what their bands held."""
    entry, baseline = leaderboard.best_model, leaderboard.best_baseline
    channels = list(entry.channels.items())[:_MOST_CHANNELS]
    title = "by channel"
    covered: tuple[Coverage, ...] = ()
    if leaderboard.series is not None:
        known = [item for item in entry.channels.items() if isfinite(item[1].mse)]
        channels = sorted(known, key=lambda item: -item[1].mse)[:_WORST]
        title = f"the {len(channels)} series with the highest MSE"
        covered = tuple(one for one in entry.coverage if one.level in USUAL_LEVELS)
    table = titled_table(f"{entry.name}, {title}")
    table.add_column("channel" if leaderboard.series is None else "series", overflow="fold")
    more = _RAW if leaderboard.series is None else tuple(f"{one.level} % bands\nheld, %" for one in covered)
    _add_figures(table, ("MSE", "MAE", f"MSE of\n{translated(baseline.name)}", *more))
    for name, errors in channels:
        table.add_row(
            as_is(name),
            *_side_by_side(errors, baseline.channels[name]),
            *(() if leaderboard.series is not None else (format_figure(errors.mse_raw), format_figure(errors.mae_raw))),
            *(f"{one.channels[name]:.1f}" for one in covered),
        )
    return table


def _mean_of_series(leaderboard: Leaderboard) -> Text:
    shown = ", ".join(
        f"{translated(entry.name)} {entry.channel_mean[0]:.4f} / {entry.channel_mean[1]:.4f}"
        for entry in leaderboard.entries
    )
    return Text(f"MSE / MAE as the mean of the series, each with the same weight: {shown}")


def _by_part(leaderboard: Leaderboard) -> Table:
    entry, baseline = leaderboard.best_model, leaderboard.best_baseline
    table = titled_table(f"{entry.name}, by part of the horizon")
    table.add_column("steps")
    _add_figures(table, ("MSE", "MAE", f"MSE of\n{translated(baseline.name)}"))
    for part, other in zip(entry.parts, baseline.parts, strict=True):
        steps = f"{part.first:,} to {part.last:,}" if part.last > part.first else f"{part.first}"
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
