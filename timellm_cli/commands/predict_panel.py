"""`timellm predict` for a checkpoint of many series: all are forecast in batches, and a bad one is skipped."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from timellm_cli.commands.dated_forecast import Shape, Times, date_forecast, draw, times_of
from timellm_cli.commands.open_checkpoint import open_checkpoint
from timellm_cli.config import Config
from timellm_cli.console import err, print_data, print_json, print_note
from timellm_cli.data.columns import date_columns
from timellm_cli.data.dates import DateStyle
from timellm_cli.data.forecast_input import ForecastInput, continue_panel, continue_rows, read_known_rows, split_panel
from timellm_cli.data.rows import Rows
from timellm_cli.data.scale import Floats, Scaler, require_computable
from timellm_cli.data.sources import FILE_COLUMN
from timellm_cli.errors import DataError
from timellm_cli.files import replacing, writing
from timellm_cli.model.runner import Runner, gpu_memory_errors
from timellm_cli.planning.hardware import look_at_machine
from timellm_cli.report.forecast import Forecast, join_forecasts, render, to_json
from timellm_cli.report.forecast_file import Layout
from timellm_cli.report.progress import scoring_progress
from timellm_cli.training.checkpoint import Checkpoint

_SERIES_AT_ONCE = 512
_SHOWN = 8
"""So many series are drawn, or shown on the terminal."""
_NAMED = 10


@dataclass(frozen=True)
class Request:
    """What the user asked for. `about` are further entries of the object that `--json` prints, None without it.

    `wide`: the input has a series a line, and so has the output.
    """

    at: str | None
    steps: int
    shape: Shape
    strict: bool
    output: Path | None
    plot: Path | None
    about: Mapping[str, Any] | None
    wide: bool


def run(trained: Checkpoint, config: Config, content: Path | bytes, request: Request, *, offline: bool) -> None:
    """Forecast every series of a file, and write, print and draw it. A series that cannot be forecast is named.

    Raises DataError for the file, if no series can be forecast, and with `strict` for the first that cannot.
    """
    rows = read_known_rows(content, config, trained.columns, trained.date_format, is_panel=True)
    assert rows.series is not None
    for note in rows.notes:
        print_note(note)
    with err.status("Loading the model"):
        runner, batch_size = open_checkpoint(trained, config, look_at_machine(), offline)
    batches = _Batches(trained, config, runner, batch_size, request)
    count = rows.series.n_unique()
    with (
        gpu_memory_errors(),
        scoring_progress(config.run.name, count, "Forecasting", "series") as add,
    ):
        layout = Layout(rows.csv, date_columns(rows.csv, config.data), request.wide)
        shown = _write(batches.forecasts(rows, add), layout, request, batches.skipped)
    _print_skipped(batches.skipped, count)
    if request.plot is not None and shown:
        draw(join_forecasts(shown), request.plot)
    if shown and request.output is not None:
        err.print(render(join_forecasts(shown), err.width))
        if count - len(batches.skipped) > len(shown):
            print_note(f"{count - len(batches.skipped):,} series were forecast; the first {len(shown)} are shown")


class _Batches:
    """Forecasts the series of a file, so many at a time, and collects why others were skipped, by id."""

    def __init__(self, trained: Checkpoint, config: Config, runner: Runner, batch_size: int, request: Request) -> None:
        self._trained, self._config, self._runner = trained, config, runner
        self._batch_size, self._request = batch_size, request
        self._id_column = config.data.id_column or FILE_COLUMN
        self._places = {name: place for place, name in enumerate(trained.ids)}
        self._times: dict[tuple[datetime, datetime, DateStyle], Times] = {}
        self.skipped: dict[str, str] = {}

    def forecasts(self, rows: Rows, add: Callable[[int], None]) -> Iterator[Forecast]:
        """The forecasts in the order of the series; `add` is called with how many series are done."""
        waiting: list[tuple[str, ForecastInput]] = []
        for name, own, given in self._inputs(rows):
            if (checked := self._check(name, own, given)) is not None:
                waiting.append((name, checked))
            else:
                add(1)
            if len(waiting) == _SERIES_AT_ONCE:
                yield from self._run(waiting)
                add(len(waiting))
                waiting = []
        yield from self._run(waiting)
        add(len(waiting))

    def _inputs(self, rows: Rows) -> Iterator[tuple[str, Rows, ForecastInput | None]]:
        """Id, rows, and what is continued: of all series at once where all are sound, which is faster."""
        trained, at_once = self._trained, None
        if self._request.at is None:
            at_once = continue_panel(rows, self._config, trained.columns, trained.cadence)
        if at_once is None:
            yield from ((name, own, None) for name, own in split_panel(rows))
            return
        assert rows.series is not None
        ids = rows.series.unique(maintain_order=True).cast(pl.String)
        yield from ((name, rows, given) for name, given in zip(ids, at_once, strict=True))

    def _check(self, name: str, rows: Rows, given: ForecastInput | None) -> ForecastInput | None:
        """What a series' forecast continues; None where it has to be skipped. `given` is read from `rows` if absent."""
        trained = self._trained
        try:
            if given is None:
                rows.require_numbers()
                given = continue_rows(rows, self._config, trained.columns, trained.cadence, self._request.at)
            given.dates(self._request.steps)
            scaler = self._scaler(name, given)
            history_TC = scaler.standardise(given.table.values)
            for channel, column in enumerate(given.table.columns):
                require_computable(history_TC[:, channel], column, rows.csv.name)
        except DataError as error:
            if self._request.strict:
                raise DataError(f"series '{name}': {error.message}", error.hint) from None
            self.skipped[name] = error.message
            return None
        return given

    def _scaler(self, name: str, given: ForecastInput) -> Scaler:
        """The scaler of a trained series, or of the history of another one."""
        place, known = self._places.get(name), self._trained.scaler
        if place is None:
            return Scaler.fit(given.table.frame)
        own = slice(place, None, len(self._trained.ids))
        return Scaler(known.mean_C[own], known.std_C[own])

    def _run(self, waiting: list[tuple[str, ForecastInput]]) -> Iterator[Forecast]:
        if not waiting:
            return
        columns = self._trained.columns
        scalers = [self._scaler(name, given) for name, given in waiting]
        histories = [
            scaler.standardise(given.table.values) for scaler, (_, given) in zip(scalers, waiting, strict=True)
        ]
        names = [name if len(columns) == 1 else f"{name} {column}" for name, _ in waiting for column in columns]
        future_HC: Floats = self._runner.roll_forward(
            np.concatenate(histories, axis=1), self._request.steps, self._batch_size, names=names
        )
        parts = np.split(future_HC, len(waiting), axis=1)
        for (name, given), scaler, history_TC, part_HC in zip(waiting, scalers, histories, parts, strict=True):
            ends = given.table.stamps[0], given.table.stamps[-1], given.table.style
            times = self._times.get(ends)
            if times is None:
                times = self._times[ends] = times_of(given, self._request.steps)
            forecast = date_forecast(given, self._trained, scaler, history_TC, part_HC, self._request.shape, times)
            yield replace(forecast, id_column=self._id_column, series=name)


