"""What the scores show, in plain sentences: against the best baseline, and about the LLM.

A difference counts only if its 95 % interval over seeds excludes zero, or in a backtest that over its folds. One seed
without folds decides nothing.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Literal

from timellm_cli.config import Config
from timellm_cli.evaluation.arms import ArmTable, judge_arms
from timellm_cli.evaluation.evaluated import LeaderboardEntry, describe_llm
from timellm_cli.evaluation.seeds import Control, Difference, Outcome, control_of, differ, differ_by_fold
from timellm_cli.llm_files import NO_LLM
from timellm_cli.units import format_count


@dataclass(frozen=True)
class Verdict:
    """One sentence with its reason: the MSE of `ours` minus that of `theirs`, standardised.

    `outcome` is 'unknown' if one seed cannot decide, or if there is nothing to compare with. `evidence` is `difference`
    in words.
    """

    about: Literal["baseline", "training", "LLM", "days ahead"]
    ours: str
    theirs: str | None
    outcome: Outcome
    difference: Difference | None
    sentence: str
    evidence: str = ""

    def __str__(self) -> str:
        return f"{self.sentence} ({self.evidence})" if self.evidence else self.sentence


def judge(
    models: Sequence[LeaderboardEntry], configs: Mapping[str, Config], baseline: LeaderboardEntry
) -> Iterator[Verdict]:
    """The best model against the best baseline, what training added, and every LLM against the same with less of it.

    `configs` are the models' configurations by name. Diverged models come first and are not compared.
    """
    sound = [entry for entry in models if math.isfinite(entry.mse)]
    for entry in models:
        if entry not in sound:
            sentence = f"The forecasts of {entry.name} are not all finite numbers: its training has diverged."
            yield Verdict("baseline", entry.name, None, "unknown", None, sentence)
    if not sound:
        return
    yield _against_baseline(min(sound, key=lambda entry: entry.mse), baseline)
    yield from filter(None, map(_untrained, sound))
    tested: set[tuple[str, Control]] = set()
    for ours, theirs in permutations(sound, 2):
        if control := control_of(configs[ours.name], configs[theirs.name]):
            yield _about_llm(ours, theirs, control, configs)
            tested.add((ours.name, control))
    for entry in sound:
        llm = configs[entry.name].llm
        if llm.name == NO_LLM:
            continue
        if (entry.name, "no LLM") not in tested:
            yield _open(entry, f"Whether the LLM of {entry.name} helps", "--llm none")
        if llm.weights == "pretrained" and (entry.name, "random LLM") not in tested:
            yield _open(entry, f"Whether the pretraining of the LLM of {entry.name} helps", "--llm-weights random")


def _open(entry: LeaderboardEntry, question: str, flag: str) -> Verdict:
    sentence = (
        f"{question} is not tested here: train the same with {flag}, several seeds of both, and evaluate them together."
    )
    return Verdict("LLM", entry.name, None, "unknown", None, sentence)


def verdicts_on_arms(arms: ArmTable | None) -> Iterator[Verdict]:
    """What the text of the days and columns that are known ahead are worth, where models were compared for it."""
    for sentence, one in judge_arms(arms) if arms else ():
        outcome: Outcome = "unknown" if one.outcome == "open" else one.outcome
        assert arms is not None
        ours, theirs = arms.models[one.ours], arms.models[one.theirs]
        yield Verdict("days ahead", ours, theirs, outcome, one.seeds, sentence, one.evidence)


def _against_baseline(entry: LeaderboardEntry, baseline: LeaderboardEntry) -> Verdict:
    difference = _differ(entry, baseline)
    noun = baseline.name
    rival = f"the best baseline, {noun}"
    if difference.is_rounding:
        sentence = f"The MSE of {entry.name} equals that of {rival}."
    elif difference.outcome == "same":
        change = _change(difference, "the baseline's")
        sentence = f"{entry.name} cannot be distinguished from {rival}: its MSE is {change}."
    else:
        sentence = f"The MSE of {entry.name} is {_change(difference, f'that of {rival}')}."
    outcome, evidence = difference.outcome, _evidence(difference)
    return Verdict("baseline", entry.name, baseline.name, outcome, difference, sentence, evidence)


def _differ(ours: LeaderboardEntry, theirs: LeaderboardEntry) -> Difference:
    """The difference of the MSE: by fold where both have folds, else by seed."""
    if len(ours.folds) > 1 and len(theirs.folds) == len(ours.folds):
        seeds = len(ours.runs), len(theirs.runs)
        return differ_by_fold([one.mse for one in ours.folds], [one.mse for one in theirs.folds], seeds)
    return differ([run.mse for run in ours.runs], [run.mse for run in theirs.runs] if theirs.runs else theirs.mse)


def _untrained(entry: LeaderboardEntry) -> Verdict | None:
    """Where runs were best before their first step, and so are the linear map that they started from."""
    kept = [epoch for run in entry.runs for epoch in run.epochs]
    if 0 not in kept:
        return None
    what = "runs" if len(kept) > len(entry.runs) else "seeds"
    why = "epoch 0, the linear map it started from, was the best."
    sentence = f"Training added nothing to {entry.name}: {why}"
    if set(kept) != {0}:
        sentence = f"Training added nothing to {entry.name} in {kept.count(0)} of {len(kept)} {what}: {why}"
    return Verdict("training", entry.name, "epoch 0", "same", None, sentence)


def _about_llm(
    ours: LeaderboardEntry, theirs: LeaderboardEntry, control: Control, configs: Mapping[str, Config]
) -> Verdict:
    difference = _differ(ours, theirs)
    our_llm, their_llm = describe_llm(configs[ours.name]), describe_llm(configs[theirs.name])
    about, less = {
        "no LLM": (f"The LLM ({our_llm})", "without it"),
        "random LLM": (f"The pretraining of the LLM ({our_llm})", "with random weights"),
        "fewer layers": (f"{our_llm} instead of {their_llm}", "with fewer layers"),
    }[control]
    change = _change(difference, less)
    sentence = {
        "lower": f"{about} helped: the MSE is {change}.",
        "higher": f"{about} hurt: the MSE is {change}.",
        "same": f"{about} made no measurable difference: the MSE is {change}.",
        "unknown": f"{about}: one seed cannot show whether this helps. The MSE is {change}.",
    }[difference.outcome]
    return Verdict("LLM", ours.name, theirs.name, difference.outcome, difference, sentence, _evidence(difference))


def _change(difference: Difference, other: str) -> str:
    """'2.3% lower than ...'; from ten times on '12 times as high as ...'."""
    if difference.relative >= 9:
        return f"{1 + difference.relative:,.0f} times as high as {other}"
    return f"{abs(difference.relative):.1%} {'lower' if difference.mean <= 0 else 'higher'} than {other}"


def _evidence(difference: Difference) -> str:
    seeds = format_count(difference.ours, "seed")
    if difference.folds:
        seeds = f"{difference.folds} folds"
    elif difference.theirs:
        seeds += f" against {difference.theirs}"
    if difference.standard_error is None:
        return f"{difference.mean:+.4f}; {seeds}, so the spread is not known"
    return (
        f"{difference.mean:+.4f} ± {difference.standard_error:.4f} standard error; 95% interval {difference.low:+.4f} "
        f"to {difference.high:+.4f}; {seeds}"
    )
