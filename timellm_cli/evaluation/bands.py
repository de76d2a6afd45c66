"""Bands around a forecast that hold a stated share of what happens: split-conformal prediction from validation errors.

For every channel and step of the horizon, the half-width of a band of level q is the ceil((n + 1) q)-th smallest of the
n absolute errors on the validation windows (Lei et al., Distribution-Free Predictive Inference for Regression, 2018),
each divided by a scale that is read off its own window's history, as an error is larger where a series moves more
(ibid., section 5.2). The promise holds where errors of the future are as those of validation were; where the data
drift, it does not, and `timellm eval` measures by how much. Left out: what holds for several steps at once.

What share of the values the bands of a checkpoint really held, and how wide they were.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from timellm_cli.data.batch import Batch
from timellm_cli.data.windows import ForecastData
from timellm_cli.errors import ConfigError, ModelError
from timellm_cli.evaluation.baselines import period_of
from timellm_cli.evaluation.score import parts_of

LEVELS = (50, 60, 70, 80, 90, 95, 98, 99)
"""Percent; the half-widths of each are kept, so that a checkpoint stays small."""

_PROBED = (50, 80, 95)
"""Levels at which the scales are compared."""
_MOST = 2**23
"""Errors that are kept at most; of more windows, every second or third is."""
_TINY = 1e-5
"""Added to a window's mean square, as in the normalisation of the model's input."""

Halves = npt.NDArray[np.float32]


def window_scale(history_BT: Tensor, period: int) -> Tensor:
    """What a window's errors are measured in, B, standardised units.

    The standard deviation of the history; with a period, how far values that many rows apart differ (root mean square).
    """
    moved_BT = history_BT[:, period:] - history_BT[:, :-period] if period else history_BT - history_BT.mean(1, True)
    return (moved_BT.double().square().mean(dim=1) + _TINY).sqrt()


@dataclass(frozen=True, eq=False)
class Intervals:
    """Half-widths of bands, one for each level, channel and step, in parts of a window's scale.

    `channels` are those that were validated (in MS the target alone); `period` is the scale's, 0 where it is the
    standard deviation; `windows` are those of a channel whose errors were ranked.
    """

    channels: tuple[str, ...]
    period: int
    windows: int
    levels: tuple[int, ...]
    halves_LCH: Halves

    def around(self, level: int, history_BT: Tensor, channel_B: Tensor) -> Tensor:
        """Half-widths (B x H, standardised) after standardised histories; `channel_B` are positions in `channels`."""
        halves_CH = torch.from_numpy(self.halves_LCH[self.levels.index(level)])
        return halves_CH[channel_B].double() * window_scale(history_BT, self.period).unsqueeze(1)


class ValidationErrors:
    """Gathers a forecaster's errors while `score` goes through the validation windows; `add` is what it is told."""

    def __init__(self, data: ForecastData, split: str = "val") -> None:
        samples = data.windows(split)
        self._channels, self._windows = data.table.columns[-samples.channels :], samples.windows
        self._every = -(-len(samples) * data.config.window.pred_len // _MOST)
        period = period_of(data)
        self._periods = (0, period.rows) if period and period.rows < data.config.window.seq_len else (0,)
        self._seen = 0
        self._errors: list[Tensor] = []
        self._scales: list[Tensor] = []

    def add(self, batch: Batch, error_BH: Tensor) -> None:
        """Errors in standardised units; samples come channel by channel."""
        kept_B = (torch.arange(len(batch)) + self._seen) % self._windows % self._every == 0
        self._seen += len(batch)
        self._errors.append(error_BH[kept_B.to(error_BH.device)].abs().float().cpu())
        history_BT = batch.history_BT[kept_B]
        self._scales.append(torch.stack([window_scale(history_BT, period) for period in self._periods], dim=1))

    def intervals(self) -> Intervals | None:
        """The bands. None where not even the lowest level can be told from so few windows."""
        errors_CWH = torch.cat(self._errors).numpy().reshape(len(self._channels), -1, self._errors[0].shape[1])
        scales_CWk = torch.cat(self._scales).numpy().reshape(*errors_CWH.shape[:2], -1)
        ratios = [(errors_CWH / scales_CWk[:, :, [k]]).astype(np.float32) for k in range(len(self._periods))]
        place = min(range(len(ratios)), key=lambda k: _miss_between_halves(ratios[k])) if len(ratios) > 1 else 0
        windows = errors_CWH.shape[1]
        levels = tuple(level for level in LEVELS if _rank(windows, level) <= windows)
        if not levels:
            return None
        ranked_CWH = np.sort(ratios[place], axis=1)
        halves_LCH = np.stack([ranked_CWH[:, _rank(windows, level) - 1] for level in levels])
        return Intervals(self._channels, self._periods[place], windows, levels, halves_LCH)


def choose_levels(text: str, intervals: Intervals | None, checkpoint: object) -> tuple[int, ...]:
    """Levels in percent from '80,95', lowest first.

    Raises ConfigError for what is no number and for levels that the checkpoint does not have, ModelError for one that
    has no bands.
    """
    try:
        wanted = sorted({int(part.strip().removesuffix("%")) for part in text.split(",")})
    except ValueError:
        raise ConfigError(f"--levels '{text}' are no whole percents", "write them as 80 or 80,95") from None
    if intervals is None:
        raise ModelError(
            f"'{checkpoint}' has no bands: they are made when `timellm train` scores its validation windows",
            "train with timellm for bands (imported checkpoints and step-N.pt have none), or leave --levels out",
        )
    absent = [level for level in wanted if level not in intervals.levels]
    if absent:
        raise ConfigError(
            f"'{checkpoint}' has no bands of level {', '.join(map(str, absent))}",
            f"levels are {', '.join(map(str, intervals.levels))} percent, "
            f"from {intervals.windows:,} validation windows of each channel",
        )
    return tuple(wanted)


def _rank(count: int, level: int) -> int:
    """Which of `count` errors, the smallest being 1, is the half-width: ceil((count + 1) level)."""
    return -(-(count + 1) * level // 100)


def _miss_between_halves(ratios_CWH: Halves) -> float:
    """How far coverage is from its level, in percent, where one half of the windows stands in for the other.

    Windows are in the order of time, so a scale that misses little has bands that survive some drift.
    """
    half = ratios_CWH.shape[1] // 2
    misses = []
    for own, other in ((slice(half), slice(half, None)), (slice(half, None), slice(half))):
        ranked_CWH = np.sort(ratios_CWH[:, own], axis=1)
        windows = ranked_CWH.shape[1]
        for level in _PROBED:
            if _rank(windows, level) <= windows:
                inside = ratios_CWH[:, other] <= ranked_CWH[:, [_rank(windows, level) - 1]]
                misses.append(abs(100 * float(inside.mean()) - level))
    return float(np.mean(misses)) if misses else 0.0


USUAL_LEVELS = (80, 95)
"""Percent; what people ask for most."""

TOLERANCE = 2.0
"""Percent between level and coverage from which on the data are said to have drifted."""


@dataclass(frozen=True)
class Coverage:
    """Bands of one level (percent): the share of values inside (percent), and their mean width, standardised.

    `channels` and `parts` (quarters of the horizon, as the errors have them) are shares of the same kind.
    """

    level: int
    coverage: float
    width: float
    channels: dict[str, float]
    parts: tuple[float, ...]

    @property
    def holds(self) -> bool:
        """Whether coverage is within two points of the level."""
        return abs(self.coverage - self.level) <= TOLERANCE


class CoverageCount:
    """Counts while `score` goes through windows; `add` is what it is told. `columns` are those of the table."""

    def __init__(self, intervals: Intervals, columns: tuple[str, ...]) -> None:
        self._intervals = intervals
        known = {name: position for position, name in enumerate(intervals.channels)}
        self._positions_C = torch.tensor([known.get(name, -1) for name in columns])
        shape = intervals.halves_LCH.shape
        self._inside_LCH, self._width_LCH = np.zeros(shape), np.zeros(shape)
        self._windows_C = np.zeros(shape[1])

    def add(self, batch: Batch, error_BH: Tensor) -> None:
        """Errors in standardised units."""
        intervals, error_BH = self._intervals, error_BH.abs().cpu()
        channel_B = self._positions_C[batch.channel_B]
        np.add.at(self._windows_C, channel_B.numpy(), 1)
        for position, level in enumerate(intervals.levels):
            half_BH = intervals.around(level, batch.history_BT, channel_B)
            np.add.at(self._inside_LCH[position], channel_B.numpy(), (error_BH <= half_BH).numpy())
            np.add.at(self._width_LCH[position], channel_B.numpy(), 2 * half_BH.numpy())

    def result(self) -> tuple[Coverage, ...]:
        """Of every level, lowest first."""
        return tuple(self._of_level(place, level) for place, level in enumerate(self._intervals.levels))

    def _of_level(self, place: int, level: int) -> Coverage:
        share_CH = 100 * self._inside_LCH[place] / self._windows_C[:, None]
        parts = parts_of(share_CH.shape[1])
        return Coverage(
            level=level,
            coverage=float(share_CH.mean()),
            width=float((self._width_LCH[place] / self._windows_C[:, None]).mean()),
            channels=dict(zip(self._intervals.channels, share_CH.mean(axis=1).tolist(), strict=True)),
            parts=tuple(float(share_CH[:, part.first - 1 : part.last].mean()) for part in parts),
        )


def mean_coverage(seeds: Sequence[tuple[Coverage, ...]]) -> tuple[Coverage, ...]:
    """The mean over seeds of one run, for the levels that all of them have; nothing where one has no bands."""
    by_level = [{one.level: one for one in coverages} for coverages in seeds]
    shared = [level for level in by_level[0] if all(level in levels for levels in by_level)]
    return tuple(_mean([levels[level] for levels in by_level]) for level in shared)


def _mean(coverages: Sequence[Coverage]) -> Coverage:
    first = coverages[0]
    return Coverage(
        level=first.level,
        coverage=float(np.mean([one.coverage for one in coverages])),
        width=float(np.mean([one.width for one in coverages])),
        channels={name: float(np.mean([one.channels[name] for one in coverages])) for name in first.channels},
        parts=tuple(np.mean([one.parts for one in coverages], axis=0).tolist()),
    )


def drift_note(name: str, coverages: Sequence[Coverage]) -> str | None:
    """A sentence where bands of 80 or 95 percent held another share of the values, else None."""
    missed = [one for one in coverages if one.level in USUAL_LEVELS and not one.holds]
    if not missed:
        return None
    shares = " and ".join(f"{one.level} % bands held {one.coverage:.1f} %" for one in missed)
    signs = {one.coverage < one.level for one in missed}
    error = "spread otherwise" if len(signs) > 1 else "larger" if True in signs else "smaller"
    return f"{name}: {shares} of the values: the data drift, errors here are {error} than in validation"
