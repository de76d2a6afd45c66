"""The scores of a forecast against what happened, as `timellm eval --against` prints them."""

from collections.abc import Iterator

from rich.console import RenderableType, group
from rich.text import Text

from timellm_cli.console import as_is
from timellm_cli.evaluation.against import AgainstActual
from timellm_cli.evaluation.metrics import Metrics
from timellm_cli.report.metric_tables import optional_figure, raw_figure
from timellm_cli.report.tables import titled_table
from timellm_cli.units import format_count

_MOST_CHANNELS = 40


@group()
def render_against(
    scores: AgainstActual, forecast: str, actual: str, *, with_metrics: bool = False
) -> Iterator[RenderableType]:
    """A line for each channel and their mean, what the bands held, and what could not be scored."""
    table = titled_table(f"{forecast} against {actual}, in CSV units")
    table.add_column("channel", overflow="fold")
    further = ("RMSE", "sMAPE\n%", "WQL", "MSE,\nstandard-\nised", "MAE,\nstandard-\nised") if with_metrics else ()
    for heading in ("values", "MSE", "MAE", "MASE", *further):
        table.add_column(heading, justify="right")
    shown = scores.channels[:_MOST_CHANNELS]
    for one in shown:
        cells = _cells(one.metrics, one.mse, one.mae, with_metrics)
        table.add_row(as_is(one.name), f"{one.values:,}", *cells, end_section=one is shown[-1])
    if len(scores.channels) > 1:
        values = sum(one.values for one in scores.channels)
        table.add_row("mean", f"{values:,}", *_cells(scores.mean, scores.mse, scores.mae, with_metrics))
    yield table
    if len(scores.channels) > len(shown):
        yield Text(f"and {len(scores.channels) - len(shown):,} more: --json has them all", style="dim")
    for level, share in scores.coverage.items():
        yield Text(f"{level} % bands held {share:.1f} % of the values")
    if scores.mean.mase is not None:
        yield Text(f"MASE: against repeating the value {format_count(scores.season, 'row')} before", style="dim")
    if scores.absent:
        yield Text(f"note: {scores.absent:,} values have no actual value and are not scored", style="yellow")


def _cells(metrics: Metrics, mse: float | None, mae: float | None, with_metrics: bool) -> list[str]:
    cells = [raw_figure(metrics.mse_raw), raw_figure(metrics.mae_raw), optional_figure(metrics.mase)]
    if with_metrics:
        smape = "-" if metrics.smape is None else f"{metrics.smape:.1f}"
        cells += [raw_figure(metrics.rmse_raw), smape, *map(optional_figure, (metrics.wql_raw, mse, mae))]
    return cells
