"""`eval --report`: one HTML file that needs nothing else, neither network nor scripts."""

import math
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from timellm_cli import __version__
from timellm_cli.config import FIELDS
from timellm_cli.errors import visible
from timellm_cli.evaluation.arms import ARMS, PARTS
from timellm_cli.evaluation.bands import USUAL_LEVELS
from timellm_cli.evaluation.evaluated import Evaluated, LeaderboardEntry
from timellm_cli.evaluation.leaderboard import Leaderboard
from timellm_cli.evaluation.verdict import Verdict
from timellm_cli.files import replacing
from timellm_cli.report.charts import (
    coverage_chart,
    event_chart,
    example_chart,
    horizon_chart,
    loss_chart,
    style_models,
)
from timellm_cli.report.metric_tables import optional_figure
from timellm_cli.report.tables import describe_samples
from timellm_cli.report.train_summary import memory_line, quote
from timellm_cli.training.records import MemoryMeasured
from timellm_cli.units import format_change, format_figure, format_memory


def write_report(path: Path, leaderboard: Leaderboard, checkpoints: Sequence[Evaluated], command: str) -> None:
    """Write the page. An old file at `path` is replaced in one move. Raises OSError if the disk fails."""
    text = render_report(leaderboard, checkpoints, command)
    with replacing(path) as file:
        file.write(text.encode("utf-8"))


def render_report(leaderboard: Leaderboard, checkpoints: Sequence[Evaluated], command: str) -> str:
    """The page as text. `command` is the command line that repeats the evaluation."""
    layout: dict[str, Any] = {"trim_blocks": True, "lstrip_blocks": True}
    loader = FileSystemLoader(Path(__file__).parent)
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, finalize=_without_controls, **layout
    )
    by_path = {str(one.path): one for one in checkpoints}
    best = leaderboard.best_model
    shown = by_path[_middle_run(best)]
    return environment.get_template("report.html.jinja").render(
        leaderboard=leaderboard,
        shown_channels=_shown_channels(leaderboard),
        samples=describe_samples(leaderboard.windows, leaderboard.samples, leaderboard.series),
        best=best,
        baseline=leaderboard.best_baseline,
        config=shown.config,
        interval_of=_interval,
        figure_of=format_figure,
        mase=lambda entry: optional_figure(entry.metrics.mase if entry.metrics else None),
        highest=_highest(leaderboard),
        horizon=horizon_chart(leaderboard),
        coverage=coverage_chart(leaderboard),
        arm_names=ARMS,
        part_names=PARTS,
        usual_coverage=[one for one in best.coverage if one.level in USUAL_LEVELS],
        examples=[(example, example_chart(example)) for example in shown.examples],
        examples_of=next(run for run in best.runs if run.path == str(shown.path)),
        event=_event(leaderboard, by_path),
        trainings=[_training(entry, [by_path[run.path] for run in entry.runs]) for entry in leaderboard.models],
        settings=_settings(leaderboard, by_path),
        commands=[*(_repeat(one.path) for one in checkpoints if one.training_log), command],
        today=date.today().isoformat(),
        version=__version__,
        strip=_strip(leaderboard),
        relative=lambda value: format_change(value, leaderboard.best_baseline.mse),
    )


def _without_controls(value: Any) -> Any:
    """A text as `visible` shows it; what is HTML already (a subclass of str) stays."""
    return visible(value) if type(value) is str else value


