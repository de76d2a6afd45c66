"""The prompt that inspect shows is the prompt that training sends."""

import math
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from timellm_cli.config import Config
from timellm_cli.data.table import read_table
from timellm_cli.data.windows import load_data
from timellm_cli.datasets import data_path, description_of
from timellm_cli.model.prompt import PromptText
from timellm_cli.model.prompt_tokens import window_statistics
from timellm_cli.model.time_llm import normalise as normalise_tensor
from timellm_cli.planning.prompt_tokens import describe, first_sample_statistics, normalise


def prompts(config: Config) -> tuple[str, str]:
    """Of the first training sample: as previewed, and as the model renders it."""
    text = PromptText(config.prompt, config.window, description_of(config.data, config.prompt.description))
    previewed = first_sample_statistics(read_table(data_path(config.data), config.data), config)
    history_BT = load_data(config).training_windows().batch([0]).history_BT
    scaled_BT, _ = normalise_tensor(history_BT)
    return text.render(previewed), text.render(window_statistics(scaled_BT, config.prompt.top_lags)[0])


def custom(path: Path, **data: object) -> Config:
    return Config.model_validate(
        {"data": {"dataset": "custom", "path": str(path), **data}, "window": {"seq_len": 48, "pred_len": 12}}
    )


@pytest.mark.parametrize("seq_len", [96, 256, 512])
@pytest.mark.parametrize("features", ["M", "S", "MS"])
def test_on_etth1_both_prompts_agree(shared_dir: Path, seq_len: int, features: str) -> None:
    path = shared_dir / "data" / "ETT-small" / "ETTh1.csv"
    data = {"dataset": "ETTh1", "path": path, "features": features}
    config = Config.model_validate({"data": data, "window": {"seq_len": seq_len}})
    previewed, rendered = prompts(config)
    assert previewed == rendered


def test_on_a_small_csv_both_prompts_agree(small_csv: Path) -> None:
    previewed, rendered = prompts(custom(small_csv))
    assert previewed == rendered
    assert "min value -" in previewed


def test_gaps_are_filled_as_in_training(small_csv: Path) -> None:
    lines = small_csv.read_text(encoding="utf-8").splitlines()
    lines[5] = lines[5].rsplit(",", 1)[0] + ","  # an empty cell of the first channel
    del lines[20:23]  # absent timestamps
    small_csv.write_text("\n".join(lines) + "\n", encoding="utf-8")
    previewed, rendered = prompts(custom(small_csv, fill="linear"))
    assert previewed == rendered


def test_a_constant_history_has_no_trend_and_the_first_lags() -> None:
    statistics = describe(normalise([7.0] * 24), 5)
    assert (statistics.min, statistics.max, statistics.upward) == (0.0, 0.0, False)
    assert statistics.lags == (0, 1, 2, 3, 4)


def test_equal_lags_are_ordered_by_size() -> None:
    wave = [math.sin(2 * math.pi * row / 12) for row in range(48)]
    assert describe(normalise(wave), 5).lags == (0, 12, 24, 36, 1)


def test_the_median_is_the_lower_of_the_two_middle_values() -> None:
    assert describe([4.0, 1.0, 3.0, 2.0], 1).median == 2.0


@given(seed=st.integers(0, 2**32), length=st.integers(8, 120))
def test_statistics_agree_with_the_models_on_any_history(seed: int, length: int) -> None:
    import torch

    generator = random.Random(seed)
    history = [math.sin(row / 5) + generator.gauss(0, 1) for row in range(length)]
    tensor_BT = torch.tensor([history], dtype=torch.float32)
    expected = window_statistics(normalise_tensor(tensor_BT)[0], 5)[0]
    found = describe(normalise(tensor_BT[0].tolist()), 5)
    assert (found.upward, found.lags) == (expected.upward, expected.lags)
    assert [found.min, found.max, found.median] == pytest.approx(
        [expected.min, expected.max, expected.median], abs=2e-6
    )
