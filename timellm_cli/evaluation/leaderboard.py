"""What papers report of the same task, from `published.toml`. Light.

The figures of several forecasters on the same windows, as plain data.
"""

import math
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from timellm_cli.config import Config
from timellm_cli.data.windows import ForecastData
from timellm_cli.datasets import data_path, name_of
from timellm_cli.evaluation.bands import drift_note
from timellm_cli.evaluation.baselines import Baseline
from timellm_cli.evaluation.evaluated import Contestant, Entry, entry_of_baseline, entry_of_model
from timellm_cli.evaluation.score import Scores, mean_scores, scored_windows
from timellm_cli.evaluation.seeds import group_seeds, name_groups
from timellm_cli.evaluation.task import Task
from timellm_cli.evaluation.verdict import Verdict, judge

_SEQ_LEN = 512


@dataclass(frozen=True)
class Published:
    """A method's test errors as its source prints them, in standardised units.

    Where `dropped_batch` is known, the last windows of the test set, too few for a batch of that size, were not scored.
    """

    name: str
    source: str
    mse: float
    mae: float
    dropped_batch: int | None = None

    def windows_left_out(self, windows: int) -> int:
        """How many of the windows of a test set its source did not score, as far as is known."""
        return windows % self.dropped_batch if self.dropped_batch else 0


def published_for(configs: Sequence[Config], other_dataset: str | None = None) -> tuple[Published, ...]:
    """Figures for the very task of all these configurations: dataset, window, features and training span; else none.

    `other_dataset` is the one that models are tested on without having been trained on it (zero-shot).
    """
    tasks = {_task(config, other_dataset) for config in configs}
    task = tasks.pop() if len(tasks) == 1 else None
    if task is None:
        return ()
    name, pred_len = task
    text = (Path(__file__).parent / "published.toml").read_text(encoding="utf-8")
    return tuple(
        Published(method["name"], method["source"], figures[0], figures[1], method.get("dropped_batch"))
        for method in tomllib.loads(text)["method"]
        if (figures := method["figures"].get(name, {}).get(str(pred_len)))
    )


def _task(config: Config, other_dataset: str | None) -> tuple[str, int] | None:
    """What `published.toml` calls the task, and the horizon."""
    data, window = config.data, config.window
    if window.seq_len != _SEQ_LEN or data.features != "M" or data.columns:
        return None
    name = data.dataset if data.percent == 100 else f"{data.dataset}, {data.percent} %"
    return (f"{name} -> {other_dataset}" if other_dataset else name), window.pred_len


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
