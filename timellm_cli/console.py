"""The two streams: results on stdout, progress and notes on stderr. Light.

Rich's markup is off, because names of files and columns may hold brackets and colons.
"""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.text import Text

from timellm_cli.units import format_memory

out = Console(markup=False, emoji=False, highlight=False)
err = Console(stderr=True, markup=False, emoji=False, highlight=False)

_SECONDS_BETWEEN_LINES = 10.0


def print_json(content: dict[str, Any]) -> None:
    """The one object that `--json` promises, on stdout."""
    print(json.dumps(content, indent=2, ensure_ascii=False))


def say(text: str) -> None:
    """One line about what happens now, on stderr."""
    err.print(Text(text), soft_wrap=True)


def print_note(note: str) -> None:
    """What a reader of the results must know, on stderr."""
    err.print(Text(f"note: {note}", style="yellow"), soft_wrap=True)


def say_now_and_then(sentence: Callable[[int], str]) -> Callable[[int], None]:
    """Replaces a bar where stderr is no terminal: call the result with each count; it says one every 10 seconds."""
    last = time.monotonic()

    def update(count: int) -> None:
        nonlocal last
        if time.monotonic() - last >= _SECONDS_BETWEEN_LINES:
            last = time.monotonic()
            say(sentence(count))

    return update


@contextmanager
def download_progress(name: str, size: int) -> Iterator[Callable[[int], None]]:
    """Shows a download of `size` bytes: a bar on a terminal, elsewhere a line now and then.

    Call the yielded function with the bytes received so far.
    """
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    title = f"Downloading {name}"
    if not err.is_terminal:
        say(f"{title} ({format_memory(size)})")
        yield say_now_and_then(lambda received: f"{title}: {format_memory(received)} of {format_memory(size)}")
        return
    sizes = DownloadColumn(binary_units=True)
    columns = (TextColumn("{task.description}"), BarColumn(), sizes, TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err, transient=True) as bar:
        task = bar.add_task(title, total=size)
        yield lambda received: bar.update(task, completed=min(received, size))
