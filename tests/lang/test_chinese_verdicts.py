"""Verdicts, what they rest on, and notes of an evaluation are Chinese throughout, with all of their numbers."""

import math
import re
from pathlib import Path
from typing import Any

import pytest

from tests.evaluation.test_arms import table_of
from tests.evaluation.test_leaderboard import board
from tests.evaluation.test_verdict import WITH, WITHOUT, Model, model, verdicts
from tests.lang.test_chinese_verbs import assert_chinese
from timellm_cli.evaluation.arms import Arm, judge_arms
from timellm_cli.evaluation.coverage import Coverage, drift_note
from timellm_cli.evaluation.task import Task
from timellm_cli.evaluation.verdict import verdicts_on_arms
from timellm_cli.lang.translator import chinese

NAMES = ("ours", "control", "gpt", "random", "run", "small", "linear", "other", "few", "zero", "shot")


def assert_translated(sentence: str) -> None:
    shown = chinese().whole(sentence)
    assert re.search("[\u4e00-\u9fff]", shown), sentence
    assert_chinese(shown, *NAMES)
    numbers = [set(re.findall(r"\d[\d,.]*\d|\d", text)) for text in (sentence, shown)]
    assert numbers[0] == numbers[1], shown


MSES = ((WITH, WITHOUT), (WITHOUT, WITH), (WITH, [0.301, 0.304, 0.297]), ([0.3], [0.32]), ([5.0], [0.4]))
PAIRS: list[tuple[Model, ...]] = [
    (model("ours", mses), model("control", control, **kind))  # type: ignore[arg-type]
    for mses, control in MSES
    for kind in ({"llm": "none"}, {"llm__weights": "random"}, {"llm__layers": 1})
]


@pytest.mark.parametrize("models", PAIRS)
def test_verdicts_on_the_llm_and_on_baselines_are_chinese(models: tuple[Model, ...]) -> None:
    for one in verdicts(*models):
        assert_translated(one.sentence)
        if one.evidence:
            assert_translated(one.evidence)


def test_verdicts_on_training_are_chinese() -> None:
    untrained = model("ours", WITH, epochs=[0, 0, 0]), model("control", WITHOUT, "none", epochs=[0, 3, 3])
    said = [one.sentence for one in verdicts(*untrained, model("other", [math.nan]))]
    assert any("added nothing" in sentence for sentence in said) and any("diverged" in sentence for sentence in said)
    for sentence in said:
        assert_translated(sentence)


@pytest.mark.parametrize("seeds", [1, 3])
@pytest.mark.parametrize("every", [5, 10])
def test_verdicts_on_the_days_ahead_are_chinese(seeds: int, every: int) -> None:
    levels: dict[Arm, tuple[float, float]] = {
        "A": (1.0, 4.0), "B": (1.1, 4.0), "C": (0.9, 1.0), "D": (1.0, 4.0), "E": (0.95, 3.0),
    }  # fmt: skip
    table = table_of(levels, seeds, every)
    for sentence, _ in judge_arms(table):
        assert_translated(sentence)
    for one in verdicts_on_arms(table):
        assert_translated(one.evidence)


@pytest.mark.parametrize(
    "task", [{"limit": 3}, {"csv": "small.csv"}, {"split": "val"}, {"zero_shot": "ETTh1"}], ids=str
)
def test_notes_of_a_leaderboard_are_chinese(small_csv: Path, task: dict[str, Any]) -> None:
    if "csv" in task:
        task = {"csv": small_csv}
    shorter: dict[str, object] = {"window.seq_len": 24, "data.percent": 50}
    notes = board(small_csv, {"training_id": "id0"}, {"training_id": "id0"} | shorter, task=Task(**task)).notes
    assert any("seq_len" in note for note in notes) and any("few-shot" in note for note in notes)
    for note in notes:
        assert_translated(note.replace(str(small_csv), "small.csv"))


@pytest.mark.parametrize("coverage", [(70.0, 90.0), (85.0, 98.0), (70.0, 98.0)])
def test_the_note_on_drifting_data_is_chinese(coverage: tuple[float, float]) -> None:
    both = [Coverage(level, held, 1.0, {}, (), 0.5) for level, held in zip((80, 95), coverage, strict=True)]
    note = drift_note("ours", both)
    assert note is not None
    assert_translated(note)
