"""What is printed once a run has ended."""

import io
import shlex
import sys
from pathlib import Path

import pytest
from rich.console import Console

from tests.untrained import make_config
from timellm_cli.config import LLMConfig
from timellm_cli.report.train_summary import loading_line, print_end, quote, starting_line
from timellm_cli.training.records import MemoryMeasured, RunFinished

MIB = 2**20
BEST = {"epoch": 2, "val_mse": 0.25, "val_mae": 0.5, "test_mse": 0.36, "test_mae": 0.6}


@pytest.mark.parametrize(("stride", "told"), [(1, False), (11, True)])
def test_errors_over_part_of_the_windows_are_told_as_such(tmp_path: Path, stride: int, told: bool) -> None:
    (tmp_path / "best.pt").write_bytes(bytes(2048))
    console = Console(width=120, file=io.StringIO(), force_terminal=False)
    record = RunFinished("all 3 epochs are done", 33, 3, BEST, 5.0, None)
    config = make_config(Path("some.csv"), data__window_stride=stride)
    print_end(console, record, config, tmp_path, Path("some.csv"))
    text = console.file.getvalue()
    assert "0.3600" in text and "33 steps in 0:00:05" in text
    assert ("one window in 11 (window_stride); `timellm eval` scores every window" in text) == told


@pytest.mark.parametrize(
    ("memory", "told"),
    [
        (
            MemoryMeasured(9, "NVIDIA T4", 950 * MIB, {"cuda_context": 9}, 1000 * MIB, 1200 * MIB),
            "950 MiB predicted (21% too little), 1.17 GiB reserved by torch at most (1000 MiB allocated)",
        ),
        (
            MemoryMeasured(9, "CPU", 700 * MIB, {}, 500 * MIB, 500 * MIB),
            "700 MiB predicted (40% too much), 500 MiB of RAM at most, loading included",
        ),
        (
            MemoryMeasured(9, "NVIDIA T4", 1001 * MIB, {}, 1000 * MIB, 1000 * MIB),
            "1001 MiB predicted (right to 1%), 1000 MiB reserved by torch at most (1000 MiB allocated)",
        ),
        (MemoryMeasured(9, "CPU", None, {}, 500 * MIB, 500 * MIB), "500 MiB of RAM at most, loading included"),
    ],
)
def test_predicted_memory_stands_beside_what_was_measured(tmp_path: Path, memory: MemoryMeasured, told: str) -> None:
    (tmp_path / "best.pt").write_bytes(bytes(2048))
    console = Console(width=120, file=io.StringIO(), force_terminal=False)
    record = RunFinished("all 3 epochs are done", 33, 3, BEST, 5.0, memory)
    print_end(console, record, make_config(Path("some.csv")), tmp_path, Path("some.csv"))
    assert f"Memory of a step: {told}\n" in console.file.getvalue()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows quotes by rules of its own")
@pytest.mark.parametrize("name", ["a b", "a$HOME b", "a*b", "`a`", "~x", "{x}", "it's", 'say "a"', "平均"])
def test_a_path_is_one_word_of_the_command_line_whatever_it_is_called(name: str) -> None:
    assert shlex.split(quote(Path(name))) == [name]
    assert quote(Path("runs/best.pt")) == "runs/best.pt"


def test_a_best_checkpoint_that_something_removed_is_said(tmp_path: Path) -> None:
    console = Console(width=120, file=io.StringIO(), force_terminal=False)
    record = RunFinished("all 3 epochs are done", 33, 3, BEST, 5.0, None)
    print_end(console, record, make_config(Path("some.csv")), tmp_path, Path("some.csv"))
    text = " ".join(console.file.getvalue().split())
    assert "best.pt is gone: another program removed it" in text
    assert f"timellm eval {tmp_path / 'last.pt'}" in text


def test_what_is_loaded_is_named_with_its_layers_and_megabytes(tiny_llm: Path) -> None:
    parameters = 32 * 64 * 3 + 2 * 32 * 32 + 2 * 32 * 16 + 2 * 32
    line = loading_line(LLMConfig(name=str(tiny_llm), layers=1))
    assert line == f"Loading the LLM {tiny_llm}: 1 layer, {parameters * 4 // 1024} KiB"
    assert loading_line(LLMConfig(name="Qwen/Qwen2.5-3B", layers=6)).startswith(
        "Loading the LLM Qwen/Qwen2.5-3B: 6 lay"
    )
    assert starting_line(LLMConfig(name="none")) == "Loading PyTorch"
    assert starting_line(LLMConfig(name=str(tiny_llm), layers=1)).endswith(
        f"{tiny_llm}: 1 layer, {parameters * 4 // 1024} KiB"
    )
    assert starting_line(LLMConfig(name="owner/unknown")) == "Loading PyTorch, then the LLM owner/unknown"
    assert loading_line(LLMConfig(name="none")) == "Making the model"
    assert loading_line(LLMConfig(name="owner/unknown")) == "Loading the LLM owner/unknown"
