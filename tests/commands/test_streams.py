"""Streams that are closed, full or gone, and signals: a training goes on, other commands end with the right code."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.commands.conftest import Arguments
from tests.conftest import REPOSITORY, Cli

pytestmark = pytest.mark.skipif(os.name != "posix", reason="streams and signals as POSIX has them")
TIMELLM = (sys.executable, "-m", "timellm_cli")
FULL = "/dev/full"


@contextmanager
def training(arguments: list[str], folder: Path, **streams: object) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        [*TIMELLM, *arguments], cwd=folder, env={**os.environ, "OMP_NUM_THREADS": "1"}, **streams
    )  # type: ignore[call-overload]
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def wait_for_metrics(folder: Path, process: "subprocess.Popen[bytes]") -> None:
    """Until two steps are logged."""
    metrics = folder / "checkpoints" / "run" / "metrics.jsonl"
    while process.poll() is None and not (metrics.is_file() and metrics.read_bytes().count(b"\n") >= 2):
        time.sleep(0.005)
    assert process.poll() is None, "it has ended before"


def files_of(folder: Path) -> set[str]:
    return {path.name for path in (folder / "checkpoints" / "run").iterdir()}


WHOLE = {"best.pt", "last.pt", "metrics.jsonl", "curves.png", "config.toml"}


@pytest.mark.skipif(not Path(FULL).exists(), reason="needs /dev/full")
def test_a_training_whose_streams_are_full_ends_well(arguments: Arguments, tmp_path: Path) -> None:
    with (
        Path(FULL).open("wb") as full,
        training(arguments("--llm=none"), tmp_path, stdout=full, stderr=full) as process,
    ):
        assert process.wait(300) == 0
    assert files_of(tmp_path) >= WHOLE


def test_a_training_whose_reader_has_gone_ends_well(arguments: Arguments, tmp_path: Path) -> None:
    """As `train 2>&1 | head -1`."""
    with training(arguments("--llm=none"), tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        assert process.stdout
        assert process.stdout.readline()
        process.stdout.close()
        assert process.wait(300) == 0
    assert files_of(tmp_path) >= WHOLE


def test_a_training_whose_terminal_is_closed_saves_and_ends(arguments: Arguments, tmp_path: Path) -> None:
    """The kernel and the shell each send SIGHUP, to workers as well; every write to the terminal fails from then on."""
    import pty

    ours, theirs = pty.openpty()
    endless = arguments("--llm=none", "--epochs", 1000, "--patience", 0, "--workers", 1)
    with training(endless, tmp_path, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True) as process:
        os.close(theirs)
        wait_for_metrics(tmp_path, process)
        os.close(ours)
        for _ in range(2):
            os.killpg(process.pid, signal.SIGHUP)
        assert process.wait(300) == 130
    assert "last.pt" in files_of(tmp_path)


def test_nohup_keeps_a_training_going(arguments: Arguments, tmp_path: Path) -> None:
    command = ["nohup", *TIMELLM, *arguments("--llm=none", "--epochs", 3)]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=tmp_path, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        wait_for_metrics(tmp_path, process)
        process.send_signal(signal.SIGHUP)
        assert process.wait(300) == 0
    assert files_of(tmp_path) >= WHOLE


@pytest.mark.skipif(not Path(FULL).exists(), reason="needs /dev/full")
@pytest.mark.parametrize("verb", [("inspect",), ("inspect", "--json"), ("profiles",), ("fetch",)], ids=" ".join)
def test_results_that_cannot_be_written_are_one_sentence(verb: tuple[str, ...], tmp_path: Path) -> None:
    with Path(FULL).open("wb") as full:
        finished = subprocess.run([*TIMELLM, *verb], cwd=tmp_path, stdout=full, stderr=subprocess.PIPE, check=False)
    assert finished.returncode == 2
    assert b"error: the results cannot be written to stdout: No space left on device\n" in finished.stderr


@pytest.mark.parametrize("closed", ["1>&-", "2>&-", "1>&- 2>&- 0<&-", "| true", "2> /dev/full"])
def test_a_closed_stream_ends_quietly_with_the_right_code(closed: str, tmp_path: Path) -> None:
    for verb, code in (("inspect", 0), ("inspect --profile nothing", 2)):
        script = f"set -o pipefail; '{sys.executable}' -m timellm_cli {verb} {closed}"
        finished = subprocess.run(["bash", "-c", script], cwd=tmp_path, capture_output=True, check=False)
        assert finished.returncode == code, finished.stderr
        assert b"Traceback" not in finished.stderr and b"Exception" not in finished.stderr


def test_a_bug_is_exit_code_1_and_one_line_that_asks_for_a_report(cli_process: Cli, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import timellm_cli.planning.hardware as hardware\n"
        "def look():\n    raise KeyError('\\x1b[31m')\n"
        "hardware.look_at_machine = look\n",
        encoding="utf-8",
    )
    where = {"PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", str(Path.cwd()))])}
    finished = cli_process("inspect", "--epochs", 3, **where)
    assert finished.returncode == 1
    assert len(finished.stderr.splitlines()) == 1
    assert "this is a bug of timellm" in finished.stderr and "timellm --debug inspect --epochs 3" in finished.stderr
    told = cli_process("--debug", "inspect", **where)
    assert told.returncode == 1 and "Traceback" in told.stderr and "\x1b" not in told.stderr


def test_debug_shows_where_a_users_error_came_from(cli_process: Cli) -> None:
    finished = cli_process("--debug", "inspect", "--profile", "nothing")
    assert finished.returncode == 2
    assert "Traceback" in finished.stderr and finished.stderr.rstrip().splitlines()[-2].startswith("error: profile")


@pytest.mark.parametrize(
    "verb", ["inspect", "train --profile quickstart", "eval a.pt", "predict a.pt a.csv", "import a"]
)
def test_a_folder_that_is_gone_is_one_sentence(verb: str, tmp_path: Path) -> None:
    script = f"mkdir gone && cd gone && rmdir ../gone && '{sys.executable}' -m timellm_cli {verb}"
    where = {**os.environ, "PYTHONPATH": os.environ.get("PYTHONPATH", str(REPOSITORY))}
    finished = subprocess.run(["bash", "-c", script], cwd=tmp_path, capture_output=True, check=False, env=where)
    assert finished.returncode == 2
    assert finished.stderr.splitlines()[0].endswith(b"does not exist any more")
