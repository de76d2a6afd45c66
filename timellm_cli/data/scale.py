"""Standardise channels by the mean and deviation of the training span."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Scaler:
    """Mean and population standard deviation of each channel, in the units of the CSV (float64).

    A channel that never changes has the deviation 1, so that it becomes zeros.
    """

    mean_C: Floats
    std_C: Floats

    @classmethod
    def fit(cls, values_NC: Floats) -> Self:
        """Measure the rows of the training span, raw."""
        std_C = values_NC.std(axis=0)
        # The deviation of equal values can come out a little above 0, where their mean is rounded.
        constant_C = (values_NC.min(axis=0) == values_NC.max(axis=0)) | (std_C == 0)
        return cls(values_NC.mean(axis=0), np.where(constant_C, 1.0, std_C))

    def standardise(self, values_NC: Floats) -> Floats:
        """Raw to standardised; the last axis is the channels."""
        return (values_NC - self.mean_C) / self.std_C

    def restore(self, values_NC: Floats) -> Floats:
        """Standardised to raw; the last axis is the channels."""
        return values_NC * self.std_C + self.mean_C
