"""Whether several checkpoints can stand in one table, and under which names and conditions.

The figures of one forecaster as plain data: a baseline's, or the mean over the seeds of a trained model.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from timellm_cli.config import Config
from timellm_cli.data.cadence import parse_cadence, show_step
from timellm_cli.data.scale import Scaler
from timellm_cli.data.windows import ForecastData
from timellm_cli.datasets import name_of
from timellm_cli.errors import ConfigError, listed
from timellm_cli.evaluation.bands import Coverage, mean_coverage
from timellm_cli.evaluation.baselines import Baseline
from timellm_cli.evaluation.score import Figures, Part, Scores, mean_scores, parts_of
from timellm_cli.evaluation.seeds import spread_of
from timellm_cli.evaluation.task import Task
from timellm_cli.llm_files import NO_LLM


@dataclass(frozen=True, eq=False)
class Subject:
    """A trained model to be scored, as far as comparing it with others goes. `columns` are in the scaler's order."""

    name: str
    path: Path
    config: Config
    columns: tuple[str, ...]
    scaler: Scaler

    @property
    def scored(self) -> tuple[str, ...]:
        """The channels that are scored: the target alone in MS, else all."""
        return self.columns[-1:] if self.config.data.features == "MS" else self.columns


def name_checkpoints(paths: Sequence[Path]) -> list[str]:
    """A short name for each: its run's folder for best.pt and the like, else its own; the path where two are alike."""
    own_files = ("best", "last", "step-")
    short = [path.resolve().parent.name if path.stem.startswith(own_files) else path.stem for path in paths]
    longer = [f"{path.resolve().parent.name}/{path.stem}" for path in paths]
    names = [name if short.count(name) == 1 else more for name, more in zip(short, longer, strict=True)]
    return [name if names.count(name) == 1 else str(path) for name, path in zip(names, paths, strict=True)]


def require_comparable(subjects: Sequence[Subject], task: Task) -> None:
    """Raise one ConfigError that names both sides of everything in which a checkpoint differs from the first.

    Comparable are models that forecast the same rows of the same channels in the same units. Their seq_len may differ,
    except on the training split, where it moves the forecast rows. A CSV that is given replaces each checkpoint's own.
    """
    first = subjects[0]
    faults = [
        f"{fact}: {ours} in {first.name}, {theirs} in {other.name}"
        for other in subjects[1:]
        for (fact, ours), (_, theirs) in zip(_facts(first, task), _facts(other, task), strict=True)
        if ours != theirs
    ]
    faults += [
        f"{first.name} and {other.name} standardise the same columns differently: they were trained on different rows"
        for other in subjects[1:]
        if not faults and not _same_scale(first, other)
    ]
    if faults:
        raise ConfigError(
            "these checkpoints cannot be compared:\n" + "\n".join(f"  - {fault}" for fault in faults),
            "evaluate them one at a time, or compare those that forecast the same rows of the same data",
        )


def notes_on(
    subjects: Sequence[Subject],
    cadence: str,
    data: ForecastData,
    task: Task,
) -> list[str]:
    """What a reader of the table has to know so as not to take it for more than it is.

    `cadence` is that of the rows the checkpoints were trained on, `data` what they are scored on.
    """
    notes = []
    if task.given is not None:
        notes.append(
            f"{task.given.name} stands in for the trained CSV: it is standardised by the checkpoint's scaler, and the "
            "baselines are fitted on its own training rows"
        )
    if task.zero_shot is not None:
        trained_on = listed(dict.fromkeys(name_of(subject.config.data) for subject in subjects), 6)
        notes.append(
            f"zero-shot: trained on {trained_on} and scored on {name_of(data.config.data)}, standardised by its own "
            "training rows; the baselines are fitted on those rows, which the models never saw"
        )
    percents = [subject.config.data.percent for subject in subjects]
    if set(percents) != {100}:
        part = f"first {percents[0]}% of the training rows"
        if len(set(percents)) > 1:
            each = ", ".join(f"{subject.name} {subject.config.data.percent}%" for subject in subjects)
            part = f"first part of the training rows ({each})"
        notes.append(f"few-shot: trained on the {part}; the baselines are fitted on {data.config.data.percent}%")
    if str(data.table.cadence) != cadence:
        trained, scored = show_step(parse_cadence(cadence)), show_step(data.table.cadence)
        notes.append(f"trained on a row every {trained}, but scored on a row every {scored}")
    lengths = {subject.config.window.seq_len for subject in subjects}
    if len(lengths) > 1:
        each = ", ".join(f"{subject.name} {subject.config.window.seq_len}" for subject in subjects)
        notes.append(
            f"seq_len differs ({each}): all forecast the same rows, but from histories of different length; "
            f"the baselines see {max(lengths)} rows"
        )
    if task.limit is not None:
        notes.append(f"only the first {task.limit:,} windows of a channel were asked for: not comparable with papers")
    if task.split != "test":
        notes.append(f"this is the {task.split} split; papers report the test split")
    return notes


def _facts(subject: Subject, task: Task) -> list[tuple[str, object]]:
    data, window = subject.config.data, subject.config.window
    facts: list[tuple[str, object]] = [("pred_len", window.pred_len)]
    if task.given is None:
        own = data.dataset if data.path is None or data.dataset != "custom" else str(data.path)
        facts.append(("dataset", own))
    facts += [
        ("scored channels", ", ".join(subject.scored)),
        ("train_ratio and test_ratio", (data.train_ratio, data.test_ratio)),
    ]
    return [*facts, ("seq_len", window.seq_len)] if task.split == "train" else facts


def _same_scale(first: Subject, other: Subject) -> bool:
    count = len(first.scored)
    pairs = ((first.scaler.mean_C, other.scaler.mean_C), (first.scaler.std_C, other.scaler.std_C))
    return all(np.allclose(ours[-count:], theirs[-count:], rtol=1e-9) for ours, theirs in pairs)


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
