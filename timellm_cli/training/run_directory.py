"""The folder of one run, `checkpoints/<run name>/`: its files, and the lock that lets one training write to it.

The operating system drops the lock when the process ends, however it ends, so a lock is never stale. It is a POSIX
record lock and not a `flock`, which worker processes would keep for seconds after the main process was killed.
"""

import errno
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import tomli_w

from timellm_cli.config import Config
from timellm_cli.errors import ConfigError, ModelError, listed
from timellm_cli.files import TEMPORARY, disk_faults_of, replacing
from timellm_cli.planning.run_name import run_name
from timellm_cli.settings import to_toml_values


@dataclass(frozen=True)
class RunDirectory:
    """The paths of a run's files."""

    path: Path

    @classmethod
    def of(cls, config: Config) -> "RunDirectory":
        """The folder a configuration names."""
        return cls(config.run.directory / run_name(config))

    @property
    def best(self) -> Path:
        """The weights of the best epoch, without training state."""
        return self.path / "best.pt"

    @property
    def last(self) -> Path:
        """The newest state, to continue from."""
        return self.path / "last.pt"

    @property
    def metrics(self) -> Path:
        """What happened: one JSON object a line."""
        return self.path / "metrics.jsonl"

    @property
    def curves(self) -> Path:
        """The picture of the losses."""
        return self.path / "curves.png"

    def step(self, step: int) -> Path:
        """The checkpoint that `save_steps` writes after step `step`."""
        return self.path / f"step-{step}.pt"

    def step_checkpoints(self) -> list[tuple[int, Path]]:
        """Steps and paths of the step checkpoints, oldest first."""
        named = ((re.fullmatch(r"step-(\d+)\.pt", path.name), path) for path in self.path.glob("step-*.pt"))
        return sorted((int(match[1]), path) for match, path in named if match)

    def newest_checkpoint(self) -> Path | None:
        """What `--resume auto` continues from."""
        if self.last.is_file():
            return self.last
        steps = self.step_checkpoints()
        return steps[-1][1] if steps else None

    def holds_a_run(self) -> bool:
        """Whether there is a checkpoint that a new run would overwrite."""
        return self.best.is_file() or self.newest_checkpoint() is not None

    def create(self) -> None:
        """Make the folder. Raises ConfigError where it cannot be made."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(
                f"the run's folder '{self.path}' cannot be made: {error.strerror}",
                "choose another one with --checkpoints",
            ) from None

    def sweep(self) -> None:
        """Remove the half-written files of a killed process. The caller holds the folder's lock."""
        for path in self.path.glob(TEMPORARY):
            path.unlink(missing_ok=True)

    def write_config(self, config: Config) -> None:
        """Write the resolved configuration as TOML that `--config` reads."""
        path = self.path / "config.toml"
        with disk_faults_of(path), replacing(path) as file:
            tomli_w.dump(to_toml_values(config), file)

    def keep_newest(self, limit: int) -> None:
        """Remove all but the newest `limit` step checkpoints."""
        for _, path in self.step_checkpoints()[:-limit]:
            path.unlink(missing_ok=True)

    def make_last(self, checkpoint: Path) -> None:
        """Copy a checkpoint to last.pt, which may be of a later step."""
        if checkpoint.resolve() != self.last.resolve():
            with disk_faults_of(self.last), checkpoint.open("rb") as source, replacing(self.last) as file:
                shutil.copyfileobj(source, file)

    def remove_after(self, step: int) -> list[Path]:
        """Remove the step checkpoints after `step`, which a run that continues from there writes again."""
        removed = [path for number, path in self.step_checkpoints() if number > step]
        for path in removed:
            path.unlink(missing_ok=True)
        return removed


def require_checkpoint(path: Path) -> None:
    """Raise ModelError where there is no file of that name."""
    if not path.exists():
        raise ModelError(f"checkpoint '{path}' not found", nearby_checkpoints(path))
    if path.is_dir():
        raise ModelError(f"'{path}' is a folder, not a checkpoint", nearby_checkpoints(path / "any"))


def nearby_checkpoints(path: Path) -> str:
    """What a user may have meant: the checkpoints in that folder, or below it."""
    folder = path.parent
    found = sorted(folder.glob("*.pt")) or sorted(folder.glob("*/*.pt"))
    others = [str(other) for other in found if other != path]
    if not others:
        return "give the path of a file such as checkpoints/RUN/best.pt"
    return f"checkpoints nearby: {listed(others, 6)}"


LOCK_NAME = ".lock"
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)
_LOCKED_BYTE = 2**20  # Windows forbids others to read a locked byte; this one lies behind the process id


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Lock the folder, and remove it at the end if nothing was written to it.

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
    """Called while the lock is held, so that no other process holds it. On Windows the open file keeps the folder."""
    with suppress(OSError):
        if [path.name for path in folder.iterdir()] == [LOCK_NAME]:
            (folder / LOCK_NAME).unlink()
            folder.rmdir()


def _try_lock(descriptor: int) -> bool:
    """False where another process holds the lock. A file system without locks ends no training."""
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
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
    return True
