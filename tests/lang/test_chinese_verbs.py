"""The verbs in Chinese: no English word outside of names, options, paths and what Chinese engineers write so."""

import json
import re
from datetime import date, timedelta
from pathlib import Path

import pytest
from rich.cells import cell_len

from tests.command_line import Finished
from tests.conftest import Cli
from timellm_cli.cli import app
from timellm_cli.config import FIELDS
from timellm_cli.datasets import DATASETS
from timellm_cli.fetching.catalogue import CATALOGUE
from timellm_cli.settings import profile_names

COMMANDS = [command.name or "" for command in app.registered_commands]
_TECHNICAL = """
    Adam AdamW API Apache Autoformer BOM Berlin BY CC CPU CSV CUDA Colab DataFrame Decoder Epoch Europe Excel Face
    GB GELU GPU Gbit GiB HDF HTML Hub Hugging ID Informer JSON KiB LLM Laptop Linux Llama MAE MASE MLP MSE MiB
    Mistral ModelScope Monthly NF NUL NVIDIA NVRTC NaN Naive OWA PCIe PNG PyTorch Python Qwen RAM RMSE ReLU RoPE
    SMAPE Schema SmolLM TOML Ti Time-LLM TimeLLM Token Triton URL UTF VRAM WQL Windows ND adam adamw auto bakery
    batch bf bit bool checkpoint checkpoints context cpu cuBLAS cuda custom decoder dict dropout epoch float fp
    graph head hub id inf int kernel kernels key lag layers log loss lr lradj macOS mask max mean median min nan
    none norm null onecycle padding patch polars profile prompt prototype query recompute run sMAPE safetensors
    scaler seed shard shell shortcut softmax step stride test timellm token tokenizer tokenizers torch train
    transformers trend value
"""
TECHNICAL = set(re.findall("[A-Za-z]+", _TECHNICAL))
"""English words that stay: units, names, and what docs/zh writes in English, too."""
VALUES = re.findall(
    "[a-z]+",
    "arima bat custom dates dayfirst detect each end fitted few-shot linear monthfirst unix-ms pooled previous random "
    "ratio regular rows sh smape start text theta unset zero val",
)
"""Values of options, and names of columns in a file of events."""
OWN = {
    word
    for name in (*profile_names(), *DATASETS, *CATALOGUE, *FIELDS, *COMMANDS, "bitsandbytes", "huggingface-hub")
    for word in re.findall("[A-Za-z]+", name)
}
"""Words in names of profiles, datasets, LLMs and configuration keys."""
NAMES = re.compile(
    r"`[^`]*`"  # commands and code
    r"|'[^']*'"  # names of files, columns and values
    r"|(?<![\w-])--?[a-zA-Z][\w-]*(?:[ =][\w.,:/|-]*[\d/.][\w.,:/|-]*)?"  # options with numbers and paths
    r"|\{[^}]*\}|\[[^\]\n]*\]"  # fields and defaults
    r"|[\w.~-]*/[\w./~-]+|\b[\w-]+\.(?:csv|pt|toml|json|jsonl|png|html|py|txt|safetensors|parquet|md|sh|ps1|bat)\b"
    r"|\b[A-Z][A-Z0-9_]+s?\b|\b\w*\d\w*\b|\b\w+(?:[._]\w+)+\b"  # TIMELLM_LANG, MSE, Qwen2, train.seed, seq_len
    r"|https?://\S+",
    re.ASCII,
)


def english_in(text: str, *known: str) -> list[str]:
    """The words of a printed text that are English and neither names nor technical."""
    lines = [line for line in text.splitlines() if not re.match(r"\s+(timellm|pip|python) ", line)]
    found = re.findall(r"[A-Za-z][A-Za-z'-]+", NAMES.sub(" ", "\n".join(lines)))
    kept = {*TECHNICAL, *OWN, *known}
    return sorted({word for word in found if not set(re.findall("[A-Za-z]+", word)) <= kept})


def assert_chinese(said: str, *known: str) -> None:
    words = english_in(said, *known)
    lines = [line for line in said.splitlines() if any(re.search(rf"\b{re.escape(word)}\b", line) for word in words)]
    assert not words, (words, lines)


def chinese(cli: Cli, *arguments: object, **others: str) -> Finished:
    return cli(*arguments, TIMELLM_LANG="zh", COLUMNS="200", **others)


SMALL = ("--llm", "none", "--seq-len", "48", "--pred-len", "12", "--d-ff", "16", "--num-prototypes", "20")
OF_DATA = ("small", "OT", "load", "small.csv", "timellm")


