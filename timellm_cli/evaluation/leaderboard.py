"""The leaderboard: trained models, baselines and published results on the same windows, with verdicts and notes."""

import math
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from timellm_cli.config import Config
from timellm_cli.data.windows import ForecastData
from timellm_cli.datasets import data_path, name_of
from timellm_cli.evaluation.arms import ArmTable, compare_arms
from timellm_cli.evaluation.baselines import Baseline
from timellm_cli.evaluation.evaluated import Evaluated, LeaderboardEntry, entry_of_baseline, entry_of_model
from timellm_cli.evaluation.folds import FoldRows
from timellm_cli.evaluation.leaderboard_notes import notes_on, notes_on_entries, notes_on_repeats
from timellm_cli.evaluation.score import Scores, mean_scores
from timellm_cli.evaluation.seeds import group_seeds, name_groups
from timellm_cli.evaluation.spaced import SpacedErrors, SpacedTable, spaced_table
from timellm_cli.evaluation.task import Task
from timellm_cli.evaluation.verdict import Verdict, judge, verdicts_on_arms

_PUBLISHED_SEQ_LEN = 512


@dataclass(frozen=True)
class Published:
    """A method's test errors as its source prints them, in standardised units; `mae` is None where it has none.

    If `dropped_batch` is set, the source did not score the last windows that do not fill a batch of that size.
    """

    name: str
    source: str
    mse: float
    mae: float | None
    dropped_batch: int | None = None

    def windows_left_out(self, windows: int) -> int:
        """How many of a test set's `windows` the source did not score, where that is known."""
        return windows % self.dropped_batch if self.dropped_batch else 0


def published_for(configs: Sequence[Config], other_dataset: str | None = None) -> tuple[Published, ...]:
    """Published errors for exactly the task of all these configurations: dataset, window, features, training span.

    `other_dataset` is the dataset of a zero-shot evaluation. Empty if no source has the task.
    """
    tasks = {_task(config, other_dataset) for config in configs}
    task = tasks.pop() if len(tasks) == 1 else None
    if task is None:
        return ()
    name, pred_len = task
    text = (Path(__file__).parent / "published.toml").read_text(encoding="utf-8")
    return tuple(
        Published(
            name=method["name"],
            source=method["source"],
            mse=figures[0],
            mae=figures[1] if len(figures) > 1 else None,
            dropped_batch=method.get("dropped_batch"),
        )
        for method in tomllib.loads(text)["method"]
        if (figures := method["figures"].get(name, {}).get(str(pred_len)))
    )


def _task(config: Config, other_dataset: str | None) -> tuple[str, int] | None:
    """The name of the task in `published.toml`, and the horizon. None for a task that no source has."""
    data, window = config.data, config.window
    if window.seq_len != _PUBLISHED_SEQ_LEN or data.features != "M" or data.columns or data.folds > 1:
        return None
    name = data.dataset if data.percent == 100 else f"{data.dataset}, {data.percent} %"
    return (f"{name} -> {other_dataset}" if other_dataset else name), window.pred_len


@dataclass(frozen=True)
class Leaderboard:
    """Models and baselines on the same windows of a split, models first.

    `windows` are those of one column, in all series; `series` counts these, None for a table without an id column.
    `published` are results of papers on the same task. `notes` say what a reader has to know about the figures.
    `folds` are the rows of each fold of a backtest, in the order of the entries' `folds`; empty without one.
    `spaced` has all lines and slow baselines on windows at equal distances.
    """

    data: str
    csv: str
    split: str
    windows: int
    samples: int
    series: int | None
    pred_len: int
    limit: int | None
    channels: tuple[str, ...]
    entries: tuple[LeaderboardEntry, ...]
    published: tuple[Published, ...]
    verdicts: tuple[Verdict, ...]
    notes: tuple[str, ...]
    folds: tuple[FoldRows, ...] = ()
    spaced: SpacedTable | None = None
    arms: ArmTable | None = None

    @property
    def best(self) -> LeaderboardEntry:
        """The entry with the lowest MSE."""
        return _lowest(self.entries)

    @property
    def models(self) -> tuple[LeaderboardEntry, ...]:
        """The trained models, in the order of the checkpoints."""
        return tuple(entry for entry in self.entries if entry.kind == "model")

    @property
    def baselines(self) -> tuple[LeaderboardEntry, ...]:
        """The baselines."""
        return tuple(entry for entry in self.entries if entry.kind == "baseline")

    @property
    def best_model(self) -> LeaderboardEntry:
        """The model with the lowest MSE."""
        return _lowest(self.models)

    @property
    def best_baseline(self) -> LeaderboardEntry:
        """The baseline with the lowest MSE."""
        return _lowest(self.baselines)


