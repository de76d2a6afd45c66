"""How far a download is: a bar on a terminal, now and then a plain line elsewhere. Writes to stderr only. Light."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn
from rich.text import Text

from timellm_cli.units import format_memory

SECONDS_BETWEEN_LINES = 10.0


def say(text: str) -> None:
    """One line about what happens now."""
    Console(stderr=True).print(Text(text), soft_wrap=True)


def on_terminal() -> bool:
    """Whether a person watches stderr."""
    return Console(stderr=True).is_terminal


@contextmanager
def download_progress(name: str, total: int) -> Iterator[Callable[[int], None]]:
    """Shows a download of `total` bytes; call the yielded function with the bytes received so far."""
    if not on_terminal():
        yield _plain_lines(name, total)
        return
    sizes = DownloadColumn(binary_units=True)
    columns = (TextColumn("{task.description}"), BarColumn(), sizes, TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(f"Downloading {name}", total=total)
        yield lambda received: bar.update(task, completed=min(received, total))


def _plain_lines(name: str, total: int) -> Callable[[int], None]:
    say(f"Downloading {name} ({format_memory(total)})")
    last = time.monotonic()

    def update(received: int) -> None:
        nonlocal last
        if time.monotonic() - last >= SECONDS_BETWEEN_LINES:
            last = time.monotonic()
            say(f"Downloading {name}: {format_memory(received)} of {format_memory(total)}")

    return update
