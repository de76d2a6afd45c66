"""`timellm predict --processes N`: many series, shared out to processes in parts that a second start goes on with."""

import csv
import io
import os
from collections.abc import Mapping
from dataclasses import replace
from math import ceil
from pathlib import Path
from typing import Any

import torch

from timellm_cli.commands.fetch import console_reporter
from timellm_cli.commands.predict_panel import Request, print_skipped
from timellm_cli.config import Config
from timellm_cli.console import print_note, say
from timellm_cli.data.events import events_path
from timellm_cli.data.forecast_input import read_known_rows
from timellm_cli.errors import ConfigError, Interrupted
from timellm_cli.files import replacing, writing
from timellm_cli.forecasting import panel
from timellm_cli.forecasting.known_ahead import KnownAhead
from timellm_cli.forecasting.open_checkpoint import resolve_checkpoint
from timellm_cli.forecasting.panel import none_of
from timellm_cli.forecasting.processes import environments_of, forecast_parts
from timellm_cli.forecasting.shards import Job, Shards, digest_of, sources_of
from timellm_cli.planning.hardware import look_at_machine
from timellm_cli.report.progress import scoring_progress
from timellm_cli.training.checkpoint import Checkpoint
from timellm_cli.units import format_count


def require_parts(trained: Checkpoint, source: Path | bytes, request: Request) -> Path:
    """The input's path. Raises ConfigError for what cannot be made in parts."""
    if trained.ids == ("",):
        raise ConfigError(
            "--processes shares out many series, and this checkpoint was trained on a table without an id column",
            "leave --processes out",
        )
    if not isinstance(source, Path):
        raise ConfigError("--processes reads the input several times, and '-' can be read once", "give it as a file")
    if request.to_folder or request.output is None or request.about is not None or request.plot is not None:
        other = "a folder" if request.to_folder else "--json" if request.about is not None else "--plot"
        fault = "needs a file to write" if request.output is None else f"and {other} cannot go together"
        raise ConfigError(f"--processes {fault}", "give -o FILE.csv or -o FILE.parquet, without --json and --plot")
    return source


def run(
    trained: Checkpoint,
    config: Config,
    source: Path | bytes,
    request: Request,
    processes: int,
    known: KnownAhead | None,
    *,
    checkpoint: Path,
    future: Path | None,
    llm: str | None,
    changes: Mapping[str, Any],
    offline: bool,
) -> None:
    """Forecast every series of a file in so many processes, and join what they write.

    Raises DataError for the file, ConfigError for what cannot be shared out, ModelError for the hardware and for a
    process that dies, Interrupted after Ctrl-C, when the parts that are done are kept.
    """
    path = require_parts(trained, source, request)
    assert request.output is not None
    rows = read_known_rows(path, config, trained.columns, trained.date_format, is_panel=True)
    assert rows.series is not None
    count, notes = rows.series.n_unique(), rows.notes
    resolved, batch_size = resolve_checkpoint(config, look_at_machine(), offline, console_reporter())
    environments = environments_of(processes, _gpus() if resolved.hardware.device == "cuda" else ())
    if known:
        known.read_first(rows, request.wanted.at, torch.device(resolved.hardware.device), print_note)
    del rows, known  # the processes read the files themselves
    files = [found for file in (path, future, _events(config)) if file for found in sources_of(file)]
    job = _job(checkpoint, path, files, request, resolved.hardware.device, batch_size)
    job = replace(job, future=str(future) if future else None, llm=llm, changes=dict(changes))
    for note in notes:
        print_note(note)
    shards = Shards(request.output)
    with shards.locked():
        for note in shards.begin(job):
            print_note(note)
        number = ceil(count / shards.job().at_once)
        _forecast(shards, number, count, environments, config.run.name)
        skipped = _join(shards, number, request.output)
    shards.remove()
    print_skipped(skipped, count)


def _job(checkpoint: Path, source: Path, files: list[list[Any]], request: Request, device: str, batch_size: int) -> Job:
    """What every part of the forecast is made from, and how."""
    assert request.output is not None
    wanted = request.wanted
    return Job(
        checkpoint=str(checkpoint.absolute()),
        checkpoint_id=digest_of(checkpoint),
        source=str(source),
        sources=files,
        future=None,
        device=device,
        llm=None,
        changes={},
        at=wanted.at,
        steps=wanted.steps,
        levels=list(wanted.shape.levels),
        lowest=wanted.shape.lowest,
        is_sum=wanted.shape.is_sum,
        strict=wanted.strict,
        batch_size=batch_size,
        at_once=panel.SERIES_AT_ONCE,
        suffix=request.output.suffix.lower(),
    )


def _forecast(shards: Shards, number: int, count: int, environments: list[dict[str, str]], name: str) -> None:
    """Forecast the parts that are not there yet."""
    left = [part for part in range(number) if not shards.is_done(part)]
    if len(left) < number:
        say(f"Going on: {number - len(left):,} of {number:,} parts are in '{shards.path}'")
    if not left:
        return
    try:
        with scoring_progress(name, count, "Forecasting", "series") as add:
            for part in set(range(number)) - set(left):
                add(shards.part(part).series)
            forecast_parts(shards, left, environments[: len(left)], on_done=lambda part: add(shards.part(part).series))
    except KeyboardInterrupt:
        done = sum(shards.is_done(part) for part in range(number))
        raise Interrupted(
            f"stopped: {done:,} of {number:,} parts are kept in '{shards.path}'",
            "the same command goes on from there",
        ) from None


def _join(shards: Shards, number: int, output: Path) -> dict[str, str]:
    """Write the output, and beside it the series that are left out; returns these with their reasons."""
    skipped = {name: why for part in range(number) for name, why in shards.part(part).skipped.items()}
    rows = sum(shards.part(part).rows for part in range(number))
    if not rows:
        shards.clear()
        raise none_of(skipped)
    with writing(output), replacing(output) as file:
        file.writelines(shards.join(number))
    series = sum(shards.part(part).series for part in range(number)) - len(skipped)
    say(f"'{output}' has the forecasts of {series:,} series in {format_count(rows, 'row')}")
    if skipped:
        listing = output.with_name(f"{output.stem}.skipped.csv")
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([("series", "why"), *skipped.items()])
        with writing(listing), replacing(listing) as file:
            file.write(text.getvalue().encode())
        say(f"'{listing}' names the {len(skipped):,} that are left out")
    return skipped


def _events(config: Config) -> Path | None:
    """The file of events that the forecast reads."""
    return events_path(config.ahead.events) if config.ahead.events else None


def _gpus() -> list[str]:
    """The ids of the GPUs that this process may use."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [one.strip() for one in visible.split(",") if one.strip()]
    return [str(number) for number in range(torch.cuda.device_count())]
