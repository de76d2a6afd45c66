"""Files that are whole at every moment, and a disk that refuses. Light: standard library only."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from timellm_cli.errors import ModelError

TEMPORARY = ".*.tmp"
"""Pattern of the names that `replacing` writes to; a killed process may leave one behind."""


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file to write; when the block ends well it takes the place of `path` in one move, else nothing has changed.

    Raises OSError where the disk refuses.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        _move(temporary, path)
        _sync_directory(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def disk_faults_of(path: Path) -> Iterator[None]:
    """Turn the disk's refusal to write a file of a run into a ModelError that says how to go on."""
    try:
        yield
    except OSError as error:
        raise ModelError(
            f"'{path}' cannot be written: {error.strerror or error}",
            "free some disk space, then go on with --resume auto; the checkpoints written before are intact",
        ) from None


def _move(temporary: Path, path: Path) -> None:
    """On Windows a file that someone reads (an evaluation, a virus scanner) cannot be replaced for a moment."""
    for pause in (0.05, 0.2, 0.5, 1.0):
        try:
            temporary.replace(path)
        except PermissionError:
            if os.name != "nt":
                raise
            time.sleep(pause)
        else:
            return
    temporary.replace(path)


def _sync_directory(folder: Path) -> None:
    """Make the rename itself survive a power cut; Windows cannot open folders and does not need it."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
