from pathlib import Path

import pytest

from timellm_cli.config import Config
from timellm_cli.evaluation.published import published_for


def config(**values: object) -> Config:
    return Config().with_values({"data.dataset": "ETTh1", **{key.replace("__", "."): v for key, v in values.items()}})


def test_the_papers_figure_stands_first_with_its_source() -> None:
    first, *others = published_for([config(), config(train__seed=1)])
    assert (first.name, first.mse, first.mae) == ("Time-LLM, its paper", 0.362, 0.392)
    assert "arXiv 2310.01728" in first.source
    assert [method.name for method in others][-3:] == ["PatchTST", "DLinear", "GPT4TS"]


@pytest.mark.parametrize("dataset", ["ETTh1", "ETTm1"])
@pytest.mark.parametrize("pred_len", [96, 192, 336, 720])
def test_every_figure_is_plausible(dataset: str, pred_len: int) -> None:
    methods = published_for([config(data__dataset=dataset, window__pred_len=pred_len)])
    assert len(methods) == 6
    assert all(0.25 < method.mse < 0.5 and 0.3 < method.mae < 0.5 for method in methods)


@pytest.mark.parametrize(
    "changes",
    [
        {"window__seq_len": 336},
        {"window__pred_len": 100},
        {"data__features": "S"},
        {"data__columns": ("HUFL", "OT")},
        {"data__percent": 10},
        {"data__dataset": "custom", "data__path": Path("ETTh1.csv")},
    ],
)
def test_another_task_has_no_published_figures(changes: dict[str, object]) -> None:
    assert published_for([config(**changes)]) == ()
    assert published_for([config(), config(**changes)]) == ()
