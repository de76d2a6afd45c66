"""What share of the values the bands of a forecast held, and whether that is drift or chance."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from timellm_cli.data.batch import Batch
from timellm_cli.data.windows import ForecastData
from timellm_cli.evaluation.bands import USUAL_LEVELS, Intervals, standard_error
from timellm_cli.evaluation.score import parts_of
from timellm_cli.processes.group import Group, sum_all

TOLERANCE = 2.0
"""Percentage points. If coverage differs from its level by more, the data are said to drift."""


@dataclass(frozen=True)
class Coverage:
    """What the bands of one level held: the share of values inside (percent), and their mean width (standardised).

    `level` is in percent. `channels` and `parts` (the quarters of the horizon) are shares in percent, too. `error` is
    the standard error of the coverage (percent), from blocks of rows of the scored and of the validation windows.
    """

    level: int
    coverage: float
    width: float
    channels: dict[str, float]
    parts: tuple[float, ...]
    error: float

    @property
    def drifts(self) -> bool:
        """Whether coverage is off by more than TOLERANCE, and by more than chance: two standard errors."""
        return abs(self.coverage - self.level) > max(TOLERANCE, 2 * self.error)


class CoverageCount:
    """Counts the values inside the bands while `score` runs: pass `add` to it as `on_errors`."""

    def __init__(self, intervals: Intervals, data: ForecastData) -> None:
        """`data` is what is scored; all of its scored channels have bands."""
        self._intervals, self._channels = intervals, data.scored_channels
        self._row_C = intervals.rows_of(data.table)
        self._first = len(self._row_C) - len(self._channels)
        levels, steps = len(intervals.levels), intervals.halves_LCH.shape[2]
        self._known_C, self._known_H = np.zeros(len(self._channels)), np.zeros(steps)
        self._inside_LC, self._inside_LH = np.zeros((levels, len(self._channels))), np.zeros((levels, steps))
        self._width_L = np.zeros(levels)
        self._blocks: dict[int, npt.NDArray[np.float64]] = {}

    def add(self, batch: Batch, error_BH: Tensor) -> None:
        """Add the standardised errors of a batch."""
        error_BH = error_BH.abs().cpu()
        row_B, channel_B = self._row_C[batch.channel_B], batch.channel_B.numpy() - self._first
        known_BH = (~error_BH.isnan()).numpy()
        np.add.at(self._known_C, channel_B, known_BH.sum(axis=1))
        self._known_H += known_BH.sum(axis=0)
        block_B = (batch.start_B // (batch.history_BT.shape[1] + error_BH.shape[1])).numpy()
        counts_BL = [known_BH.sum(axis=1)]
        for index, level in enumerate(self._intervals.levels):
            half_BH = self._intervals.around(level, batch.history_BT, row_B)
            inside_BH = (error_BH <= half_BH).numpy()
            counts_BL.append(inside_BH.sum(axis=1))
            np.add.at(self._inside_LC[index], channel_B, counts_BL[-1])
            self._inside_LH[index] += inside_BH.sum(axis=0)
            self._width_L[index] += float((2 * half_BH.numpy() * known_BH).sum())
        counts_BN = np.stack(counts_BL, axis=1).astype(np.float64)
        for block in np.unique(block_B):
            self._add_block(int(block), counts_BN[block_B == block].sum(axis=0))

    def _add_block(self, block: int, counts_N: npt.NDArray[np.float64]) -> None:
        """Add how many values of a block are known, and how many are inside the band of each level (N = 1 + L)."""
        self._blocks[block] = self._blocks.get(block, 0.0) + counts_N

    def result(self, group: Group | None = None) -> tuple[Coverage, ...]:
        """The coverage of every level, lowest first, over the values of all processes of a `group`."""
        self._join(group or Group())
        known, known_C = max(self._known_C.sum(), 1), np.maximum(self._known_C, 1)
        known_K, *inside_LK = np.stack(list(self._blocks.values()), axis=1)
        parts = [slice(first - 1, last) for first, last in parts_of(len(self._known_H))]
        return tuple(
            Coverage(
                level=level,
                coverage=float(100 * inside_C.sum() / known),
                width=float(width / known),
                channels=dict(zip(self._channels, (100 * inside_C / known_C).tolist(), strict=True)),
                parts=tuple(100 * float(inside_H[part].sum() / max(self._known_H[part].sum(), 1)) for part in parts),
                error=math.hypot(standard_error(inside_K, known_K), validated),
            )
            for level, inside_C, inside_H, width, inside_K, validated in zip(
                self._intervals.levels, self._inside_LC, self._inside_LH, self._width_L, inside_LK,
                self._intervals.errors, strict=True,
            )
        )  # fmt: skip

    def _join(self, group: Group) -> None:
        """Count the values of all processes, the same in each."""
        counts = (self._known_C, self._known_H, self._inside_LC, self._inside_LH, self._width_L)
        sum_all(group, *map(torch.from_numpy, counts))
        own = [[block, *counts_N] for block, counts_N in self._blocks.items()]
        rows = group.join(torch.tensor(own, dtype=torch.float64).view(-1, 2 + len(self._width_L)))
        self._blocks = {}
        for block, *counts_N in rows.tolist():
            self._add_block(int(block), np.array(counts_N))


def mean_coverage(seeds: Sequence[tuple[Coverage, ...]]) -> tuple[Coverage, ...]:
    """The mean over seeds, for the levels that all seeds have. Empty if one seed has no bands."""
    means = []
    for first in seeds[0]:
        same = [one for coverages in seeds for one in coverages if one.level == first.level]
        if len(same) == len(seeds):
            means.append(
                Coverage(
                    level=first.level,
                    coverage=float(np.mean([one.coverage for one in same])),
                    width=float(np.mean([one.width for one in same])),
                    channels={name: float(np.mean([one.channels[name] for one in same])) for name in first.channels},
                    parts=tuple(np.mean([one.parts for one in same], axis=0).tolist()),
                    error=max(one.error for one in same),  # all seeds are scored on the same rows
                )
            )
    return tuple(means)


def drift_note(name: str, coverages: Sequence[Coverage]) -> str | None:
    """A sentence for a model whose bands of the usual levels held another share of the values, else None."""
    missed = [one for one in coverages if one.level in USUAL_LEVELS and one.drifts]
    if not missed:
        return None
    shares = ", ".join(f"{one.level} % bands held {one.coverage:.1f} ± {one.error:.1f} %" for one in missed)
    directions = {one.coverage < one.level for one in missed}
    what = "spread otherwise" if len(directions) > 1 else "larger" if True in directions else "smaller"
    return (
        f"{name}: {shares} of the values (± standard error), more than two standard errors off: the data drift, errors "
        f"here are {what} than in validation"
    )
