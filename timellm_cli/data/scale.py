"""Standardise channels by the mean and the standard deviation of the training span."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import polars as pl
from numpy.typing import NDArray

from timellm_cli.errors import DataError
from timellm_cli.splits import Span

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
    def fit(cls, frame: pl.DataFrame, parts: Sequence[Span] | None = None) -> Self:
        """The scaler of raw rows: each column over each part of the rows, the first column first; by default over all.

        Nulls count for nothing; a part of them has mean 0 and deviation 1.
        """
        parts = [Span(0, len(frame))] if parts is None else parts
        channels = frame.width * len(parts)
        mean_C, std_C = np.zeros(channels), np.ones(channels)
        pieces = (column[part.start : part.stop] for column in frame for part in parts)
        for channel, piece in enumerate(pieces):
            known_N = piece.drop_nulls().to_numpy()
            if not len(known_N):
                continue
            with np.errstate(over="ignore", invalid="ignore"):
                mean = known_N.sum() / len(known_N)
                std = np.sqrt(np.square(known_N - mean).sum() / len(known_N))
            # The mean of equal values may be rounded, and then their deviation is a little above 0.
            constant = known_N.min() == known_N.max() or std == 0
            mean_C[channel] = known_N.min() if constant else mean
            std_C[channel] = 1.0 if constant else np.nan if np.isinf(std) else std
        return cls(mean_C, std_C)

    def with_known(self, known: Self, columns: Sequence[str], ids: Sequence[str], known_ids: Sequence[str]) -> Self:
        """The same with the means and deviations of the series that `known` has. Both are of these columns."""
        places = {name: place for place, name in enumerate(known_ids)}
        mean_C, std_C = self.mean_C.copy(), self.std_C.copy()
        for column in range(len(columns)):
            for number, name in enumerate(ids):
                if (place := places.get(name)) is not None:
                    ours, theirs = column * len(ids) + number, column * len(known_ids) + place
                    mean_C[ours], std_C[ours] = known.mean_C[theirs], known.std_C[theirs]
        return type(self)(mean_C, std_C)

    def equals(self, other: Self) -> bool:
        """Whether both have the same means and deviations, to the last bit."""
        return np.array_equal(self.mean_C, other.mean_C) and np.array_equal(self.std_C, other.std_C, equal_nan=True)

    def standardise(self, values_NC: Floats) -> Floats:
        """Raw to standardised values, (..., C)."""
        standardised_NC = values_NC - self.mean_C
        standardised_NC /= self.std_C  # in place: saves a copy
        return standardised_NC

    def restore(self, values_NC: Floats) -> Floats:
        """Standardised to raw values, (..., C)."""
        return values_NC * self.std_C + self.mean_C


def require_computable(standardised_N: NDArray[np.floating], column: str, name: str) -> None:
    """Raise DataError for a channel whose values would overflow in the model. `name` is the CSV's. NaN is no value."""
    known_N = standardised_N[~np.isnan(standardised_N)]
    farthest = float(np.abs(known_N).max()) if len(known_N) else 0.0
    if not farthest <= FARTHEST:
        what = f"a value {farthest:.0e} deviations" if np.isfinite(farthest) else "values too many deviations"
        raise DataError(
            f"{name}, column '{column}': {what} from the mean of the training rows; "
            f"up to {FARTHEST:.0e} can be computed with",
            "look for a wrong number in the column, or leave it out with --exclude",
        )