@pytest.mark.parametrize(
    "arguments",
    [(), ("--explain",), ("--show-prompt",), ("--show-patches",), ("--sweep", "seq_len=24,48,9000"), ("--gpu", "T4")],
    ids=" ".join,
)
def test_inspect_speaks_chinese(cli: Cli, small_csv: Path, arguments: tuple[str, ...]) -> None:
    finished = chinese(cli, "inspect", small_csv, *SMALL, *arguments)
    assert finished.returncode == 0, finished.stderr
    assert "窗口" in finished.stdout
    assert_chinese(finished.stdout + finished.stderr, *OF_DATA)


def test_inspect_with_an_llm_that_is_not_here_speaks_chinese(cli: Cli) -> None:
    finished = chinese(cli, "inspect", "-p", "ettm1-qwen3b-6gb", "--explain", "--processes", "2")
    assert "还不能开始训练" in finished.stdout
    assert_chinese(finished.stdout + finished.stderr, "ETTm", "Qwen", "qwen")


def test_a_run_from_training_to_forecast_speaks_chinese(cli: Cli, small_csv: Path) -> None:
    run = "checkpoints/first"
    trained = chinese(cli, "train", small_csv, *SMALL, "--epochs", "2", "--batch-size", "64", "--run-name", "first")
    assert trained.returncode == 0, trained.stderr
    assert "验证损失" in trained.stderr and "最佳 epoch" in trained.stdout
    said = [trained]
    said += [chinese(cli, "train", small_csv, *SMALL, "--batch-size", "64", "--run-name", "first")]
    said += [chinese(cli, "eval", f"{run}/best.pt", "--metrics")]
    said += [chinese(cli, "predict", f"{run}/best.pt", small_csv, "--levels", "80", "-o", "f.csv", "--steps", "14")]
    said += [chinese(cli, "predict", f"{run}/best.pt", small_csv, "--at", "2024-01-01 05:00:00")]
    said += [chinese(cli, "eval", f"{run}/best.pt", "--csv", "absent.csv")]
    said += [chinese(cli, "runs")]
    said += [chinese(cli, "train", "--resume", f"{run}/best.pt")]
    assert [finished.returncode for finished in said] == [0, 2, 0, 0, 3, 3, 0, 4]
    assert "来源" in chinese(cli, "profiles", "show", "quickstart").stdout
    for finished in said:
        assert_chinese(finished.stdout + finished.stderr, *OF_DATA, "first", "inf")


@pytest.mark.parametrize(
    "arguments",
    [
        ("doctor",),
        ("runs",),
        ("fetch",),
        ("profiles",),
        ("inspect", "absent.csv"),
        ("inspect", "-p", "quickstrat"),
        ("inspect", "--batch-sze", "4"),
        ("inspect", "--batch-size", "x"),
        ("inspect", "--device", "tpu"),
        ("inspect", "--set", "data.nothing=1"),
        ("inspect", "--gpu", "RTX 9999"),
        ("inspect", "--config", "absent.toml"),
        ("inspect", "--network"),
        ("train", "--resume", "absent.pt"),
        ("train", "--dataset", "nothing"),
        ("predict",),
        ("predict", "absent.pt", "absent.csv"),
        ("eval", "absent.pt"),
        ("fetch", "nothing"),
        ("import", "absent.ps1"),
        ("nothing",),
        ("inspect", "a.csv", "b.csv"),
        ("train", "--seeds", "0"),
        ("import", "python run_main.py --model TimeLLM --data ETTm1 --llm_dim 3 --moving_avg 3 --foo 3 --des x"),
    ],
    ids=" ".join,
)
def test_small_verbs_and_faults_speak_chinese(cli: Cli, arguments: tuple[str, ...]) -> None:
    finished = chinese(cli, *arguments)
    assert finished.returncode in (0, 2, 3, 4)
    known = ("timellm", "Linux", "torch", "Python", "ETTh", "ETTm", "Qwen", "NVIDIA", "ModelScope", "Hugging", "Face")
    assert re.search("[\u4e00-\u9fff]", finished.stdout + finished.stderr)
    assert_chinese(finished.stdout + finished.stderr, *known)


