"""How far scoring is: a bar on a terminal, now and then a plain line elsewhere. Writes to stderr only. Light."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from timellm_cli.console import err, say_now_and_then


@contextmanager
def scoring_progress(name: str, samples: int) -> Iterator[Callable[[int], None]]:
    """Shows how many of `samples` samples are scored; call the yielded function with the number of each batch."""
    if not err.is_terminal:
        yield _summing(say_now_and_then(lambda done: f"Scoring {name}: {done:,} of {samples:,} samples"))
        return
    columns = (TextColumn("Scoring {task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err, transient=True) as bar:
        task = bar.add_task(name.replace("[", r"\["), total=samples)
        yield lambda scored: bar.advance(task, scored)


def _summing(update: Callable[[int], None]) -> Callable[[int], None]:
    done = 0

    def add(scored: int) -> None:
        nonlocal done
        done += scored
        update(done)

    return add
