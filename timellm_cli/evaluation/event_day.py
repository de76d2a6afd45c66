"""One day of the scored rows with an event, for the report: its forecast with the day map and without.

The day is chosen by what is known of it, never by an error.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import islice
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from timellm_cli.data.ahead import AheadRows
from timellm_cli.data.batch import Batch
from timellm_cli.data.day_axis import Days, walls_of
from timellm_cli.data.windows import ForecastData
from timellm_cli.evaluation.examples import in_units_of_the_csv
from timellm_cli.model.day_map import DayMap
from timellm_cli.model.runner import Runner
from timellm_cli.units import format_figure

_MOST_TRIED = 100
"""So many days are looked at for one whose values are all known."""


@dataclass(frozen=True)
class EventDay:
    """A window that forecasts a day with an event, in the CSV's units.

    `read` is what was known of the day: its line of text, or the means of its columns. `chosen` says why this day: the
    first with an event, or the one whose columns differ most from the training rows. `on_day` says which steps belong
    to the day. `without` is what the same model forecasts without its day map. `first` and `last` are the timestamps of
    the first and the last forecast step, in the CSV's style.
    """

    channel: str
    day: date
    read: str
    chosen: Literal["event", "columns"]
    first: str
    last: str
    history: tuple[float, ...]
    future: tuple[float, ...]
    forecast: tuple[float, ...]
    without: tuple[float, ...]
    on_day: tuple[bool, ...]

    @property
    def mae(self) -> float:
        """Mean absolute error over the known values of the day."""
        return self._mean_error(self.forecast)

    @property
    def mae_without(self) -> float:
        """The same without the day map."""
        return self._mean_error(self.without)

    @property
    def adds_nothing(self) -> bool:
        """Whether the day map changes nothing, as before its training."""
        return self.forecast == self.without

    def _mean_error(self, forecast: tuple[float, ...]) -> float:
        error_H = np.abs(np.array(forecast) - np.array(self.future))[np.array(self.on_day)]
        return float(np.nanmean(error_H))


def make_event_day(runner: Runner, data: ForecastData, split: str) -> EventDay | None:
    """The first day with an event, or without text the one with the least usual columns; None where there is none.

    A day counts if a window forecasts all of it (or as much as a window can) and all of these values are known; if no
    day does, the first with a known value. The window is the one that begins with the day, or nearest to that. Of
    several channels with the event the target comes first.
    """
    if data.ahead is None or runner.model.day_map is None:
        return None
    finder = _Finder(data, data.ahead, runner.model.day_map, split)
    found = next(finder.days(needs_all=True), None) or next(finder.days(needs_all=False), None)
    if found is None:
        return None
    day, batch, on_day_H = found
    with torch.inference_mode():
        forecast_BH = runner(batch).clone()
        without_BH = runner.without_day_map(batch)
    values = [batch.history_BT, batch.future_BH, forecast_BH, without_BH]
    history, future, forecast, without = (
        tuple(in_units_of_the_csv(data, batch.channel_B, value_BX)[0].tolist()) for value_BX in values
    )
    stamps, first = data.table.stamps, int(batch.start_B[0]) + len(history)
    return EventDay(
        channel=data.table.channels[int(batch.channel_B[0])],
        day=day,
        read=_what_was_read(data, batch, on_day_H),
        chosen="event" if finder.by_text else "columns",
        first=data.table.style.write(stamps[first]),
        last=data.table.style.write(stamps[first + len(future) - 1]),
        history=history,
        future=future,
        forecast=forecast,
        without=without,
        on_day=tuple(on_day_H.tolist()),
    )


class _Finder:
    """Goes through the days of a split, and gives the window that forecasts each."""

    def __init__(self, data: ForecastData, ahead: AheadRows, day_map: DayMap, split: str) -> None:
        self._ahead, self._day_map, self._data, self._samples = ahead, day_map, data, data.windows(split)
        self._days = Days.of(walls_of(data.table.stamps, data.table.style))
        self._day_N = torch.tensor(self._days.day_N.to_list())
        self._start_D = torch.searchsorted(self._day_N, torch.arange(len(self._days.dates) + 1)).tolist()
        windows_C = self._samples.windows_C
        self._begin_C = (windows_C.cumsum(0) - windows_C).tolist()
        last = [*range(self._samples.channels)][-len(data.table.series.ids) :]  # those of the target
        order = [*last, *range(last[0])]
        self._positions = [position for position in order if windows_C[position]]
        firsts = self._samples.batch([self._begin_C[position] for position in self._positions])
        targets = (firsts.start_B + data.config.window.seq_len).tolist()
        self._target_row = dict(zip(self._positions, targets, strict=True))
        self.by_text = ahead.true_lines is not None and any(
            any(ahead.true_lines.special(group)) for group in range(len(ahead.true_lines.line_GD))
        )

    def days(self, needs_all: bool) -> Iterator[tuple[date, Batch, Tensor]]:
        """Day, window, and which of its steps are of the day (H), the best day first."""
        for day, position in islice(self._candidates(), _MOST_TRIED):
            batch, on_day_H = self._window(day, position)
            known_H = ~batch.future_BH[0].isnan() & on_day_H
            whole = min(self._start_D[day + 1] - self._start_D[day], len(on_day_H))
            if known_H.any() and (not needs_all or int(known_H.sum()) == whole):
                yield self._days.dates[day], batch, on_day_H

    def _candidates(self) -> Iterator[tuple[int, int]]:
        """Days and positions of channels whose windows forecast them."""
        order = self._special_days() if self.by_text else self._by_columns()
        for day, positions in order:
            for position in positions:
                first = self._target_row[position]
                last = first + int(self._samples.windows_C[position]) - 1 + self._data.config.window.pred_len
                if self._start_D[day] < last and first < self._start_D[day + 1]:
                    yield day, position

    def _special_days(self) -> Iterator[tuple[int, Sequence[int]]]:
        lines = self._ahead.true_lines
        assert lines is not None
        groups = [lines.special(group) for group in range(len(lines.line_GD))]
        group_of = {one: lines.group_C[self._samples.first_channel + one] for one in self._positions}
        for day in range(len(self._days.dates)):
            if positions := [one for one in self._positions if groups[group_of[one]][day]]:
                yield day, positions

    def _by_columns(self) -> list[tuple[int, Sequence[int]]]:
        """Days of the first channel, those first whose columns are furthest from the mean of the training rows."""
        if not self._ahead.columns_VF.shape[1]:
            return []
        position, series, day_map = self._positions[0], self._data.table.series, self._day_map
        own = position % len(series.ids)
        offset, first, rows = series.offsets[own], series.first[own], series.rows[own]
        away_NF = self._ahead.columns_VF[offset : offset + rows] - day_map.column_mean_F.cpu()
        away_N = (away_NF / day_map.column_std_F.cpu()).square().mean(dim=1)
        day_N = self._day_N[first : first + rows]
        sums_D, counts_D = torch.zeros(2, len(self._days.dates))
        sums_D.index_add_(0, day_N, away_N)
        counts_D.index_add_(0, day_N, torch.ones_like(away_N))
        order = (-sums_D / counts_D.clamp(min=1)).argsort(stable=True).tolist()
        target = self._target_row[position]
        return [(day, [position]) for day in order if self._start_D[day] >= target]

    def _window(self, day: int, position: int) -> tuple[Batch, Tensor]:
        """The window whose forecast begins with the day, or the nearest one; and which steps are of the day."""
        most = int(self._samples.windows_C[position]) - 1
        window = min(max(self._start_D[day] - self._target_row[position], 0), most)
        batch = self._samples.batch([self._begin_C[position] + window])
        first = self._target_row[position] + window
        return batch, self._day_N[first : first + batch.future_BH.shape[1]] == day


def _what_was_read(data: ForecastData, batch: Batch, on_day_H: Tensor) -> str:
    """The line of the day, and the means of its columns."""
    assert data.ahead is not None
    assert batch.ahead is not None
    said = []
    if data.ahead.lines is not None:
        said.append(data.ahead.lines.lines[int(batch.ahead.line_BH[0][on_day_H][0])].text)
    means_F = batch.ahead.columns_BHF[0][on_day_H].mean(dim=0).tolist()
    names = data.config.data.future_columns
    known = [f"{name} {format_figure(mean)}" for name, mean in zip(names, means_F, strict=True)]
    return " ".join([*said, *([", ".join(known)] if known else [])])
