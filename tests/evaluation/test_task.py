"""The data that a checkpoint is scored on: another dataset, or a CSV that replaces the trained one."""

from pathlib import Path

import pytest

from tests.untrained import make_config
from timellm_cli.config import Config
from timellm_cli.data.read_table import read_table
from timellm_cli.data.windows import load_data
from timellm_cli.datasets import DATASETS
from timellm_cli.evaluation import task
from timellm_cli.evaluation.task import stand_in, transfer

FEW_SHOT = Config().with_values({"data.dataset": "ETTh1", "data.columns": ("HUFL", "OT"), "data.percent": 10})


def write_csv(path: Path, header: str, channels: int, rows: int = 300) -> Path:
    rows_of = [",".join(f"{row % 7 + position}.5" for position in range(channels)) for row in range(rows)]
    lines = [f"2024-01-{1 + row // 24:02d} {row % 24:02d}:00,{values}" for row, values in enumerate(rows_of)]
    path.write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    return path


def test_a_known_dataset_comes_whole_with_its_own_borders_and_description() -> None:
    config = transfer(FEW_SHOT, "ETTh2")
    assert (config.data.dataset, config.data.path, config.data.columns, config.data.percent) == ("ETTh2", None, (), 100)
    assert config.window == FEW_SHOT.window
    assert config.prompt.description is None


def test_a_known_dataset_has_its_own_date_column_whatever_the_trained_one_is_called() -> None:
    trained = FEW_SHOT.with_values({"data.date_column": "day"})
    assert transfer(trained, "ETTh2").data.date_column == "date"


def test_dates_may_stand_last(tmp_path: Path) -> None:
    path = tmp_path / "own.csv"
    path.write_text("a,b,date\n1,2,2024-01-01 00:00\n3,4,2024-01-01 01:00\n", encoding="utf-8")
    data = transfer(FEW_SHOT, str(path)).data
    assert (data.date_column, data.target) == ("date", "b")


def test_a_file_with_a_known_datasets_name_and_columns_is_that_dataset(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "ETTh2.csv", ",".join(["date", *DATASETS["ETTh2"].columns]), 7)
    assert (transfer(FEW_SHOT, str(path)).data.dataset, transfer(FEW_SHOT, str(path)).data.path) == ("ETTh2", path)
    other = write_csv(tmp_path / "ETTm2.csv", "date,a,b", 2)
    assert transfer(FEW_SHOT, str(other)).data.dataset == "custom"


def test_columns_may_be_called_otherwise_and_the_trained_description_stays(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "own.csv", "时间,负荷,油温", 2)
    config = transfer(FEW_SHOT, str(path))
    assert (config.data.date_column, config.data.target) == ("时间", "油温")
    assert config.prompt.description == DATASETS["ETTh1"].description
    assert transfer(FEW_SHOT, str(write_csv(path, "date,OT,load", 2))).data.target == "OT"


def test_it_is_standardised_by_its_own_training_rows(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "own.csv", "time,a,b,c", 3)
    data = load_data(transfer(make_config(tmp_path / "trained.csv"), str(path)))
    assert data.table.columns == ("a", "b", "c")
    training_NC = read_table(path, data.config.data).values[:210]
    assert data.scaler.mean_C == pytest.approx(training_NC.mean(axis=0))
    assert data.scaler.std_C == pytest.approx(training_NC.std(axis=0))


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
    monkeypatch.setattr(task, "BORDERS", (1, 1, 300 / 720))
    assert (stand_in(ETTH1, path).data.dataset, stand_in(ETTH1, path).data.path) == ("ETTh1", path)
    monkeypatch.setattr(task, "BORDERS", (1, 1, 301 / 720))
    assert stand_in(ETTH1, path).data.dataset == "custom"


def test_a_csv_of_ones_own_stays_one(tmp_path: Path) -> None:
    own = Config().with_values({"data.dataset": "custom", "data.path": tmp_path / "a.csv", "data.target": "load"})
    config = stand_in(own, write_csv(tmp_path / "b.csv", "date,load", 1))
    assert (config.data.dataset, config.data.path, config.data.target) == ("custom", tmp_path / "b.csv", "load")