def _middle_run(entry: LeaderboardEntry) -> str:
    """The path of the seed with the median MSE, the lower of two."""
    ordered = sorted(entry.runs, key=lambda run: run.mse)
    return ordered[(len(ordered) - 1) // 2].path


def _event(leaderboard: Leaderboard, checkpoints: Mapping[str, Evaluated]) -> dict[str, Any] | None:
    """The day with an event of the best model that has one, and its chart; None where no model reads such a day."""
    for entry in sorted(leaderboard.models, key=lambda one: one.rank):
        run = checkpoints[_middle_run(entry)]
        if (day := run.event_day) is not None:
            change = format_change(day.mae, day.mae_without) if day.mae_without else ""
            return {"day": day, "chart": event_chart(day), "name": run.name, "change": change}
    return None


def _training(entry: LeaderboardEntry, seeds: Sequence[Evaluated]) -> dict[str, Any]:
    """The losses of every seed of a model, and the memory of the first seed with a record of it."""
    train = seeds[0].config.train
    records = [
        MemoryMeasured(**{key: value for key, value in line.items() if key != "event"})
        for seed in seeds
        for line in seed.training_log
        if line["event"] == "memory"
    ]
    return {
        "name": entry.name,
        "loss": f"{train.loss.upper()}, standardised units",
        "chart": loss_chart([seed.training_log for seed in seeds]),
        "memory": _memory(records[0]) if records else None,
    }


def _memory(record: MemoryMeasured) -> dict[str, Any]:
    """Predicted and measured memory as bars and as a sentence, and the parts of the memory bill, largest first."""
    sizes = {"predicted": record.predicted, "measured": record.reserved}
    known = {name: size for name, size in sizes.items() if size}
    parts = sorted(record.parts.items(), key=lambda part: -part[1])
    return {
        "device": record.device,
        "line": memory_line(record),
        "bars": [(name, 100 * size / max(known.values()), format_memory(size)) for name, size in known.items()],
        "parts": [(key.replace("_", " "), format_memory(size)) for key, size in parts],
    }


def _interval(verdict: Verdict) -> dict[str, Any] | None:
    """A difference and its 95 % interval as positions on a track, in percent of its width; zero is at 50."""
    difference = verdict.difference
    if difference is None or difference.low is None or difference.high is None or not difference.mean:
        return None
    reach = 1.15 * max(abs(difference.low), abs(difference.high))
    low, at, high = (50 + 50 * value / reach for value in (difference.low, difference.mean, difference.high))
    scale = difference.relative / difference.mean
    ends = f"{difference.low * scale:+.1%} to {difference.high * scale:+.1%}"
    return {"at": at, "low": low, "high": high, "label": f"MSE {difference.relative:+.1%}, 95% interval {ends}"}


def _strip(leaderboard: Leaderboard) -> dict[str, Any] | None:
    """The MSE of every seed and of the best baseline as positions on one track. None if no model has several seeds."""
    if all(len(entry.runs) < 2 for entry in leaderboard.models):
        return None
    baseline = leaderboard.best_baseline.mse
    values = [baseline, *(run.mse for entry in leaderboard.models for run in entry.runs if math.isfinite(run.mse))]
    low, high = min(values), max(values)

    def position(value: float) -> float:
        return round(4 + 92 * (value - low) / (high - low), 2) if high > low else 50.0

    styles = {entry.name: style for entry, style in style_models(leaderboard)}
    models = []
    for entry in leaderboard.models:
        positions = [position(run.mse) for run in entry.runs if math.isfinite(run.mse)]
        models.append((entry.name, styles.get(entry.name, "baseline"), positions))
    return {"models": models, "baseline": position(baseline), "low": low, "high": high}


_MOST_SERIES = 500


def _shown_channels(leaderboard: Leaderboard) -> list[str]:
    """All channels of a table; of a panel the series with the highest MSE, those first."""
    channels = leaderboard.best_model.channels
    if leaderboard.series is None:
        return list(channels)
    known = [name for name, errors in channels.items() if math.isfinite(errors.mse)]
    return sorted(known, key=lambda name: -channels[name].mse)[:_MOST_SERIES]


def _highest(leaderboard: Leaderboard) -> float:
    """The highest MSE of a channel of the best model or baseline."""
    both = (*leaderboard.best_model.channels.values(), *leaderboard.best_baseline.channels.values())
    return max((errors.mse for errors in both if math.isfinite(errors.mse)), default=0.0) or 1.0


def _settings(leaderboard: Leaderboard, checkpoints: Mapping[str, Evaluated]) -> list[dict[str, Any]]:
    """Every key with its value in each model. `shown`: it differs or is not the default, and names no file."""
    rows = []
    for key in FIELDS:
        models = [[checkpoints[run.path].config.values()[key] for run in entry.runs] for entry in leaderboard.models]
        nothing = "all" if key == "data.columns" else "-"
        texts = [", ".join(dict.fromkeys(_text(value, nothing) for value in values)) for values in models]
        differs = len(set(texts)) > 1
        is_default = all(value == FIELDS[key].default for values in models for value in values)
        shown = not key.startswith("run.") and (differs or not is_default)
        rows.append({"key": key, "values": texts, "shown": shown, "differs": differs})
    return rows


def _text(value: Any, nothing: str) -> str:
    if isinstance(value, tuple):
        return ", ".join(map(str, value)) or nothing
    return "-" if value is None else str(value)


def _repeat(path: Path) -> str:
    config = path.parent / "config.toml"
    name = path.resolve().parent.name
    return f"timellm train --config {quote(config)} --run-name {quote(Path(f'{name}-again'))}"
