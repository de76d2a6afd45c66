"""The figures of one forecaster as plain data: a baseline's, or the mean over the seeds of a trained model."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from timellm_cli.config import Config
from timellm_cli.evaluation.baselines import Baseline
from timellm_cli.evaluation.coverage import Coverage, mean_coverage
from timellm_cli.evaluation.score import Figures, Part, Scores, mean_scores, parts_of
from timellm_cli.evaluation.spread import spread_of
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
class Run:
    """One checkpoint and its errors in standardised units."""

    name: str
    path: str
    seed: int
    mse: float
    mae: float


@dataclass(frozen=True)
class Entry:
    """One forecaster: a model of one or more seeds, or a baseline.

    Every error is the mean over `runs`, the seeds; `mse_std` and `mae_std` are their sample standard deviations, None
    for a single run. `mse` and `mae` are standardised; the raw ones are None where the channels share no unit. `steps`
    has one part for every step of the horizon, `parts` its quarters. `coverage` is empty for a model without bands.
    """

    name: str
    kind: Literal["model", "baseline"]
    explanation: str
    mse: float
    mae: float
    mse_std: float | None
    mae_std: float | None
    mse_raw: float | None
    rmse_raw: float | None
    mae_raw: float | None
    channels: dict[str, ChannelErrors]
    parts: tuple[PartErrors, ...]
    steps: tuple[PartErrors, ...]
    runs: tuple[Run, ...] = ()
    coverage: tuple[Coverage, ...] = ()

    @property
    def rank(self) -> float:
        """The MSE to rank by: a model whose forecasts are no numbers comes last."""
        return self.mse if math.isfinite(self.mse) else math.inf


@dataclass(frozen=True, eq=False)
class Contestant:
    """A checkpoint with its scores, and what its bands held."""

    subject: Subject
    scores: Scores
    coverage: tuple[Coverage, ...] = ()


def describe_llm(config: Config) -> str:
    """The LLM in a few words: 'smollm2-135m, 2 layers', 'random smollm2-135m, 2 layers', or 'no LLM'."""
    llm = config.llm
    if llm.name == NO_LLM:
        return "no LLM"
    drawn = "random " if llm.weights == "random" else ""
    return f"{drawn}{Path(llm.name).name}, {llm.layers} layer{'s' * (llm.layers != 1)}"


def entry_of_model(name: str, group: Sequence[Contestant]) -> Entry:
    """The mean figures of a trained model's seeds, under the name of the group."""
    first = group[0].subject
    runs = tuple(
        Run(subject.name, str(subject.path), subject.config.train.seed, one.scores.mse, one.scores.mae)
        for one in group
        for subject in [one.subject]
    )
    explanation = f"{describe_llm(first.config)}, seq_len {first.config.window.seq_len}"
    if len(runs) > 1:
        explanation += f"; mean ± deviation of {len(runs)} seeds"
    scores = mean_scores([one.scores for one in group])
    coverage = mean_coverage([one.coverage for one in group])
    return replace(_entry(name, explanation, scores, runs), coverage=coverage)


def entry_of_baseline(baseline: Baseline, scores: Scores) -> Entry:
    """The figures of a baseline."""
    return _entry(baseline.name, baseline.explanation, scores)


def _entry(name: str, explanation: str, scores: Scores, runs: tuple[Run, ...] = ()) -> Entry:
    channels = {}
    for place, channel in enumerate(scores.channels):
        figures, in_units = scores.of_channel(place), scores.raw_of_channel(place)
        channels[channel] = ChannelErrors(figures.mse, figures.mae, in_units.mse, in_units.rmse, in_units.mae)
    # Only where there is one channel is it certain that all have the same unit.
    raw = scores.raw if len(scores.channels) == 1 else None
    steps = (_part(Part(step, step), figures) for step, figures in enumerate(scores.of_steps(), 1))
    return Entry(
        name=name,
        kind="model" if runs else "baseline",
        explanation=explanation,
        mse=scores.mse,
        mae=scores.mae,
        mse_std=spread_of([run.mse for run in runs]),
        mae_std=spread_of([run.mae for run in runs]),
        mse_raw=raw.mse if raw else None,
        rmse_raw=raw.rmse if raw else None,
        mae_raw=raw.mae if raw else None,
        channels=channels,
        parts=tuple(_part(part, scores.of_part(part)) for part in parts_of(scores.pred_len)),
        steps=tuple(steps),
        runs=runs,
    )


def _part(part: Part, figures: Figures) -> PartErrors:
    return PartErrors(part.first, part.last, figures.mse, figures.mae)
