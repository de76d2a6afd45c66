"""Forecasts of many series: in batches, in the order of the file; a series that cannot be forecast is skipped.

Batches are cut from the whole file by the numbers of its series, so a forecast does not depend on which process makes
it, nor on whether another batch holds a bad series.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np
import polars as pl

from timellm_cli.config import Config
from timellm_cli.data.dates import DateStyle
from timellm_cli.data.forecast_input import ForecastInput, continue_panel, continue_rows, split_panel
from timellm_cli.data.rows import Rows
from timellm_cli.data.scale import Floats, Scaler, require_computable
from timellm_cli.data.sources import FILE_COLUMN
from timellm_cli.errors import DataError
from timellm_cli.forecasting.dated_forecast import Shape, Times, date_forecast, times_of
from timellm_cli.forecasting.known_ahead import KnownAhead
from timellm_cli.model.runner import Runner
from timellm_cli.report.forecast import Forecast
from timellm_cli.training.checkpoint import Checkpoint

SERIES_AT_ONCE = 512
"""So many series are read, forecast and written together."""


@dataclass(frozen=True)
class Wanted:
    """What is asked for: so many steps after the row `at`, by default each series' last; `strict`: no bad series."""

    steps: int
    shape: Shape
    at: str | None = None
    strict: bool = False


class PanelForecasts:
    """Forecasts the series of a file, so many at a time, and collects why others were skipped, by id."""

    def __init__(
        self,
        trained: Checkpoint,
        config: Config,
        runner: Runner,
        batch_size: int,
        wanted: Wanted,
        at_once: int | None = None,
        known: KnownAhead | None = None,
        on_note: Callable[[str], None] = lambda _: None,
    ) -> None:
        """`known` is what is known of the steps, for a model that reads it; `on_note` gets sentences about it."""
        self._known, self._on_note = known, on_note
        self._trained, self._config, self._runner = trained, config, runner
        self._batch_size, self._wanted = batch_size, wanted
        self._at_once = at_once or SERIES_AT_ONCE
        self._id_column = config.data.id_column or FILE_COLUMN
        self._places = {name: place for place, name in enumerate(trained.ids)}
        self._times: dict[tuple[datetime, datetime, DateStyle], Times] = {}
        self.skipped: dict[str, str] = {}

    def forecasts(
        self, rows: Rows, numbers: Sequence[int] | None = None, add: Callable[[int], None] = lambda _: None
    ) -> Iterator[Forecast]:
        """The forecasts of these batches (None: of all) in the order of the series.

        `add` is called with how many series are done.
        """
        for own in batches_of(rows, self._at_once, numbers):
            waiting = []
            for name, part, given in self._inputs(own):
                if (checked := self._check(name, part, given)) is not None:
                    waiting.append((name, checked))
            yield from self._run(waiting)
            assert own.series is not None
            add(own.series.n_unique())

    def _inputs(self, rows: Rows) -> Iterator[tuple[str, Rows, ForecastInput | None]]:
        """Id, rows, and what is continued: of all series of a batch at once where all are sound, which is faster."""
        trained, at_once = self._trained, None
        if self._wanted.at is None:
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
                given = continue_rows(rows, self._config, trained.columns, trained.cadence, self._wanted.at)
            given.dates(self._wanted.steps)
            if self._known:
                self._known.check(given, name)
            scaler = self._scaler(name, given)
            history_TC = scaler.standardise(given.table.values)
            for channel, column in enumerate(given.table.columns):
                require_computable(history_TC[:, channel], column, rows.csv.name)
        except DataError as error:
            if self._wanted.strict:
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
        ids, inputs = zip(*waiting, strict=True)
        ahead = self._known.read(self._runner, inputs, ids, self._on_note) if self._known else None
        future_HC: Floats = self._runner.roll_forward(
            np.concatenate(histories, axis=1), self._wanted.steps, self._batch_size, names=names, ahead=ahead
        )
        parts = np.split(future_HC, len(waiting), axis=1)
        for (name, given), scaler, history_TC, part_HC in zip(waiting, scalers, histories, parts, strict=True):
            ends = given.table.stamps[0], given.table.stamps[-1], given.table.style
            times = self._times.get(ends)
            if times is None:
                times = self._times[ends] = times_of(given, self._wanted.steps)
            forecast = date_forecast(given, self._trained, scaler, history_TC, part_HC, self._wanted.shape, times)
            yield replace(forecast, id_column=self._id_column, series=name)


def batches_of(rows: Rows, at_once: int, numbers: Sequence[int] | None = None) -> Iterator[Rows]:
    """The rows of each batch of `at_once` series, or of those with these numbers, counted from 0."""
    assert rows.series is not None
    stops = rows.series.rle().struct.field("len").cum_sum().to_list()
    ends = [0, *stops[at_once - 1 :: at_once]]
    ends += [len(rows.series)] if ends[-1] < len(rows.series) else []
    for number in range(len(ends) - 1) if numbers is None else numbers:
        yield rows.cut(ends[number], ends[number + 1])


def none_of(skipped: Mapping[str, str]) -> DataError:
    """The error where every series was skipped; `skipped` says why, by id."""
    name, why = next(iter(skipped.items()))
    return DataError(f"none of {len(skipped):,} series can be forecast; '{name}': {why}", "look at the file")
