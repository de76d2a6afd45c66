"""`timellm predict`: a checkpoint and a CSV to a dated forecast in the CSV's units."""

import sys
from collections.abc import Mapping
from datetime import datetime
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
import torch

from timellm_cli.commands.open_checkpoint import config_for, open_checkpoint
from timellm_cli.config import Config
from timellm_cli.console import err, print_data, print_json, print_note
from timellm_cli.data.dates import DateStyle
from timellm_cli.data.forecast_input import ForecastInput, read_input
from timellm_cli.data.scale import Floats, require_computable
from timellm_cli.datasets import csv_named
from timellm_cli.errors import ConfigError
from timellm_cli.evaluation.bands import choose_levels
from timellm_cli.files import check_target, replacing, writing
from timellm_cli.model.runner import gpu_memory_errors
from timellm_cli.planning.hardware import look_at_machine
from timellm_cli.report.forecast import Band, Forecast, Stamps, render, to_csv, to_json
from timellm_cli.training.checkpoint import Checkpoint, load_checkpoint

_FEW_CALLS = 3
"""So many calls of the model are faster without recording a CUDA graph first."""

_DIGITS = 1e-5
"""Digits of a forecast that mean something, as a share of a channel's standard deviation: about float32's."""


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
    changes: Mapping[str, Any] | None = None,
) -> None:
    """Forecast what follows the CSV's last row, or the row `at`, and write, print and draw it.

    Raises DataError for the CSV, ConfigError for where to write, ModelError for checkpoint, LLM and hardware.
    """
    path = None if source == "-" else csv_named(source)
    _check_targets([checkpoint, *([path] if path else [])], output, plot)
    trained = load_checkpoint(checkpoint)
    shown_levels = choose_levels(levels, trained.intervals, checkpoint) if levels else ()
    config = config_for(trained, device, path or Path(source), llm, changes)
    content = sys.stdin.buffer.read() if path is None else path
    given = read_input(content, config, trained.columns, trained.cadence, at, trained.date_format)
    steps = steps or config.window.pred_len
    given.dates(steps)  # raises, before anything is computed, where the calendar ends
    _print_notes(given, config.window.pred_len, steps, bool(shown_levels))

    history_TC = trained.scaler.standardise(given.table.values)
    for channel, column in enumerate(given.table.columns):
        require_computable(history_TC[:, channel], column, source if path else "standard input")
    future_HC = _forecast(trained, config, history_TC, steps, offline)
    values_HC = trained.scaler.restore(future_HC)
    forecast = _dated(given, trained, values_HC, _bands(trained, history_TC, values_HC, shown_levels))
    _show(
        forecast,
        given.table.csv.delimiter,
        output,
        plot,
        _to_json(forecast, checkpoint, source, config) if as_json else None,
    )


def _forecast(trained: Checkpoint, config: Config, history_TC: Floats, steps: int, offline: bool) -> Floats:
    """The forecast of every channel, steps x C, standardised."""
    with err.status("Loading the model"):
        runner, batch_size = open_checkpoint(trained, config, look_at_machine(), offline)
    calls = ceil(steps / config.window.pred_len) * ceil(history_TC.shape[1] / batch_size)
    with gpu_memory_errors():
        return runner.roll_forward(history_TC, steps, batch_size, capture=calls > _FEW_CALLS)


def _show(
    forecast: Forecast, delimiter: str, output: Path | None, plot: Path | None, as_json: dict[str, Any] | None
) -> None:
    if output is not None:
        with writing(output), replacing(output) as file:
            file.write(to_csv(forecast, delimiter).encode())
    if plot is not None:
        _draw(forecast, plot)
    if as_json is not None:
        print_json(as_json)
    elif output is None:
        print_data(to_csv(forecast, delimiter))
    if output is not None or (sys.stdout.isatty() and as_json is None):
        err.print(render(forecast, err.width))


def _check_targets(inputs: list[Path], output: Path | None, plot: Path | None) -> None:
    """Refuse, before any work is done, a path that cannot be written or that this command needs for something else."""
    if output is not None:
        check_target("--output", output, inputs)
    if plot is not None:
        check_target("--plot", plot, inputs, [output])
    if plot is not None and plot.suffix.lower() != ".png":
        raise ConfigError(f"--plot {plot}: pictures are written as PNG", f"--plot {plot.with_suffix('.png')}")


def _print_notes(given: ForecastInput, pred_len: int, steps: int, with_bands: bool) -> None:
    notes = list(given.notes)
    if steps > pred_len:
        notes.append(
            f"the model forecasts {pred_len} steps at a time (pred_len): from step {pred_len + 1} to {steps} it reads "
            "its own forecasts, and errors add up"
            + (f"; bands end with step {pred_len}, as only steps up to it were validated" if with_bands else "")
        )
    for note in notes:
        print_note(note)


def _bands(
    trained: Checkpoint, history_TC: Floats, values_HC: Floats, levels: tuple[int, ...]
) -> tuple[tuple[int, Floats], ...]:
    """Level and half-widths (H, C) in the CSV's units; NaN beyond pred_len and for channels that were not validated."""
    if not levels:
        return ()
    intervals, window = trained.intervals, trained.config.window
    assert intervals is not None
    validated = [trained.columns.index(channel) for channel in intervals.channels]
    history_BT = torch.from_numpy(history_TC[-window.seq_len :, validated].T.copy())
    known = min(len(values_HC), window.pred_len)
    bands = []
    for level in levels:
        half_HC = np.full_like(values_HC, np.nan)
        half_BH = intervals.around(level, history_BT, torch.arange(len(validated))).numpy()
        half_HC[:known, validated] = half_BH.T[:known] * trained.scaler.std_C[validated]
        bands.append((level, half_HC))
    return tuple(bands)


def _dated(
    given: ForecastInput, trained: Checkpoint, values_HC: Floats, bands: tuple[tuple[int, Floats], ...]
) -> Forecast:
    """Dates for the values, and the columns in the order of the input."""
    positions = [trained.columns.index(column) for column in given.order]
    steps, style = len(values_HC), given.table.style
    stamps = given.dates(steps)
    return Forecast(
        date_column=trained.config.data.date_column,
        columns=given.order,
        history_dates_T=_walls(style, given.table.stamps.to_list()),
        history_TC=given.table.values[:, positions],
        dates_H=_walls(style, stamps),
        values_HC=values_HC[:, positions],
        actual_HC=given.actual(steps)[:, positions],
        resolution_C=trained.scaler.std_C[positions] * _DIGITS,
        last_known=style.write(given.table.stamps[-1]),
        dates=[style.write(stamp) for stamp in stamps],
        bands=tuple(
            Band(level, (values_HC - half_HC)[:, positions], (values_HC + half_HC)[:, positions])
            for level, half_HC in bands
        ),
    )


def _walls(style: DateStyle, stamps: list[datetime]) -> Stamps:
    return np.array([style.wall(stamp) for stamp in stamps], dtype="datetime64[us]")


def _draw(forecast: Forecast, path: Path) -> None:
    from timellm_cli.report.forecast import plot_forecast

    with writing(path):
        notes = plot_forecast(forecast, path)
    for note in notes:
        print_note(note)


def _to_json(forecast: Forecast, checkpoint: Path, source: str, config: Config) -> dict[str, Any]:
    return {
        "checkpoint": str(checkpoint),
        "input": source,
        "pred_len": config.window.pred_len,
        "rolled_forward": len(forecast.dates_H) > config.window.pred_len,
        **to_json(forecast),
    }