def make_leaderboard(
    data: ForecastData,
    task: Task,
    checkpoints: Sequence[Evaluated],
    baselines: Sequence[tuple[Baseline, Scores]],
    folds: Sequence[FoldRows] = (),
    spaced: Sequence[SpacedErrors] = (),
) -> Leaderboard:
    """Group the checkpoints to models and compare these with each other and with the baselines.

    All were scored on the same windows of `data`, or of several folds, which are joined; `data` are then those of the
    first, and `folds` name all of them. `spaced` are the errors of slow baselines on each fold. Seeds of one model
    become one entry with their mean errors.
    """
    checkpoints = _with_one_name_an_llm(checkpoints)
    grouped = group_seeds([one.config for one in checkpoints], [one.stage for one in checkpoints])
    groups = [[checkpoints[position] for position in group] for group in grouped]
    names = name_groups([[seed.name for seed in group] for group in groups])
    models = [entry_of_model(name, group) for name, group in zip(names, groups, strict=True)]
    configs = {name: group[0].config for name, group in zip(names, groups, strict=True)}
    baseline_entries = [entry_of_baseline(baseline, scores) for baseline, scores in baselines]
    published = _published(checkpoints, task, data)
    notes = [*data.warnings, *notes_on(checkpoints, data, task), *notes_on_repeats(checkpoints)]
    notes += notes_on_entries(models, baseline_entries, data, task)
    _, best_seeds = min(zip(models, groups, strict=True), key=lambda pair: pair[0].rank)
    notes += _notes_on_published(published, mean_scores([seed.scores for seed in best_seeds]))
    any_scores, arms = checkpoints[0].scores, _arms(dict(zip(names, groups, strict=True)), configs)
    every_line = [
        *((name, mean_scores([seed.scores for seed in group])) for name, group in zip(names, groups, strict=True)),
        *((baseline.name, scores) for baseline, scores in baselines),
    ]
    return Leaderboard(
        data=name_of(data.config.data),
        csv=str(data_path(data.config.data)),
        split=task.split,
        windows=any_scores.samples // data.scored_columns,
        samples=any_scores.samples,
        series=len(data.table.series.ids) if data.table.series.is_panel else None,
        pred_len=data.config.window.pred_len,
        limit=task.limit,
        channels=data.scored_channels,
        entries=(*models, *baseline_entries),
        published=published,
        verdicts=(*judge(models, configs, _lowest(baseline_entries)), *verdicts_on_arms(arms)),
        notes=tuple(notes),
        folds=tuple(folds) if len(folds) > 1 else (),
        spaced=spaced_table(spaced, every_line) if spaced else None,
        arms=arms,
    )


def _arms(groups: Mapping[str, Sequence[Evaluated]], configs: Mapping[str, Config]) -> ArmTable | None:
    errors = {name: [one.day_errors for one in group if one.day_errors] for name, group in groups.items()}
    return compare_arms([name for name in groups if errors[name]], configs, errors)


def _with_one_name_an_llm(checkpoints: Sequence[Evaluated]) -> list[Evaluated]:
    """An LLM whose folder has moved is the same LLM: the first name that its fingerprint had stands for all."""
    names: dict[str, str] = {}
    same = []
    for one in checkpoints:
        llm = one.config.llm
        if one.llm_fingerprint and llm.weights == "pretrained":
            name = names.setdefault(one.llm_fingerprint, llm.name)
            if name != llm.name:
                renamed = copy(one)
                renamed.config = one.config.with_values({"llm.name": name})
                same.append(renamed)
                continue
        same.append(one)
    return same


def _published(checkpoints: Sequence[Evaluated], task: Task, data: ForecastData) -> tuple[Published, ...]:
    """Papers are quoted only if all windows of their test set were scored."""
    if task.csv is not None or task.split != "test" or task.limit is not None:
        return ()
    other_dataset = data.config.data.dataset if task.zero_shot is not None else None
    return published_for([one.config for one in checkpoints], other_dataset)


def _notes_on_published(published: Sequence[Published], best: Scores) -> Iterator[str]:
    """What the errors of the best model would be if the windows that a paper left out were left out here."""
    for method in published:
        if left_out := method.windows_left_out(best.windows):
            mse, mae = best.without_last(left_out)
            yield (
                f"the figures of {method.name} leave out the last {left_out} of {best.windows:,} windows, too few for "
                f"its batch of {method.dropped_batch}; without them the best model here has {mse:.4f} / {mae:.4f}"
            )


def to_json(leaderboard: Leaderboard) -> dict[str, Any]:
    """The object that `eval --json` prints. Numbers that are not finite become None."""
    return {
        **_finite(asdict(leaderboard)),
        "best": leaderboard.best.name,
        "best_model": leaderboard.best_model.name,
        "best_baseline": leaderboard.best_baseline.name,
    }


def _lowest(entries: Sequence[LeaderboardEntry]) -> LeaderboardEntry:
    return min(entries, key=lambda entry: entry.rank)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
