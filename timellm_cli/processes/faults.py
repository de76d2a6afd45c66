"""What went wrong in each of the processes that `launch` started, as a file each. Light."""

import os
from pathlib import Path

FOLDER = "TIMELLM_FAULTS"
_LOSS = "lost"


def report_fault(text: str) -> bool:
    """Leave a message for the launcher, which prints it unless the first process has the same. False without one."""
    folder = os.environ.get(FOLDER)
    if folder is None:
        return False
    (Path(folder) / os.environ["RANK"]).write_text(text, encoding="utf-8")
    return True


def read_faults(folder: Path, processes: int) -> list[str]:
    """The messages of the processes but the first, without what the first one has said, each once."""
    files = [folder / str(rank) for rank in range(processes)]
    texts = [file.read_text(encoding="utf-8") if file.is_file() else "" for file in files]
    other = {text: rank for rank, text in reversed(list(enumerate(texts))) if text and text != texts[0] and rank}
    return [f"process {rank} of {processes}: {text}" for text, rank in sorted(other.items(), key=lambda item: item[1])]


def report_loss(folder: Path, text: str) -> None:
    """The launcher says that a process has ended, which a GPU waits for without an end."""
    (folder / _LOSS).write_text(text, encoding="utf-8")


def read_loss() -> str | None:
    """What the launcher said of a process that has ended."""
    folder = os.environ.get(FOLDER)
    file = Path(folder) / _LOSS if folder else None
    return file.read_text(encoding="utf-8") if file and file.is_file() else None
