"""How far seeds scatter, and whether two means differ by more than that.

The spread is over seeds alone: how the model was drawn and shuffled, not which rows happen to be in the test span.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import mean, stdev
from typing import Literal

Outcome = Literal["lower", "same", "higher", "unknown"]

T_975 = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228,
    2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086,
)  # fmt: skip
"""The 97.5 % quantiles of Student's t at 1, 2, ... degrees of freedom; beyond them the last is a little too wide."""


@dataclass(frozen=True)
class Difference:
    """Mean of `ours` less the mean of `theirs`, with Welch's standard error and 95 % interval.

    `ours` and `theirs` count the runs of each side; 0 stands for a method that no seed moves. The three figures of the
    spread are None where a side has a single run: nothing is known of its spread then.
    """

    mean: float
    relative: float
    ours: int
    theirs: int
    standard_error: float | None
    low: float | None
    high: float | None

    @property
    def outcome(self) -> Outcome:
        """'lower' and 'higher' where the interval leaves out zero, 'same' where it holds it."""
        if self.low is None or self.high is None:
            return "unknown"
        if self.low <= 0 <= self.high:
            return "same"
        return "lower" if self.high < 0 else "higher"


def spread_of(values: Sequence[float]) -> float | None:
    """The sample standard deviation; None for a single value."""
    return stdev(values) if len(values) > 1 else None


def differ(ours: Sequence[float], theirs: Sequence[float] | float) -> Difference:
    """Compare the runs of two methods by Welch's t; a single number has no seeds, and so no spread of its own.

    The degrees of freedom are Welch and Satterthwaite's, rounded down, which makes the interval rather too wide.
    """
    samples = [ours] if isinstance(theirs, float) else [ours, theirs]
    reference = theirs if isinstance(theirs, float) else mean(theirs)
    difference = mean(ours) - reference
    count = 0 if isinstance(theirs, float) else len(theirs)
    relative = difference / reference if reference > 0 else 0.0
    if min(map(len, samples)) < 2:
        return Difference(difference, relative, len(ours), count, None, None, None)
    variances = [stdev(sample) ** 2 / len(sample) for sample in samples]
    error = sqrt(sum(variances))
    weights = sum(part**2 / (len(sample) - 1) for part, sample in zip(variances, samples, strict=True))
    freedom = int(sum(variances) ** 2 / weights + 1e-9) if weights else len(T_975)  # 6.999... is 7
    reach = T_975[min(max(freedom, 1), len(T_975)) - 1] * error
    return Difference(difference, relative, len(ours), count, error, difference - reach, difference + reach)
