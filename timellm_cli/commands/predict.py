"""`timellm predict`: a checkpoint and a CSV to a dated forecast in the CSV's units."""

import sys
from collections.abc import Mapping
from math import ceil
from pathlib import Path
from typing import Any

from timellm_cli.commands.dated_forecast import Shape, date_forecast, draw
from timellm_cli.commands.open_checkpoint import config_for, open_checkpoint
from timellm_cli.commands.predict_panel import Request
from timellm_cli.commands.predict_panel import run as run_panel
from timellm_cli.config import Config
from timellm_cli.console import err, print_data, print_json, print_note, say
from timellm_cli.data.columns import date_columns
from timellm_cli.data.forecast_input import read_input
from timellm_cli.data.scale import Floats, require_computable
from timellm_cli.datasets import csv_named
from timellm_cli.errors import ConfigError
from timellm_cli.evaluation.bands import choose_levels
from timellm_cli.files import check_target, replacing, writing
from timellm_cli.model.runner import gpu_memory_errors
from timellm_cli.planning.hardware import look_at_machine
from timellm_cli.report.forecast import Forecast, render, to_json
from timellm_cli.report.forecast_file import Layout
from timellm_cli.training.checkpoint import Checkpoint, load_checkpoint
from timellm_cli.units import format_count

_FEW_CALLS = 3
"""So many calls of the model are faster without recording a CUDA graph first."""


def run(
    checkpoint: Path,
    source: str,
    *,
    output: Path | None,
    at: str | None,
    steps: int | None,
    levels: str | None,
    plot: Path | None,
    device: str,
    llm: str | None,
    offline: bool,
    as_json: bool,
    strict: bool = False,
    lowest: float | None = None,
    is_sum: bool = False,
    changes: Mapping[str, Any] | None = None,
) -> None:
    """Forecast what follows the CSV's last row, or the row `at`, and write, print and draw it.

    Raises DataError for the CSV, ConfigError for where to write, ModelError for checkpoint, LLM and hardware.
    """
    path = None if source == "-" else csv_named(source)
    if is_sum and plot is not None:
        raise ConfigError("--plot draws single steps, and --sum makes one value of them", "leave one of them out")
    _check_targets([checkpoint, *([path] if path else [])], output, plot)
    trained = load_checkpoint(checkpoint)
    shown_levels = choose_levels(levels, trained.intervals, checkpoint) if levels else ()
    shape = Shape(shown_levels, lowest, is_sum)
    shape.require_bands(trained, steps or trained.config.window.pred_len)
    config = config_for(trained, device, path or Path(source), llm, changes)
    content = sys.stdin.buffer.read() if path is None else path
    if trained.ids != ("",):
        about = _about(checkpoint, source, config, steps) if as_json else None
        _print_notes([], config.window.pred_len, steps or config.window.pred_len, shape)
        request = Request(at, steps or config.window.pred_len, shape, strict, output, plot, about, config.data.is_wide)
        run_panel(trained, config, content, request, offline=offline)
        return
    given = read_input(content, config, trained.columns, trained.cadence, at, trained.date_format)
    steps = steps or config.window.pred_len
    given.dates(steps)  # raises, before anything is computed, where the calendar ends
    _print_notes(list(given.notes), config.window.pred_len, steps, shape)

    history_TC = trained.scaler.standardise(given.table.values)
    for channel, column in enumerate(given.table.columns):
        require_computable(history_TC[:, channel], column, source if path else "standard input")
    future_HC = _forecast(trained, config, history_TC, steps, offline)
    forecast = date_forecast(given, trained, trained.scaler, history_TC, future_HC, shape)
    _show(
        forecast,
        Layout(given.table.csv, date_columns(given.table.csv, config.data)),
        output,
        plot,
        {**_about(checkpoint, source, config, steps), **to_json(forecast)} if as_json else None,
    )


def _forecast(trained: Checkpoint, config: Config, history_TC: Floats, steps: int, offline: bool) -> Floats:
    """The forecast of every channel, steps x C, standardised."""
    with err.status("Loading the model"):
        runner, batch_size = open_checkpoint(trained, config, look_at_machine(), offline)
    calls = ceil(steps / config.window.pred_len) * ceil(history_TC.shape[1] / batch_size)
    with gpu_memory_errors():
        return runner.roll_forward(history_TC, steps, batch_size, capture=calls > _FEW_CALLS)


def _show(
    forecast: Forecast, layout: Layout, output: Path | None, plot: Path | None, as_json: dict[str, Any] | None
) -> None:
    if output is not None:
        with writing(output), replacing(output) as file:
            file.writelines(layout.pieces([forecast], output))
        say(f"wrote {output}: {format_count(len(forecast.dates), 'row')}, {_bands(forecast)}")
    if plot is not None:
        draw(forecast, plot)
        say(f"drew {plot}")
    if as_json is not None:
        print_json(as_json)
    elif output is None:
        print_data(layout.text(forecast))
    if output is not None or (sys.stdout.isatty() and as_json is None):
        err.print(render(forecast, err.width))


def _bands(forecast: Forecast) -> str:
    levels = " and ".join(str(band.level) for band in forecast.bands)
    return f"with bands of {levels} %" if levels else "without bands (--levels 80,95 adds them)"


def _check_targets(inputs: list[Path], output: Path | None, plot: Path | None) -> None:
    """Refuse, before any work is done, a path that cannot be written or that this command needs for something else."""
    if output is not None:
        check_target("--output", output, inputs)
    if plot is not None:
        check_target("--plot", plot, inputs, [output])
    if plot is not None and plot.suffix.lower() != ".png":
        raise ConfigError(f"--plot {plot}: pictures are written as PNG", f"--plot {plot.with_suffix('.png')}")


def _print_notes(notes: list[str], pred_len: int, steps: int, shape: Shape) -> None:
    if shape.is_sum:
        notes.append(f"the row is the sum of {format_count(steps, 'step')}; its date is that of the last one")
    if steps > pred_len:
        notes.append(
            f"the model forecasts {pred_len} steps at a time (pred_len): from step {pred_len + 1} to {steps} it reads "
            "its own forecasts, and errors add up"
            + (f"; bands end with step {pred_len}, as only steps up to it were validated" if shape.levels else "")
        )
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
