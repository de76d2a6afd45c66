"""Writing files: where the cache is, replacing a file as a whole, and checking paths that a user gives. Light."""

import os
import stat
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

import platformdirs

from timellm_cli.errors import ConfigError, ModelError

TEMPORARY = ".*.tmp"
"""Pattern of the names that `replacing` writes to. A killed process may leave such a file behind."""


def cache_directory() -> Path:
    """The root of everything that is fetched or prepared: TIMELLM_CACHE, else the platform's usual folder."""
    return Path(os.environ.get("TIMELLM_CACHE") or platformdirs.user_cache_dir("timellm", appauthor=False))


def data_directory() -> Path:
    """Dataset files, `NAME.csv`."""
    return cache_directory() / "data"


def llm_directory() -> Path:
    """LLMs that do not come from a hub, one folder each."""
    return cache_directory() / "llms"


def prepared_directory() -> Path:
    """What was prepared of LLMs for faster starts, one folder each. It may be deleted at any time."""
    return cache_directory() / "prepared"


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file to write that replaces `path` in one move when the block ends; an exception leaves `path` as it was.

    A link stays, and its target is replaced; the mode of an existing file stays. A device or a pipe is opened and
    written. Raises OSError where the disk refuses.
    """
    target = path.resolve()
    if _is_special(path):
        with path.open("wb") as file:
            yield file
        return
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if target.exists():
            temporary.chmod(stat.S_IMODE(target.stat().st_mode))
        _move(temporary, target)
        _sync_directory(target.parent)
    finally:
        temporary.unlink(missing_ok=True)


def _is_special(path: Path) -> bool:
    """Whether `path` is a device or a pipe, or names one, such as /dev/stdout even where that is a file."""
    return path.absolute().parts[1:2] in (("dev",), ("proc",)) or (path.exists() and not path.is_file())


def _move(temporary: Path, path: Path) -> None:
    """Windows cannot replace a file while another program, such as a virus scanner, reads it: try again."""
    for pause in (0.05, 0.2, 0.5, 1.0) if os.name == "nt" else ():
        try:
            temporary.replace(path)
            return
        except PermissionError:
            time.sleep(pause)
    temporary.replace(path)


def _sync_directory(folder: Path) -> None:
    """Make the move itself survive a power cut. Windows cannot open folders and does not need it."""
    if os.name == "posix":
        with suppress(OSError):  # some network file systems have no fsync of a folder; the file itself is whole
            descriptor = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


@contextmanager
def disk_faults_of(path: Path) -> Iterator[None]:
    """Turn an OSError about a file of a run into a ModelError that says how to continue the run."""
    try:
        yield
    except OSError as error:
        raise ModelError(
            f"'{path}' cannot be written: {error.strerror or error}",
            "free some disk space, then continue with --resume auto; the checkpoints written before are intact",
        ) from None


def check_target(flag: str, path: Path, inputs: Iterable[Path] = (), outputs: Iterable[Path | None] = ()) -> None:
    """Raise ConfigError where an output path is a folder, has no folder, or is an input or another output."""
    if path.is_dir():
        raise ConfigError(f"{flag} {path} is a folder", "give the path of a file in it")
    if not path.parent.is_dir():
        raise ConfigError(f"{flag} {path}: there is no folder '{path.parent}'", "make the folder first")
    if path.resolve() in [source.resolve() for source in inputs]:
        raise ConfigError(f"{flag} {path} is an input, which would be lost", "give another path")
    if not _is_special(path) and path.resolve() in [other.resolve() for other in outputs if other]:
        raise ConfigError(f"{flag} {path} is named for another output, too", "give each output a path of its own")


def check_folder(flag: str, path: Path, inputs: Iterable[Path] = ()) -> None:
    """Raise ConfigError where an output folder is a file, has no folder to be made in, or is an input."""
    if path.exists() and not path.is_dir():
        raise ConfigError(f"{flag} {path} is a file, but several files are to be written", "give the path of a folder")
    check_target(flag, path / "a file" if path.is_dir() else path)
    if path.resolve() in [source.resolve() for source in inputs]:
        raise ConfigError(f"{flag} {path} is the input, whose files would be lost", "give another folder")


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn an OSError about an output path that the user gave into a ConfigError."""
    try:
        yield
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}", "give another path") from None
