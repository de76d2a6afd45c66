"""Disks that are full from some moment on, and free again afterwards."""

import os
import random
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.faults.victim import Victim

_BALLAST = "ballast"


def refuse_writes(victim: Victim, process: "subprocess.Popen[str]", chance: random.Random) -> None:
    """Let no file of a process grow beyond a limit from now on (Linux): small files fail, or only checkpoints do."""
    import resource

    limit = chance.choice((0, 0, 1_000, 10_000))
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))


@contextmanager
def small_disk(folder: Path, size: str = "256m") -> Iterator[None]:
    """A disk of its own at `folder` (Linux, as root), of the size that a training asks for before it starts."""
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", folder], check=True)


def fill(victim: Victim, process: "subprocess.Popen[str]", chance: random.Random) -> None:
    """Fill a run's disk, except for less than a checkpoint needs."""
    with (victim.directory.path.parent / _BALLAST).open("wb", buffering=0) as file:
        while _took_more(file.fileno()):
            pass
        file.truncate(max(os.fstat(file.fileno()).st_size - chance.choice((0, 0, 4_096, 40_960)), 0))


def free_disk(victim: Victim) -> None:
    """Undo `fill`."""
    (victim.directory.path.parent / _BALLAST).unlink(missing_ok=True)


def _took_more(descriptor: int) -> bool:
    try:
        return os.write(descriptor, bytes(2**20)) > 0  # fewer bytes where fewer fit
    except OSError:
        return False
