"""Standardise channels by the mean and the standard deviation of the training span."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from timellm_cli.errors import DataError

Floats = NDArray[np.float64]

FARTHEST = 1e15
"""The largest standardised value: the squares of larger ones, summed over a window, overflow float32."""


@dataclass(frozen=True, eq=False)
class Scaler:
    """Mean and population standard deviation of each channel, raw, in float64.

    A constant channel has its value as mean and 1 as deviation, so that it becomes zeros. The deviation is NaN where it
    overflows float64.
    """

    mean_C: Floats
    std_C: Floats

    @classmethod
    def fit(cls, *blocks: Floats) -> Self:
        """The scaler of raw rows, given as blocks (n, C)."""
        rows = sum(map(len, blocks))
        with np.errstate(over="ignore", invalid="ignore"):
            mean_C = np.sum([block_NC.sum(axis=0) for block_NC in blocks], axis=0) / rows
            std_C = np.sqrt(np.sum([_squares(block_NC, mean_C) for block_NC in blocks], axis=0) / rows)
        std_C[np.isinf(std_C)] = np.nan
        lowest_C = np.min([block_NC.min(axis=0) for block_NC in blocks], axis=0)
        highest_C = np.max([block_NC.max(axis=0) for block_NC in blocks], axis=0)
        # The mean of equal values may be rounded, and then their deviation is a little above 0.
        constant_C = (lowest_C == highest_C) | (std_C == 0)
        return cls(np.where(constant_C, lowest_C, mean_C), np.where(constant_C, 1.0, std_C))

    def standardise(self, values_NC: Floats) -> Floats:
        """Raw to standardised values, (..., C)."""
        standardised_NC = values_NC - self.mean_C
        standardised_NC /= self.std_C  # in place: saves a copy
        return standardised_NC

    def restore(self, values_NC: Floats) -> Floats:
        """Standardised to raw values, (..., C)."""
        return values_NC * self.std_C + self.mean_C


def _squares(values_NC: Floats, mean_C: Floats) -> Floats:
    """Sum of the squared distances from the mean: (C)."""
    distances_NC = values_NC - mean_C
    distances_NC *= distances_NC
    sums_C: Floats = distances_NC.sum(axis=0)
    return sums_C


def require_computable(standardised_NC: NDArray[np.floating], columns: Sequence[str], name: str) -> None:
    """Raise DataError for the first channel whose values would overflow in the model. `name` is the CSV's."""
    for column, values_N in zip(columns, standardised_NC.T, strict=True):
        farthest = max(abs(float(values_N.min())), abs(float(values_N.max())))
        if not farthest <= FARTHEST:
            what = f"a value {farthest:.0e} deviations" if np.isfinite(farthest) else "values too many deviations"
            raise DataError(
                f"{name}, column '{column}': {what} from the mean of the training rows; "
                f"up to {FARTHEST:.0e} can be computed with",
                "look for a wrong number in the column, or leave it out with --columns",
            )
