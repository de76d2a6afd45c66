"""Processes that one command starts, or a launcher: who is who, what differs, and how they stop."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.command_line import SURROUNDINGS
from tests.commands.conftest import Arguments
from tests.conftest import REPOSITORY, Cli
from tests.processes.together import together
from timellm_cli.commands import together as module
from timellm_cli.commands.together import choose_card, require_own_card, require_same_settings, require_same_version
from timellm_cli.config import Config
from timellm_cli.errors import ConfigError, TimellmError
from timellm_cli.processes.group import Group
from timellm_cli.processes.place import Place

FOUR_MINUTES = 240


def differ(group: Group) -> list[str]:
    """What is said where processes share a card, were started otherwise, or have another version."""
    rank, said = group.place.rank, []
    config = Config().with_values({"train.learning_rate": 0.001 if rank == 0 else 0.01})
    module.__version__ = f"0.{rank}"
    for check in (
        lambda: require_own_card(group, "host GPU-1"),
        lambda: require_same_settings(group, config),
        lambda: require_same_version(group),
    ):
        try:
            check()
        except TimellmError as error:
            said.append(error.message)
    require_own_card(group, f"host GPU-{rank}")
    return said


def test_what_differs_between_processes_is_said_in_one_sentence_each() -> None:
    for card, settings, version in together(2, differ):
        assert card == "processes 0 and 1 would share the card host GPU-1"
        assert settings == "process 1 was started with another train.learning_rate than process 0: 0.01, not 0.001"
        assert version.startswith("process 1 has another version than process 0: timellm 0.1 with torch ")
        assert "not timellm 0.0 with torch " in version


def test_each_process_takes_the_card_of_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    second = Place(rank=3, size=4, local_rank=1, local_size=2)
    assert choose_card(second, 2) == 1
    with pytest.raises(ConfigError, match="2 processes were started on this machine, but it shows 1 cards"):
        choose_card(second, 1)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")  # a scheduler shows each process its own
    assert choose_card(second, 1) == 0


@pytest.mark.parametrize(
    "variables",
    [
        {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1"},
        {"ACCELERATE_MIXED_PRECISION": "no"},  # as `accelerate launch --num_processes 2` does where it sees no GPU
    ],
)
def test_a_launcher_that_starts_one_process_is_noted(cli: Cli, variables: dict[str, str]) -> None:
    finished = cli("train", "missing.csv", "--device", "cpu", "--llm", "none", **variables)
    assert finished.returncode == 3
    assert "a launcher started 1 process, and nothing is shared out" in " ".join(finished.stderr.split())


def start(folder: Path, *command: str) -> subprocess.Popen[str]:
    environment = {**os.environ, **SURROUNDINGS, "PYTHONPATH": str(REPOSITORY)}
    return subprocess.Popen(
        [sys.executable, "-m", *command], cwd=folder, env=environment, text=True, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )  # fmt: skip


def losses_in(folder: Path) -> dict[int, float]:
    path = folder / "metrics.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    records = [json.loads(line) for line in lines if line.endswith("}")]
    return {record["step"]: record["loss"] for record in records if record["event"] == "step"}


def test_torchrun_starts_processes_that_leave_the_run_of_one(cli: Cli, arguments: Arguments, tmp_path: Path) -> None:
    assert cli(*arguments("--max-steps=3")).returncode == 0
    launcher = ("torch.distributed.run", "--nproc-per-node", "2", "--master-port", "0", "--rdzv-backend", "c10d")
    shared = start(tmp_path, *launcher, "-m", "timellm_cli", *arguments("--max-steps=3", "--run-name=shared"))
    _, said = shared.communicate(timeout=FOUR_MINUTES)
    assert shared.returncode == 0, said
    assert said.count("Finished") == 1
    runs = tmp_path / "checkpoints"
    assert losses_in(runs / "shared") == pytest.approx(losses_in(runs / "run"), rel=1e-5)


def test_ctrl_c_ends_all_processes_with_one_message_and_the_run_goes_on_exactly(
    cli: Cli, arguments: Arguments, tmp_path: Path
) -> None:
    constant = ("--schedule=constant", "--epochs=50", "--patience=0")
    shared = start(tmp_path, "timellm_cli", *arguments(*constant, "--run-name=shared", "--processes=2"))
    folder, end = tmp_path / "checkpoints" / "shared", time.monotonic() + FOUR_MINUTES
    while len(losses_in(folder)) < 3 and shared.poll() is None and time.monotonic() < end:
        time.sleep(0.02)
    shared.send_signal(signal.SIGINT)
    _, said = shared.communicate(timeout=FOUR_MINUTES)
    assert shared.returncode == 130, said
    assert " ".join(said.split()).count("everything up to it is saved") == 1
    assert "Traceback" not in said
    stopped = max(losses_in(folder))
    more = ("--max-steps", stopped + 4)
    assert cli(*arguments(*constant, "--run-name=shared", "--resume=auto", *more)).returncode == 0
    assert cli(*arguments(*constant, *more)).returncode == 0
    assert losses_in(folder) == pytest.approx(losses_in(folder.parent / "run"), rel=1e-5)
