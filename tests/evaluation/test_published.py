from pathlib import Path

import pytest

from timellm_cli.config import Config
from timellm_cli.evaluation.leaderboard import published_for


def config(**values: object) -> Config:
    return Config().with_values({"data.dataset": "ETTh1", **{key.replace("__", "."): v for key, v in values.items()}})


def test_the_papers_figure_stands_first_with_its_source() -> None:
    first, *others = published_for([config(), config(train__seed=1)])
    assert (first.name, first.mse, first.mae) == ("Time-LLM, its paper", 0.362, 0.392)
    assert "arXiv 2310.01728" in first.source
    assert [method.name for method in others][-3:] == ["PatchTST", "DLinear", "GPT4TS"]


@pytest.mark.parametrize(
    ("dataset", "percent", "other", "methods", "highest"),
    [
        ("ETTh1", 100, None, 6, 0.5),
        ("ETTh2", 100, None, 4, 0.61),
        ("ETTm1", 100, None, 6, 0.5),
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
    assert all(0.25 < method.mse < highest and 0.3 < method.mae < 0.75 for method in found)


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
