"""What the bands of single windows are worth, so that lines can be compared on some of the windows.

Of each window: twice the pinball loss (a mean over the quantiles), the absolute target, and how many values its bands
of 80 and 95 % held (NaN without such a band); each a sum over its known targets, in units of the data's scaler.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from timellm_cli.data.batch import Batch
from timellm_cli.data.scale import Floats
from timellm_cli.data.windows import ForecastData
from timellm_cli.evaluation.bands import USUAL_LEVELS, Intervals
from timellm_cli.evaluation.metrics import HIGHEST_LEVEL
from timellm_cli.processes.group import Group

_SUMS = 2 + len(USUAL_LEVELS)
"""Of each window: loss, targets, and values held at each level; 4 in the names of tensors."""


@dataclass(frozen=True)
class BandFigures:
    """WQL over all values alike, as standardised errors are, and the share that bands held, in percent by level."""

    wql: float
    held: dict[int, float]


class WindowBands:
    """Collects the sums of a forecaster's bands while `score` runs: pass `add` to it as `on_errors`."""

    def __init__(self, data: ForecastData, intervals: Intervals) -> None:
        self._intervals, self._row_C = intervals, intervals.rows_of(data.table)
        self._sums: list[Tensor] = [torch.zeros(0, _SUMS, dtype=torch.float64)]

    def add(self, batch: Batch, error_BH: Tensor) -> None:
        """Add the standardised errors of a batch (forecast less future; NaN for an absent target)."""
        row_B = self._row_C[batch.channel_B]
        halves = {level: self._intervals.around(level, batch.history_BT, row_B) for level in self._intervals.levels}
        ends = {level: (-half_BH, half_BH) for level, half_BH in halves.items()}
        self._sums.append(sums_of_windows(error_BH.double().cpu(), batch.future_BH.double().cpu(), ends))

    def result(self, group: Group | None = None) -> Floats:
        """The sums of every window, 4 x W, of all processes of a group."""
        return (group or Group()).join(torch.cat(self._sums)).T.numpy()


def sums_of_windows(error_BH: Tensor, target_BH: Tensor, ends: Mapping[int, tuple[Tensor, Tensor]]) -> Tensor:
    """The sums of windows (B x 4). `ends` are, by level, how far the ends of a band are from the forecast."""
    known_BH = ~error_BH.isnan()
    loss_BH, quantiles = error_BH.abs(), 1
    held = {level: torch.full_like(error_BH, torch.nan) for level in USUAL_LEVELS}
    for level, (low_BH, high_BH) in ends.items():
        if level <= HIGHEST_LEVEL:
            for end_BH, quantile in ((error_BH + low_BH, 0.5 - level / 200), (error_BH + high_BH, 0.5 + level / 200)):
                loss_BH = loss_BH + 2 * torch.maximum(-quantile * end_BH, (1 - quantile) * end_BH)
                quantiles += 1
        if level in USUAL_LEVELS:
            held[level] = ((error_BH + low_BH <= 0) & (error_BH + high_BH >= 0)).double()
    parts = [loss_BH / quantiles, target_BH.abs(), *held.values()]
    return torch.stack([torch.where(known_BH, part, 0.0).sum(dim=1) for part in parts], dim=1)


def figures_of(sums_4P: Floats, known_P: Floats) -> BandFigures | None:
    """The figures of P windows; None where no value is known, or all targets are 0. `known_P` counts known values."""
    loss, targets, *held = (float(total) for total in sums_4P.sum(axis=1))
    known = float(known_P.sum())
    if not known or not targets:
        return None
    shares = {level: 100 * count / known for level, count in zip(USUAL_LEVELS, held, strict=True)}
    return BandFigures(loss / targets, {level: share for level, share in shares.items() if np.isfinite(share)})
