"""The figures of several forecasters on the same windows, as plain data."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from timellm_cli.config import Config
from timellm_cli.data.windows import ForecastData
from timellm_cli.datasets import data_path, name_of
from timellm_cli.evaluation.baselines import Baseline
from timellm_cli.evaluation.coverage import drift_note
from timellm_cli.evaluation.entries import Contestant, Entry, entry_of_baseline, entry_of_model
from timellm_cli.evaluation.groups import group_seeds, name_groups
from timellm_cli.evaluation.published import Published, published_for
from timellm_cli.evaluation.score import Scores, mean_scores, scored_windows
from timellm_cli.evaluation.task import Task
from timellm_cli.evaluation.verdict import Verdict, judge


@dataclass(frozen=True)
class Comparison:
    """Several forecasters on the same windows of a split, models first.

    `published` holds what papers report of the same task, `notes` sentences for the reader.
    """

    data: str
    csv: str
    split: str
    windows: int
    samples: int
    pred_len: int
    limit: int | None
    channels: tuple[str, ...]
    entries: tuple[Entry, ...]
    published: tuple[Published, ...]
    verdicts: tuple[Verdict, ...]
    notes: tuple[str, ...]

    @property
    def best(self) -> Entry:
        """The entry of lowest MSE."""
        return _lowest(self.entries)

    @property
    def models(self) -> tuple[Entry, ...]:
        """The trained models, in the order they were given."""
        return tuple(entry for entry in self.entries if entry.kind == "model")

    @property
    def best_model(self) -> Entry:
        """The model of lowest MSE."""
        return _lowest(self.models)

    @property
    def best_baseline(self) -> Entry:
        """The baseline of lowest MSE."""
        return _lowest([entry for entry in self.entries if entry.kind == "baseline"])


def compare(
    data: ForecastData,
    task: Task,
    contestants: Sequence[Contestant],
    baselines: Sequence[tuple[Baseline, Scores]],
    notes: Sequence[str],
) -> Comparison:
    """All were scored on the same windows of `data`. Seeds of one run become one entry, their mean.

    Papers are quoted only where all their windows were scored.
    """
    config, samples = data.config, data.windows(task.split)
    windows = scored_windows(data, task.split, task.limit)
    groups = [
        [contestants[place] for place in places]
        for places in group_seeds([contestant.subject.config for contestant in contestants])
    ]
    names = name_groups([[contestant.subject.name for contestant in group] for group in groups])
    models = [(entry_of_model(name, group), group[0].subject.config) for name, group in zip(names, groups, strict=True)]
    rivals = [entry_of_baseline(baseline, scores) for baseline, scores in baselines]
    configs = [contestant.subject.config for contestant in contestants]
    drifts = [
        drift_note(entry.name, entry.coverage) for entry, _ in models if task.split == "test" and task.limit is None
    ]
    published = _published(configs, task, config.data.dataset)
    best = min(zip(models, groups, strict=True), key=lambda pair: pair[0][0].rank)[1]
    return Comparison(
        data=name_of(config.data),
        csv=str(data_path(config.data)),
        split=task.split,
        windows=windows,
        samples=windows * samples.channels,
        pred_len=config.window.pred_len,
        limit=task.limit,
        channels=data.table.columns[-samples.channels :],
        entries=(*(entry for entry, _ in models), *rivals),
        published=published,
        verdicts=tuple(judge(models, _lowest(rivals))),
        notes=(*notes, *filter(None, drifts), *_notes_on_published(published, best, windows)),
    )


def _published(configs: Sequence[Config], task: Task, scored_dataset: str) -> tuple[Published, ...]:
    if task.given is not None or task.split != "test" or task.limit is not None:
        return ()
    return published_for(configs, scored_dataset if task.zero_shot is not None else None)


def _notes_on_published(published: Sequence[Published], best: Sequence[Contestant], windows: int) -> Iterator[str]:
    """What the best model would have, had it been scored as a paper scored."""
    for method in published:
        if left_out := method.windows_left_out(windows):
            figures = mean_scores([one.scores for one in best]).without_last(left_out)
            yield (
                f"the figures of {method.name} leave out the last {left_out} of {windows:,} windows, too few for its "
                f"batch of {method.dropped_batch}; without them the best model here has {figures.mse:.4f} / "
                f"{figures.mae:.4f}"
            )


def to_json(comparison: Comparison) -> dict[str, Any]:
    """Everything as one object of stable form; a figure that is no number is None."""
    return {
        **_finite(asdict(comparison)),
        "best": comparison.best.name,
        "best_model": comparison.best_model.name,
        "best_baseline": comparison.best_baseline.name,
    }


def _lowest(entries: Sequence[Entry]) -> Entry:
    return min(entries, key=lambda entry: entry.rank)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
