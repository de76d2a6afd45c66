"""What an evaluation knows of each checkpoint, and the figures of one entry of the leaderboard as plain data."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from timellm_cli.config import Config
from timellm_cli.data.day_axis import Clock
from timellm_cli.data.scale import Scaler
from timellm_cli.data.windows import ForecastData
from timellm_cli.errors import ConfigError
from timellm_cli.evaluation.baselines import Baseline
from timellm_cli.evaluation.coverage import Coverage, mean_coverage
from timellm_cli.evaluation.day_errors import DayErrors
from timellm_cli.evaluation.event_day import EventDay
from timellm_cli.evaluation.examples import Example
from timellm_cli.evaluation.metrics import Metrics, mean_metrics, metrics_of_channels
from timellm_cli.evaluation.score import ChannelErrors, PartErrors, Scores, mean_scores, parts_of
from timellm_cli.evaluation.seeds import spread_of
from timellm_cli.evaluation.task import Task
from timellm_cli.llm_files import NO_LLM
from timellm_cli.splits import RowsIdentity
from timellm_cli.units import format_count


@dataclass(eq=False)
class Evaluated:
    """A checkpoint under evaluation. `timellm eval` fills in the fields from `data` on, one after the other.

    `config`, `columns`, `ids`, `scaler`, `cadence` and `rows` are those of its training; the scaler's channels are each
    column of every series (`ids`). `training_id` is the same in every file of one training, `stage` says which of its
    weights these are, after `epoch` epochs (None where that is not known). `clock` is that of its day map. `data` is
    what it is scored on, with the configuration for this machine. `coverage` is empty where the bands do not apply.
    `day_errors` are there where one of several models knows something ahead, `event_day` where this one does and there
    is such a day. `training_log` is the content of
    metrics.jsonl, empty if the file is not beside the checkpoint. Where the folds of a backtest are joined, `folds` are
    these, in their order, and the rest is that of the first with joined scores.
    """

    name: str
    path: Path
    config: Config
    columns: tuple[str, ...]
    ids: tuple[str, ...]
    scaler: Scaler
    cadence: str
    rows: Mapping[str, RowsIdentity]
    training_id: str
    stage: str = "best"
    llm_fingerprint: str = ""
    epoch: int | None = None
    clock: Clock | None = None
    data: ForecastData = field(init=False)
    scores: Scores = field(init=False)
    coverage: tuple[Coverage, ...] = ()
    examples: tuple[Example, ...] = ()
    event_day: EventDay | None = None
    day_errors: DayErrors | None = None
    training_log: list[dict[str, Any]] = field(default_factory=list)
    folds: "tuple[Evaluated, ...]" = ()


def name_checkpoints(paths: Sequence[Path]) -> list[str]:
    """A short name for each checkpoint; its path where the names of two would be equal.

    best.pt and the like are named after the folder of their run, other files after themselves.
    """
    own_files = ("best", "last", "step-")
    short = [path.resolve().parent.name if path.stem.startswith(own_files) else path.stem for path in paths]
    longer = [f"{path.resolve().parent.name}/{path.stem}" for path in paths]
    names = [name if short.count(name) == 1 else more for name, more in zip(short, longer, strict=True)]
    return [name if names.count(name) == 1 else str(path) for name, path in zip(names, paths, strict=True)]


def require_comparable(models: Sequence[Evaluated], task: Task) -> None:
    """Raise one ConfigError that lists every difference to the first model, with the values of both.

    Models are comparable if they forecast the same rows of the same channels in the same units. Their seq_len may
    differ, except on the training split, where it moves the forecast rows. With `task.csv`, their own files may differ.
    """
    first = models[0]
    faults = [
        f"{fact}: {ours} in {first.name}, but {theirs} in {other.name}"
        for other in models[1:]
        for (fact, ours), (_, theirs) in zip(_facts(first, task), _facts(other, task), strict=True)
        if ours != theirs
    ]
    faults += [
        f"{first.name} and {other.name} standardise the same columns differently: they were trained on different rows"
        for other in models[1:]
        if not faults and not _same_scale(first, other)
    ]
    if faults:
        raise ConfigError(
            "these checkpoints cannot be compared:\n" + "\n".join(f"  - {fault}" for fault in faults),
            "evaluate them one at a time, or compare those that forecast the same rows of the same data",
        )


def _scored_columns(model: Evaluated) -> tuple[str, ...]:
    """With features MS the target alone, which is the last column."""
    return model.columns[-1:] if model.config.data.features == "MS" else model.columns


def _facts(model: Evaluated, task: Task) -> list[tuple[str, object]]:
    data, window = model.config.data, model.config.window
    facts: list[tuple[str, object]] = [("pred_len", window.pred_len)]
    if task.csv is None:
        facts.append(("dataset", data.dataset if data.path is None or data.dataset != "custom" else str(data.path)))
    facts += [
        ("scored channels", ", ".join(_scored_columns(model))),
        ("train_ratio and test_ratio", (data.train_ratio, data.test_ratio)),
    ]
    return [*facts, ("seq_len", window.seq_len)] if task.split == "train" else facts


def _same_scale(first: Evaluated, other: Evaluated) -> bool:
    count = len(_scored_columns(first))
    pairs = ((first.scaler.mean_C, other.scaler.mean_C), (first.scaler.std_C, other.scaler.std_C))
    return all(np.allclose(ours[-count:], theirs[-count:], rtol=1e-9) for ours, theirs in pairs)


@dataclass(frozen=True)
class RunErrors:
    """The errors of one checkpoint, in standardised units, and after how many epochs it was kept (None: not known).

    Of joined folds, `path` and `epoch` are those of the first, and `fold_epochs` those of all.
    """

    name: str
    path: str
    seed: int
    mse: float
    mae: float
    epoch: int | None = None
    fold_epochs: tuple[int | None, ...] = ()

    @property
    def epochs(self) -> tuple[int | None, ...]:
        """After how many epochs each checkpoint was kept."""
        return self.fold_epochs or (self.epoch,)


@dataclass(frozen=True)
class FoldErrors:
    """The errors of one fold of a backtest, a mean over seeds, in the standardised units of the first fold."""

    mse: float
    mae: float


@dataclass(frozen=True)
class LeaderboardEntry:
    """A trained model with one or more seeds, or a baseline.

    Errors are means over `runs`, one run for each seed; `mse_std` and `mae_std` are their sample standard deviations,
    None for a single run. `mse` and `mae` are standardised. The errors in the CSV's units are None if there are several
    channels, whose units may differ. `steps` has one part for every step of the horizon, `parts` its quarters.
    `coverage` is empty for a model without bands. `channel_mean` are MSE and MAE as the mean of the channels', so that
    each series weighs the same. `metrics` are further figures, of the whole and by channel, None where they were not
    counted. `folds` are the errors of each fold of a backtest, over which `mse` and `mae` are joined.
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
    runs: tuple[RunErrors, ...] = ()
    coverage: tuple[Coverage, ...] = ()
    channel_mean: tuple[float, float] = (math.nan, math.nan)
    metrics: Metrics | None = None
    channel_metrics: dict[str, Metrics] = field(default_factory=dict)
    folds: tuple[FoldErrors, ...] = ()

    @property
    def rank(self) -> float:
        """The MSE to sort by: infinite if it is not a number."""
        return self.mse if math.isfinite(self.mse) else math.inf


