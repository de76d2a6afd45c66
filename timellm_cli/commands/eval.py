"""`timellm eval`: score checkpoints and baselines on the same windows, and print and write the leaderboard."""

from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from timellm_cli.commands.eval_file import is_table
from timellm_cli.commands.eval_file import run as score_file
from timellm_cli.commands.score_fold import Scoring
from timellm_cli.commands.together import shared_out
from timellm_cli.console import out, print_json, print_note, say
from timellm_cli.datasets import csv_named
from timellm_cli.errors import ConfigError, ModelError
from timellm_cli.evaluation.classical import choose_classical
from timellm_cli.evaluation.evaluated import Evaluated, name_checkpoints
from timellm_cli.evaluation.folds import Round, fold_of, join_rounds, require_whole_folds
from timellm_cli.evaluation.leaderboard import Leaderboard, make_leaderboard, to_json
from timellm_cli.evaluation.task import Task
from timellm_cli.files import check_target, writing
from timellm_cli.forecasting.open_checkpoint import config_for
from timellm_cli.planning.hardware import look_at_machine
from timellm_cli.processes.group import Group
from timellm_cli.report.html_report import write_report
from timellm_cli.report.score_table import render
from timellm_cli.report.train_summary import quote
from timellm_cli.report.training_log import read_metrics
from timellm_cli.training.checkpoint import Checkpoint, clock_of, load_checkpoint
from timellm_cli.training.run_directory import RunDirectory, nearby_checkpoints


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
    metrics: bool = False,
    against: Path | None = None,
    baselines: str | None = None,
    baseline_minutes: float = 10.0,
    changes: Mapping[str, Any] | None = None,
) -> None:
    """Score every checkpoint and the baselines on every window of a split, and show the leaderboard.

    Several processes score a part of the windows each, and the first one shows and writes. With `against`, score a file
    of forecasts on that one instead.

    Raises ConfigError for checkpoints that cannot be compared and for a report that cannot be written, DataError for
    the CSV, ModelError for the LLM and the hardware.
    """
    if against is not None:
        score_file(checkpoints, csv_named(against), changes or {}, as_json=as_json, metrics=metrics)
        return
    _refuse_tables(checkpoints)
    classical = choose_classical(baselines)
    paths, task = distinct(checkpoints), Task(data_path, zero_shot, split, limit)
    _check_arguments(paths, task, report)
    with shared_out(device) as group:
        require_one_process(group, classical)
        leaderboard, scored = score_all(
            paths, task, batch_size=batch_size, device=device, llm=llm, offline=offline, metrics=metrics,
            classical=classical, baseline_minutes=baseline_minutes, changes=changes or {}, group=group,
        )  # fmt: skip
    if not group.place.is_first:
        return
    if as_json:
        print_json(to_json(leaderboard))
    else:
        out.print(render(leaderboard, with_metrics=metrics))
    if report is not None:
        _write_report(report, leaderboard, scored, _command(paths, task, report, baselines))


def _refuse_tables(checkpoints: list[Path]) -> None:
    """Raise ModelError for a table that is given as a checkpoint."""
    if tables := [path for path in checkpoints if is_table(path)]:
        raise ModelError(
            f"'{tables[0]}' is no timellm checkpoint but a table",
            f"{nearby_checkpoints(tables[0])}; a forecast is scored with: {tables[0]} --against ACTUAL.csv",
        )


def score_all(
    paths: list[Path],
    task: Task,
    *,
    batch_size: int | None,
    device: str,
    llm: str | None,
    offline: bool,
    metrics: bool,
    classical: tuple[str, ...] = (),
    baseline_minutes: float = 10.0,
    changes: Mapping[str, Any],
    group: Group | None = None,
) -> tuple[Leaderboard, Sequence[Evaluated]]:
    """The leaderboard of checkpoints and baselines, and the checkpoints with their scores. Raises as `run`.

    The processes of a `group` each return all of it.
    """
    group, loaded = group or Group(), [load_checkpoint(path) for path in paths]
    if group.size > 1:
        group.require_same("set of checkpoints", digest_of(paths))
    models = [_evaluated(*one) for one in zip(name_checkpoints(paths), paths, loaded, strict=True)]
    # A stride leaves out windows in training; here every window is scored.
    every_window = {**changes, "data.window_stride": 1}
    configs = [config_for(checkpoint, device, None, llm, every_window) for checkpoint in loaded]
    if task.zero_shot is None:
        require_whole_folds([one.config for one in models], [one.name for one in models], [one.stage for one in models])
    folds = [fold_of(model.config) if task.zero_shot is None else 0 for model in models]
    scoring = Scoring(
        task,
        look_at_machine(),
        batch_size,
        offline,
        with_bands_of_baselines=metrics,
        classical=classical,
        minutes=baseline_minutes / max(len(set(folds)), 1),
        group=group,
    )
    rounds: list[Round] = []
    for fold in sorted(set(folds)):
        of_fold = [position for position, own in enumerate(folds) if own == fold]
        own = [(models[position], loaded[position], configs[position]) for position in of_fold]
        rounds.append(scoring.score_fold(fold, own, rounds[0].std_C if rounds else None))
    joined = join_rounds(rounds)
    rows, spaced = [one.rows(task.split) for one in rounds], [one.spaced for one in rounds if one.spaced]
    leaderboard = make_leaderboard(joined.data, task, joined.models, joined.baselines, rows, spaced)
    return leaderboard, joined.models


def _evaluated(name: str, path: Path, checkpoint: Checkpoint) -> Evaluated:
    return Evaluated(
        name=name,
        path=path,
        config=checkpoint.config,
        columns=checkpoint.columns,
        ids=checkpoint.ids,
        scaler=checkpoint.scaler,
        cadence=checkpoint.cadence,
        rows=checkpoint.rows,
        training_id=checkpoint.training_id,
        stage=checkpoint.stage,
        llm_fingerprint=checkpoint.llm_fingerprint,
        epoch=checkpoint.epoch,
        clock=clock_of(checkpoint),
    )


def require_one_process(group: Group, classical: tuple[str, ...]) -> None:
    """Raise ConfigError where slow baselines would be fitted by several processes."""
    if classical and group.size > 1:
        raise ConfigError(
            "--baselines are fitted in one command with all cores, and --processes shares out windows",
            "leave one of them out",
        )


def digest_of(paths: Sequence[Path]) -> str:
    """A short digest of the content of these files."""
    content = sha256()
    for path in paths:
        content.update(sha256(path.read_bytes()).digest())
    return content.hexdigest()[:16]


def distinct(paths: list[Path]) -> list[Path]:
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


def _write_report(path: Path, leaderboard: Leaderboard, models: Sequence[Evaluated], command: str) -> None:
    for model in models:
        model.training_log = read_metrics(RunDirectory(model.path.parent).metrics)
    with writing(path):
        write_report(path, leaderboard, models, command)
    say(f"Report: {path}")


def _command(paths: list[Path], task: Task, report: Path, baselines: str | None) -> str:
    """The command line, with the options that decide the figures."""
    words = ["timellm eval", *map(quote, paths)]
    words += ["--csv", quote(task.csv)] if task.csv else []
    words += ["--zero-shot", quote(Path(task.zero_shot))] if task.zero_shot else []
    words += ["--split", task.split] if task.split != "test" else []
    words += ["--limit", str(task.limit)] if task.limit else []
    words += ["--baselines", baselines] if baselines else []
    return " ".join([*words, "--report", quote(report)])
