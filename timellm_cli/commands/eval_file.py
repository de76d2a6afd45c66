"""`timellm eval FORECAST --against ACTUAL`: score a forecast that was already made, by any tool, on what happened."""

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from timellm_cli.config import DataConfig
from timellm_cli.console import out, print_json, print_note
from timellm_cli.data.columns import date_columns
from timellm_cli.data.guess import settle
from timellm_cli.data.open_csv import open_csv
from timellm_cli.data.rows import Rows
from timellm_cli.data.sources import FILE_COLUMN, read_source
from timellm_cli.datasets import data_files, holds_several
from timellm_cli.errors import ConfigError
from timellm_cli.evaluation.against import read_lines, score_against, value_columns
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
    data = _config_of(forecasts[0], changes)
    if data.is_wide:
        ours, theirs = read_lines(forecasts[0], actual, data)
    else:
        ours, theirs = read_source(forecasts[0], data), _read_actual(actual, changes, forecasts[0], data)
    for note in dict.fromkeys((*ours.notes, *theirs.notes)):
        print_note(note)
    scores = score_against(ours, theirs, data)
    if as_json:
        print_json({"forecast": str(forecasts[0]), "actual": str(actual), **asdict(scores)})
    else:
        out.print(render_against(scores, forecasts[0].name, actual.name, with_metrics=metrics))


def _config_of(path: Path, changes: Mapping[str, Any]) -> DataConfig:
    """How to read a file, with date column and target found where the user named none."""
    settings = resolve(flags={"data.dataset": "custom", "data.path": str(path)})
    origins = {**settings.origins, **dict.fromkeys(changes, "flag")}
    return settle(replace(settings, config=settings.config.with_values(changes), origins=origins)).config.data


def _read_actual(path: Path, changes: Mapping[str, Any], forecast: Path, data: DataConfig) -> Rows:
    """What happened: of the columns that the forecast has, where they are all there; else of every column."""
    if holds_several(path) and changes.get("data.id_column") == FILE_COLUMN:
        changes = {**changes, "data.id_column": None}
    own = _config_of(path, changes)
    dates_and_ids = {*date_columns(open_csv(forecast, None, data), data), data.id_column}
    wanted = tuple(name for name in value_columns(open_csv(forecast, None, data).header) if name not in dates_and_ids)
    if wanted and set(wanted) <= set(open_csv(data_files(path)[0], None, own).header):
        own = own.model_copy(update={"columns": wanted, "target": wanted[-1]})
    return read_source(path, own)
