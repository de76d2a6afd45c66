"""A few of the moments at which `tests.faults.kills` stops a training."""

import random

import pytest

from tests.faults.kills import WAYS, disturb
from tests.faults.victim import Victim, Workshop


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Victim:
    workshop = Workshop(tmp_path_factory.mktemp("kills") / "workshop", epochs=2)
    workshop.furnish()
    return workshop.run("undisturbed").finish()


def test_a_run_that_is_killed_stopped_and_starved_ends_with_the_same_bits(undisturbed: Victim) -> None:
    """Where a platform lacks a way to stop a process so, the others are tried."""
    stops = [("kill", "write"), ("terminate", "step"), ("full-disk", "write"), ("interrupt", "write"), ("kill", "step")]
    possible = [(way, moment) for way, moment in stops if way in WAYS]
    tally = disturb("disturbed", undisturbed, possible, random.Random(1))
    assert tally.stops == len(possible) >= 2
    assert tally.in_write >= 1
    assert tally.files >= 4
    assert tally.runs >= 1


def test_a_run_that_cannot_even_write_its_process_id_says_so(undisturbed: Victim) -> None:
    resource = pytest.importorskip("resource", reason="only POSIX systems limit the size of files")
    before = {path.name: path.read_bytes() for path in undisturbed.directory.path.iterdir() if path.name != ".lock"}
    process = undisturbed.start(preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0)))
    said = process.communicate(timeout=300)[1]
    assert process.returncode == 4, said
    assert "cannot be written: File too large" in said
    assert "Traceback" not in said
    after = {path.name: path.read_bytes() for path in undisturbed.directory.path.iterdir() if path.name != ".lock"}
    assert after == before
