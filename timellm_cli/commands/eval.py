"""`timellm eval`: score checkpoints and baselines on the same windows, and print and write the leaderboard."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from rich.text import Text
from torch import Tensor

from timellm_cli.commands.fetch import console_reporter
from timellm_cli.commands.open_checkpoint import config_for, open_checkpoint
from timellm_cli.config import Config
from timellm_cli.console import err, out, print_json, print_note, say
from timellm_cli.data.batch import Batch
from timellm_cli.data.columns import date_columns
from timellm_cli.data.csv_format import open_csv
from timellm_cli.data.forecast_input import require_columns
from timellm_cli.data.windows import ForecastData, load_data
from timellm_cli.datasets import data_files, holds_several, remedy_for_data
from timellm_cli.datasets import data_path as path_of
from timellm_cli.errors import ConfigError, DataError
from timellm_cli.evaluation.bands import CoverageCount
from timellm_cli.evaluation.baselines import fit_baselines
from timellm_cli.evaluation.evaluated import Evaluated, name_checkpoints, require_comparable
from timellm_cli.evaluation.examples import make_examples
from timellm_cli.evaluation.leaderboard import Leaderboard, make_leaderboard, to_json
from timellm_cli.evaluation.score import Forecaster, Scores, score
from timellm_cli.evaluation.task import Task, stand_in, transfer
from timellm_cli.fetching.fetch import provide
from timellm_cli.files import check_target, writing
from timellm_cli.model.runner import free_gpu_memory, gpu_memory_errors
from timellm_cli.planning.hardware import Machine, look_at_machine
from timellm_cli.report.html_report import write_report
from timellm_cli.report.progress import scoring_progress
from timellm_cli.report.score_table import render
from timellm_cli.report.train_summary import quote
from timellm_cli.report.training_log import read_metrics
from timellm_cli.training.checkpoint import Checkpoint, load_checkpoint
from timellm_cli.training.run_directory import RunDirectory

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
    changes: Mapping[str, Any] | None = None,
) -> None:
    """Score every checkpoint and the baselines on every window of a split, and show the leaderboard.

    Raises ConfigError for checkpoints that cannot be compared and for a report that cannot be written, DataError for
    the CSV, ModelError for the LLM and the hardware.
    """
    paths, task = _distinct(checkpoints), Task(data_path, zero_shot, split, limit)
    _check_arguments(paths, task, report)
    loaded = [load_checkpoint(path) for path in paths]
    models = [
        Evaluated(
            name=name,
            path=path,
            config=one.config,
            columns=one.columns,
            ids=one.ids,
            scaler=one.scaler,
            cadence=one.cadence,
            rows=one.rows,
            training_id=one.training_id,
            stage=one.stage,
            llm_fingerprint=one.llm_fingerprint,
            epoch=one.epoch,
        )
        for name, path, one in zip(name_checkpoints(paths), paths, loaded, strict=True)
    ]
    # A stride leaves out windows in training; here every window is scored.
    every_window = {**(changes or {}), "data.window_stride": 1}
    configs = [config_for(checkpoint, device, None, llm, every_window) for checkpoint in loaded]
    _load_data(models, configs, task, offline)
    machine = look_at_machine()
    for model, checkpoint in zip(models, loaded, strict=True):
        _score_model(model, checkpoint, task, machine, batch_size, offline)
    data = max((model.data for model in models), key=lambda data: data.config.window.seq_len)
    baselines = [
        (baseline, _score(baseline.name, baseline.forecaster, data, task, _BASELINE_BATCH))
        for baseline in fit_baselines(data)
    ]
    leaderboard = make_leaderboard(data, task, models, baselines)
    if as_json:
        print_json(to_json(leaderboard))
    else:
        out.print(render(leaderboard))
    if report is not None:
        _write_report(report, leaderboard, models, _command(paths, task, report))


def _distinct(paths: list[Path]) -> list[Path]:
    """The files without copies and other paths of the same one, which are noted."""
    kept: dict[bytes, Path] = {}
    for path in paths:
        content = sha256(path.read_bytes()).digest() if path.is_file() else bytes(path)
        if content in kept:
            print_note(f"'{path}' is the same file as '{kept[content]}' or a copy of it, and is scored once")
        kept.setdefault(content, path)
    return list(kept.values())


def _check_arguments(paths: list[Path], task: Task, report: Path | None) -> None:
    if task.csv is not None and task.zero_shot is not None:
        raise ConfigError(
            "--csv and --zero-shot cannot go together",
            "--csv FILE.csv has the trained columns and is standardised as in training; --zero-shot takes any dataset",
        )
    if report is not None:
        others = [Path(name) for name in (task.csv, task.zero_shot) if name is not None]
        check_target("--report", report, (*paths, *others))
        if report.suffix.lower() not in (".html", ".htm"):
            raise ConfigError(f"--report {report}: the page is HTML", f"--report {report.with_suffix('.html')}")


def _load_data(models: list[Evaluated], configs: list[Config], task: Task, offline: bool) -> None:
    """Load what each model is scored on. Raises ConfigError where the models cannot be compared."""
    if task.zero_shot is None:
        require_comparable(models, task)
    for model, config in zip(models, configs, strict=True):
        if task.zero_shot is not None:
            other = transfer(config, task.zero_shot)
            provide(other, offline, console_reporter())
            model.data = load_data(other)
        else:
            trained = config if task.csv is None else stand_in(config, task.csv)
            provide(trained, offline, console_reporter())
            _require_trained_columns(model, trained, task)
            model.data = load_data(trained, model.scaler, model.columns, model.ids)
    if task.zero_shot is not None:
        on_other_data = [
            replace(
                model,
                config=model.data.config,
                columns=model.data.table.columns,
                ids=model.data.table.series.ids,
                scaler=model.data.scaler,
            )
            for model in models
        ]
        require_comparable(on_other_data, Task(split=task.split))


def _require_trained_columns(model: Evaluated, config: Config, task: Task) -> None:
    path = path_of(config.data)
    if task.csv is not None:
        for file in [] if config.data.is_wide else data_files(task.csv):
            csv = open_csv(file, None, config.data)
            require_columns(csv, date_columns(csv, config.data), model.columns)
    elif not path.is_file() and not holds_several(path):
        raise DataError(
            f"the CSV that {model.name} was trained on is not at {path}",
            "give it with --csv FILE.csv" + ("" if config.data.path else f", or: {remedy_for_data(config.data)}"),
        )


def _score_model(
    model: Evaluated, checkpoint: Checkpoint, task: Task, machine: Machine, batch_size: int | None, offline: bool
) -> None:
    """Load the model, score it, make the examples, and free it: only one LLM at a time is in memory."""
    # Bands belong to the dataset and the channels that were validated.
    intervals = checkpoint.intervals if task.zero_shot is None else None
    if intervals is not None and (intervals.rows_of(model.data.table)[-len(model.data.scored_channels) :] < 0).any():
        intervals = None
    count = CoverageCount(intervals, model.data) if intervals else None
    try:
        with err.status(Text(f"Loading {model.name}")):
            runner, samples_at_once = open_checkpoint(checkpoint, model.data.config, machine, offline)
        with gpu_memory_errors():
            batch_size = batch_size or samples_at_once
            model.scores = _score(model.name, runner, model.data, task, batch_size, count.add if count else None)
            model.examples = make_examples(runner, model.data, task.split, model.scores, intervals)
    finally:
        free_gpu_memory()  # recorded CUDA graphs would keep their memory while the next model is loaded
    model.coverage = count.result() if count else ()


def _score(
    name: str,
    forecaster: Forecaster,
    data: ForecastData,
    task: Task,
    batch_size: int,
    on_errors: Callable[[Batch, Tensor], None] | None = None,
) -> Scores:
    """Score with a progress bar."""
    with scoring_progress(name, len(data.windows(task.split).numbers(task.limit))) as advance:
        return score(forecaster, data, task.split, batch_size, limit=task.limit, on_batch=advance, on_errors=on_errors)


def _write_report(path: Path, leaderboard: Leaderboard, models: list[Evaluated], command: str) -> None:
    for model in models:
        model.training_log = read_metrics(RunDirectory(model.path.parent).metrics)
    with writing(path):
        write_report(path, leaderboard, models, command)
    say(f"Report: {path}")


def _command(paths: list[Path], task: Task, report: Path) -> str:
    """The command line, with the options that decide the figures."""
    words = ["timellm eval", *map(quote, paths)]
    words += ["--csv", quote(task.csv)] if task.csv else []
    words += ["--zero-shot", quote(Path(task.zero_shot))] if task.zero_shot else []
    words += ["--split", task.split] if task.split != "test" else []
    words += ["--limit", str(task.limit)] if task.limit else []
    return " ".join([*words, "--report", quote(report)])
