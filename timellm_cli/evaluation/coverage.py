"""What share of the values the bands of a checkpoint really held, and how wide they were."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from timellm_cli.data.windows import Window
from timellm_cli.evaluation.intervals import Intervals
from timellm_cli.evaluation.score import parts_of

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
        self._intervals, self._columns = intervals, columns
        shape = intervals.halves_LCH.shape
        self._inside_LCH, self._width_LCH = np.zeros(shape), np.zeros(shape)
        self._windows_C = np.zeros(shape[1])

    def add(self, windows: Sequence[Window], error_BH: Tensor) -> None:
        """Errors in standardised units."""
        intervals, error_BH = self._intervals, error_BH.abs().cpu()
        places = np.array([intervals.channels.index(self._columns[window.channel]) for window in windows])
        history_BT = torch.stack([window.history_T for window in windows])
        np.add.at(self._windows_C, places, 1)
        for place, level in enumerate(intervals.levels):
            half_BH = intervals.around(level, history_BT, places.tolist())
            np.add.at(self._inside_LCH[place], places, (error_BH <= half_BH).numpy())
            np.add.at(self._width_LCH[place], places, 2 * half_BH.numpy())

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
