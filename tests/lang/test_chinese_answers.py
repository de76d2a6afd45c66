"""What `--explain` and `--show-patches` say of many runs is Chinese throughout, with all numbers."""

import re
from pathlib import Path
from typing import Any

import pytest

from tests.lang.test_chinese_verbs import assert_chinese
from tests.panels import write_long
from timellm_cli.config import Config
from timellm_cli.lang.translator import chinese
from timellm_cli.planning.hardware import Gpu, Machine
from timellm_cli.planning.plan import Plan, make_plan
from timellm_cli.planning.shapes import model_shapes
from timellm_cli.report.inspect_answers import answers

GIB = 2**30
COMPUTERS = {
    "cpu": Machine(gpu=None, ram_free=2**34, torch_has_cuda=False),
    "cuda": Machine(Gpu("Tesla T4", 15 * GIB, 14 * GIB, (7, 5)), 2**34, torch_has_cuda=True),
}
ETT = {"data": {"dataset": "ETTh1"}}
RUNS: dict[str, dict[str, dict[str, Any]]] = {
    "papers": ETT,
    "few shot, one column a window": {"data": {"dataset": "ETTm2", "percent": 10, "features": "S"}},
    "target alone is scored": {"data": {"dataset": "Weather", "features": "MS", "window_stride": 3}},
    "a fold": {"data": {"dataset": "ETTh1", "folds": 3, "fold": 2}, "llm": {"name": "none"}},
    "accumulated and ended": {**ETT, "train": {"accumulate": 7, "max_steps": 900, "workers": 1}},
    "files and workers": {**ETT, "train": {"workers": 4, "epochs": 1}, "run": {"save_steps": 500}},
    "no step files": {**ETT, "run": {"save_steps": 0}, "model": {"patch_stride": 40, "shortcut": "linear"}},
    "one patch": {**ETT, "window": {"seq_len": 16}, "model": {"patch_len": 20, "patch_stride": 8}},
    "transformers": {**ETT, "llm": {"name": "gpt2"}},
    "all at once": {**ETT, "llm": {"name": "google-bert/bert-base-uncased"}},
    "unknown LLM": {**ETT, "llm": {"name": "nobody/knows-it"}},
}


def assert_translated(sentence: str) -> None:
    shown = chinese().whole(sentence)
    assert re.search("[\u4e00-\u9fff]", shown), sentence
    assert_chinese(shown, "ETTh", "ETTm", "Weather", "OT", "BATCH", "sales")
    numbers = [sorted(re.findall(r"\d[\d,.]*\d|\d", text.replace("-N", ""))) for text in (sentence, shown)]
    assert set(numbers[0]) == set(numbers[1]), shown


def assert_plan_is_told(plan: Plan) -> None:
    for question, sentences in answers(plan):
        assert_translated(question)
        for sentence in sentences:
            assert_translated(sentence)
    for stage in model_shapes(plan):
        assert_chinese(chinese().whole(stage.name))
        assert_translated(stage.meaning)


@pytest.mark.parametrize("computer", COMPUTERS)
@pytest.mark.parametrize("run", RUNS)
def test_answers_and_shapes_of_a_run_are_chinese(run: str, computer: str) -> None:
    assert_plan_is_told(make_plan(Config.model_validate(RUNS[run]), COMPUTERS[computer], from_file=False))


def test_answers_of_processes_are_chinese() -> None:
    config = Config.model_validate({**ETT, "llm": {"name": "gpt2"}, "train": {"batch_size": 6}})
    assert_plan_is_told(make_plan(config, COMPUTERS["cuda"], from_file=False, processes=4))


@pytest.mark.parametrize("data", [{}, {"split_by": "ratio"}, {"folds": 2, "fold": 1, "percent": 50}])
def test_answers_of_a_panel_are_chinese(tmp_path: Path, data: dict[str, Any]) -> None:
    path = write_long(tmp_path / "panel.csv")
    named = {"dataset": "custom", "path": str(path), "date_column": "ds", "id_column": "unique_id", "target": "y"}
    sections = {"data": named | data, "window": {"seq_len": 24, "pred_len": 6}, "llm": {"name": "none"}}
    assert_plan_is_told(make_plan(Config.model_validate(sections), COMPUTERS["cpu"], from_file=True))
