"""What `timellm eval` shows: the figures of several forecasters on the same windows, as plain data and as tables."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text


@dataclass(frozen=True)
class ChannelErrors:
    """Errors of one channel: standardised, and in the CSV's units (`raw`)."""

    mse: float
    mae: float
    rmse_raw: float
    mae_raw: float


@dataclass(frozen=True)
class PartErrors:
    """Standardised errors over steps `first` to `last` of the horizon, counted from 1, over all channels."""

    first: int
    last: int
    mse: float
    mae: float


@dataclass(frozen=True)
class Entry:
    """One forecaster. `mse` and `mae` are standardised; the raw ones are None where the channels share no unit.

    `path` is None for a baseline. `steps` has one part for every step of the horizon, `parts` its quarters.
    """

    name: str
    kind: Literal["checkpoint", "baseline"]
    explanation: str
    path: str | None
    mse: float
    mae: float
    rmse_raw: float | None
    mae_raw: float | None
    channels: dict[str, ChannelErrors]
    parts: tuple[PartErrors, ...]
    steps: tuple[PartErrors, ...]


@dataclass(frozen=True)
class Comparison:
    """Several forecasters on the same windows of a split, checkpoints first. `notes` are sentences for the reader."""

    data: str
    split: str
    windows: int
    samples: int
    pred_len: int
    window_stride: int
    channels: tuple[str, ...]
    entries: tuple[Entry, ...]
    notes: tuple[str, ...]

    @property
    def best(self) -> Entry:
        """The entry of lowest MSE."""
        return min(self.entries, key=lambda entry: entry.mse)

    @property
    def best_checkpoint(self) -> Entry:
        """The checkpoint of lowest MSE."""
        return min((entry for entry in self.entries if entry.kind == "checkpoint"), key=lambda entry: entry.mse)

    @property
    def best_baseline(self) -> Entry:
        """The baseline of lowest MSE."""
        return min((entry for entry in self.entries if entry.kind == "baseline"), key=lambda entry: entry.mse)


def render(comparison: Comparison) -> RenderableType:
    """The whole report of a comparison for a terminal."""
    return Group(*_blocks(comparison))


def _blocks(comparison: Comparison) -> Iterator[RenderableType]:
    channels = len(comparison.channels)
    yield Text.assemble(
        (f"{comparison.data}, {comparison.split} split: ", "bold"),
        f"{comparison.windows:,} windows x {channels} channel{'s' * (channels != 1)} = {comparison.samples:,} samples, "
        f"{comparison.pred_len} steps each",
    )
    yield _models(comparison)
    yield Text(_verdict(comparison))
    for note in comparison.notes:
        yield Text(f"note: {note}", style="yellow")
    if channels > 1:
        yield _by_channel(comparison)
    if comparison.pred_len > 1:
        yield _by_part(comparison)


def _models(comparison: Comparison) -> Table:
    table = _table("errors, standardised" if comparison.best.mae_raw is None else "errors")
    has_raw = comparison.best.mae_raw is not None
    table.add_column("model", overflow="fold")
    for heading in ("MSE", "MAE", *(("RMSE (CSV's units)", "MAE (CSV's units)") if has_raw else ())):
        table.add_column(heading, justify="right")
    table.add_column("MSE against\nbest baseline", justify="right")
    table.add_column("")
    lowest_mae = min(entry.mae for entry in comparison.entries)
    for position, entry in enumerate(comparison.entries):
        is_best = entry is comparison.best
        name = Text.assemble(
            (entry.name, "bold" if entry.kind == "checkpoint" else ""), "\n", (entry.explanation, "dim")
        )
        cells = [_figure(entry.mse, is_best), _figure(entry.mae, entry.mae == lowest_mae)]
        if entry.rmse_raw is not None and entry.mae_raw is not None:
            cells += [Text(f"{entry.rmse_raw:.4g}"), Text(f"{entry.mae_raw:.4g}")]
        last_of_kind = [later.kind for later in comparison.entries[position + 1 : position + 2]] != [entry.kind]
        table.add_row(
            name,
            *cells,
            _relative(entry.mse, comparison.best_baseline.mse),
            Text("best", style="bold green") if is_best else "",
            end_section=last_of_kind,
        )
    return table


def _by_channel(comparison: Comparison) -> Table:
    entry, baseline = comparison.best_checkpoint, comparison.best_baseline
    table = _table(f"{entry.name}, by channel")
    table.add_column("channel", overflow="fold")
    for heading in ("MSE", "MAE", f"MSE of\n{baseline.name}", "RMSE\n(CSV's units)", "MAE\n(CSV's units)"):
        table.add_column(heading, justify="right")
    for name, errors in entry.channels.items():
        other = baseline.channels[name].mse
        table.add_row(
            Text(name),
            _figure(errors.mse, errors.mse < other),
            f"{errors.mae:.4f}",
            _figure(other, other < errors.mse),
            f"{errors.rmse_raw:.4g}",
            f"{errors.mae_raw:.4g}",
        )
    return table


def _by_part(comparison: Comparison) -> Table:
    entry, baseline = comparison.best_checkpoint, comparison.best_baseline
    table = _table(f"{entry.name}, by part of the horizon")
    table.add_column("steps")
    for heading in ("MSE", "MAE", f"MSE of\n{baseline.name}"):
        table.add_column(heading, justify="right")
    for part, other in zip(entry.parts, baseline.parts, strict=True):
        steps = f"{part.first} to {part.last}" if part.last > part.first else f"{part.first}"
        table.add_row(
            steps, _figure(part.mse, part.mse < other.mse), f"{part.mae:.4f}", _figure(other.mse, other.mse < part.mse)
        )
    return table


def _verdict(comparison: Comparison) -> str:
    entry, baseline = comparison.best_checkpoint, comparison.best_baseline
    if entry.mse == baseline.mse:
        return f"{entry.name} and the {baseline.name} baseline have the same MSE."
    better = entry.mse < baseline.mse
    return (
        f"{entry.name} has a {abs(1 - entry.mse / baseline.mse):.1%} {'lower' if better else 'higher'} MSE than the best "
        f"baseline, {baseline.name}."
        if baseline.mse > 0
        else f"The {baseline.name} baseline makes no error on these windows."
    )


def _table(title: str) -> Table:
    return Table(title=title, title_justify="left", title_style="bold")


def _figure(value: float, is_best: bool) -> Text:
    return Text(f"{value:.4f}", style="bold green" if is_best else "")


def _relative(value: float, reference: float) -> str:
    return f"{value / reference - 1:+.1%}" if reference > 0 else "-"