def _write(
    forecasts: Iterator[Forecast], layout: Layout, request: Request, skipped: Mapping[str, str]
) -> list[Forecast]:
    """Write the forecasts where they go; returns the first ones. Raises DataError where there are none."""
    shown: list[Forecast] = []

    def noted() -> Iterator[Forecast]:
        for forecast in forecasts:
            if len(shown) < _SHOWN:
                shown.append(forecast)
            yield forecast
        _require_some(shown, skipped)

    if request.about is not None:
        series = {forecast.series: to_json(forecast) for forecast in noted()}
        print_json({**request.about, "series": series, "skipped": dict(skipped)})
    elif request.output is not None:
        with writing(request.output), replacing(request.output) as file:
            file.writelines(layout.pieces(noted(), request.output))
    else:
        print_data("".join(layout.text(one, header=not number) for number, one in enumerate(noted())))
    return shown


def _require_some(shown: list[Forecast], skipped: Mapping[str, str]) -> None:
    if not shown:
        name, why = next(iter(skipped.items()))
        raise DataError(f"none of {len(skipped):,} series can be forecast; '{name}': {why}", "look at the file")


def _print_skipped(skipped: Mapping[str, str], count: int) -> None:
    if not skipped:
        return
    print_note(f"{len(skipped):,} of {count:,} series could not be forecast and are left out (--strict stops instead):")
    for name, why in list(skipped.items())[:_NAMED]:
        print_note(f"'{name}': {why}")
    if len(skipped) > _NAMED:
        print_note(f"and {len(skipped) - _NAMED:,} more; --json names them all")
