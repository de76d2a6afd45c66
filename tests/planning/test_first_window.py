"""The first training sample and its patches, held against what the model's own code makes of the same window."""

import random
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.panels import write_long
from timellm_cli.config import Config, ModelConfig
from timellm_cli.counts import count_patches
from timellm_cli.data.read_table import read_table
from timellm_cli.data.windows import load_data
from timellm_cli.datasets import data_path
from timellm_cli.model.time_llm import cut_patches as cut_tensor
from timellm_cli.model.time_llm import normalise as normalise_tensor
from timellm_cli.planning.first_window import cut_patches, first_history
from timellm_cli.report.inspect_patches import show_value


def config_of(path: Path, seq_len: int = 48, model: dict[str, int] | None = None, **data: object) -> Config:
    return Config.model_validate(
        {
            "data": {"dataset": "custom", "path": str(path), **data},
            "window": {"seq_len": seq_len, "pred_len": 12},
            "model": model or {},
        }
    )


def shown_by_the_model(config: Config) -> list[list[str]]:
    """The patches of sample 0 as `TimeLLM.parts` cuts them."""
    history_BT = load_data(config).training_windows().batch([0]).history_BT
    scaled_BT, _ = normalise_tensor(history_BT)
    patches_BPL = cut_tensor(scaled_BT, config.model.patch_len, config.model.patch_stride)
    return [[show_value(value) for value in patch] for patch in patches_BPL[0].tolist()]


def shown_by_inspect(config: Config) -> list[list[str]]:
    history = first_history(read_table(data_path(config.data), config.data), config)
    return [[show_value(value) for value in patch.values] for patch in cut_patches(history.scaled, config.model)]


@pytest.mark.parametrize(("length", "by"), [(16, 8), (16, 16), (8, 20), (50, 7), (13, 5)])
def test_patches_are_to_the_digit_those_of_the_model(small_csv: Path, length: int, by: int) -> None:
    config = config_of(small_csv, model={"patch_len": length, "patch_stride": by})
    assert shown_by_inspect(config) == shown_by_the_model(config)


@pytest.mark.parametrize("features", ["M", "S"])
def test_patches_of_etth1_are_to_the_digit_those_of_the_model(shared_dir: Path, features: str) -> None:
    path = shared_dir / "data" / "ETT-small" / "ETTh1.csv"
    config = config_of(path, 256, dataset="ETTh1", features=features)
    shown = shown_by_inspect(config)
    assert (len(shown), len(shown[0])) == (32, 16)
    assert shown == shown_by_the_model(config)


def test_patches_with_filled_gaps_are_those_of_the_model(small_csv: Path) -> None:
    lines = small_csv.read_text(encoding="utf-8").splitlines()
    lines[5] = lines[5].rsplit(",", 1)[0] + ","
    del lines[20:23]
    small_csv.write_text("\n".join(lines) + "\n", encoding="utf-8")
    config = config_of(small_csv, fill="linear")
    assert shown_by_inspect(config) == shown_by_the_model(config)


def test_of_a_panel_the_first_series_with_a_training_window_is_shown(tmp_path: Path) -> None:
    rows = {"short": range(40), "long": range(30, 400)}
    path = write_long(tmp_path / "panel.csv", rows)
    config = config_of(path, date_column="ds", id_column="unique_id", target="y", split_by="ratio")
    history = first_history(read_table(path, config.data), config)
    assert (history.channel, history.first, history.last) == ("long", "2024-01-02 06:00:00", "2024-01-04 05:00:00")
    assert shown_by_inspect(config) == shown_by_the_model(config)


def test_moments_lead_from_the_file_to_the_patches_and_a_constant_channel_becomes_zeros(tmp_path: Path) -> None:
    path = tmp_path / "own.csv"
    rows = "".join(f"2024-01-{1 + row // 24:02d} {row % 24:02d}:00,0.1,{row % 7}\n" for row in range(400))
    path.write_text(f"date,flat,OT\n{rows}", encoding="utf-8")
    flat, own = (
        first_history(read_table(path, one.data), one) for one in (config_of(path), config_of(path, columns="OT"))
    )
    assert set(flat.standardised) == set(flat.scaled) == {0.0}
    for raw, scaled in zip(own.raw, own.scaled, strict=True):
        standardised = (raw - own.of_train.mean) / own.of_train.std
        assert (standardised - own.of_window.mean) / own.of_window.std == pytest.approx(scaled, abs=1e-6)


@given(st.integers(2, 90), st.integers(1, 40), st.integers(1, 40), st.integers(0, 99))
def test_any_patches_are_those_of_the_model_and_padding_is_the_last_value(
    rows: int, length: int, by: int, seed: int
) -> None:
    length = min(length, rows + by)
    numbers = random.Random(seed)
    history = [float(numbers.randint(-9, 9)) for _ in range(rows)]
    patches = cut_patches(history, ModelConfig(patch_len=length, patch_stride=by))
    assert len(patches) == count_patches(rows, length, by)
    assert [patch.values for patch in patches] == cut_tensor(torch.tensor([history]), length, by)[0].tolist()
    for patch in patches:
        known = [history[row] for row in range(patch.first - 1, min(patch.first - 1 + length, rows))]
        assert list(patch.values) == known + [history[-1]] * patch.padded
