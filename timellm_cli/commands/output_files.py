"""Files that the user asked for by name: whether they can be written, before any work is done, and when they are."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from timellm_cli.errors import ConfigError


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
