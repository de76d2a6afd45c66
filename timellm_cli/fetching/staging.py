"""A place to build things beside the cache, so that what lies in the cache is always whole. Light.

Everything is built in a folder of its own on the cache's file system and renamed into place at the end. A lock by name,
which the operating system drops with the process, makes a second fetch of the same thing wait; whoever holds it
knows that anything left in that name's folder is debris.
"""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from timellm_cli.console import say
from timellm_cli.files import cache_directory


def staging_directory() -> Path:
    """Where unfinished downloads lie."""
    return cache_directory() / "staging"


@contextmanager
def staged(name: str) -> Iterator[Path]:
    """An empty folder for building `name`, removed afterwards whatever happens; one process at a time has it."""
    root = staging_directory()
    root.mkdir(parents=True, exist_ok=True)
    lock = _lock_of(name)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        say(f"Another timellm is fetching {name}; waiting for it")
        lock.acquire()
    try:
        _sweep(root / name)
        _sweep_other_debris(name)
        (root / name).mkdir(exist_ok=True)
        yield Path(tempfile.mkdtemp(dir=root / name))
    finally:
        _sweep(root / name)
        lock.release()


def publish(built: Path, destination: Path) -> None:
    """Rename a finished file or folder of the staging folder to where it belongs, replacing what is there."""
    destination.parent.mkdir(parents=True, exist_ok=True)
    if destination.is_dir():
        # A folder cannot be renamed over another one; what lies here was found incomplete.
        destination.replace(built.parent / "replaced")
    built.replace(destination)


def _lock_of(name: str) -> FileLock:
    return FileLock(staging_directory() / f"{name}.lock")


def _sweep(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)


def _sweep_other_debris(name: str) -> None:
    """Remove what killed fetches of other names left; a name whose lock is held is being worked on."""
    for folder in staging_directory().iterdir():
        if folder.is_dir() and folder.name != name:
            lock = _lock_of(folder.name)
            try:
                with lock.acquire(timeout=0):
                    _sweep(folder)
            except Timeout:
                continue
