"""The command line on a slow disk, `python -m tests.faults.slow_disk train ...`: a kill can come amid a write."""

import io
import time
from pathlib import Path
from typing import Any

from timellm_cli.cli import main
from timellm_cli.files import TEMPORARY

PIECE, PAUSE = 2**14, 0.004
"""Bytes written at a time, and seconds before each piece."""


class SlowFile(io.FileIO):
    """A file that takes a piece at a time."""

    def write(self, data: Any) -> int:
        time.sleep(PAUSE)
        return super().write(memoryview(data).cast("B")[:PIECE])


if __name__ == "__main__":
    at_once = Path.open

    def slowly(path: Path, mode: str = "r", *rest: Any, **named: Any) -> Any:
        if mode == "wb" and path.match(TEMPORARY):
            return io.BufferedWriter(SlowFile(path, "w"))
        return at_once(path, mode, *rest, **named)

    Path.open = slowly  # type: ignore[method-assign]
    main()
