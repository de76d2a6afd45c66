"""`timellm import` of commands and scripts, and old flags on the command line, through the real command line."""

import shlex
from pathlib import Path

import pytest

from tests.conftest import Cli, last_json
from tests.importing.test_commands import POWERSHELL
from tests.importing.test_translate import USUAL
from timellm_cli.settings import resolve


def test_a_command_becomes_a_profile_and_ends_with_its_inspect(cli: Cli, tmp_path: Path) -> None:
    finished = cli("import", USUAL, "--batch-size", 4)
    assert finished.returncode == 0, finished.stderr
    for flag in ("--label_len", "--llm_dim", "--load_in_4bit", "--task_name"):
        assert flag in finished.stdout
    assert "Ready" in finished.stdout or "Not ready" in finished.stdout
    profile = tmp_path / "ETTm1_512_96.toml"
    config = resolve(None, profile).config
    assert (config.train.batch_size, config.window.seq_len, config.llm.quantization) == (4, 512, "nf4")
    assert profile.read_text(encoding="utf-8").startswith("# From: python run_main.py")
    assert cli("import", USUAL, "--batch-size", 4).returncode == 0, "the profile that is there is the same"
    again = cli("import", USUAL)
    assert again.returncode == 2 and "exists already" in again.stderr
    assert resolve(None, profile).config.train.batch_size == 4


def test_a_command_in_the_quotation_marks_that_cmd_leaves_in_its_words_is_read(cli: Cli, tmp_path: Path) -> None:
    words = [
        "'python",
        "run_main.py",
        "--model",
        "TimeLLM",
        "--sequ_len",
        "512",
        "--batch_size",
        "4",
        "--load_in_4bit'",
    ]
    finished = cli("import", *words, "-o", "mine.toml")
    assert finished.returncode == 0, finished.stderr
    config = resolve(None, tmp_path / "mine.toml").config
    assert (config.train.batch_size, config.llm.quantization) == (4, "nf4")
    assert "did you mean 'seq_len'?" in " ".join(finished.stdout.split())


def test_a_script_becomes_a_profile_for_each_command(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "run.ps1").write_text(POWERSHELL, encoding="utf-16")
    finished = cli("import", "run.ps1", "-o", "profiles")
    assert finished.returncode == 0, finished.stderr
    written = sorted((tmp_path / "profiles").iterdir())
    assert [resolve(None, path).config.window.pred_len for path in written] == [192, 96]
    assert "2 is lower already" in " ".join(finished.stdout.split())
    assert "lower to 4 on OOM" in written[0].read_text(encoding="utf-8")
    refused = cli("import", "run.ps1", "-o", "one.toml")
    assert refused.returncode == 2 and "name a folder" in refused.stderr


def test_a_command_may_stand_without_quotation_marks(cli: Cli, tmp_path: Path) -> None:
    finished = cli("import", "python", "run_main.py", "--data", "ETTh1", "--seq_len", "48", "--llm_model", "GPT2")
    assert finished.returncode == 0, finished.stderr
    assert resolve(None, tmp_path / "ETTh1_48.toml").config.window.seq_len == 48


def test_what_is_neither_a_script_nor_a_checkpoint_is_refused(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "table.xlsx").write_bytes(b"\0\1\2")
    assert cli("import", "table.xlsx").returncode == 3
    finished = cli("import", "pip install torch")
    assert finished.returncode == 2 and "run_main.py" in finished.stderr
    absent = cli("import", "gone.ps1")
    assert absent.returncode == 2 and "there is no script 'gone.ps1'" in absent.stderr


def test_the_usual_line_works_in_inspect_as_it_stands(cli: Cli) -> None:
    finished = cli("inspect", *shlex.split(USUAL, posix=False)[2:], "--json")
    plan = last_json(finished)
    assert plan["llm"]["name"] == "Qwen/Qwen2.5-3B"
    assert (plan["seq_len"], plan["batch_size"], plan["dataset"]) == (512, 8, "ETTm1")
    assert "--load_in_4bit: --quantization nf4" in finished.stderr
    assert "of no use here: --model_id, --model_comment, --label_len" in finished.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("train", "--task_name", "imputation"), 2, "no task imputation"),
        (("train", "--data", "ETTm1", "--train_epochs", "3", "--des", "Exp"), 4, "--train_epochs: --epochs 3"),
        (("eval", "no.pt", "--data", "other.csv"), 4, "--data: --csv other.csv"),
        (("eval", "no.pt", "--seq_len", "512", "--load_in_4bit"), 2, "--seq_len, --load_in_4bit: the checkpoint knows"),
        (("eval", "no.pt", "--batch_size", "4", "--itr", "2"), 4, "of no use here: --itr"),
        (("predict", "no.pt", "--root_path", "a", "--data_path", "b.csv"), 4, "the input is a/b.csv"),
        (("predict", "no.pt", "b.csv", "--llm_model_path", "base/Qwen"), 4, "--llm base/Qwen"),
        (("inspect", "--stride", "7", "--patch_len=14", "--set", "data.path=no.csv"), 0, "--stride: --patch-stride 7"),
    ],
)
def test_an_old_flag_works_or_is_answered_by_its_name(
    cli: Cli, arguments: tuple[str, ...], code: int, words: str
) -> None:
    finished = cli(*arguments)
    assert words in " ".join(finished.stderr.split()), finished.stderr
    assert "Did you mean" not in finished.stderr
    assert finished.returncode == code, finished.stderr


def test_quiet_leaves_out_what_became_of_old_flags(cli: Cli) -> None:
    old = ("train", "--data", "ETTm1", "--train_epochs", "3")
    assert "note" in cli(*old).stderr
    assert "note" not in cli(*old, "--quiet").stderr
