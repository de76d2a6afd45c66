"""Verbs of one call each, beside the training and its use: m4, init, runs and doctor. Light."""

from pathlib import Path
from typing import Annotated

import typer

from timellm_cli.options import Json, with_file_and_config_flags
from timellm_cli.settings import Settings
from timellm_cli.verbs import Verb, runs


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


_VERBS = {"m4": m4_command, "init": init_command, "runs": runs_command, "doctor": doctor_command}


def add_small_verbs(app: typer.Typer) -> None:
    """Make them commands of `app`."""
    for name, command in _VERBS.items():
        app.command(name, cls=Verb)(command)
