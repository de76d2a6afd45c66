"""Bands around a forecast: split-conformal prediction from validation errors.

For each channel and each step of the horizon, take the n absolute errors on the validation windows; pooled, those of
all channels of a column, as for a table of many series. The half-width of
a band of level q is the ceil((n + 1) q)-th smallest of them (Lei et al., Distribution-Free Predictive Inference for
Regression, 2018). Each error is first divided by a scale of its own window's history, because errors are larger where a
series moves more (ibid., section 5.2). A band holds its share of the values if later errors are distributed as those of
validation. Where the data drift they are not; `timellm eval` measures the difference as coverage. A band is for one
step, not for several steps at once: the bands of a sum of steps are made alike from the sums of whole paths of errors,
in which steps that err together stay together.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from timellm_cli.data.batch import Batch
from timellm_cli.data.table import Table
from timellm_cli.data.windows import ForecastData
from timellm_cli.errors import ConfigError, ModelError
from timellm_cli.evaluation.baselines import period_of
from timellm_cli.evaluation.seeds import T_975
from timellm_cli.processes.group import Group

LEVELS = (50, 60, 70, 80, 90, 95, 98, 99)
"""Levels in percent whose half-widths are stored: few, so that a checkpoint stays small."""
USUAL_LEVELS = (80, 95)
"""Levels in percent that are shown by default."""

_COMPARED_LEVELS = (50, 80, 95)
"""Levels in percent at which the scales are compared."""
_MAX_ERRORS = 2**23
"""At most so many errors are stored: of more windows, only every second, third, ... is used."""
_ALL = "*"
_EPSILON = 1e-5
"""Added to a window's mean square, as in the normalisation of the model's input."""

Float32 = npt.NDArray[np.float32]


def window_scale(history_BT: Tensor, period: int) -> Tensor:
    """The scale of each window's errors: B, standardised units.

    Without a period (0), the standard deviation of the history. With a period, the root mean square of the differences
    between values that are `period` rows apart.
    """
    moved_BT = history_BT[:, period:] - history_BT[:, :-period] if period else history_BT - history_BT.mean(1, True)
    return (moved_BT.double().square().mean(dim=1) + _EPSILON).sqrt()


@dataclass(frozen=True, eq=False)
class Intervals:
    """Half-widths of the bands of a checkpoint, L x C x H, as multiples of a window's scale.

    `errors` are the standard errors of each level's coverage in percent, for the validation windows are a sample.
    `channels` name the rows: the validated channels (with features MS the target alone); if `pooled`, the value columns
    of a panel, or '*' for all channels of one series. `period` belongs to the scale: 0 for the standard
    deviation. `windows` of each row were ranked. `levels` are in percent. `sums_LCH` are half-widths for the sum of the
    first 1 to H steps; None where too few windows are without a gap.
    """

    channels: tuple[str, ...]
    period: int
    windows: int
    levels: tuple[int, ...]
    halves_LCH: Float32
    errors: tuple[float, ...]
    pooled: bool = False
    sums_LCH: Float32 | None = None

    def rows_of(self, table: Table) -> Tensor:
        """For each channel of a table, the place of its row in `channels`; -1 for one that was not validated."""
        names = [name for name in table.columns for _ in table.series.ids] if self.pooled else table.channels
        places = {name: place for place, name in enumerate(self.channels)}
        return torch.tensor([places.get(name, places.get(_ALL, -1)) for name in names])

    def around(self, level: int, history_BT: Tensor, row_B: Tensor) -> Tensor:
        """Half-widths (B x H, standardised) after standardised histories; `row_B` are places in `channels`."""
        return self._scaled(self.halves_LCH, level, history_BT, row_B)

    def around_sums(self, level: int, history_BT: Tensor, row_B: Tensor) -> Tensor:
        """The same (B x H) for the sum of the first 1 to H steps. `sums_LCH` must be there."""
        assert self.sums_LCH is not None
        return self._scaled(self.sums_LCH, level, history_BT, row_B)

    def _scaled(self, halves_LCH: Float32, level: int, history_BT: Tensor, row_B: Tensor) -> Tensor:
        halves_CH = torch.from_numpy(halves_LCH[self.levels.index(level)])
        return halves_CH[row_B].double() * window_scale(history_BT, self.period).unsqueeze(1)


class ValidationErrors:
    """Collects a forecaster's errors on a split while `score` runs: pass `add` to it as `on_errors`."""

    def __init__(self, data: ForecastData, split: str = "val", group: Group | None = None) -> None:
        """The processes of a `group` collect those of their own part each."""
        samples, window, series = data.windows(split), data.config.window, data.table.series
        self._group, bands = group or Group(), data.config.train.bands
        self._pooled = bands == "pooled" or series.is_panel
        self._rows = data.scored_channels
        if self._pooled:
            self._rows = data.table.columns[-data.scored_columns :] if series.is_panel else (_ALL,)
        self._windows = len(samples) // len(self._rows)
        self._block = window.seq_len + window.pred_len
        self._every = -(-len(samples) * window.pred_len // _MAX_ERRORS)
        period = period_of(data)
        self._periods = (0, period.rows) if period and period.rows < window.seq_len else (0,)
        self._seen = self._group.place.part(len(samples)).start
        self._errors: list[Tensor] = [torch.zeros(0, window.pred_len)]
        self._starts: list[Tensor] = [torch.zeros(0, dtype=torch.int64)]
        self._scales: list[Tensor] = [torch.zeros(0, len(self._periods), dtype=torch.float64)]

    def add(self, batch: Batch, error_BH: Tensor) -> None:
        """Add the standardised errors of a batch. Samples must come channel by channel."""
        kept_B = (torch.arange(len(batch)) + self._seen) % self._windows % self._every == 0
        self._seen += len(batch)
        self._errors.append(error_BH[kept_B.to(error_BH.device)].float().cpu())
        self._starts.append(batch.start_B[kept_B])
        history_BT = batch.history_BT[kept_B]
        self._scales.append(torch.stack([window_scale(history_BT, period) for period in self._periods], dim=1))

    def intervals(self) -> Intervals | None:
        """The bands. None if there are too few windows even for the lowest level."""
        rows, steps = len(self._rows), self._errors[0].shape[1]
        starts, errors_NH, scales = (
            self._group.join(torch.cat(parts)) for parts in (self._starts, self._errors, self._scales)
        )
        start_W = starts.reshape(rows, -1)[0]  # the same in every row
        order_W = start_W.argsort(stable=True)
        errors_CWH = errors_NH.reshape(rows, -1, steps)[:, order_W].numpy()
        scales_CWk = scales.reshape(rows, len(start_W), -1)[:, order_W].numpy()
        ratios = [(np.abs(errors_CWH) / scales_CWk[:, :, [k]]).astype(np.float32) for k in range(len(self._periods))]
        best = min(range(len(ratios)), key=lambda k: _miss_between_halves(ratios[k])) if len(ratios) > 1 else 0
        windows = int(_known(ratios[best]).min())
        levels = tuple(level for level in LEVELS if _rank(windows, level) <= windows)
        if not levels:
            return None
        halves_LCH = np.stack([_half(ratios[best], level) for level in levels])
        blocks_W = start_W[order_W].numpy() // self._block
        errors = tuple(_sampling_error(ratios[best], half_CH, blocks_W) for half_CH in halves_LCH)
        period = self._periods[best]
        sums_LCH = _halves_of_sums(errors_CWH, scales_CWk[:, :, [best]], levels)
        return Intervals(self._rows, period, windows, levels, halves_LCH, errors, self._pooled, sums_LCH)


def _halves_of_sums(errors_CWH: Float32, scale_CW1: Float32, levels: Sequence[int]) -> Float32 | None:
    """Half-widths (L x C x H) for the sums of the first 1 to H steps; None where too few windows have all of them."""
    ratios_CWH = (np.abs(errors_CWH.cumsum(axis=2, dtype=np.float64)) / scale_CW1).astype(np.float32)
    windows = int(_known(ratios_CWH).min())
    if _rank(windows, max(levels)) > windows:
        return None
    return np.stack([_half(ratios_CWH, level) for level in levels])


def _sampling_error(ratios_CWH: Float32, half_CH: Float32, blocks_W: npt.NDArray[np.int64]) -> float:
    """The standard error of a coverage, in percent: neighbouring windows err alike, blocks of rows hardly do."""
    blocks = np.unique(blocks_W, return_inverse=True)[1]
    inside, known = np.zeros(blocks.max() + 1), np.zeros(blocks.max() + 1)
    np.add.at(inside, blocks, (ratios_CWH <= half_CH[:, None]).sum(axis=(0, 2)))
    np.add.at(known, blocks, (~np.isnan(ratios_CWH)).sum(axis=(0, 2)))
    return standard_error(inside, known)


def standard_error(inside: npt.NDArray[np.float64], known: npt.NDArray[np.float64]) -> float:
    """The standard error in percent of `inside` as a share of `known`, both by block; infinite for one block.

    For few blocks it is widened as Student's t is, so that two standard errors mean the same for any number of blocks.
    """
    count = int((known > 0).sum())
    if count < 2:
        return math.inf
    rest = inside - inside.sum() / known.sum() * known
    widened = T_975[min(count - 1, len(T_975)) - 1] / T_975[-1]
    return 100 * widened * math.sqrt(count / (count - 1) * float((rest**2).sum())) / float(known.sum())


def choose_levels(text: str, intervals: Intervals | None, checkpoint: object) -> tuple[int, ...]:
    """Levels in percent from a text such as '80,95', lowest first.

    Raises ConfigError for a text that is not whole numbers and for levels that the checkpoint does not have, ModelError
    for a checkpoint without bands.
    """
    try:
        requested = sorted({int(part.strip().removesuffix("%")) for part in text.split(",")})
    except ValueError:
        raise ConfigError(f"--levels '{text}' are no whole percents", "write them as 80 or 80,95") from None
    if intervals is None:
        raise ModelError(
            f"'{checkpoint}' has no bands: they are made when `timellm train` scores its validation windows",
            "train with timellm for bands (imported checkpoints and step-N.pt have none), or leave --levels out",
        )
    absent = [level for level in requested if level not in intervals.levels]
    if absent:
        raise ConfigError(
            f"'{checkpoint}' has no bands of level {', '.join(map(str, absent))}",
            f"levels are {', '.join(map(str, intervals.levels))} percent, "
            f"from {intervals.windows:,} validation windows of each channel",
        )
    return tuple(requested)


def _rank(count: Any, level: int) -> Any:
    """The rank of the half-width among `count` errors (or of many counts): ceil((count + 1) level)."""
    return -(-(count + 1) * level // 100)


def _known(ratios_CWH: Float32) -> npt.NDArray[np.int64]:
    """How many windows have a known target: C x H."""
    return (~np.isnan(ratios_CWH)).sum(axis=1)


def _half(ratios_CWH: Float32, level: int) -> Float32:
    """The half-widths (C x H) that hold `level` percent of the known ratios."""
    ranked_CWH = np.sort(ratios_CWH, axis=1)  # NaN is sorted to the end
    rank_C1H = np.minimum(_rank(_known(ratios_CWH), level), _known(ratios_CWH))[:, None] - 1
    halves_CH: Float32 = np.take_along_axis(ranked_CWH, rank_C1H, axis=1)[:, 0]
    return halves_CH


def _miss_between_halves(ratios_CWH: Float32) -> float:
    """How far coverage is from its level (mean, percent) if one half of the windows calibrates bands for the other.

    The windows are in the order of time, so a scale with a small miss gives bands that survive some drift.
    """
    half = ratios_CWH.shape[1] // 2
    misses = []
    for own, other in ((slice(half), slice(half, None)), (slice(half, None), slice(half))):
        windows = int(_known(ratios_CWH[:, own]).min())
        for level in _COMPARED_LEVELS:
            if _rank(windows, level) <= windows:
                inside = ratios_CWH[:, other] <= _half(ratios_CWH[:, own], level)[:, None]
                misses.append(abs(100 * float(inside.sum() / _known(ratios_CWH[:, other]).sum()) - level))
    return float(np.mean(misses)) if misses else 0.0