def describe_llm(config: Config) -> str:
    """The LLM in a few words: 'smollm2-135m, 2 layers', 'random smollm2-135m, 2 layers', or 'no LLM'."""
    llm = config.llm
    if llm.name == NO_LLM:
        return "no LLM"
    layers = "all layers" if llm.layers == "all" else format_count(llm.layers, "layer")
    name = Path(llm.name).name
    return f"random {name}, {layers}" if llm.weights == "random" else f"{name}, {layers}"


def describe_ahead(config: Config) -> str:
    """What a model knows of the days ahead, such as '; text that smollm2-135m reads'; empty where it knows nothing."""
    known = [f"columns {', '.join(config.data.future_columns)}"] if config.data.future_columns else []
    if config.ahead.has_text:
        reader = "columns" if config.text_llm is None else Path(config.text_llm).name
        if config.ahead.llm_weights == "random":
            reader = f"random {reader}"
        dealt = config.ahead.shuffle
        known.append(f"text of other days that {reader} reads" if dealt else f"text that {reader} reads")
    return "".join(f"; {one}" for one in known)


def entry_of_model(name: str, seeds: Sequence[Evaluated]) -> LeaderboardEntry:
    """The mean errors over the seeds of a model."""
    config = seeds[0].config
    runs = tuple(
        RunErrors(
            seed.name,
            str(seed.path),
            seed.config.train.seed,
            seed.scores.mse,
            seed.scores.mae,
            epoch=seed.epoch,
            fold_epochs=tuple(fold.epoch for fold in seed.folds),
        )
        for seed in seeds
    )
    explanation = f"{describe_llm(config)}, seq_len {config.window.seq_len}{describe_ahead(config)}"
    if seeds[0].folds:
        explanation += f"; {len(seeds[0].folds)} folds joined"
    if len(runs) > 1:
        explanation += f"; mean ± deviation of {len(runs)} seeds"
    coverage = mean_coverage([seed.coverage for seed in seeds])
    return _entry(name, explanation, mean_scores([seed.scores for seed in seeds]), runs, coverage)


