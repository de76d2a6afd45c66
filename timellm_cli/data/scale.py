"""Standardise channels by the mean and deviation of the training span."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from timellm_cli.errors import DataError

Floats = NDArray[np.float64]

FARTHEST = 1e15
"""Standardised values beyond it have squares, summed over a window, that float32 does not hold."""


@dataclass(frozen=True, eq=False)
class Scaler:
    """Mean and population standard deviation of each channel, in the units of the CSV (float64).

    A channel that never changes has its value and the deviation 1, so that it becomes zeros; the deviation is NaN where
    float64 does not hold it.
    """

    mean_C: Floats
    std_C: Floats

    @classmethod
    def fit(cls, values_NC: Floats) -> Self:
        """Measure the rows of the training span, raw."""
        with np.errstate(over="ignore", invalid="ignore"):
            std_C = values_NC.std(axis=0)
            mean_C = values_NC.mean(axis=0)
        std_C[np.isinf(std_C)] = np.nan
        # The deviation of equal values can come out a little above 0, where their mean is rounded.
        constant_C = (values_NC.min(axis=0) == values_NC.max(axis=0)) | (std_C == 0)
        return cls(np.where(constant_C, values_NC[0], mean_C), np.where(constant_C, 1.0, std_C))

    def standardise(self, values_NC: Floats) -> Floats:
        """Raw to standardised; the last axis is the channels."""
        return (values_NC - self.mean_C) / self.std_C

    def restore(self, values_NC: Floats) -> Floats:
        """Standardised to raw; the last axis is the channels."""
        return values_NC * self.std_C + self.mean_C


def require_computable(standardised_NC: NDArray[np.floating], columns: Sequence[str], name: str) -> None:
    """Raise DataError for the first channel that the model would turn into no numbers. `name` is the CSV's."""
    for column, values_N in zip(columns, standardised_NC.T, strict=True):
        farthest = max(abs(float(values_N.min())), abs(float(values_N.max())))
        if not farthest <= FARTHEST:
            what = f"a value {farthest:.0e} deviations" if np.isfinite(farthest) else "values too many deviations"
            raise DataError(
                f"{name}, column '{column}': {what} from the mean of the training rows; "
                f"up to {FARTHEST:.0e} can be computed with",
                "look for a wrong number in the column, or leave it out with --columns",
            )
