"""One thing that is wrong: how right files are spoilt, what is run on them, and what must come of it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

Spoil = Callable[[Path], None]
"""Changes files in a folder that holds `data.csv`, `llm/` and `best.pt`, all of them right."""

INSPECT = ("inspect", "--dataset", "custom", "--data-path", "data.csv", "--llm", "llm")
TRAIN = ("train", "--dataset", "custom", "--data-path", "data.csv", "--llm", "llm", "--device", "cpu")
SMALL = ("--seq-len", "48", "--pred-len", "12", "--d-model", "8", "--d-ff", "8", "--n-heads", "2", "--layers", "2")
SHORT = ("--num-prototypes", "20", "--max-steps", "1", "--run-name", "run")


@dataclass(frozen=True)
class Case:
    """`words` must all stand in what is printed on stderr or, for `inspect`, on stdout."""

    name: str
    command: tuple[str, ...]
    code: int
    words: tuple[str, ...]
    spoil: Spoil = lambda folder: None


def nothing(folder: Path) -> None:
    """Leaves all as it is."""


def write(name: str, content: str | bytes) -> Spoil:
    """Puts a file of this content there."""

    def spoil(folder: Path) -> None:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)

    return spoil


def replace(name: str, old: str, new: str, count: int = 1) -> Spoil:
    """Replaces text in a file, which must be there."""

    def spoil(folder: Path) -> None:
        path = folder / name
        text = path.read_text(encoding="utf-8")
        assert old in text, f"{old} is not in {name}"
        path.write_text(text.replace(old, new, count), encoding="utf-8")

    return spoil


def cut(name: str, share: float) -> Spoil:
    """Keeps the first part of a file."""

    def spoil(folder: Path) -> None:
        path = folder / name
        content = path.read_bytes()
        path.write_bytes(content[: int(len(content) * share)])

    return spoil


def remove(name: str) -> Spoil:
    """Takes a file away."""
    return lambda folder: (folder / name).unlink()


def both(*spoils: Spoil) -> Spoil:
    """One after the other."""

    def spoil(folder: Path) -> None:
        for one in spoils:
            one(folder)

    return spoil
