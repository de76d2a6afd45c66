"""Prompt tokens: exact with a tokenizer on this computer, near without; the prompt that inspect shows."""

import io
import json
import math
import random
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from tests.planning.cases import known_shape
from timellm_cli.config import Config, PromptConfig, WindowConfig
from timellm_cli.data.read_table import read_table
from timellm_cli.data.windows import load_data
from timellm_cli.datasets import DATASETS, data_path, description_of
from timellm_cli.model.prompt import PromptText
from timellm_cli.model.prompt_tokens import window_statistics
from timellm_cli.model.time_llm import normalise as normalise_tensor
from timellm_cli.planning.first_window import normalise
from timellm_cli.planning.hardware import Machine
from timellm_cli.planning.plan import make_plan
from timellm_cli.planning.prompt_tokens import (
    _load_tokenizer,
    count_tokens,
    describe,
    first_sample,
    tokenizer_rates,
    typical_statistics,
)
from timellm_cli.report.inspect_json import plan_record
from timellm_cli.report.inspect_tables import plan_tables

REAL_COUNTS = {
    "qwen": 145, "llama2": 155, "llama3": 132, "gpt2": 132, "gemma": 145, "bert": 127, "smollm2": 149,
}  # fmt: skip
"""Tokens of the prompt of ETTm1 (512 to 96, 3 decimals), by the published tokenizer of each family."""


def text(**changes: object) -> PromptText:
    return PromptText(PromptConfig(**changes), WindowConfig(), DATASETS["ETTm1"].description)  # type: ignore[arg-type]


def test_a_tokenizer_on_this_computer_counts_exactly(tiny_llm: Path) -> None:
    """The tests' tokenizer writes one token a byte."""
    prompt, statistics = text(), typical_statistics(512, 5)
    count = count_tokens(prompt, statistics, known_shape(str(tiny_llm)))
    assert count.exact
    assert count.static == len(prompt.prefix.encode())
    assert count.total == len(prompt.render(statistics).encode())


def test_the_count_is_that_of_the_model(tiny_llm: Path) -> None:

    from timellm_cli.model.prompt_tokens import PromptEncoder, load_tokenizer

    prompt, statistics = text(), typical_statistics(512, 5)
    encoder = PromptEncoder(prompt, load_tokenizer(tiny_llm), max_tokens=4096)
    tokens = encoder.encode_texts([prompt.render(statistics)])
    count = count_tokens(prompt, statistics, known_shape(str(tiny_llm)))
    assert (count.total, count.static) == (tokens.length, len(tokens.prefix))


@pytest.mark.parametrize("family", REAL_COUNTS)
def test_an_estimate_is_as_near_as_it_says(family: str) -> None:
    rates = tokenizer_rates(family)
    estimate = rates.estimate(text().render(typical_statistics(512, 5))) + rates.added
    assert estimate == pytest.approx(REAL_COUNTS[family], rel=rates.error)


def test_an_estimate_says_so_and_parts_add_up() -> None:
    count = count_tokens(text(), typical_statistics(512, 5), known_shape("Qwen/Qwen2.5-3B"))
    assert not count.exact
    assert 0 < count.error < 0.1
    assert count.static + count.per_sample == count.total == 146


def test_every_digit_and_a_longer_description_take_more_tokens() -> None:
    shape, statistics = known_shape("Qwen/Qwen2.5-3B"), typical_statistics(512, 5)
    usual = count_tokens(text(), statistics, shape)
    every_digit = count_tokens(text(decimals="all"), statistics, shape)
    assert every_digit.static == usual.static
    assert every_digit.per_sample > usual.per_sample + 30


def test_chinese_text_is_not_counted_like_letters() -> None:
    rates = tokenizer_rates("qwen")
    # 22 characters, 14 tokens by the published tokenizer
    assert rates.estimate("某变电站变压器每小时的油温与六个负荷特征数据") == pytest.approx(14, rel=0.2)


def test_an_llm_nobody_knows_gets_the_widest_margin() -> None:
    count = count_tokens(text(), typical_statistics(512, 5), None)
    assert count.error == max(tokenizer_rates(family).error for family in (*REAL_COUNTS, "other"))


@pytest.mark.parametrize("seq_len", [2, 5, 96, 512])
def test_typical_lags_are_lags_of_the_window(seq_len: int) -> None:
    count = min(5, seq_len)
    lags = typical_statistics(seq_len, count).lags
    assert len(lags) == count
    assert all(0 <= lag < seq_len for lag in lags)


