"""What an old command means here: every flag is answered, and values are those that the original trains with."""

import re
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from timellm_cli.config import FIELDS, Config
from timellm_cli.datasets import M4_PARTS
from timellm_cli.importing.commands import read_commands
from timellm_cli.importing.translate import Translation, translate
from timellm_cli.old_flags import OLD_FLAGS, markdown_table

USUAL = (
    "python run_main.py --task_name long_term_forecast --is_training 1 --root_path ./dataset/ETT-small/ --data_path "
    "ETTm1.csv --model_id ETTm1_512_96 --model_comment Qwen3B --model TimeLLM --data ETTm1 --features M --seq_len 512 "
    "--label_len 48 --pred_len 96 --e_layers 2 --d_layers 1 --factor 3 --enc_in 7 --dec_in 7 --c_out 7 --batch_size 8 "
    "--d_model 32 --d_ff 32 --llm_dim 2048 --dropout 0.1 --llm_model QWEN --llm_model_path "
    r'"e:\timellm\Time-LLM\base_models\Qwen2.5-3B" --load_in_4bit'
)


def translated(text: str) -> Translation:
    ((command,), _) = read_commands(text)
    return translate(command)


def test_all_26_flags_of_the_usual_line_are_answered_and_none_is_wrong() -> None:
    found = translated(USUAL)
    assert len(found.outcomes) == 26
    assert all(one.said for one in found.outcomes)
    assert found.wrong == []
    assert found.values["llm.name"] == "Qwen/Qwen2.5-3B"
    assert found.values["llm.quantization"] == "nf4"
    assert "data.path" not in found.values, "the fetched file is read"
    profile = REPOSITORY / "profiles" / "ettm1-qwen3b-6gb.toml"
    (name,) = re.findall(r'^name = "(.*)"', profile.read_text(encoding="utf-8"), re.MULTILINE)
    assert found.values["run.name"].replace("_ETTm1_512_96_TimeLLM_ETTm1_", "") == name.replace(
        "_{dataset}_{seq_len}_{pred_len}_TimeLLM_{dataset}_", ""
    )


def test_every_flag_of_the_table_has_one_fate_and_its_key_exists() -> None:
    for flag in OLD_FLAGS.values():
        fates = [flag.key, flag.no_use, flag.became]
        assert sum(bool(fate) for fate in fates) == 1, flag.name
        assert flag.key is None or flag.key in FIELDS
        argument = f"python run_main.py --{flag.name}" + ("" if flag.switch else " 1")
        assert len(translated(argument).outcomes) == 1, flag.name


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ("--llm_model GPT2 --llm_dim 4096", "has a width of 768, not 4096"),
        ("--llm_model GPT2 --llm_layers 32", "has 12 layers, not 32: all of them are used"),
        ("--data ETTm1 --enc_in 21", "ETTm1 has 7 channels, not 21"),
        ("--batch_size 2 # lower to 4 on OOM", "'lower to 4 on OOM', but 2 is lower already"),
        ("--dropout 1.5", "--dropout cannot be '1.5'"),
        ("--task_name imputation", "no task imputation"),
        ("--model DLinear", "not DLinear"),
        ("--loss MAE", "minimises MSE whatever it says"),
        ("--learning_rate 0.01", "trains with 0.01 / 25 = 0.0004"),
        ("--lradj type3", "has no type3"),
        ("--pct_start 0.3", "not 0.3"),
        ("--seq_len", "no value"),
        ("--nonsense 3", "neither run_main.py nor timellm has it"),
        ("--data custom --data_path gone.csv", "which is not here"),
        ("--prompt_domain 1 --data Weather", "Weather.txt' is here"),
    ],
)
def test_what_is_wrong_is_said_with_its_reason(flags: str, said: str) -> None:
    (wrong,) = translated(f"python run_main.py {flags}").wrong
    assert said in wrong.said


@pytest.mark.parametrize(
    ("flags", "key", "value"),
    [
        ("--learning_rate 0.01", "train.learning_rate", 0.0004),
        ("--learning_rate 0.01 --lradj TST", "train.learning_rate", 0.01),
        ("--lradj TST", "train.schedule", "onecycle"),
        ("--llm_layers 32", "llm.layers", 32),
        ("--stride 4", "model.patch_stride", 4),
        ("--percent 10", "data.percent", 10),
        ("--data ECL", "data.dataset", "Electricity"),
        ("--llm_model BERT", "llm.name", "google-bert/bert-base-uncased"),
        ("--llm_model QWEN --llm_dim 896", "llm.name", "Qwen/Qwen2.5-0.5B"),
        ("--load_in_8bit", "llm.quantization", "int8"),
    ],
)
def test_values_are_those_that_the_original_trains_with(flags: str, key: str, value: object) -> None:
    assert translated(f"python run_main.py {flags}").values[key] == value


def test_processes_of_accelerate_become_accumulated_steps() -> None:
    found = translated("accelerate launch --multi_gpu --num_processes 8 run_main.py --batch_size 24")
    assert found.values["train.accumulate"] == 8
    assert "8 processes" in " ".join(found.notes)


def test_defaults_of_the_original_are_kept_where_ours_differ() -> None:
    found = translated("python run_main.py --itr 1")
    assert found.left_open["window.seq_len"] == 96
    assert found.left_open["llm.name"] == "huggyllama/llama-7b"
    assert "model.patch_len" not in found.left_open, "ours is the same"
    Config().with_values({**found.left_open, **found.values})


def test_a_file_that_is_here_is_named_and_a_windows_path_has_slashes(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dataset").mkdir()
    (tmp_path / "dataset" / "ETTm1.csv").write_text("date,OT\n", encoding="utf-8")
    found = translated(r"python run_main.py --root_path .\dataset\ --data_path ETTm1.csv --data ETTm1")
    assert Path(found.values["data.path"]) == Path("dataset/ETTm1.csv")


def test_m4_has_the_windows_and_the_loss_of_run_m4() -> None:
    found = translated("python run_m4.py --data m4 --seasonal_patterns Hourly --root_path ./dataset/m4 --loss SMAPE")
    assert found.values["window.pred_len"] == M4_PARTS["Hourly"].horizon == 48
    assert (found.values["window.seq_len"], found.values["train.loss"]) == (96, "smape")
    assert Path(found.values["data.path"]) == Path("dataset/m4/Hourly-train.csv")


def test_the_page_has_the_table() -> None:
    page = (REPOSITORY / "docs" / "from-run-main.md").read_text(encoding="utf-8")
    assert markdown_table() in page
