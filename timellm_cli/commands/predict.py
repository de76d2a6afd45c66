"""`timellm predict`: a checkpoint and a CSV to a dated forecast in the CSV's units."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from timellm_cli.commands.fetch import console_reporter
from timellm_cli.commands.predict_panel import Request
from timellm_cli.commands.predict_panel import run as run_panel
from timellm_cli.commands.predict_processes import run as run_processes
from timellm_cli.commands.show_forecast import draw
from timellm_cli.config import Config
from timellm_cli.console import err, print_data, print_json, print_note, say
from timellm_cli.data.columns import date_columns
from timellm_cli.data.forecast_input import ForecastInput, read_input
from timellm_cli.datasets import csv_named
from timellm_cli.errors import ConfigError
from timellm_cli.evaluation.bands import choose_levels
from timellm_cli.files import check_folder, check_target, replacing, writing
from timellm_cli.forecasting.dated_forecast import Shape
from timellm_cli.forecasting.known_ahead import KnownAhead, know_ahead
from timellm_cli.forecasting.one_table import forecast_table, notes_on, require_numbers_of
from timellm_cli.forecasting.open_checkpoint import config_for, open_checkpoint
from timellm_cli.forecasting.panel import Wanted
from timellm_cli.planning.hardware import look_at_machine
from timellm_cli.report.forecast import Forecast, render, to_json
from timellm_cli.report.forecast_file import Layout
from timellm_cli.training.checkpoint import Checkpoint, load_checkpoint
from timellm_cli.units import format_count


def run(
    checkpoint: Path,
    source: str,
    *,
    output: Path | None,
    at: str | None,
    steps: int | None,
    levels: str | None,
    future: Path | None = None,
    plot: Path | None,
    device: str,
    llm: str | None,
    offline: bool,
    as_json: bool,
    strict: bool = False,
    processes: int | None = None,
    lowest: float | None = None,
    is_sum: bool = False,
    changes: Mapping[str, Any] | None = None,
) -> None:
    """Forecast what follows the CSV's last row, or the row `at`, and write, print and draw it.

    Raises DataError for the CSV, ConfigError for where to write, ModelError for checkpoint, LLM and hardware.
    """
    path = None if source == "-" else csv_named(source)
    to_folder = path is not None and output is not None and path.is_dir() and not output.suffix
    _refuse_drawn_sum(is_sum, plot)
    _check_targets([file for file in (checkpoint, path, future) if file], output, plot, to_folder)
    trained = load_checkpoint(checkpoint)
    shape = Shape(choose_levels(levels, trained.intervals, checkpoint) if levels else (), lowest, is_sum)
    shape.require_bands(trained, steps or trained.config.window.pred_len)
    config = config_for(trained, device, path or Path(source), llm, changes)
    content = sys.stdin.buffer.read() if path is None else path
    known = know_ahead(trained, config, content, steps, future)
    wanted_steps = steps or config.window.pred_len
    about = _about(checkpoint, source, config, steps) if as_json else None
    if trained.ids != ("",) or processes is not None:
        _print_notes([], config.window.pred_len, wanted_steps, shape)
        request = Request(Wanted(wanted_steps, shape, at, strict), output, plot, about, config.data.is_wide, to_folder)
        if processes is None:
            run_panel(trained, config, content, request, known, offline=offline)
        else:
            run_processes(
                trained, config, content, request, processes, known, checkpoint=checkpoint, future=future, llm=llm,
                changes=changes or {}, offline=offline,
            )  # fmt: skip
        return
    given = read_input(content, config, trained.columns, trained.cadence, at, trained.date_format)
    forecast = _forecast(trained, config, given, wanted_steps, shape, known, source, offline)
    _show(forecast, Layout(given.table.csv, date_columns(given.table.csv, config.data)), output, plot, about)


def _forecast(
    trained: Checkpoint,
    config: Config,
    given: ForecastInput,
    steps: int,
    shape: Shape,
    known: KnownAhead | None,
    source: str,
    offline: bool,
) -> Forecast:
    """The forecast of one table. Raises DataError where the calendar ends before it does."""
    given.dates(steps)  # raises before anything is computed
    _print_notes(list(given.notes), config.window.pred_len, steps, shape)
    history_TC = require_numbers_of(given, trained, "standard input" if source == "-" else source)
    with err.status("Loading the model"):
        runner, batch_size = open_checkpoint(
            trained, config, look_at_machine(), offline, console_reporter(), print_note
        )
    return forecast_table(given, trained, runner, batch_size, history_TC, steps, shape, known, print_note)


def _show(
    forecast: Forecast, layout: Layout, output: Path | None, plot: Path | None, about: dict[str, Any] | None
) -> None:
    """Write, print and draw a forecast. `about` are further entries of the object that `--json` prints."""
    if output is not None:
        with writing(output), replacing(output) as file:
            file.writelines(layout.pieces([forecast], output))
        say(f"wrote {output}: {format_count(len(forecast.dates), 'row')}, {_bands(forecast)}")
    if plot is not None:
        draw(forecast, plot)
        say(f"drew {plot}")
    if about is not None:
        print_json({**about, **to_json(forecast)})
    elif output is None:
        print_data(layout.text(forecast))
    if output is not None or (sys.stdout.isatty() and about is None):
        err.print(render(forecast, err.width))


def _bands(forecast: Forecast) -> str:
    levels = " and ".join(str(band.level) for band in forecast.bands)
    return f"with bands of {levels} %" if levels else "without bands (--levels 80,95 adds them)"


def _refuse_drawn_sum(is_sum: bool, plot: Path | None) -> None:
    """Raise ConfigError where a sum is to be drawn."""
    if is_sum and plot is not None:
        raise ConfigError("--plot draws single steps, and --sum makes one value of them", "leave one of them out")


def _check_targets(inputs: list[Path], output: Path | None, plot: Path | None, to_folder: bool) -> None:
    """Refuse, before any work is done, a path that cannot be written or that this command needs for something else."""
    if output is not None and to_folder:
        check_folder("--output", output, inputs)
    elif output is not None:
        check_target("--output", output, inputs)
    if plot is not None:
        check_target("--plot", plot, inputs, [output])
    if plot is not None and plot.suffix.lower() != ".png":
        raise ConfigError(f"--plot {plot}: pictures are written as PNG", f"--plot {plot.with_suffix('.png')}")


def _print_notes(notes: list[str], pred_len: int, steps: int, shape: Shape) -> None:
    notes += notes_on(pred_len, steps, shape)
    for note in notes:
        print_note(note)


def _about(checkpoint: Path, source: str, config: Config, steps: int | None) -> dict[str, Any]:
    """The entries of the object of `--json` that are the same for every series."""
    pred_len = config.window.pred_len
    return {
        "checkpoint": str(checkpoint),
        "input": source,
        "pred_len": pred_len,
        "rolled_forward": (steps or pred_len) > pred_len,
    }
