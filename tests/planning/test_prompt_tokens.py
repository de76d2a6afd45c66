"""Prompt tokens: exact with a tokenizer on this computer, near without."""

import json
import shutil
from pathlib import Path

import pytest

from tests.planning.cases import known_shape
from timellm_cli.config import Config, PromptConfig, WindowConfig
from timellm_cli.datasets import DATASETS
from timellm_cli.model.prompt import PromptText
from timellm_cli.planning.hardware import Machine
from timellm_cli.planning.plan import make_plan
from timellm_cli.planning.prompt_tokens import _load_tokenizer, count_tokens, tokenizer_rates, typical_statistics

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
