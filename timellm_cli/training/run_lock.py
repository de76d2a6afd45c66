"""One training at a time in a run's folder.

The operating system drops the lock with the process, however it ends, so a lock can never be stale. POSIX record locks
rather than `flock`: those would live on in loader processes that outlast a killed main process by seconds.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from timellm_cli.errors import ConfigError
from timellm_cli.files import disk_faults_of

LOCK_NAME = ".lock"
_LOCKED_BYTE = 2**20  # Windows forbids others to read a locked byte; this one lies behind the process id


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the folder, and remove it if nothing was put there.

    Raises ConfigError naming the process that holds it, and ModelError where the disk refuses.
    """
    with disk_faults_of(folder / LOCK_NAME):
        descriptor = os.open(folder / LOCK_NAME, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        if not _try_lock(descriptor):
            holder = os.read(descriptor, 20).decode("ascii", errors="replace").strip() or "unknown"
            raise ConfigError(
                f"another training, process {holder}, is writing to '{folder}'",
                "wait for it or stop it; another --run-name gets a folder of its own",
            )
        try:
            with disk_faults_of(folder / LOCK_NAME):
                os.ftruncate(descriptor, 0)
                os.write(descriptor, str(os.getpid()).encode("ascii"))
            yield
        finally:
            _remove_if_unused(folder)
    finally:
        os.close(descriptor)


def _remove_if_unused(folder: Path) -> None:
    """While the lock is held, lest another process has just taken it; Windows keeps the open file, and the folder."""
    with suppress(OSError):
        if [path.name for path in folder.iterdir()] == [LOCK_NAME]:
            (folder / LOCK_NAME).unlink()
            folder.rmdir()


def _try_lock(descriptor: int) -> bool:
    try:
        if os.name == "nt":
            import msvcrt

            os.lseek(descriptor, _LOCKED_BYTE, os.SEEK_SET)
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]
            os.lseek(descriptor, 0, os.SEEK_SET)
        else:
            import fcntl

            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        os.lseek(descriptor, 0, os.SEEK_SET)
        return False
    return True