def entry_of_baseline(baseline: Baseline, scores: Scores) -> LeaderboardEntry:
    """The errors of a baseline."""
    return _entry(baseline.name, baseline.explanation, scores)


def _entry(
    name: str,
    explanation: str,
    scores: Scores,
    runs: tuple[RunErrors, ...] = (),
    coverage: tuple[Coverage, ...] = (),
) -> LeaderboardEntry:
    channels = {channel: scores.of_channel(position) for position, channel in enumerate(scores.channels)}
    metrics, channel_metrics = None, {}
    if scores.metrics is not None:
        of_channels = metrics_of_channels(scores.metrics, [errors.mse for errors in channels.values()])
        metrics = mean_metrics(scores.metrics, of_channels, scores.mse)
        channel_metrics = dict(zip(channels, of_channels, strict=True))
    single = channels[scores.channels[0]] if len(channels) == 1 else None
    return LeaderboardEntry(
        name=name,
        kind="model" if runs else "baseline",
        explanation=explanation,
        mse=scores.mse,
        mae=scores.mae,
        mse_std=spread_of([run.mse for run in runs]),
        mae_std=spread_of([run.mae for run in runs]),
        mse_raw=single.mse_raw if single else None,
        rmse_raw=single.rmse_raw if single else None,
        mae_raw=single.mae_raw if single else None,
        channels=channels,
        parts=tuple(scores.of_part(first, last) for first, last in parts_of(scores.pred_len)),
        steps=tuple(scores.of_part(step, step) for step in range(1, scores.pred_len + 1)),
        runs=runs,
        coverage=coverage,
        channel_mean=_mean_of(list(channels.values())),
        metrics=metrics,
        channel_metrics=channel_metrics,
        folds=tuple(FoldErrors(one.mse, one.mae) for one in scores.folds),
    )


def _mean_of(channels: Sequence[ChannelErrors]) -> tuple[float, float]:
    """Mean MSE and MAE of the channels that have a known target."""
    known = [errors for errors in channels if math.isfinite(errors.mse)]
    if not known:
        return math.nan, math.nan
    return float(np.mean([errors.mse for errors in known])), float(np.mean([errors.mae for errors in known]))
