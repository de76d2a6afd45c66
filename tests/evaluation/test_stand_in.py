"""A CSV that replaces the trained one: which borders hold for it."""

from pathlib import Path

import pytest

from tests.evaluation.test_zero_shot import write_csv
from timellm_cli.config import Config
from timellm_cli.datasets import DATASETS
from timellm_cli.evaluation import task as module
from timellm_cli.evaluation.task import stand_in

ETTH1 = Config().with_values({"data.dataset": "ETTh1"})
HEADER = ",".join(["date", *DATASETS["ETTh1"].columns])


def test_a_shorter_file_of_a_known_dataset_is_split_by_ratio_and_keeps_its_description(tmp_path: Path) -> None:
    config = stand_in(ETTH1, write_csv(tmp_path / "part.csv", HEADER, 7))
    assert (config.data.dataset, config.data.path) == ("custom", tmp_path / "part.csv")
    assert config.data.target == "OT"
    assert config.prompt.description == DATASETS["ETTh1"].description


def test_a_file_with_some_of_the_columns_is_split_by_ratio(tmp_path: Path) -> None:
    trained = ETTH1.with_values({"data.columns": ("HUFL", "OT")})
    config = stand_in(trained, write_csv(tmp_path / "two.csv", "date,HUFL,OT", 2))
    assert (config.data.dataset, config.data.columns) == ("custom", ("HUFL", "OT"))


def test_a_whole_file_keeps_the_borders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_csv(tmp_path / "elsewhere.csv", HEADER, 7)
    monkeypatch.setattr(module, "BORDERS", (1, 1, 300 / 720))
    assert (stand_in(ETTH1, path).data.dataset, stand_in(ETTH1, path).data.path) == ("ETTh1", path)
    monkeypatch.setattr(module, "BORDERS", (1, 1, 301 / 720))
    assert stand_in(ETTH1, path).data.dataset == "custom"


def test_a_csv_of_ones_own_stays_one(tmp_path: Path) -> None:
    own = Config().with_values({"data.dataset": "custom", "data.path": tmp_path / "a.csv", "data.target": "load"})
    config = stand_in(own, write_csv(tmp_path / "b.csv", "date,load", 1))
    assert (config.data.dataset, config.data.path, config.data.target) == ("custom", tmp_path / "b.csv", "load")
