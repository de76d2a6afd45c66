from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.untrained import make_config
from timellm_cli.data.cadence import to_text
from timellm_cli.data.scale import Scaler
from timellm_cli.data.windows import load_data
from timellm_cli.errors import ConfigError
from timellm_cli.evaluation.evaluated import Evaluated, name_checkpoints, require_comparable
from timellm_cli.evaluation.leaderboard_notes import notes_on
from timellm_cli.evaluation.task import Task

SCALER = Scaler(np.array([1.0, 2.0]), np.array([3.0, 4.0]))


def checkpoint(name: str, **changes: object) -> Evaluated:
    config = make_config(Path("a.csv"), **changes)
    return Evaluated(name, Path(f"{name}.pt"), config, ("load", "OT"), ("",), SCALER, "1h", {}, name)


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["checkpoints/a/best.pt", "checkpoints/b/best.pt"], ["a", "b"]),
        (["checkpoints/a/best.pt", "checkpoints/a/step-40.pt"], ["a/best", "a/step-40"]),
        (["imported.pt", "checkpoints/a/last.pt"], ["imported", "a"]),
        (["x/a/best.pt", "y/a/best.pt"], ["x/a/best.pt", "y/a/best.pt"]),
    ],
)
def test_checkpoints_have_short_names_that_differ(paths: list[str], names: list[str]) -> None:
    assert name_checkpoints([Path(path) for path in paths]) == [
        str(Path(name)) if name in paths else name for name in names
    ]


@pytest.mark.parametrize(
    "changes", [{"llm__name": "gpt2"}, {"window__seq_len": 96}, {"train__loss": "mae"}, {"data__window_stride": 7}]
)
def test_models_that_learned_otherwise_can_be_compared(changes: dict[str, object]) -> None:
    require_comparable([checkpoint("a"), checkpoint("b", **changes)], Task())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"window__pred_len": 24}, "pred_len: 12 in a, but 24 in b"),
        ({"data__path": Path("c.csv")}, "dataset: a.csv in a, but c.csv in b"),
        ({"data__dataset": "ETTh1"}, "dataset: a.csv in a, but ETTh1 in b"),
        ({"data__features": "MS"}, "scored channels: load, OT in a, but OT in b"),
        ({"data__test_ratio": 0.1}, "train_ratio and test_ratio: (0.7, 0.2) in a, but (0.7, 0.1) in b"),
    ],
)
def test_what_differs_is_named_with_both_sides(changes: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError) as refused:
        require_comparable([checkpoint("a"), checkpoint("b", **changes)], Task())
    assert words in refused.value.message
    assert refused.value.hint


def test_all_differences_stand_in_one_message() -> None:
    others = [checkpoint("b", window__pred_len=24, data__test_ratio=0.1), checkpoint("c", data__features="MS")]
    with pytest.raises(ConfigError) as refused:
        require_comparable([checkpoint("a"), *others], Task())
    assert refused.value.message.count("\n  - ") == 3


def test_a_csv_given_for_all_makes_their_own_files_irrelevant() -> None:
    require_comparable([checkpoint("a"), checkpoint("b", data__path=Path("c.csv"))], Task(Path("d.csv")))


def test_the_same_columns_on_another_scale_cannot_be_compared() -> None:
    other = replace(checkpoint("b"), scaler=Scaler(np.array([1.0, 2.0]), np.array([3.0, 5.0])))
    with pytest.raises(ConfigError, match="trained on different rows"):
        require_comparable([checkpoint("a"), other], Task())


def test_on_the_training_split_seq_len_moves_the_forecast_rows() -> None:
    with pytest.raises(ConfigError, match="seq_len: 48 in a, but 96 in b"):
        require_comparable([checkpoint("a"), checkpoint("b", window__seq_len=96)], Task(split="train"))


def notes(csv: Path, task: Task, *changed: dict[str, object]) -> str:
    configs = [make_config(csv, **changes) for changes in changed]
    data = load_data(configs[0])
    checkpoints = [
        replace(checkpoint(f"run {number}"), config=config, cadence=to_text(data.table.cadence))
        for number, config in enumerate(configs)
    ]
    for one in checkpoints:
        one.data = data
    return " | ".join(notes_on(checkpoints, data, task))


def test_a_table_of_all_test_windows_needs_no_note(small_csv: Path) -> None:
    assert notes(small_csv, Task(), {}) == ""


def test_few_shot_models_are_noted_with_the_rows_that_the_baselines_are_fitted_on(small_csv: Path) -> None:
    text = notes(small_csv, Task(), {"data__percent": 50}, {})
    assert "few-shot: trained on the first part of the training rows (run 0 50%, run 1 100%)" in text
    assert "the baselines are fitted on 50%" in text
    alike = notes(small_csv, Task(), {"data__percent": 50}, {"data__percent": 50, "train__seed": 2})
    assert "few-shot: trained on the first 50% of the training rows; the baselines are fitted on 50%" in alike


def test_zero_shot_and_a_part_of_the_windows_are_noted(small_csv: Path) -> None:
    text = notes(small_csv, Task(zero_shot="small.csv", split="val", limit=9), {})
    for words in (
        "zero-shot: trained on small.csv and scored on small.csv",
        "first 9 windows",
        "this is the val split",
    ):
        assert words in text