def edit_tokenizer(folder: Path, **changes: object) -> None:
    file = folder / "tokenizer.json"
    file.write_text(json.dumps(json.loads(file.read_text(encoding="utf-8")) | changes), encoding="utf-8")


def test_a_tokenizers_file_that_cuts_and_pads_counts_as_the_run_does(tiny_llm: Path, tmp_path: Path) -> None:
    plain, spoilt = (Path(shutil.copytree(tiny_llm, tmp_path / name)) for name in ("plain", "spoilt"))
    from timellm_cli.model.prompt_tokens import load_tokenizer

    padding = {"strategy": {"Fixed": 4000}, "direction": "Left", "pad_to_multiple_of": None, "pad_id": 0,
               "pad_type_id": 0, "pad_token": "a"}  # fmt: skip
    cutting = {"direction": "Right", "max_length": 9, "strategy": "LongestFirst", "stride": 0}
    statistics = typical_statistics(512, 5)
    right = count_tokens(text(), statistics, known_shape(str(plain)))
    for changes in ({"padding": padding}, {"truncation": cutting}):
        edit_tokenizer(spoilt, **{"padding": None, "truncation": None} | changes)
        _load_tokenizer.cache_clear()
        assert count_tokens(text(), statistics, known_shape(str(spoilt))) == right
    assert right.total == len(load_tokenizer(spoilt)([text().render(statistics)])["input_ids"][0])


def test_a_normalizer_that_empties_every_prompt_is_no_ready_run(tiny_llm: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_llm, tmp_path / "empty"))
    edit_tokenizer(folder, normalizer={"type": "Replace", "pattern": {"Regex": r"[\s\S]+"}, "content": ""})
    config = Config.model_validate({"llm": {"name": str(folder), "layers": 2}, "model": {"d_ff": 16}})
    machine = Machine(gpu=None, ram_free=2**34, torch_has_cuda=False)
    (check,) = [check for check in make_plan(config, machine, from_file=False).checks if check.name == "prompt"]
    assert not check.ok and "makes no token" in check.detail and "normalizer" in check.remedy


def prompts(config: Config) -> tuple[str, str]:
    """Of the first training sample: as previewed, and as the model renders it."""
    text = PromptText(config.prompt, config.window, description_of(config.data, config.prompt.description))
    previewed, _ = first_sample(read_table(data_path(config.data), config.data), config)
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
    statistics = describe(normalise([7.0] * 24)[0], 5)
    assert (statistics.min, statistics.max, statistics.upward) == (0.0, 0.0, False)
    assert statistics.lags == (0, 1, 2, 3, 4)


def test_equal_lags_are_ordered_by_size() -> None:
    wave = [math.sin(2 * math.pi * row / 12) for row in range(48)]
    assert describe(normalise(wave)[0], 5).lags == (0, 12, 24, 36, 1)


def test_the_median_is_the_lower_of_the_two_middle_values() -> None:
    assert describe([4.0, 1.0, 3.0, 2.0], 1).median == 2.0


@given(seed=st.integers(0, 2**32), length=st.integers(8, 120))
def test_statistics_agree_with_the_models_on_any_history(seed: int, length: int) -> None:
    import torch

    generator = random.Random(seed)
    history = [math.sin(row / 5) + generator.gauss(0, 1) for row in range(length)]
    tensor_BT = torch.tensor([history], dtype=torch.float32)
    expected = window_statistics(normalise_tensor(tensor_BT)[0], 5)[0]
    found = describe(normalise(tensor_BT[0].tolist())[0], 5)
    assert (found.upward, found.lags) == (expected.upward, expected.lags)
    assert [found.min, found.max, found.median] == pytest.approx(
        [expected.min, expected.max, expected.median], abs=2e-6
    )


def test_an_llm_of_unknown_size_is_counted_by_its_tokenizer_and_gets_no_verdict(tiny_llm: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_llm, tmp_path / "experts"))
    file = folder / "config.json"
    entries = json.loads(file.read_text(encoding="utf-8")) | {"num_local_experts": 4}
    file.write_text(json.dumps(entries), encoding="utf-8")
    config = Config.model_validate({"llm": {"name": str(folder), "layers": 2}, "model": {"d_ff": 16}})
    made = make_plan(config, Machine(gpu=None, ram_free=2**34, torch_has_cuda=False), from_file=False)
    assert made.prompt.tokens.exact and made.prompt.tokens.total == len(made.prompt.text.encode())
    assert made.memory is None and plan_record(made)["memory"] is None
    shown = io.StringIO()
    Console(file=shown, width=100).print(plan_tables(made))
    assert "so there is no verdict" in shown.getvalue() and "fits" not in shown.getvalue()
