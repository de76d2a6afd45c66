"""`eval --report`: one HTML file that needs nothing else, neither network nor scripts."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from timellm_cli import __version__
from timellm_cli.config import FIELDS, Config
from timellm_cli.evaluation.bands import USUAL_LEVELS
from timellm_cli.evaluation.evaluated import Entry
from timellm_cli.evaluation.examples import Example
from timellm_cli.evaluation.leaderboard import Comparison
from timellm_cli.evaluation.verdict import Verdict
from timellm_cli.files import replacing
from timellm_cli.report.charts import coverage_chart, example_chart, horizon_chart, loss_chart, style_models
from timellm_cli.report.train_summary import memory_line, quote
from timellm_cli.training.records import MemoryMeasured
from timellm_cli.units import format_change, format_memory

_BADGES = {
    ("baseline", "lower"): ("good", "beats the best baseline"),
    ("baseline", "higher"): ("bad", "loses to the best baseline"),
    ("baseline", "same"): ("even", "no better than the best baseline"),
    ("baseline", "unknown"): ("open", "one seed"),
    ("LLM", "lower"): ("good", "the LLM helped"),
    ("LLM", "higher"): ("bad", "the LLM hurt"),
    ("LLM", "same"): ("even", "no difference that can be told"),
    ("LLM", "unknown"): ("open", "the LLM is not judged"),
}


_MOST_CHANNELS = 24
"""Channels that have bars; the table below them has every one."""


@dataclass(frozen=True, eq=False)
class RunShown:
    """What the report shows of one checkpoint besides its figures. `metrics` are the lines of its metrics.jsonl.

    There are none of a checkpoint that is not, or not any more, in the folder of its run.
    """

    path: Path
    config: Config
    examples: tuple[Example, ...]
    metrics: list[dict[str, Any]]


@dataclass(frozen=True)
class Interval:
    """A difference and its 95 % interval on a track from worse to better, in per cent of the track's width."""

    at: float
    low: float
    high: float
    label: str


def write_report(path: Path, comparison: Comparison, runs: Sequence[RunShown], command: str) -> None:
    """Write the page; whatever stood at `path` is replaced in one move. Raises OSError where the disk refuses."""
    text = render_report(comparison, runs, command)
    with replacing(path) as file:
        file.write(text.encode("utf-8"))


