"""Models, baselines and published figures on the same windows."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.untrained import make_config
from timellm_cli.config import Config
from timellm_cli.data.batch import Batch
from timellm_cli.data.cadence import to_text
from timellm_cli.data.windows import load_data
from timellm_cli.evaluation import leaderboard
from timellm_cli.evaluation.baselines import Baseline
from timellm_cli.evaluation.evaluated import Evaluated
from timellm_cli.evaluation.leaderboard import Leaderboard, Published, make_leaderboard, published_for
from timellm_cli.evaluation.score import score
from timellm_cli.evaluation.task import Task

PUBLISHED = (
    Published("whole", "A et al.", 0.3, 0.4),
    Published("cut [x]", "B et al.", 0.3, 0.4, dropped_batch=32),
    Published("even", "C et al.", 0.3, 0.4, dropped_batch=23),
)


def nothing(batch: Batch) -> Tensor:
    return torch.zeros(len(batch), 12)


def everything(batch: Batch) -> Tensor:
    return batch.future_BH + 0.1


@pytest.fixture
def questions(monkeypatch: pytest.MonkeyPatch) -> list[str | None]:
    """The other dataset of every question for published figures."""
    datasets: list[str | None] = []

    def published_for(configs: Sequence[Config], other_dataset: str | None = None) -> tuple[Published, ...]:
        datasets.append(other_dataset)
        return PUBLISHED

    monkeypatch.setattr(leaderboard, "published_for", published_for)
    return datasets


def compared(csv: Path, task: Task) -> Leaderboard:
    data = load_data(make_config(csv))
    cadence = to_text(data.table.cadence)
    trained = data.config, data.table.columns, ("",), data.scaler, cadence, data.identity, "id"
    checkpoint = Evaluated("run", Path("run/best.pt"), *trained)
    checkpoint.data = data
    checkpoint.scores = score(nothing, data, "test", 32, limit=task.limit)
    baseline = Baseline("oracle", "reads the future", everything)
    return make_leaderboard(data, task, [checkpoint], [(baseline, score(everything, data, "test", 32))])


def test_a_paper_that_left_windows_out_is_met_on_its_own_terms(small_csv: Path, questions: list[str | None]) -> None:
    shown = compared(small_csv, Task())
    data = load_data(make_config(small_csv))
    first = score(nothing, data, "test", 7, limit=64)  # 69 windows are two batches of 32 and 5 more, or three of 23
    (note,) = [note for note in shown.notes if "leave out" in note]
    assert note.startswith("the figures of cut [x] leave out the last 5 of 69 windows, too few for its batch of 32")
    assert note.endswith(f"without them the best model here has {first.mse:.4f} / {first.mae:.4f}")
    assert shown.published == PUBLISHED and questions == [None]


def test_papers_are_quoted_for_the_whole_test_set_of_a_dataset_alone(
    small_csv: Path, questions: list[str | None]
) -> None:
    for task in (Task(limit=9), Task(csv=small_csv)):
        shown = compared(small_csv, task)
        assert shown.published == () and not any("leave out" in note for note in shown.notes)
    assert not questions
    assert compared(small_csv, Task(zero_shot="other.csv")).published == PUBLISHED
    assert questions == ["custom"]


def config(**values: object) -> Config:
    return Config().with_values({"data.dataset": "ETTh1", **{key.replace("__", "."): v for key, v in values.items()}})


def test_the_papers_figure_stands_first_with_its_source() -> None:
    first, *others = published_for([config(), config(train__seed=1)])
    assert (first.name, first.mse, first.mae) == ("Time-LLM, its paper", 0.362, 0.392)
    assert "arXiv 2310.01728" in first.source
    names = [method.name for method in others]
    assert names[-4:] == ["DLinear", "GPT4TS", "TTM-r2, zero-shot", "TTM-r2 for research, zero-shot"]


@pytest.mark.parametrize(
    ("dataset", "percent", "other", "methods", "highest"),
    [
        ("ETTh1", 100, None, 8, 0.5),
        ("ETTh2", 100, None, 6, 0.61),
        ("ETTm1", 100, None, 8, 0.5),
        ("ETTh1", 10, None, 4, 1),
        ("ETTh2", 10, None, 4, 0.9),
        ("ETTh1", 100, "ETTh2", 4, 0.7),
    ],
)
@pytest.mark.parametrize("pred_len", [96, 192, 336, 720])
def test_every_figure_is_plausible(
    dataset: str, percent: int, other: str | None, methods: int, highest: float, pred_len: int
) -> None:
    task = config(data__dataset=dataset, data__percent=percent, window__pred_len=pred_len)
    found = published_for([task], other)
    assert len(found) == methods and found[0].name == "Time-LLM, its paper"
    assert all(0.25 < method.mse < highest and 0.3 < (method.mae or 0.5) < 0.75 for method in found)
    assert all((method.mae is None) is ("zero-shot" in method.name) for method in found)


def test_averages_over_horizons_are_those_that_the_papers_print() -> None:
    printed = {
        ("ETTh1", 10, None): {"Time-LLM, its paper": (0.556, 0.522), "PatchTST": (0.633, 0.542)},
        ("ETTh2", 10, None): {"Time-LLM, its paper": (0.370, 0.394), "DLinear": (0.605, 0.538)},
        ("ETTh1", 100, "ETTh2"): {"Time-LLM, its paper": (0.353, 0.387), "GPT4TS": (0.406, 0.422)},
        ("ETTh2", 100, None): {"Time-LLM, its paper": (0.334, 0.383), "GPT4TS": (0.354, 0.394)},
    }
    for (dataset, percent, other), averages in printed.items():
        for name, average in averages.items():
            figures = [
                (method.mse, method.mae)
                for pred_len in (96, 192, 336, 720)
                for method in published_for(
                    [config(data__dataset=dataset, data__percent=percent, window__pred_len=pred_len)], other
                )
                if method.name == name
            ]
            mean = [sum(values) / 4 for values in zip(*figures, strict=True)]
            assert mean == pytest.approx(average, abs=0.0012), (dataset, percent, other, name)


def test_zero_shot_averages_are_those_of_their_source() -> None:
    """Of combined_avg_results-granite-r2.csv and combined_avg_results-research-use-r2.csv."""
    printed = {
        "ETTh1": (0.407, 0.394), "ETTh2": (0.356, 0.345), "ETTm1": (0.392, 0.386), "ETTm2": (0.288, 0.281),
        "Weather": (0.230, 0.237), "Electricity": (0.212, 0.205), "Traffic": (0.561, 0.564),
    }  # fmt: skip
    for dataset, averages in printed.items():
        for name, average in zip(("TTM-r2, zero-shot", "TTM-r2 for research, zero-shot"), averages, strict=True):
            tasks = [config(data__dataset=dataset, window__pred_len=pred_len) for pred_len in (96, 192, 336, 720)]
            figures = [method.mse for task in tasks for method in published_for([task]) if method.name == name]
            assert sum(figures) / 4 == pytest.approx(average, abs=0.0006), (dataset, name)


def test_patchtst_did_not_score_its_last_windows() -> None:
    by_name = {method.name: method for method in published_for([config(window__pred_len=336)])}
    assert by_name["PatchTST"].windows_left_out(2545) == 113
    assert by_name["DLinear"].windows_left_out(2545) == 0


@pytest.mark.parametrize(
    "changes",
    [
        {"window__seq_len": 336},
        {"window__pred_len": 100},
        {"data__features": "S"},
        {"data__columns": ("HUFL", "OT")},
        {"data__percent": 20},
        {"data__dataset": "custom", "data__path": Path("ETTh1.csv")},
    ],
)
def test_another_task_has_no_published_figures(changes: dict[str, object]) -> None:
    assert published_for([config(**changes)]) == ()
    assert published_for([config(), config(**changes)]) == ()
    assert published_for([config()], "ETTm1") == published_for([config()], "custom") == ()


def board(csv: Path, *changes: dict[str, object], task: Task | None = None) -> Leaderboard:
    """Checkpoints that differ in configuration (keys with a dot) and in fields, scored as they are."""
    data, task = load_data(make_config(csv, "gpt2")), task or Task()
    scores = score(nothing, data, "test", 32)
    checkpoints = []
    for number, change in enumerate(changes):
        config = data.config.with_values({key: value for key, value in change.items() if "." in key})
        fields = {key: value for key, value in change.items() if "." not in key}
        plain = {"rows": data.identity, "training_id": f"id{number}", "llm_fingerprint": "same", **fields}
        cadence = to_text(data.table.cadence)
        columns, scaler, name = data.table.columns, data.scaler, f"run-{number}"
        one = Evaluated(
            name=name,
            path=Path(name),
            config=config,
            columns=columns,
            ids=("",),
            scaler=scaler,
            cadence=cadence,
            **plain,
        )
        one.data, one.scores = data, scores
        checkpoints.append(one)
    baseline = Baseline("oracle", "reads the future", everything)
    return make_leaderboard(data, task, checkpoints, [(baseline, score(everything, data, "test", 32))])


def runs(shown: Leaderboard) -> list[int]:
    return [len(entry.runs) for entry in shown.models]


def test_seeds_are_one_model_where_the_llm_has_moved_between_them(small_csv: Path) -> None:
    moved = {"train.seed": 1, "llm.name": "/new/gpt2"}
    assert runs(board(small_csv, {}, moved)) == [2]
    assert runs(board(small_csv, {}, {**moved, "llm_fingerprint": "other"})) == [1, 1]


def test_random_weights_of_another_folder_are_no_seed(small_csv: Path) -> None:
    drawn = {"llm.weights": "random"}
    assert runs(board(small_csv, drawn, {**drawn, "train.seed": 1, "llm.name": "/new/gpt2"})) == [1, 1]


def test_files_of_one_training_are_named_also_where_its_length_or_llm_changed_between_them(small_csv: Path) -> None:
    one = {"training_id": "one"}
    shown = board(small_csv, one, {**one, "train.epochs": 99, "stage": "end"})
    assert runs(shown) == [1, 1]
    assert "run-0 and run-1 are of one training: they are two lines, not two seeds" in shown.notes
    assert not any("two seeds" in note for note in board(small_csv, {}, {"train.epochs": 99}).notes)


def test_imported_weights_without_a_training_are_not_of_one_training(small_csv: Path) -> None:
    shown = board(small_csv, {"training_id": ""}, {"training_id": "", "train.seed": 1})
    assert runs(shown) == [2] and not any("one training" in note for note in shown.notes)


def test_test_rows_that_chose_the_best_epoch_or_may_have_been_trained_on_are_told(small_csv: Path) -> None:
    data = load_data(make_config(small_csv))
    later = {split: replace(data.identity["test"], first="2000", last="2000") for split in ("train", "val", "test")}
    later["val"] = replace(later["val"], last="9999")
    (note,) = [note for note in board(small_csv, {"rows": later}).notes if "chose" in note]
    assert (
        note
        == "rows of this test split were validation rows of run-0, up to 9999: they chose its best epoch and its bands"
    )
    other = Task(csv=small_csv)
    assert not any("same measurements" in note for note in board(small_csv, {}, task=other).notes)
    later["train"] = replace(later["train"], last="9998")
    (note,) = [note for note in board(small_csv, {"rows": later}, task=other).notes if "same measurements" in note]
    assert note.startswith("run-0 was trained on rows up to 9998, and this test split starts at ")
