"""Whether several checkpoints can stand in one table, and under which names and conditions."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from timellm_cli.config import Config
from timellm_cli.data.cadence import parse_cadence
from timellm_cli.data.scale import Scaler
from timellm_cli.data.timeline import show_step
from timellm_cli.data.windows import ForecastData
from timellm_cli.datasets import name_of
from timellm_cli.errors import ConfigError, listed
from timellm_cli.evaluation.task import Task


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
