"""How far scoring is: a bar on a terminal, now and then a plain line elsewhere. Writes to stderr only. Light."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

_SECONDS_BETWEEN_LINES = 10.0


@contextmanager
def scoring_progress(console: Console, name: str, samples: int) -> Iterator[Callable[[int], None]]:
    """Shows how many of `samples` samples are scored; call the yielded function with the number of each batch."""
    if not console.is_terminal:
        yield _plain_lines(console, name, samples)
        return
    columns = (TextColumn("Scoring {task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(name.replace("[", r"\["), total=samples)
        yield lambda scored: bar.advance(task, scored)


def _plain_lines(console: Console, name: str, samples: int) -> Callable[[int], None]:
    done, last = 0, time.monotonic()

    def update(scored: int) -> None:
        nonlocal done, last
        done += scored
        if time.monotonic() - last >= _SECONDS_BETWEEN_LINES:
            last = time.monotonic()
            console.print(Text(f"Scoring {name}: {done:,} of {samples:,} samples"), soft_wrap=True)

    return update
