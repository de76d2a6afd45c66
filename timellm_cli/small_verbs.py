"""Verbs of one call each, beside the training and its use: m4, init, runs, doctor, push and pull. Light."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from timellm_cli.options import Json, with_file_and_config_flags
from timellm_cli.settings import Settings
from timellm_cli.verbs import Verb, load_command, require_files, runs


@runs("m4", is_heavy=True)
def m4_command(
    forecast: Annotated[Path, typer.Argument(metavar="FORECAST.csv", help="What `timellm predict` wrote.")],
    train: Annotated[Path, typer.Option("--train", metavar="FILE.csv", help="M4's training file of that part.")],
    test: Annotated[Path, typer.Option("--test", metavar="FILE.csv", help="M4's test file, such as Monthly-test.csv.")],
    part: Annotated[
        str | None, typer.Option("--part", metavar="NAME", help="Of M4. Default: as the file says.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Score a forecast of M4 as the competition did: sMAPE, MASE, and OWA against Naive2."""


@with_file_and_config_flags
@runs("init")
def init_command(
    settings: Settings,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE.toml", help="Where to write the profile.")
    ] = None,
) -> None:
    """Write a commented profile for your CSV, with what was understood of it and a description to fill in."""


@runs("runs")
def runs_command(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where the runs are.")] = Path("checkpoints"),
    as_json: Json = False,
) -> None:
    """List the runs in checkpoints/ with their scores."""


@runs("doctor")
def doctor_command(as_json: Json = False) -> None:
    """Say what this computer has for timellm (versions, GPU, kernels, caches), and what to mend with which command."""


def push_command(
    folder: Annotated[Path, typer.Argument(metavar="RUN", help="The run's folder, such as checkpoints/RUN.")],
    name: Annotated[str, typer.Argument(metavar="OWNER/NAME", help="Its name on the hub.")],
    figures: Annotated[
        Path | None,
        typer.Option("--figures", metavar="FILE.json", help="Of `timellm eval --json`. Default: RUN/eval.json."),
    ] = None,
    private: Annotated[bool, typer.Option("--private", help="Show it to nobody else.")] = False,
    card_only: Annotated[bool, typer.Option("--card-only", help="Print its card, and upload nothing.")] = False,
) -> None:
    """Upload a run to the Hugging Face hub, with a card that carries its figures beside the baselines'."""
    require_files({"checkpoint": folder / "best.pt"})
    load_command("share", True).push(folder, name, figures=figures, private=private, card_only=card_only)


def pull_command(
    name: Annotated[str, typer.Argument(metavar="OWNER/NAME", help="The run's name on the hub.")],
    directory: Annotated[
        Path, typer.Option("--checkpoints", metavar="FOLDER", help="The folder that holds the runs.")
    ] = Path("checkpoints"),
) -> None:
    """Download a run from the Hugging Face hub into checkpoints/."""
    load_command("share", True).pull(name, directory=directory)


_VERBS: dict[str, Callable[..., None]] = {
    "m4": m4_command, "init": init_command, "runs": runs_command, "doctor": doctor_command, "push": push_command,
    "pull": pull_command,
}  # fmt: skip


def add_small_verbs(app: typer.Typer) -> None:
    """Make them commands of `app`."""
    for name, command in _VERBS.items():
        app.command(name, cls=Verb)(command)
