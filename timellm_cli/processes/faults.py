"""What went wrong in each of the processes that `launch` started, as a file each. Light."""

import os
from pathlib import Path

FOLDER = "TIMELLM_FAULTS"


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
