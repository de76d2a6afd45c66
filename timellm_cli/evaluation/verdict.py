"""What the figures allow to be said, in plain sentences: against the best baseline, and about the LLM.

A difference is stated only where its 95 % interval over seeds leaves out zero; one seed decides nothing.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Literal

from timellm_cli.config import Config
from timellm_cli.evaluation.evaluated import Entry, describe_llm
from timellm_cli.evaluation.seeds import Control, Difference, Outcome, control_of, differ
from timellm_cli.llm_files import NO_LLM
from timellm_cli.units import format_count

Contender = tuple[Entry, Config]
"""A model and the configuration of its first seed."""


@dataclass(frozen=True)
class Verdict:
    """One sentence and what it rests on: the MSE of `ours` less that of `theirs`, standardised.

    `outcome` is 'unknown' where one seed cannot tell, or where there is nothing to compare with. `evidence` has the
    numbers of `difference` in words.
    """

    about: Literal["baseline", "LLM"]
    ours: str
    theirs: str | None
    outcome: Outcome
    difference: Difference | None
    sentence: str
    evidence: str = ""

    def __str__(self) -> str:
        return f"{self.sentence} ({self.evidence})" if self.evidence else self.sentence


def judge(models: Sequence[Contender], baseline: Entry) -> Iterator[Verdict]:
    """First the best model against the best baseline, then every LLM against the same model with less of it."""
    diverged = [entry for entry, _ in models if not math.isfinite(entry.mse)]
    yield from map(_diverged, diverged)
    sound = [(entry, config) for entry, config in models if entry not in diverged]
    if not sound:
        return
    yield _against_baseline(min((entry for entry, _ in sound), key=lambda entry: entry.mse), baseline)
    controls = [
        (ours, theirs, control)
        for (ours, our_config), (theirs, their_config) in permutations(sound, 2)
        if (control := control_of(our_config, their_config))
    ]
    configs = {entry.name: config for entry, config in sound}
    for ours, theirs, control in controls:
        yield _about_llm(ours, theirs, control, describe_llm(configs[ours.name]), describe_llm(configs[theirs.name]))
    with_llm = [entry for entry, config in sound if config.llm.name != NO_LLM]
    tested = {ours.name for ours, _, control in controls if control == "no LLM"}
    for entry in with_llm:
        if entry.name not in tested:
            yield _untested(entry)


def _diverged(entry: Entry) -> Verdict:
    sentence = f"The forecasts of {entry.name} are not all finite numbers: its training has diverged."
    return Verdict("baseline", entry.name, None, "unknown", None, sentence)


def _against_baseline(entry: Entry, baseline: Entry) -> Verdict:
    difference = differ([run.mse for run in entry.runs], baseline.mse)
    rival = f"the best baseline, {baseline.name}"
    if difference.outcome == "same":
        change = _change(difference, "the baseline's")
        sentence = f"{entry.name} cannot be told apart from {rival}: its MSE is {change}"
    elif difference.mean == 0:
        sentence = f"The MSE of {entry.name} equals that of {rival}"
    else:
        sentence = f"The MSE of {entry.name} is {_change(difference, f'that of {rival}')}"
    return Verdict(
        "baseline", entry.name, baseline.name, difference.outcome, difference, f"{sentence}.", _evidence(difference)
    )


def _about_llm(ours: Entry, theirs: Entry, control: Control, ours_is: str, theirs_is: str) -> Verdict:
    difference = differ([run.mse for run in ours.runs], [run.mse for run in theirs.runs])
    what = {
        "no LLM": f"The LLM ({ours_is})",
        "random LLM": f"What the LLM ({ours_is}) had learned before",
        "fewer layers": f"{ours_is} instead of {theirs_is}",
    }[control]
    less = {"no LLM": "without it", "random LLM": "with random weights", "fewer layers": "with fewer layers"}[control]
    change = _change(difference, less)
    sentence = {
        "lower": f"{what} helped: its MSE is {change}",
        "higher": f"{what} hurt: its MSE is {change}",
        "same": f"{what} made no difference that can be told: its MSE is {change}",
        "unknown": f"{what}: one seed cannot tell whether it helps. Its MSE is {change}",
    }[difference.outcome]
    return Verdict("LLM", ours.name, theirs.name, difference.outcome, difference, f"{sentence}.", _evidence(difference))


def _untested(entry: Entry) -> Verdict:
    sentence = (
        f"Whether the LLM of {entry.name} helps is not tested here: train the same with --llm none, several seeds of "
        "both, and evaluate them together."
    )
    return Verdict("LLM", entry.name, None, "unknown", None, sentence)


def _change(difference: Difference, other: str) -> str:
    """An MSE beside that of `other`: '2.3% lower than ...', from ten times on '12 times as high as ...'."""
    if difference.relative >= 9:
        return f"{1 + difference.relative:,.0f} times as high as {other}"
    return f"{abs(difference.relative):.1%} {'lower' if difference.mean <= 0 else 'higher'} than {other}"


def _evidence(difference: Difference) -> str:
    """The numbers behind a sentence: difference, standard error and interval, and how many seeds."""
    seeds = format_count(difference.ours, "seed")
    if difference.theirs:
        seeds += f" against {difference.theirs}"
    if difference.standard_error is None:
        return f"{difference.mean:+.4f}; {seeds}, so the spread is not known"
    return (
        f"{difference.mean:+.4f} ± {difference.standard_error:.4f} standard error; 95% interval {difference.low:+.4f} "
        f"to {difference.high:+.4f}; {seeds}"
    )
