"""How far a download is: a bar on a terminal, now and then a plain line elsewhere. Writes to stderr only. Light."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from timellm_cli.console import err, say, say_now_and_then
from timellm_cli.units import format_memory


@contextmanager
def download_progress(name: str, total: int) -> Iterator[Callable[[int], None]]:
    """Shows a download of `total` bytes; call the yielded function with the bytes received so far."""
    if not err.is_terminal:
        say(f"Downloading {name} ({format_memory(total)})")
        yield say_now_and_then(
            lambda received: f"Downloading {name}: {format_memory(received)} of {format_memory(total)}"
        )
        return
    sizes = DownloadColumn(binary_units=True)
    columns = (TextColumn("{task.description}"), BarColumn(), sizes, TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err, transient=True) as bar:
        task = bar.add_task(f"Downloading {name}", total=total)
        yield lambda received: bar.update(task, completed=min(received, total))
