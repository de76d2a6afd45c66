"""The five arms of the question what the text of the days is worth, and whether language has to do with it.

All share one numeric model. A reads nothing; B columns, without an LLM; C text, by a pretrained LLM; D the same text
dealt out to other days; E the same text by an LLM of drawn weights. A difference counts if two intervals exclude zero:
over seeds, and over blocks of days. A figure from fewer than `FEWEST_DAYS` event days is open.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Any, Literal

import numpy as np

from timellm_cli.config import Config
from timellm_cli.data.scale import Floats
from timellm_cli.evaluation.day_errors import DayErrors, DayPart
from timellm_cli.evaluation.seeds import T_975, Difference, differ, recipe
from timellm_cli.units import format_count

Arm = Literal["A", "B", "C", "D", "E"]
ARMS: dict[Arm, str] = {
    "A": "nothing known ahead",
    "B": "columns, no LLM",
    "C": "text, pretrained LLM",
    "D": "text of other days",
    "E": "text, random LLM",
}
PARTS: dict[DayPart, str] = {"all": "all days", "event": "event days", "ordinary": "ordinary days"}
FEWEST_DAYS = 20
_BLOCK = 7
"""Days of a block: errors of neighbouring days go together."""

Outcome = Literal["lower", "same", "higher", "open"]


@dataclass(frozen=True)
class Comparison:
    """The MSE of one arm less that of another on a part of the days.

    `seeds` is over seeds; `low` and `high` are the 95 % interval over blocks of days, `blocks` how many. `outcome` is
    'open' where the days or seeds are too few to say.
    """

    ours: Arm
    theirs: Arm
    part: DayPart
    relative: float
    seeds: Difference
    low: float
    high: float
    blocks: int
    outcome: Outcome

    @property
    def evidence(self) -> str:
        """The intervals in words."""
        said = f"{self.seeds.mean:+.4f}; over {self.blocks} blocks of {_BLOCK} days {self.low:+.4f} to {self.high:+.4f}"
        if self.seeds.low is None or self.seeds.high is None:
            return f"{said}; one seed, so the spread over seeds is not known"
        return f"{said}, over seeds {self.seeds.low:+.4f} to {self.seeds.high:+.4f}"


@dataclass(frozen=True)
class ArmTable:
    """The arms of one numeric model: the model of each, its MSE by part of the days, and how they compare.

    `days` counts the days of each part, an event of one channel being enough for an event day.
    """

    models: dict[Arm, str]
    mse: dict[Arm, dict[DayPart, float]]
    days: dict[DayPart, int]
    comparisons: tuple[Comparison, ...]

    def of(self, ours: Arm, theirs: Arm, part: DayPart = "all") -> Comparison | None:
        """A comparison, where both arms are there."""
        found = (one for one in self.comparisons if (one.ours, one.theirs, one.part) == (ours, theirs, part))
        return next(found, None)


def arm_of(config: Config) -> Arm:
    """Which arm a configuration is."""
    if not config.reads_ahead:
        return "A"
    if config.text_llm is None:
        return "B"
    return "D" if config.ahead.shuffle else "E" if config.ahead.llm_weights == "random" else "C"


def compare_arms(
    names: Sequence[str], configs: Mapping[str, Config], errors: Mapping[str, Sequence[DayErrors]]
) -> ArmTable | None:
    """Compare the arms among models; None where none reads anything ahead, or where there is nothing to compare with.

    `errors` has a model's seeds. Of several models that are the same arm, the first counts.
    """
    families: dict[int, dict[Arm, str]] = {}
    bases = [_numeric(configs[name]) for name in names]
    for name, base in zip(names, bases, strict=True):
        families.setdefault(bases.index(base), {}).setdefault(arm_of(configs[name]), name)
    arms = max(families.values(), key=len, default={})
    if len(arms) < 2:
        return None
    by_arm = {arm: errors[arms[arm]] for arm in ARMS if arm in arms}
    special_CD = next((own[0].special_CD for own in by_arm.values() if own[0].special_CD is not None), None)
    parts: list[DayPart] = ["all"] if special_CD is None else ["all", "event", "ordinary"]
    first = next(iter(by_arm.values()))[0]
    masks = {part: _mask(first, special_CD, part) for part in parts}
    days = {part: int((masks[part] & (first.known_CD > 0)).any(axis=0).sum()) for part in parts}
    pairs: list[tuple[Arm, Arm]] = [(arm, "A") for arm in ("B", "C", "D", "E")]
    pairs += [("C", "B"), ("C", "D"), ("E", "C")]
    return ArmTable(
        models={arm: arms[arm] for arm in by_arm},
        mse={arm: {part: _mse(_mean(own), masks[part]) for part in parts} for arm, own in by_arm.items()},
        days=days,
        comparisons=tuple(
            _compare(ours, theirs, part, by_arm, masks[part], days[part])
            for ours, theirs in pairs
            if ours in by_arm and theirs in by_arm
            for part in parts
        ),
    )


def _numeric(config: Config) -> dict[str, Any]:
    """What decides the numeric model alone."""
    left_out = ("ahead.", "data.future_columns", "data.exclude")
    return {key: value for key, value in recipe(config).items() if not key.startswith(left_out)}


def _mask(first: DayErrors, special_CD: "np.ndarray[Any, Any] | None", part: DayPart) -> "np.ndarray[Any, Any]":
    if special_CD is None or part == "all":
        return np.ones(first.known_CD.shape, dtype=bool)
    return special_CD if part == "event" else ~special_CD


def _mean(seeds: Sequence[DayErrors]) -> Floats:
    """The mean over seeds of the sums of squared errors, and how many targets these are: 2 x C x D."""
    squared: Floats = np.mean([one.squared_CD for one in seeds], axis=0)
    return np.stack([squared, seeds[0].known_CD])


def _mse(sums_2CD: Floats, mask_CD: "np.ndarray[Any, Any]") -> float:
    squared, known = (sums_2CD * mask_CD).sum(axis=(1, 2))
    return float(squared / known) if known else float("nan")


def _compare(
    ours: Arm,
    theirs: Arm,
    part: DayPart,
    by_arm: Mapping[Arm, Sequence[DayErrors]],
    mask_CD: "np.ndarray[Any, Any]",
    days: int,
) -> Comparison:
    mses = [[_mse(_mean([seed]), mask_CD) for seed in by_arm[arm]] for arm in (ours, theirs)]
    seeds = differ(*mses)
    left, right = _mean(by_arm[ours]), _mean(by_arm[theirs])
    low, high, blocks = _over_blocks(by_arm[ours][0], (left[0] - right[0]) * mask_CD, left[1] * mask_CD)
    return Comparison(
        ours, theirs, part, seeds.relative, seeds, low, high, blocks, _outcome(seeds, low, high, days, part)
    )


def _over_blocks(errors: DayErrors, difference_CD: Floats, known_CD: Floats) -> tuple[float, float, int]:
    """The 95 % interval of the mean difference, from its ratio estimator over blocks of days (Cochran 1977, ch. 6)."""
    block_D = np.array([day.toordinal() // _BLOCK for day in errors.days])
    names, place_D = np.unique(block_D, return_inverse=True)
    sums_B, known_B = np.zeros(len(names)), np.zeros(len(names))
    np.add.at(sums_B, place_D, difference_CD.sum(axis=0))
    np.add.at(known_B, place_D, known_CD.sum(axis=0))
    sums_B, known_B = sums_B[known_B > 0], known_B[known_B > 0]
    count = len(known_B)
    if count < 2:
        return float("nan"), float("nan"), count
    mean = sums_B.sum() / known_B.sum()
    spread = sqrt(count / (count - 1) * np.square(sums_B - mean * known_B).sum()) / known_B.sum()
    reach = T_975[min(count - 1, len(T_975)) - 1] * spread
    return float(mean - reach), float(mean + reach), count


def _outcome(seeds: Difference, low: float, high: float, days: int, part: DayPart) -> Outcome:
    if seeds.low is None or seeds.high is None or not low <= high or (part == "event" and days < FEWEST_DAYS):
        return "open"
    if seeds.is_rounding or low <= 0 <= high or seeds.low <= 0 <= seeds.high:
        return "same"
    return "lower" if high < 0 else "higher"


_WORDS = {"lower": "lower", "higher": "higher", "same": "not measurably different", "open": "open"}


def judge_arms(table: ArmTable) -> Iterator[tuple[str, Comparison]]:
    """The sentences of the verdict, each with the comparison that it rests on."""
    for ours, about in (("C", "The text of the days"), ("B", "The columns")):
        if (main := table.of(ours, "A")) is not None:  # type: ignore[arg-type]
            said = [_worth(about, main), *_on_events(table, ours)]  # type: ignore[arg-type]
            yield " ".join(said), main
    if (language := table.of("E", "C")) is not None:
        yield f"Language: read by a random LLM, {_against(language, 'by the pretrained one')}", language
    if (dealt := table.of("D", "A")) is not None:
        yield f"Text of other days: {_against(dealt, 'without text')}", dealt
    if (columns := table.of("C", "B")) is not None:
        yield f"Columns would do: with text, {_against(columns, 'with columns')}", columns


def _worth(about: str, one: Comparison) -> str:
    change = f"{abs(one.relative):.1%} {'lower' if one.seeds.mean <= 0 else 'higher'}"
    return {
        "lower": f"{about} helped: the MSE is {change} than without.",
        "higher": f"{about} hurt: the MSE is {change} than without.",
        "same": f"{about} made no measurable difference: the MSE is {change} than without.",
        "open": f"{about} may have helped or not, which is open: the MSE is {change} than without.",
    }[one.outcome]


def _on_events(table: ArmTable, ours: Arm) -> list[str]:
    event = table.of(ours, "A", "event")
    if event is None or not table.days["event"]:
        return []
    days, change = format_count(table.days["event"], "event day"), f"{event.relative:+.1%}"
    if table.days["event"] < FEWEST_DAYS:
        return [f"On {days} it changes by {change}, too few to count (at least {FEWEST_DAYS})."]
    return [f"On {days} it changes by {change}."]


def _against(one: Comparison, other: str) -> str:
    what = _WORDS[one.outcome]
    return f"the MSE is {one.relative:+.1%} against that {other}: {what}."
