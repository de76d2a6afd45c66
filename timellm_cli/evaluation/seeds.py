"""Which checkpoints are seeds of one model, how far seeds scatter, and whether two means differ by more than that.

The spread is over seeds alone: the drawn weights and the order of the samples. It does not say what other test rows
would give.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from math import sqrt
from statistics import mean, stdev
from typing import Any, Literal

from timellm_cli.config import Config
from timellm_cli.llm_files import NO_LLM

Control = Literal["no LLM", "random LLM", "fewer layers"]

_FREE_SECTIONS = ("run", "hardware")
_FREE_KEYS = (
    "train.seed", "data.fold", "train.workers", "train.batch_size", "train.accumulate", "llm.implementation",
    "data.path",
)  # fmt: skip
"""Keys that say where and how a model was trained, not what it learned."""
_LLM_SECTIONS = ("llm", "prompt")


def recipe(config: Config) -> dict[str, Any]:
    """The values that decide what a model learns: all but the seed and how and where it is computed.

    Of the resolved batch, only the samples of an update count: a small GPU may accumulate them over more steps. Without
    an LLM, the keys that only an LLM reads are left out.
    """
    values = {
        key: value
        for key, value in config.values().items()
        if key not in _FREE_KEYS and key.split(".")[0] not in _FREE_SECTIONS
    }
    values["train.batch_size x accumulate"] = config.train.batch * config.train.accumulate
    if config.llm.quantization != "nf4":
        del values["llm.double_quant"]
    if config.llm.name != NO_LLM:
        return values
    return {
        key: value
        for key, value in values.items()
        if key == "llm.name" or not (key.split(".")[0] in _LLM_SECTIONS or key == "train.precision")
    }


def group_seeds(configs: Sequence[Config], stages: Sequence[str] = ()) -> list[list[int]]:
    """The positions of the configurations, the seeds of one recipe together, in the order of each recipe's first.

    `stages` say which weights of a training each is: best epochs and last ones are never averaged. A further checkpoint
    of the same recipe and seed is a group of its own: it says nothing of the spread over seeds.
    """
    stages = stages or [""] * len(configs)
    recipes = [(recipe(config), stage) for config, stage in zip(configs, stages, strict=True)]
    groups: list[list[int]] = []
    seeds_of: dict[int, list[int]] = {}
    for position, config in enumerate(configs):
        group = seeds_of.setdefault(recipes.index(recipes[position]), [])
        if config.train.seed in {configs[other].train.seed for other in group}:
            groups.append([position])
            continue
        if not group:
            groups.append(group)
        group.append(position)
    return groups


def name_groups(groups: Sequence[Sequence[str]]) -> list[str]:
    """A name for each group from the names of its seeds: 'etth1' for 'etth1-seed1' and 'etth1-seed2'.

    If two groups would have the same name, or the seeds' names have no common beginning: 'etth1-seed1 and 1 more'.
    """
    shared = [names[0] if len(names) == 1 else _in_common(names) for names in groups]
    return [
        name if name and shared.count(name) == 1 else _first_of(names)
        for name, names in zip(shared, groups, strict=True)
    ]


def _first_of(names: Sequence[str]) -> str:
    return f"{names[0]} and {len(names) - 1} more" if len(names) > 1 else names[0]


def _in_common(names: Sequence[str]) -> str:
    letters = (set(column) for column in zip(*names, strict=False))
    prefix = "".join(column.pop() for column in takewhile(lambda column: len(column) == 1, letters))
    return re.sub(r"[-_ ./\\]+(seed|fold|s)?[-_ ]?\d*$", "", prefix)


def control_of(ours: Config, theirs: Config) -> Control | None:
    """What `theirs` lacks of the LLM of `ours`, if they are equal otherwise; else None.

    It lacks the LLM itself, the pretrained weights, or some of the layers.
    """
    if ours.llm.name == NO_LLM:
        return None
    left, right = recipe(ours), recipe(theirs)
    if theirs.llm.name == NO_LLM:
        shared = [key for key in right if key != "llm.name"]
        return "no LLM" if all(left[key] == right[key] for key in shared) else None
    different = {key for key in left if left[key] != right[key]}
    if different == {"llm.weights"}:
        return "random LLM" if theirs.llm.weights == "random" else None
    if different != {"llm.layers"}:
        return None
    deeper = ours.llm.layers == "all" or (theirs.llm.layers != "all" and ours.llm.layers > theirs.llm.layers)
    return "fewer layers" if deeper else None


Outcome = Literal["lower", "same", "higher", "unknown"]

_ROUNDING = 1e-5

T_975 = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228,
    2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086,
)  # fmt: skip
"""97.5 % quantiles of Student's t for 1, 2, ... degrees of freedom. For more, the last is slightly too wide."""


@dataclass(frozen=True)
class Difference:
    """The mean of `ours` minus the mean of `theirs`, with Welch's standard error and 95 % interval (`low`, `high`).

    `relative` is the difference as a share of theirs. `ours` and `theirs` count the runs of each side; 0 means a method
    without seeds. Standard error and interval are None if a side has a single run, whose spread is unknown.
    With `folds`, they are over the differences of so many folds of a backtest instead.
    """

    mean: float
    relative: float
    ours: int
    theirs: int
    standard_error: float | None
    low: float | None
    high: float | None
    folds: int = 0

    @property
    def is_rounding(self) -> bool:
        """Whether the difference is no larger than what float32 makes of the same forecasts."""
        return abs(self.relative) < _ROUNDING

    @property
    def outcome(self) -> Outcome:
        """'same' if the interval contains zero or the difference is rounding, 'unknown' without an interval.

        Else the sign of the difference.
        """
        if self.low is None or self.high is None:
            return "unknown"
        if self.is_rounding or self.low <= 0 <= self.high:
            return "same"
        return "lower" if self.high < 0 else "higher"


def spread_of(values: Sequence[float]) -> float | None:
    """The sample standard deviation; None for a single value."""
    return stdev(values) if len(values) > 1 else None


def differ(ours: Sequence[float], theirs: Sequence[float] | float) -> Difference:
    """Compare the runs of two methods by Welch's t-test. A single number is a method without seeds and spread.

    The degrees of freedom are Welch and Satterthwaite's, rounded down, so the interval is slightly too wide.
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


def differ_by_fold(ours: Sequence[float], theirs: Sequence[float], seeds: tuple[int, int]) -> Difference:
    """Compare two methods on the same folds by a paired t-test. `seeds` count the runs behind each side's figures."""
    pairs = [our - their for our, their in zip(ours, theirs, strict=True)]
    difference, reference = mean(pairs), mean(theirs)
    relative = difference / reference if reference > 0 else 0.0
    error = stdev(pairs) / sqrt(len(pairs))
    reach = T_975[min(len(pairs) - 1, len(T_975)) - 1] * error
    return Difference(difference, relative, *seeds, error, difference - reach, difference + reach, len(pairs))