@pytest.mark.parametrize(
    ("last", "words"),
    [
        ("2024-05-05,3", "缺口"),
        ("2024-05-02,\n2024-05-03,1\n2024-05-04,1\n2024-05-05,1", "单元格是空的"),
        ("2024-05-02,a\n2024-05-03,1\n2024-05-04,1\n2024-05-05,1", "不是数值"),
        ("2024-05-01,3", "与另一行相同"),
        ("today,3", "不是时间戳"),
        ("2024-05-02,3,4", "个单元格"),
        ("2024-05-02 07:00,3", "时间戳不规则"),
    ],
)
def test_faults_of_a_table_are_said_in_chinese(cli: Cli, tmp_path: Path, last: str, words: str) -> None:
    days = [date(2024, 5, 1) - timedelta(days=120 - day) for day in range(121)]
    lines = ["date,x", *(f"{day},{place % 7}" for place, day in enumerate(days)), last, "2024-05-06,5"]
    (tmp_path / "table.csv").write_text("\n".join(lines), encoding="utf-8")
    finished = chinese(cli, "train", tmp_path / "table.csv", "--llm", "none", "--seq-len", "24", "--pred-len", "2")
    said = finished.stdout + finished.stderr
    assert finished.returncode == 3, said
    assert words in said
    assert_chinese(said, "table", "linear", "today", "first", "last", "dayfirst", "Europe", "rows")


@pytest.mark.parametrize("verb", ["", "inspect", "train", "eval", "predict", "fetch", "import", "init", "m4", "push"])
def test_help_speaks_chinese(cli: Cli, verb: str) -> None:
    page = chinese(cli, *([verb] if verb else []), "--help-all").stdout
    assert "用法" in page and "选项" in page
    known = ("timellm", "Europe", "Berlin", "Excel", "Llama", "Mistral", "Qwen", "Triton", "NVRTC", "Hugging", "Face")
    assert_chinese(re.sub(r"(?m)^  \S.*$", "", page), *known, *VALUES)


def test_at_80_columns_no_line_is_wider_and_the_columns_of_tables_stay_straight(cli: Cli, small_csv: Path) -> None:
    printed = cli("inspect", small_csv, *SMALL, "--explain", TIMELLM_LANG="zh", COLUMNS="80").stdout.splitlines()
    assert max(map(cell_len, printed)) <= 80
    rule = next(place for place, line in enumerate(printed) if line.startswith("───"))
    table = [printed[rule - 1], *printed[rule + 1 : rule + 4]]
    assert {cell_len(line.rstrip()) for line in table} == {cell_len(printed[rule].rstrip())}
    page = cli("train", "--help-all", TIMELLM_LANG="zh", COLUMNS="60").stdout.splitlines()
    assert max(map(cell_len, page)) <= 60


def test_names_of_the_user_stay_whatever_they_say(cli: Cli, tmp_path: Path) -> None:
    table = (tmp_path / "total.csv").with_name("rows of history.csv")
    rows = "\n".join(f"2024-01-{day:02d},{day},{day % 3},{day % 5}" for day in range(1, 31))
    table.write_text(f"date,total,the cell is empty,fits\n{rows}\n", encoding="utf-8")
    run = ("--run-name", "linear", "--epochs", "1", "--seq-len", "6", "--pred-len", "1", "--llm", "none", "--d-ff", "8")
    patch = (
        "--patch-len",
        "2",
        "--patch-stride",
        "1",
        "--batch-size",
        "4",
        "--train-ratio",
        "0.5",
        "--test-ratio",
        "0.2",
    )
    trained = chinese(cli, "train", table, *run, *patch, "--num-prototypes", "20")
    assert trained.returncode == 0, trained.stderr
    scored = chinese(cli, "eval", "checkpoints/linear/best.pt").stdout
    assert "rows of history.csv" in scored
    assert {"total", "the cell is empty", "fits"} <= {line.strip().split("  ")[0] for line in scored.splitlines()}
    assert "linear" in scored.split("线性映射")[0], "the run's own name"


def test_json_and_files_stay_english(cli: Cli, small_csv: Path) -> None:
    for arguments in (("inspect", small_csv, *SMALL), ("doctor",), ("fetch",), ("profiles",)):
        printed = chinese(cli, *arguments, "--json").stdout
        assert json.loads(printed) and not re.search("[\u4e00-\u9fff]", printed)
    written = cli("init", small_csv, "-o", "a.toml").stdout
    assert chinese(cli, "init", small_csv, "-o", "b.toml").stdout == written


def test_a_gbk_stream_gets_gbk_and_a_stream_of_ascii_gets_english(cli_process: Cli, tmp_path: Path) -> None:
    import os
    import subprocess
    import sys

    for encoding, words in (("gbk", "找不到文件"), ("utf-8", "找不到文件"), ("ascii", "not found")):
        variables = {**os.environ, "PYTHONIOENCODING": encoding, "TIMELLM_LANG": "zh", "COLUMNS": "80"}
        command = [sys.executable, "-m", "timellm_cli", "inspect", "吃.csv"]
        finished = subprocess.run(command, capture_output=True, env=variables, cwd=tmp_path, check=False)
        assert finished.returncode == 3
        assert words in finished.stderr.decode(encoding)
