"""`timellm eval FORECAST --against ACTUAL`: score a forecast that was already made, by any tool, on what happened."""

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from timellm_cli.config import DataConfig
from timellm_cli.console import out, print_json, print_note
from timellm_cli.data.guess import settle
from timellm_cli.data.rows import Rows
from timellm_cli.data.sources import FILE_COLUMN, read_source
from timellm_cli.datasets import holds_several
from timellm_cli.errors import ConfigError
from timellm_cli.evaluation.against import score_against, value_columns
from timellm_cli.report.against_table import render_against
from timellm_cli.settings import resolve

_ARCHIVE = b"PK\x03\x04"
"""What a checkpoint begins with."""


def is_checkpoint(path: Path) -> bool:
    """Whether a file is an archive, as checkpoints are; what is not there may be one."""
    if not path.is_file():
        return True
    with path.open("rb") as file:
        return file.read(len(_ARCHIVE)) == _ARCHIVE


def is_table(path: Path) -> bool:
    """Whether a file may be a table: Parquet, or text."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        head = file.read(4096)
    return head.startswith(b"PAR1") or (bool(head) and b"\0" not in head and b"\n" in head)


def run(forecasts: list[Path], actual: Path, changes: Mapping[str, Any], *, as_json: bool, metrics: bool) -> None:
    """Score one file of forecasts, and show the figures. Raises ConfigError for a checkpoint, DataError for a file."""
    if len(forecasts) > 1 or is_checkpoint(forecasts[0]):
        what = f"'{forecasts[0]}' is a checkpoint" if len(forecasts) == 1 else f"{len(forecasts)} files are given"
        raise ConfigError(
            f"--against scores one file of forecasts, but {what}",
            "timellm eval FORECAST.csv --against ACTUAL.csv; a checkpoint is scored on a file with --csv ACTUAL.csv",
        )
    ours, data = _read(forecasts[0], changes, ())
    by_file = holds_several(actual) and changes.get("data.id_column") == FILE_COLUMN
    names = tuple(value_columns(ours.frame.columns))
    theirs, _ = _read(actual, {**changes, "data.id_column": None} if by_file else changes, names)
    for note in dict.fromkeys((*ours.notes, *theirs.notes)):
        print_note(note)
    scores = score_against(ours, theirs, data)
    if as_json:
        print_json({"forecast": str(forecasts[0]), "actual": str(actual), **asdict(scores)})
    else:
        out.print(render_against(scores, forecasts[0].name, actual.name, with_metrics=metrics))


def _read(path: Path, changes: Mapping[str, Any], wanted: tuple[str, ...]) -> tuple[Rows, DataConfig]:
    """The rows of a file; of the columns `wanted` alone, where it has all of them. Date column and target are found."""
    settings = resolve(flags={"data.dataset": "custom", "data.path": str(path)})
    origins = {**settings.origins, **dict.fromkeys(changes, "flag")}
    if settings.config.with_values(changes).data.is_wide:
        raise ConfigError(
            "--against matches values by timestamps, which a file of a series a line has none of",
            "write both as a column a series, or as a long table with --id-column",
        )
    data = settle(replace(settings, config=settings.config.with_values(changes), origins=origins)).config.data
    if wanted:
        header = _header(path, data)
        if set(wanted) <= set(header):
            data = data.model_copy(update={"columns": wanted, "target": wanted[-1]})
    return read_source(path, data), data


def _header(path: Path, data: DataConfig) -> tuple[str, ...]:
    from timellm_cli.data.open_csv import open_csv
    from timellm_cli.datasets import data_files

    return tuple(open_csv(data_files(path)[0], None, data).header)
