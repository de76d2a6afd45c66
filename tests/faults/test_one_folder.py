"""Two commands in one run's folder at the same time."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Cli
from tests.faults.victim import STEPS_AN_EPOCH, Victim, Workshop
from timellm_cli.training.run_directory import LOCK_NAME, locked


@pytest.fixture
def running(tmp_path: Path) -> Iterator[tuple[Victim, "subprocess.Popen[str]"]]:
    """A training amid its second epoch, on a disk too slow to end soon."""
    workshop = Workshop(tmp_path / "workshop", epochs=40, llm="none")
    workshop.furnish()
    victim = workshop.run("busy")
    process = victim.start(slow_disk=True)
    assert victim.wait_for_step(STEPS_AN_EPOCH + 1, process)
    yield victim, process
    process.kill()
    process.communicate(timeout=300)


def test_a_second_training_is_refused_by_name_and_an_evaluation_is_not(
    running: tuple[Victim, "subprocess.Popen[str]"], cli: Cli
) -> None:
    victim, process = running
    second = victim.start()
    said = second.communicate(timeout=300)[1]
    assert second.returncode == 2, said
    assert f"another training, process {process.pid}, is writing to" in said
    scored = cli("eval", victim.directory.best, "--limit=1", "--offline", cwd=victim.workshop.path)
    assert scored.returncode == 0, scored.stderr
    assert process.poll() is None, "the training must not have ended by itself"

    process.kill()
    process.wait(timeout=300)
    reached = victim.logged_steps()[-1]
    lock = victim.directory.path / LOCK_NAME
    assert lock.read_text(encoding="ascii") == str(process.pid)
    lock.write_text(str(os.getpid()), encoding="ascii")  # as if the killed process's id were another one's now
    third = victim.start()
    assert victim.wait_for_step(reached + 1, third)
    assert lock.read_text(encoding="ascii") == str(third.pid)
    third.kill()
    third.communicate(timeout=300)


def test_a_lock_that_names_a_living_process_which_does_not_hold_it_is_stale(tmp_path: Path) -> None:
    (tmp_path / LOCK_NAME).write_text(str(os.getppid()), encoding="ascii")
    with locked(tmp_path):
        assert (tmp_path / LOCK_NAME).read_text(encoding="ascii") == str(os.getpid())
