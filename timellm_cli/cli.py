"""The command line: verbs and their options. Light.

Every heavy import lives in a command's body, so that `--help` answers at once.
"""

import sys
from copy import copy
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from timellm_cli import __version__, completion
from timellm_cli.commands.start_processes import share_evaluation, start_processes
from timellm_cli.console import guard_streams, quiet_stderr, speak
from timellm_cli.data.guess import settle
from timellm_cli.errors import ConfigError
from timellm_cli.lang.choice import language_of_command
from timellm_cli.options import (
    Device,
    EvaluatingProcesses,
    Json,
    Language,
    MovedLLM,
    Network,
    Offline,
    PanelProcesses,
    PlannedProcesses,
    Processes,
    with_checkpoint_flags,
    with_config_flags,
    with_file_and_config_flags,
)
from timellm_cli.processes.allocator import use_expandable_segments
from timellm_cli.profile_verbs import profiles_app
from timellm_cli.settings import Settings
from timellm_cli.small_verbs import add_small_verbs
from timellm_cli.verb_options import (
    Against,
    At,
    AtATime,
    BaselineMinutes,
    Baselines,
    Csv,
    Evaluated,
    From,
    Future,
    History,
    IsSum,
    Levels,
    Limit,
    Lowest,
    Metrics,
    OneCheckpoint,
    Output,
    Plot,
    Quiet,
    ReportFile,
    ReportTo,
    Resume,
    Seeds,
    Split,
    Steps,
    Strict,
    WhichScaler,
    ZeroShot,
)
from timellm_cli.verbs import Verb, Verbs, load_command, require_files, runs

