"""What runs a command in this process gives what a new process gives, and leaves this one as it was."""

import logging
import os
import signal
import sys
import warnings
from pathlib import Path

import pytest
import torch

from tests.commands.conftest import arguments  # noqa: F401  a fixture
from tests.conftest import Cli


@pytest.mark.parametrize(
    "words",
    [
        ("inspect", "--gpu", "T4", "--sweep", "batch_size=4,8"),
        ("profiles", "show", "quickstart"),
        ("inspect", "--seq-len", "x"),
        ("eval", "no.pt"),
    ],
    ids=" ".join,
)
def test_a_command_prints_and_returns_here_what_it_does_in_a_new_process(
    cli: Cli, cli_process: Cli, words: tuple[str, ...]
) -> None:
    here, there = cli(*words, COLUMNS="90"), cli_process(*words, COLUMNS="90")
    assert (here.returncode, here.stdout, here.stderr) == (there.returncode, there.stdout, there.stderr)


def state_of_this_process() -> list[object]:
    return [
        sys.stdin, sys.stdout, sys.stderr, sys.argv, sys.excepthook, dict(os.environ), Path.cwd(),
        signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM), warnings.filters[:], warnings.showwarning,
        logging.root.level, logging.root.handlers[:], logging.getLogger("transformers").level,
        torch.get_rng_state().tolist(), torch.get_num_threads(), torch.get_default_dtype(),
        torch.are_deterministic_algorithms_enabled(), torch.is_grad_enabled(), torch.get_float32_matmul_precision(),
    ]  # fmt: skip


def test_a_training_leaves_this_process_as_it_was(cli: Cli, arguments, tmp_path: Path) -> None:  # noqa: F811
    import transformers  # noqa: F401  it sets up its log when it is loaded

    before = state_of_this_process()
    assert cli(*arguments("--max-steps=2"), SOMETHING="else").returncode == 0
    assert state_of_this_process() == before
    assert (tmp_path / "checkpoints" / "run" / "last.pt").is_file()


def test_an_error_that_nobody_handles_is_a_traceback_and_exit_code_1(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("timellm_cli.cli.use_expandable_segments", lambda: 1 / 0)
    finished = cli("--version")
    assert (finished.returncode, finished.stdout) == (1, "")
    assert finished.stderr.endswith("ZeroDivisionError: division by zero\n")
