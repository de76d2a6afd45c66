"""The command line as a person meets it: help, versions, mistakes, exit codes."""

import subprocess
import sys
from importlib import import_module
from inspect import signature
from pathlib import Path

import pytest
from typer.main import get_command

from tests.conftest import Cli, last_json
from timellm_cli import __version__
from timellm_cli.cli import app
from timellm_cli.config import FIELDS, flag_of


def test_help_lists_every_verb_and_each_verb_has_help(cli: Cli) -> None:
    overview = cli("--help")
    assert overview.returncode == 0
    for verb in ("inspect", "train", "eval", "predict", "fetch", "import", "init", "runs", "doctor", "profiles"):
        assert verb in overview.stdout
        assert cli(verb, "--help").returncode == 0


@pytest.mark.parametrize(
    ("verb", "module"),
    [
        ("inspect", "inspect"),
        ("eval", "eval"),
        ("predict", "predict"),
        ("fetch", "fetch"),
        ("import", "import_any"),
        ("m4", "m4"),
        ("init", "init"),
        ("runs", "runs"),
        ("doctor", "doctor"),
    ],
)
def test_a_command_declares_what_its_run_takes(verb: str, module: str) -> None:
    declared = {parameter.name for parameter in get_command(app).commands[verb].params}  # type: ignore[attr-defined]
    added = {key.replace(".", "__") for key in FIELDS} | {
        "profile", "config_file", "assignments", "plain", "dayfirst", "file",
    }  # fmt: skip
    taken = signature(import_module(f"timellm_cli.commands.{module}").run).parameters
    started = {"processes"} if verb == "eval" else set()
    assert declared - added - started == taken.keys() - {"settings", "changes"}


def test_every_configuration_key_is_a_flag_of_inspect_and_train(cli: Cli) -> None:
    for verb in ("inspect", "train"):
        text = cli(verb, "--help-all", COLUMNS="200").stdout
        for key in FIELDS:
            assert flag_of(key) in text, key


def test_the_version_is_the_packages(cli_process: Cli) -> None:
    assert cli_process("--version").stdout.strip() == f"timellm {__version__}"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["inspekt"], ["Did you mean 'inspect'"]),
        (["inspect", "--seq-lenn", "5"], ["--seq-len"]),
        (["inspect", "--profile", "quikstart"], ["did you mean 'quickstart'", "hint:"]),
        (["inspect", "--seq-len", "many", "--batch-size", "0"], ["2 faults", "window.seq_len = 'many'", "(flag)"]),
        (["inspect", "--config", "absent.toml"], ["'absent.toml' not found"]),
        (["train", "--set", "train.batchsize=3"], ["did you mean 'train.batch_size'"]),
        (["inspect", "--dataset", "ETTh9"], ["did you mean 'ETTh", "known datasets"]),
        (["inspect", "--prompt-template", "{maximum}", "--json"], ["no field '{maximum}'"]),
        (["profiles", "show", "nothing-like-it"], ["profiles are: custom"]),
        (["fetch", "nothing-like-it"], ["nothing-like-it"]),
    ],
)
def test_a_mistake_is_one_clear_message_and_exit_code_2(cli: Cli, arguments: list[str], words: list[str]) -> None:
    finished = cli(*arguments)
    assert finished.returncode == 2, finished.stderr
    assert "Traceback" not in finished.stderr
    text = " ".join(finished.stderr.split())
    for word in words:
        assert word in text, text


def test_profiles_lists_all_and_show_says_where_values_come_from(cli: Cli) -> None:
    listed = last_json(cli("profiles", "--json"))
    assert listed["ettm1-qwen3b-6gb"]["llm"] == "Qwen/Qwen2.5-3B"
    assert all(name in cli("profiles").stdout for name in listed)
    shown = last_json(cli("profiles", "show", "quickstart", "--set", "train.epochs=9", "--json"))
    assert shown["train.epochs"] == {"value": 9, "origin": "--set"}
    assert shown["llm.name"] == {"value": "smollm2-135m", "origin": "profile quickstart"}
    assert shown["model.d_ff"]["origin"] == "default"
    assert "profile quickstart" in cli("profiles", "show", "quickstart").stdout


@pytest.mark.parametrize("verb", ["eval", "predict"])
def test_a_wrong_value_of_a_computing_flag_is_refused_with_its_name(cli: Cli, verb: str) -> None:
    finished = cli(verb, "no.pt", *(["no.csv"] if verb == "predict" else []), "--kernels", "cuda")
    assert finished.returncode == 2
    assert "hardware.kernels = 'cuda' (flag)" in finished.stderr and "triton" in finished.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("eval", "nothing.pt"), 4, "checkpoint 'nothing.pt' not found"),
        (("predict", "here.pt", "nothing.csv"), 3, "file 'nothing.csv' not found"),
        (("import", "nothing"), 4, "checkpoint 'nothing' not found"),
        (("train", "--resume", "nothing.pt"), 4, "checkpoint 'nothing.pt' not found"),
        (("train", "--dataset", "custom", "--data-path", "no.csv", "--llm", "none"), 3, "no.csv"),
    ],
)
def test_a_mistyped_path_is_named_before_anything_heavy_is_imported(
    arguments: tuple[str, ...], code: int, words: str, tmp_path: Path
) -> None:
    (tmp_path / "here.pt").write_bytes(b"")
    (tmp_path / "torch.py").write_text("raise SystemExit('torch was imported')", encoding="utf-8")
    program = "import sys; sys.path.insert(0, sys.argv.pop(1)); from timellm_cli.cli import main; main()"
    finished = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path), *arguments],
        cwd=tmp_path, capture_output=True, encoding="utf-8", check=False,
    )  # fmt: skip
    assert words in finished.stderr
    assert finished.returncode == code


@pytest.mark.parametrize("words", [("inspect",), ("train",), ("eval", "no.pt"), ("predict", "no.pt", "no.csv")])
@pytest.mark.parametrize(
    ("device", "said"),
    [
        ("mps", "only GPUs of NVIDIA are used (cuda), none of Apple: choose cpu"),
        ("rocm", "none of AMD: choose cpu"),
        ("xpu", "none of Intel: choose cpu"),
        ("cuda:1", "say cuda; a card is chosen by the variable CUDA_VISIBLE_DEVICES=1"),
        ("tpu", "input should be 'auto', 'cpu' or 'cuda'"),
    ],
)
def test_a_device_that_is_not_used_is_one_sentence(cli: Cli, words: tuple[str, ...], device: str, said: str) -> None:
    finished = cli(*words, "--device", device)
    assert finished.returncode == 2
    assert said in finished.stderr.replace("\n", " ")
    assert "Traceback" not in finished.stderr
