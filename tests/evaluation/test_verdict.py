import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from tests.report.test_score_table import entry
from tests.untrained import make_config
from timellm_cli.config import Config
from timellm_cli.evaluation.evaluated import LeaderboardEntry, RunErrors
from timellm_cli.evaluation.verdict import Verdict, judge

LINEAR = entry("linear", 0.4)
Model = tuple[LeaderboardEntry, Config]


def model(
    name: str, mses: list[float], llm: str = "gpt2", epochs: Sequence[int | None] = (), **changes: object
) -> Model:
    kept = epochs or [3] * len(mses)
    runs = tuple(
        RunErrors(f"{name}-{seed}", f"{seed}.pt", seed, mse, 0.5, epoch)
        for seed, (mse, epoch) in enumerate(zip(mses, kept, strict=True))
    )
    figures = replace(entry(name, sum(mses) / len(mses), len(mses)), runs=runs)
    return figures, make_config(Path("a.csv"), llm, **changes)


def verdicts(*models: Model) -> list[Verdict]:
    configs = {figures.name: config for figures, config in models}
    return list(judge([figures for figures, _ in models], configs, LINEAR))


WITH, WITHOUT = [0.30, 0.302, 0.298], [0.32, 0.322, 0.318]


@pytest.mark.parametrize(
    ("mses", "controls", "outcome", "words"),
    [
        (WITH, WITHOUT, "lower", "The LLM (gpt2, 2 layers) helped: the MSE is 6.3% lower than without it. (-0.0200 ±"),
        (WITHOUT, WITH, "higher", "hurt: the MSE is 6.7% higher than without it. (+0.0200 ±"),
        (WITH, [0.301, 0.304, 0.297], "same", "made no measurable difference: the MSE is 0.2% lower"),
        ([0.3], WITHOUT, "unknown", "one seed cannot show whether this helps. The MSE is 6.3% lower"),
        ([0.3], [0.32], "unknown", "1 seed against 1, so the spread is not known"),
    ],
)
def test_it_says_plainly_whether_the_llm_helped(
    mses: list[float], controls: list[float], outcome: str, words: str
) -> None:
    against_baseline, about_llm, about_pretraining = verdicts(model("ours", mses), model("control", controls, "none"))
    assert (about_llm.about, about_llm.ours, about_llm.theirs) == ("LLM", "ours", "control")
    assert about_llm.outcome == outcome
    assert words in str(about_llm)
    assert against_baseline.about == "baseline"
    assert about_pretraining.outcome == "unknown"
    assert "Whether the pretraining of the LLM of ours helps is not tested" in about_pretraining.sentence
    assert "--llm-weights random" in about_pretraining.sentence


def test_the_numbers_behind_a_sentence_stand_in_it() -> None:
    verdict = verdicts(model("ours", WITH), model("control", WITHOUT, "none"))[1]
    assert verdict.evidence.endswith("± 0.0016 standard error; 95% interval -0.0245 to -0.0155; 3 seeds against 3")


def test_layers_are_judged_like_the_llm_itself() -> None:
    found = verdicts(model("deep", WITH, llm__layers=6), model("shallow", WITHOUT, llm__layers=2))
    assert found[1].sentence.startswith("gpt2, 6 layers instead of gpt2, 2 layers helped: the MSE is 6.3% lower than")
    assert [verdict.ours for verdict in found[2:]] == ["deep", "deep", "shallow", "shallow"]
    assert all("not tested here" in verdict.sentence for verdict in found[2:])


def test_what_was_learned_before_is_judged_against_random_weights() -> None:
    found = verdicts(model("ours", WITH, llm__weights="pretrained"), model("drawn", WITHOUT, llm__weights="random"))
    assert found[1].sentence.startswith("The pretraining of the LLM (gpt2, 2 layers) helped: the MSE is 6.3% lower")
    assert "than with random weights" in found[1].sentence


@pytest.mark.parametrize(
    ("mses", "outcome", "words"),
    [
        (WITH, "lower", "The MSE of ours is 25.0% lower than that of the best baseline, linear. (-0.1000 ±"),
        ([0.5], "unknown", "The MSE of ours is 25.0% higher than that of the best baseline, linear. (+0.1000; 1 seed"),
        ([0.4], "unknown", "The MSE of ours equals that of the best baseline, linear"),
        (
            [0.39, 0.42, 0.36],
            "same",
            "ours cannot be distinguished from the best baseline, linear: its MSE is 2.5%",
        ),
    ],
)
def test_the_best_model_is_held_against_the_best_baseline(mses: list[float], outcome: str, words: str) -> None:
    first = verdicts(model("worse", [0.9]), model("ours", mses))[0]
    assert (first.ours, first.theirs, first.outcome) == ("ours", "linear", outcome)
    assert words in str(first)


def test_from_ten_times_on_an_x() -> None:
    assert (
        "The MSE of ours is 12 times as high as that of the best baseline, linear."
        in verdicts(model("ours", [4.8]))[0].sentence
    )


def test_a_model_without_an_llm_raises_no_question_of_it() -> None:
    assert [verdict.about for verdict in verdicts(model("ours", [0.3], "none"))] == ["baseline"]


def test_a_diverged_training_is_named_and_judged_no_further() -> None:
    found = verdicts(model("broken", [math.nan, 0.3]), model("control", WITHOUT, "none"))
    assert "forecasts of broken are not all finite numbers" in found[0].sentence
    assert [verdict.ours for verdict in found] == ["broken", "control"]


NOTHING = "Training added nothing to ours{}: epoch 0, the linear map it started from, was the best."


@pytest.mark.parametrize(
    ("epochs", "where"),
    [([0, 0, 0], ""), ([0, 2, 0], " in 2 of 3 seeds"), ([3, 1, 2], None), ([None, None, None], None)],
)
def test_where_training_added_nothing_it_says_so(epochs: list[int | None], where: str | None) -> None:
    found = [one for one in verdicts(model("ours", WITH, "none", epochs)) if one.about == "training"]
    assert [one.sentence for one in found] == ([] if where is None else [NOTHING.format(where)])
    assert [one.outcome for one in found] == ["same"] * len(found)


def test_two_ways_to_compute_the_linear_map_are_no_difference() -> None:
    """Three seeds of it scatter by nothing, so that any difference would lie outside their interval."""
    rounded = [0.4 * (1 + 3e-7)] * 3
    found = verdicts(model("ours", rounded, epochs=[0] * 3), model("without", [0.4] * 3, "none", [0] * 3))
    by_about = {verdict.about: verdict for verdict in found[:3]}
    assert (by_about["baseline"].outcome, by_about["baseline"].sentence) == (
        "same", "The MSE of without equals that of the best baseline, linear.",
    )  # fmt: skip
    about_llm = next(one for one in found if one.about == "LLM")
    assert about_llm.outcome == "same"
    assert about_llm.sentence.startswith("The LLM (gpt2, 2 layers) made no measurable difference")
