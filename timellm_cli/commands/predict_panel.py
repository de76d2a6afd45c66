"""`timellm predict` for a checkpoint of many series: all are forecast in batches, and a bad one is skipped."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from timellm_cli.commands.fetch import console_reporter
from timellm_cli.commands.show_forecast import draw
from timellm_cli.config import Config
from timellm_cli.console import err, print_data, print_json, print_note
from timellm_cli.data.columns import date_columns
from timellm_cli.data.forecast_input import read_known_rows
from timellm_cli.data.rows import Rows
from timellm_cli.data.sources import series_name
from timellm_cli.errors import ConfigError
from timellm_cli.files import replacing, writing
from timellm_cli.forecasting.known_ahead import KnownAhead
from timellm_cli.forecasting.open_checkpoint import open_checkpoint
from timellm_cli.forecasting.panel import PanelForecasts, Wanted, none_of
from timellm_cli.model.runner import gpu_memory_errors
from timellm_cli.planning.hardware import look_at_machine
from timellm_cli.report.forecast import Forecast, join_forecasts, render, to_json
from timellm_cli.report.forecast_file import Layout
from timellm_cli.report.progress import scoring_progress
from timellm_cli.training.checkpoint import Checkpoint

_SHOWN = 8
"""So many series are drawn, or shown on the terminal."""
_NAMED = 10


@dataclass(frozen=True)
class Request:
    """What the user asked for. `about` are further entries of the object that `--json` prints, None without it.

    `wide`: the input has a series a line, and so has the output. `to_folder`: the input is a folder, and the output is
    one with a file for each series.
    """

    wanted: Wanted
    output: Path | None
    plot: Path | None
    about: Mapping[str, Any] | None
    wide: bool
    to_folder: bool = False


def run(
    trained: Checkpoint,
    config: Config,
    content: Path | bytes,
    request: Request,
    known: KnownAhead | None,
    *,
    offline: bool,
) -> None:
    """Forecast every series of a file, and write, print and draw it. A series that cannot be forecast is named.

    Raises DataError for the file, if no series can be forecast, and with `strict` for the first that cannot.
    """
    rows = read_known_rows(content, config, trained.columns, trained.date_format, is_panel=True)
    assert rows.series is not None
    for note in rows.notes:
        print_note(note)
    with err.status("Loading the model"):
        runner, batch_size = open_checkpoint(
            trained, config, look_at_machine(), offline, console_reporter(), print_note
        )
    if known:
        known.read_first(rows, request.wanted.at, runner.device, print_note)
    batches = PanelForecasts(trained, config, runner, batch_size, request.wanted, known=known, on_note=print_note)
    count = rows.series.n_unique()
    with (
        gpu_memory_errors(),
        scoring_progress(config.run.name, count, "Forecasting", "series") as add,
    ):
        layout = Layout(rows.csv, date_columns(rows.csv, config.data), request.wide)
        forecasts = batches.forecasts(rows, add=add)
        shown = _write(forecasts, layout, request, batches.skipped, _layouts(rows, config, request))
    print_skipped(batches.skipped, count)
    if request.plot is not None and shown:
        draw(join_forecasts(shown), request.plot)
    if shown and request.output is not None:
        err.print(render(join_forecasts(shown), err.width))
        if count - len(batches.skipped) > len(shown):
            print_note(f"{count - len(batches.skipped):,} series were forecast; the first {len(shown)} are shown")


def _layouts(rows: Rows, config: Config, request: Request) -> dict[str, Layout]:
    """The layout of each file of a folder, by its series. Raises ConfigError where a file holds several series."""
    if not request.to_folder:
        return {}
    if config.data.id_column is not None:
        raise ConfigError(
            f"--output {request.output}: the files hold several series each ('{config.data.id_column}')",
            "name a file that ends in .csv or .parquet",
        )
    parts = [part.csv for _, part in rows.files] or [rows.csv]
    return {series_name(csv.path): Layout(csv, date_columns(csv, config.data)) for csv in parts if csv.path is not None}


def _write(
    forecasts: Iterator[Forecast],
    layout: Layout,
    request: Request,
    skipped: Mapping[str, str],
    layouts: Mapping[str, Layout],
) -> list[Forecast]:
    """Write the forecasts where they go; returns the first ones. Raises DataError where there are none.

    `layouts` are those of the files of a folder, by series.
    """
    shown: list[Forecast] = []

    def noted() -> Iterator[Forecast]:
        for forecast in forecasts:
            if len(shown) < _SHOWN:
                shown.append(forecast)
            yield forecast
        if not shown:
            raise none_of(skipped)

    if request.about is not None:
        series = {forecast.series: to_json(forecast) for forecast in noted()}
        print_json({**request.about, "series": series, "skipped": dict(skipped)})
    elif request.output is not None and request.to_folder:
        _write_files(noted(), request.output, layouts)
    elif request.output is not None:
        with writing(request.output), replacing(request.output) as file:
            file.writelines(layout.pieces(noted(), request.output))
    else:
        print_data("".join(layout.text(one, header=not number) for number, one in enumerate(noted())))
    return shown


def _write_files(forecasts: Iterator[Forecast], folder: Path, layouts: Mapping[str, Layout]) -> None:
    """A file for each series, laid out as its own was. Nothing is half-written where the forecast is interrupted."""
    with writing(folder):
        folder.mkdir(exist_ok=True)
        for forecast in forecasts:
            layout = layouts[forecast.series]
            ending = ".parquet" if layout.csv.path is not None and layout.csv.path.suffix == ".parquet" else ".csv"
            path = folder / f"{forecast.series}{ending}"
            with replacing(path) as file:
                file.writelines(layout.pieces([replace(forecast, id_column=None)], path))


def print_skipped(skipped: Mapping[str, str], count: int) -> None:
    """Name the first of the series that are left out, with the reasons."""
    if not skipped:
        return
    print_note(f"{len(skipped):,} of {count:,} series could not be forecast and are left out (--strict stops instead):")
    for name, why in list(skipped.items())[:_NAMED]:
        print_note(f"'{name}': {why}")
    if len(skipped) > _NAMED:
        print_note(f"and {len(skipped) - _NAMED:,} more; --json names them all")