app = typer.Typer(
    cls=Verbs,
    name="timellm",
    help="Train and run Time-LLM, forecasting with a frozen LLM, on the hardware you have.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback(invoke_without_command=True)
def version_or_help(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
    debug: Annotated[  # noqa: ARG001  `Verbs.invoke` reads it
        bool, typer.Option("--debug", help="Show where in the code an error happened: timellm --debug train ...")
    ] = False,
    lang: Language = None,  # noqa: ARG001  `main` reads it
) -> None:
    if version:
        typer.echo(f"timellm {__version__}")
        raise typer.Exit


@app.command("inspect", cls=Verb)
@with_file_and_config_flags
@runs("inspect")
def inspect_command(
    settings: Settings,
    card: Annotated[
        str | None,
        typer.Option(
            "--gpu",
            metavar="NAME",
            autocompletion=completion.cards,
            help="Plan for this card, such as 'RTX 4060'; --vram 6GiB for any other.",
        ),
    ] = None,
    swept: Annotated[
        str | None,
        typer.Option("--sweep", metavar="KEY=A,B,...", help="One line for each value, such as batch_size=4,8,16."),
    ] = None,
    as_json: Json = False,
    explain: Annotated[
        bool, typer.Option("--explain", help="Answer what people ask, with the numbers of this run, and show formulas.")
    ] = False,
    show_prompt: Annotated[bool, typer.Option("--show-prompt", help="Print the prompt of the first sample.")] = False,
    show_patches: Annotated[
        bool, typer.Option("--show-patches", help="Print the shapes through the model and the first sample's patches.")
    ] = False,
    processes: PlannedProcesses = 1,
    network: Network = "80Gbit",
) -> None:
    """Say what a run will be before it starts: samples, steps, tokens, memory, what is missing. Loads no weights."""


@app.command("train", cls=Verb)
@with_file_and_config_flags
def train_command(
    settings: Settings,
    resume: Resume = None,
    start: From = None,
    scaler: WhichScaler = "auto",
    seeds: Seeds = None,
    processes: Processes = None,
    offline: Offline = False,
    as_json: Json = False,
    quiet: Quiet = False,
    report_to: ReportTo = None,
) -> None:
    """Train, and leave best.pt, last.pt, metrics.jsonl and curves.png in checkpoints/<run name>/."""
    batch = settings.config.train.batch_size
    start_processes(processes, settings.config.hardware.device, None if batch == "auto" else batch)
    if start and (resume or seeds or settings.config.data.folds > 1):
        other = "resume" if resume else "seeds" if seeds else "folds"
        raise ConfigError(f"--from begins one training, and --{other} others", "give one of them")
    named = {"resume": resume if seeds is None else None, "checkpoint": start}
    require_files(named if start else {"settings": settings, **named})
    if resume is None:
        settings = settle(settings, strict=start is None)
    data = settings.config.data
    is_one = seeds is None and (data.folds == 1 or data.fold is not None or resume not in (None, "auto"))
    arguments = (settings,) if is_one else (settings, seeds)
    started = {"start": start, "scaler": scaler} if start else {}
    with quiet_stderr(quiet):
        from timellm_cli.report.train_summary import starting_line

        first = starting_line(settings.config.llm) if resume is None else "Loading PyTorch"
        run = load_command("train" if is_one else "train_many", True, True, first).run
        shown = load_command("train", True).Shown("json" if as_json else "tables", report_to)
        run(*arguments, resume=resume, offline=offline, shown=shown, **started)


@app.command("eval", cls=Verb)
@with_checkpoint_flags
@runs("eval", is_heavy=True, before=share_evaluation)
def eval_command(
    changes: dict[str, Any],
    checkpoints: Evaluated,
    data_path: Csv = None,
    zero_shot: ZeroShot = None,
    split: Split = "test",
    limit: Limit = None,
    batch_size: AtATime = None,
    device: Device = "auto",
    llm: MovedLLM = None,
    offline: Offline = False,
    as_json: Json = False,
    report: ReportFile = None,
    metrics: Metrics = False,
    against: Against = None,
    baselines: Baselines = None,
    baseline_minutes: BaselineMinutes = 10.0,
    processes: EvaluatingProcesses = None,
) -> None:
    """Score checkpoints over every window of a split, beside simple baselines on the same windows."""


@app.command("predict", cls=Verb)
@with_checkpoint_flags
@runs("predict", is_heavy=True)
def predict_command(
    changes: dict[str, Any],
    checkpoint: OneCheckpoint,
    source: History,
    output: Output = None,
    at: At = None,
    steps: Steps = None,
    levels: Levels = None,
    future: Future = None,
    plot: Plot = None,
    strict: Strict = False,
    lowest: Lowest = None,
    is_sum: IsSum = False,
    processes: PanelProcesses = None,
    device: Device = "auto",
    llm: MovedLLM = None,
    offline: Offline = False,
    as_json: Json = False,
) -> None:
    """Forecast the rows after a CSV's last one, in the CSV's own units."""


@app.command("fetch", cls=Verb)
@runs("fetch")
def fetch_command(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="NAME...", autocompletion=completion.fetchable, help="What to fetch. None: list all."),
    ] = None,
    source: Annotated[
        Literal["hub", "modelscope"],
        typer.Option("--source", envvar="TIMELLM_SOURCE", help="Where LLMs come from: Hugging Face or ModelScope."),
    ] = "hub",
    mirror: Annotated[
        str | None,
        typer.Option(
            "--mirror", metavar="URL", envvar="TIMELLM_MIRROR", help="Take dataset files from this address instead."
        ),
    ] = None,
    offline: Offline = False,
    as_json: Json = False,
) -> None:
    """Download datasets and LLMs into the cache, verified before they replace anything."""


@app.command("import", cls=Verb)
@with_config_flags
@runs("import_any")
def import_command(
    settings: Settings,
    source: Annotated[
        str,
        typer.Argument(
            metavar="COMMAND|SCRIPT|CHECKPOINT",
            autocompletion=completion.scripts,
            help="A command in quotation marks, '-' (standard input), a .sh, .ps1 or .bat file, or a checkpoint.",
        ),
    ],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="The profile, a folder for several, or our checkpoint.")
    ] = None,
    offline: Offline = False,
) -> None:
    """Take over from the original: a `python run_main.py ...` becomes a profile, a checkpoint becomes one of ours."""


add_small_verbs(app)
app.add_typer(profiles_app, name="profiles", invoke_without_command=True)


def app_for(words: list[str]) -> typer.Typer:
    """The app with the one verb that these words name, if any: Typer makes every option of every verb it has."""
    named = next((word for word in words if not word.startswith("-")), None)
    kept = [command for command in app.registered_commands if command.name == named]
    if not kept:
        return app
    shorter = copy(app)
    shorter.registered_commands, shorter.registered_groups = kept, []
    return shorter


def main() -> None:
    """Entry point of the `timellm` command."""
    guard_streams()
    speak(language_of_command())
    use_expandable_segments()
    app_for(sys.argv[1:])()


if __name__ == "__main__":
    main()