def render_report(comparison: Comparison, runs: Sequence[RunShown], command: str) -> str:
    """The page as text. `command` is what repeats the evaluation."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    by_path = {str(run.path): run for run in runs}
    best = comparison.best_model
    shown = by_path[_middle_run(best)]
    return environment.get_template("report.html.jinja").render(
        comparison=comparison,
        best=best,
        baseline=comparison.best_baseline,
        config=shown.config,
        verdicts=[
            (verdict, *_BADGES[verdict.about, verdict.outcome], _interval(verdict)) for verdict in comparison.verdicts
        ],
        horizon=horizon_chart(comparison),
        coverage=coverage_chart(comparison),
        usual_coverage=[one for one in best.coverage if one.level in USUAL_LEVELS],
        parts=[f"{part.first} to {part.last}" for part in best.parts],
        channels=_channels(comparison),
        examples=[(example, example_chart(example)) for example in shown.examples],
        examples_of=next(run for run in best.runs if run.path == str(shown.path)),
        trainings=[_training(entry, [by_path[run.path] for run in entry.runs]) for entry in comparison.models],
        settings=_settings(comparison, by_path),
        commands=[*(_repeat(run.path) for run in runs if run.metrics), command],
        today=date.today().isoformat(),
        version=__version__,
        strip=_strip(comparison),
        relative=lambda value: format_change(value, comparison.best_baseline.mse),
        most_channels=_MOST_CHANNELS,
    )


def _middle_run(entry: Entry) -> str:
    """The path of the seed whose MSE is the middle one, the lower of two."""
    ordered = sorted(entry.runs, key=lambda run: run.mse)
    return ordered[(len(ordered) - 1) // 2].path


def _training(entry: Entry, runs: Sequence[RunShown]) -> dict[str, Any]:
    """Losses of every seed of a model, and the memory of the first seed that has a record of it."""
    train = runs[0].config.train
    records = [
        MemoryMeasured(**{key: value for key, value in line.items() if key != "event"})
        for run in runs
        for line in run.metrics
        if line["event"] == "memory"
    ]
    return {
        "name": entry.name,
        "loss": f"{train.loss.upper()}, standardised units",
        "chart": loss_chart([run.metrics for run in runs]),
        "memory": _memory(records[0]) if records else None,
    }


def _memory(record: MemoryMeasured) -> dict[str, Any]:
    """Predicted against measured, as bars and in words, and the parts of the bill, largest first."""
    sizes = {"predicted": record.predicted, "measured": record.allocated}
    known = {name: size for name, size in sizes.items() if size}
    parts = sorted(record.parts.items(), key=lambda part: -part[1])
    return {
        "device": record.device,
        "line": memory_line(record),
        "bars": [(name, 100 * size / max(known.values()), format_memory(size)) for name, size in known.items()],
        "parts": [(key.replace("_", " "), format_memory(size)) for key, size in parts],
    }


def _interval(verdict: Verdict) -> Interval | None:
    difference = verdict.difference
    if difference is None or difference.low is None or difference.high is None or not difference.mean:
        return None
    reach = 1.15 * max(abs(difference.low), abs(difference.high))
    low, at, high = (50 + 50 * value / reach for value in (difference.low, difference.mean, difference.high))
    scale = difference.relative / difference.mean
    ends = f"{difference.low * scale:+.1%} to {difference.high * scale:+.1%}"
    return Interval(at, low, high, f"MSE {difference.relative:+.1%}, 95% interval {ends}")


def _strip(comparison: Comparison) -> dict[str, Any] | None:
    """The MSE of every seed and of the best baseline on one track; None where no model has several seeds."""
    if all(len(entry.runs) < 2 for entry in comparison.models):
        return None
    baseline = comparison.best_baseline.mse
    values = [baseline, *(run.mse for entry in comparison.models for run in entry.runs if math.isfinite(run.mse))]
    low, high = min(values), max(values)

    def place(value: float) -> float:
        return round(4 + 92 * (value - low) / (high - low), 2) if high > low else 50.0

    styles = {entry.name: style for entry, style in style_models(comparison)}
    models = [
        {
            "name": entry.name,
            "style": styles.get(entry.name, "baseline"),
            "places": [place(run.mse) for run in entry.runs if math.isfinite(run.mse)],
        }
        for entry in comparison.models
    ]
    return {"models": models, "baseline": place(baseline), "low": low, "high": high}


def _channels(comparison: Comparison) -> list[dict[str, Any]]:
    """Each channel's errors, and its MSE and the best baseline's as shares of the highest of all."""
    ours, theirs = comparison.best_model.channels, comparison.best_baseline.channels
    known = [errors.mse for entry in (ours, theirs) for errors in entry.values() if math.isfinite(errors.mse)]
    highest = max(known, default=0.0) or 1.0
    return [
        {
            "name": name,
            "ours": ours[name],
            "theirs": theirs[name],
            "our_share": 100 * ours[name].mse / highest,
            "their_share": 100 * theirs[name].mse / highest,
        }
        for name in ours
    ]


def _settings(comparison: Comparison, runs: Mapping[str, RunShown]) -> list[dict[str, Any]]:
    """Every key with its values in each model; `told` marks those that differ or are no default, files left out."""
    rows = []
    for key in FIELDS:
        models = [[runs[run.path].config.values()[key] for run in entry.runs] for entry in comparison.models]
        texts = [", ".join(dict.fromkeys(map(_text, values))) for values in models]
        differs = len(set(texts)) > 1
        is_default = all(value == FIELDS[key].default for values in models for value in values)
        told = not key.startswith("run.") and (differs or not is_default)
        rows.append({"key": key, "values": texts, "told": told, "differs": differs})
    return rows


def _text(value: Any) -> str:
    if isinstance(value, tuple):
        return ", ".join(map(str, value)) or "all"
    return "-" if value is None else str(value)


def _repeat(path: Path) -> str:
    config = path.parent / "config.toml"
    name = path.resolve().parent.name
    return f"timellm train --config {quote(config)} --run-name {quote(Path(f'{name}-again'))}"
