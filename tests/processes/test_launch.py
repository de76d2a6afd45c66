"""What the launcher does where a process has failed and another one goes on for ever."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from timellm_cli.errors import ConfigError
from timellm_cli.processes.faults import FOLDER, read_loss
from timellm_cli.processes.launch import _watch
from timellm_cli.processes.patience import patience

ENDS = {"with exit code 4": "raise SystemExit(4)", "by SIGKILL": "import os; os.kill(os.getpid(), 9)"}
HANGS = "import time; time.sleep(3600)"


def python(text: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", text])


@pytest.mark.parametrize("how", ENDS)
def test_the_others_are_told_of_a_lost_process_and_one_that_hangs_is_killed(
    how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    children, said = [python(ENDS[how]), python(HANGS)], []
    os.kill(children[1].pid, signal.SIGSTOP)
    try:
        assert _watch(children, said.append, tmp_path, 0.3) == 4
    finally:
        children[1].kill()
        children[1].wait()
    assert said[-1] == "process 1 of 2 did not end within 0 seconds and was killed"
    assert (len(said) == 2) == (how == "by SIGKILL")  # one that ends with a code has said why itself
    monkeypatch.setenv(FOLDER, str(tmp_path))
    assert read_loss() == f"process 0 {'was ended' if 'SIG' in how else 'ended'} {how}"


def test_processes_that_end_well_are_no_loss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    assert _watch([python(""), python("")], said.append, tmp_path, 300) == 0
    monkeypatch.setenv(FOLDER, str(tmp_path))
    assert said == [] and read_loss() is None


def test_patience_is_a_number_of_seconds() -> None:
    assert patience({}) == 600
    assert patience({"TIMELLM_PATIENCE": "20"}) == 20
    for wrong in ("0", "1.5", "long", ""):
        with pytest.raises(ConfigError, match="TIMELLM_PATIENCE is"):
            patience({"TIMELLM_PATIENCE": wrong})
