"""`timellm eval`: checkpoints and baselines on the same windows, in one table."""

from pathlib import Path

from timellm_cli.commands.contest import Trained, enter, score_model, score_showing
from timellm_cli.commands.output_files import check_target, writing
from timellm_cli.console import out, print_json, say
from timellm_cli.errors import ConfigError
from timellm_cli.evaluation.baselines import fit_baselines
from timellm_cli.evaluation.comparison import Comparison, compare, to_json
from timellm_cli.evaluation.entries import Contestant
from timellm_cli.evaluation.examples import Example
from timellm_cli.evaluation.subjects import notes_on
from timellm_cli.evaluation.task import Task
from timellm_cli.planning.machine import look_at_machine
from timellm_cli.report.html_report import RunShown, write_report
from timellm_cli.report.metrics_log import read_metrics
from timellm_cli.report.run_summary import quote
from timellm_cli.report.score_table import render
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
) -> None:
    """Score every checkpoint and the baselines on every window of a split; print the comparison, and write it.

    Raises ConfigError for checkpoints that cannot be compared and for a report that cannot be written, DataError for
    the CSV, ModelError for LLM and hardware.
    """
    paths, task = list(dict.fromkeys(checkpoints)), Task(data_path, zero_shot, split, limit)
    _check(paths, task, report)
    contest = enter(paths, task, device, llm, offline)
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
