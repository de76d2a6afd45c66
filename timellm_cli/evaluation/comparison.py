"""The figures of several forecasters on the same windows, as plain data."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from timellm_cli.data.windows import ForecastData
from timellm_cli.datasets import data_path
from timellm_cli.evaluation.baselines import Baseline
from timellm_cli.evaluation.score import Figures, Part, Scores, parts_of, scored_windows
from timellm_cli.evaluation.subjects import Subject
from timellm_cli.llm_files import NO_LLM


@dataclass(frozen=True)
class ChannelErrors:
    """Errors of one channel: standardised, and in the CSV's units (`raw`)."""

    mse: float
    mae: float
    mse_raw: float
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
    mse_raw: float | None
    rmse_raw: float | None
    mae_raw: float | None
    channels: dict[str, ChannelErrors]
    parts: tuple[PartErrors, ...]
    steps: tuple[PartErrors, ...]


@dataclass(frozen=True)
class Comparison:
    """Several forecasters on the same windows of a split, checkpoints first. `notes` are sentences for the reader."""

    data: str
    csv: str
    split: str
    windows: int
    samples: int
    pred_len: int
    limit: int | None
    channels: tuple[str, ...]
    entries: tuple[Entry, ...]
    notes: tuple[str, ...]

    @property
    def best(self) -> Entry:
        """The entry of lowest MSE."""
        return _lowest(self.entries)

    @property
    def checkpoints(self) -> tuple[Entry, ...]:
        """The trained models, in the order they were given."""
        return tuple(entry for entry in self.entries if entry.kind == "checkpoint")

    @property
    def best_checkpoint(self) -> Entry:
        """The checkpoint of lowest MSE."""
        return _lowest(self.checkpoints)

    @property
    def best_baseline(self) -> Entry:
        """The baseline of lowest MSE."""
        return _lowest([entry for entry in self.entries if entry.kind == "baseline"])


def compare(
    data: ForecastData, split: str, limit: int | None, entries: Sequence[Entry], notes: Sequence[str]
) -> Comparison:
    """The entries, all scored on the same windows of `data`, with what was scored."""
    config, samples = data.config, data.windows(split)
    path = data_path(config.data)
    windows = scored_windows(data, split, limit)
    return Comparison(
        data=path.name if config.data.dataset == "custom" or config.data.path else config.data.dataset,
        csv=str(path),
        split=split,
        windows=windows,
        samples=windows * samples.channels,
        pred_len=config.window.pred_len,
        limit=limit,
        channels=data.table.columns[-samples.channels :],
        entries=tuple(entries),
        notes=tuple(notes),
    )


def entry_of_model(subject: Subject, scores: Scores) -> Entry:
    """The figures of a trained model."""
    window, llm = subject.config.window, subject.config.llm
    layers = f"{llm.layers} layer{'s' * (llm.layers != 1)}"
    reads = "no LLM" if llm.name == NO_LLM else f"{Path(llm.name).name}, {layers}"
    return _entry(subject.name, f"{reads}, seq_len {window.seq_len}", subject.path, scores)


def entry_of_baseline(baseline: Baseline, scores: Scores) -> Entry:
    """The figures of a baseline."""
    return _entry(baseline.name, baseline.explanation, None, scores)


def _entry(name: str, explanation: str, path: Path | None, scores: Scores) -> Entry:
    channels = {}
    for place, channel in enumerate(scores.channels):
        figures, in_units = scores.of_channel(place), scores.raw_of_channel(place)
        channels[channel] = ChannelErrors(figures.mse, figures.mae, in_units.mse, in_units.rmse, in_units.mae)
    # Only where there is one channel is it certain that all have the same unit.
    raw = scores.raw if len(scores.channels) == 1 else None
    steps = (_part(Part(step, step), figures) for step, figures in enumerate(scores.of_steps(), 1))
    return Entry(
        name=name,
        kind="baseline" if path is None else "checkpoint",
        explanation=explanation,
        path=None if path is None else str(path),
        mse=scores.mse,
        mae=scores.mae,
        mse_raw=raw.mse if raw else None,
        rmse_raw=raw.rmse if raw else None,
        mae_raw=raw.mae if raw else None,
        channels=channels,
        parts=tuple(_part(part, scores.of_part(part)) for part in parts_of(scores.pred_len)),
        steps=tuple(steps),
    )


def _part(part: Part, figures: Figures) -> PartErrors:
    return PartErrors(part.first, part.last, figures.mse, figures.mae)


def to_json(comparison: Comparison) -> dict[str, Any]:
    """Everything as one object of stable form; a figure that is no number is None."""
    return {
        **_finite(asdict(comparison)),
        "best": comparison.best.name,
        "best_checkpoint": comparison.best_checkpoint.name,
        "best_baseline": comparison.best_baseline.name,
    }


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _lowest(entries: Sequence[Entry]) -> Entry:
    """A model whose forecasts are no numbers is never the best."""
    return min(entries, key=lambda entry: entry.mse if math.isfinite(entry.mse) else math.inf)
