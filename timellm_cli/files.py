"""Files that are whole at every moment, and a disk that refuses. Light: standard library only.

Where downloaded things lie. Light.

The cache follows the platform's habit (platformdirs) and moves with the environment variable TIMELLM_CACHE.

Files that the user asked for by name: whether they can be written, before any work is done, and when they are.
"""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import platformdirs

from timellm_cli.errors import ConfigError, ModelError

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


def cache_directory() -> Path:
    """The root of everything `timellm fetch` keeps."""
    return Path(os.environ.get("TIMELLM_CACHE") or platformdirs.user_cache_dir("timellm", appauthor=False))


def data_directory() -> Path:
    """Dataset files, `NAME.csv`."""
    return cache_directory() / "data"


def llm_directory() -> Path:
    """LLMs that do not come from a hub, one folder each."""
    return cache_directory() / "llms"


def prepared_directory() -> Path:
    """What was prepared of LLMs for faster starts, one folder each; it may be deleted at any time."""
    return cache_directory() / "prepared"


def check_target(flag: str, path: Path, inputs: tuple[Path, ...] = ()) -> None:
    """Raise ConfigError where `path` is a folder, lies in none, or is one of the inputs."""
    if path.is_dir():
        raise ConfigError(f"{flag} {path} is a folder", "give the path of a file in it")
    if not path.parent.is_dir():
        raise ConfigError(f"{flag} {path}: there is no folder '{path.parent}'", "make the folder first")
    if path.resolve() in [taken.resolve() for taken in inputs]:
        raise ConfigError(f"{flag} {path} is the input itself, which would be lost", "give another path")


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn the disk's refusal into a ConfigError."""
    try:
        yield
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}", "give another path") from None
