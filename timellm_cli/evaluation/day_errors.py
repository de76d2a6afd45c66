"""Squared errors by channel and day of the target, so that days with an event can be compared with ordinary ones."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from timellm_cli.data.batch import Batch
from timellm_cli.data.day_axis import Days, walls_of
from timellm_cli.data.scale import Floats
from timellm_cli.data.windows import ForecastData
from timellm_cli.processes.group import Group, sum_all

DayPart = Literal["all", "event", "ordinary"]


@dataclass(frozen=True, eq=False)
class DayErrors:
    """Sums of squared errors of the targets of each channel (C) and day (D), standardised, and how many are known.

    A target counts once for each window that forecasts it. `special_CD` says which days have an event or a holiday, for
    a model that reads text; None for another.
    """

    days: tuple[date, ...]
    squared_CD: Floats
    known_CD: Floats
    special_CD: NDArray[np.bool_] | None

    @classmethod
    def joined(cls, parts: "Sequence[DayErrors]") -> "DayErrors":
        """The days of several folds, one fold after the other."""
        special = [part.special_CD for part in parts if part.special_CD is not None]
        return cls(
            tuple(day for part in parts for day in part.days),
            np.concatenate([part.squared_CD for part in parts], axis=1),
            np.concatenate([part.known_CD for part in parts], axis=1),
            np.concatenate(special, axis=1) if len(special) == len(parts) else None,
        )


class DayCount:
    """Collects `DayErrors` while a model is scored: `add` is called with each batch and its errors."""

    def __init__(self, data: ForecastData, std_C: Floats | None = None) -> None:
        """Errors are in units of `std_C`, a raw deviation for each scored channel: by default that of the scaler."""
        self._data = data
        self._days = Days.of(walls_of(data.table.stamps, data.table.style))
        self._day_N = torch.tensor(self._days.day_N.to_list())
        samples = data.windows("test")
        self._first, shape = samples.first_channel, (samples.channels, len(self._days.dates))
        self._squared_CD = torch.zeros(shape, dtype=torch.float64)
        self._known_CD = torch.zeros(shape, dtype=torch.float64)
        own_C = data.scaler.std_C[-samples.channels :]
        self._unit_C = torch.from_numpy(own_C / (own_C if std_C is None else std_C))

    def add(self, batch: Batch, error_BH: Tensor) -> None:
        """Count the errors of a batch (forecast less future, in units of the scaler; NaN for an absent target)."""
        unit_B = self._unit_C[batch.channel_B - self._first]
        error_BH = error_BH.detach().cpu().double() * unit_B[:, None]
        seq_len, pred_len = self._data.config.window.seq_len, error_BH.shape[1]
        day_BH = self._day_N[batch.start_B[:, None] + torch.arange(seq_len, seq_len + pred_len)]
        known_BH = torch.ones_like(error_BH) if batch.known_BH is None else batch.known_BH.double()
        squared_BH = torch.where(known_BH > 0, error_BH.square(), 0.0)
        place_BH = (batch.channel_B - self._first)[:, None] * self._squared_CD.shape[1] + day_BH
        self._squared_CD.view(-1).index_add_(0, place_BH.flatten(), squared_BH.flatten())
        self._known_CD.view(-1).index_add_(0, place_BH.flatten(), known_BH.flatten())

    def result(self, group: Group | None = None) -> DayErrors:
        """The sums of all processes of a `group`; days without a target have none."""
        sum_all(group or Group(), self._squared_CD, self._known_CD)
        ahead, special_CD = self._data.ahead, None
        if ahead is not None and ahead.true_lines is not None:
            lines = ahead.true_lines
            groups = [lines.special(group) for group in range(len(lines.line_GD))]
            special_CD = np.array([groups[group] for group in lines.group_C[self._first :]])
        return DayErrors(self._days.dates, self._squared_CD.numpy(), self._known_CD.numpy(), special_CD)
