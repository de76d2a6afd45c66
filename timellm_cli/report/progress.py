"""Memory in use where a run computes: the GPU's through its driver, or the computer's. Light.

A training as people watch it: bars on a terminal, plain lines elsewhere. Writes to stderr only. Light.

How far scoring is: a bar on a terminal, now and then a plain line elsewhere. Writes to stderr only. Light.
"""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import psutil
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from timellm_cli.console import err, say_now_and_then
from timellm_cli.training.records import (
    BatchHalved,
    BestSoFar,
    CheckpointSaved,
    EpochFinished,
    NoImprovement,
    Record,
    RunFinished,
    RunStarted,
    ScoringStarted,
    StepFinished,
    StepLogged,
)
from timellm_cli.units import GIB, format_count, format_duration


@dataclass(frozen=True)
class MemoryUse:
    """Bytes in use, and bytes there are: of the 'GPU' by everyone, of the 'RAM' by this process."""

    kind: str
    used: int
    total: int

    def __str__(self) -> str:
        return f"{self.kind} {self.used / GIB:.1f} of {self.total / GIB:.1f} GiB"


def memory_reader(gpu_uuid: str | None) -> Callable[[], MemoryUse | None]:
    """Reads the GPU of that identity (None: the RAM) whenever it is called; None where the driver does not answer."""
    if gpu_uuid is None:
        return _read_ram
    import pynvml

    try:
        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByUUID(gpu_uuid)
    except pynvml.NVMLError:
        return lambda: None
    return lambda: _read_gpu(handle)


def _read_ram() -> MemoryUse:
    return MemoryUse("RAM", psutil.Process().memory_info().rss, psutil.virtual_memory().total)


def _read_gpu(handle: Any) -> MemoryUse | None:
    import pynvml

    try:
        memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
    except pynvml.NVMLError:
        return None
    return MemoryUse("GPU", int(memory.used), int(memory.total))


MemoryReader = Callable[[], MemoryUse | None]
_STOPPING = "Stopping after this step; Ctrl-C once more ends at once."


def watch(console: Console, read_memory: MemoryReader) -> "PlainProgress":
    """What suits the console."""
    return LiveProgress(console, read_memory) if console.is_terminal else PlainProgress(console, read_memory)


class PlainProgress:
    """One line for each record that a log file should hold."""

    def __init__(self, console: Console, read_memory: MemoryReader) -> None:
        self._console, self._read_memory = console, read_memory

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def show(self, record: Record) -> None:
        """Show a record."""
        if line := self._line_of(record):
            self._console.print(Text(line), soft_wrap=True)

    def scored(self, samples: int) -> None:
        """So many more samples of the split are scored."""

    def stopping(self) -> None:
        """The user wants the run to stop. Called by a signal handler, so it must not use the console's locks."""
        os.write(sys.stderr.fileno(), f"{_STOPPING}\n".encode())

    def _line_of(self, record: Record) -> str:
        match record:
            case RunStarted(step=step) if step:
                return f"Going on after step {step:,} of {record.total_steps:,}"
            case StepLogged():
                parts = [
                    f"iters: {record.step}, epoch: {record.epoch}",
                    f"loss: {record.loss:.4f}",
                    f"lr {record.learning_rate:.2e}",
                    f"{record.samples_per_second:.1f} samples/s",
                    f"left {format_duration(record.seconds_left)}",
                    *self._machine(record.gpu_busy),
                ]
                return " | ".join(parts)
            case _:
                return milestone(record)

    def _machine(self, gpu_busy: float | None) -> list[str]:
        """What the memory holds, and the share of the time in which the GPU computes, where they are known."""
        memory = self._read_memory()
        busy = f"computing {gpu_busy:.0%}" if gpu_busy is not None else ""
        return [part for part in (str(memory or ""), busy) if part]


class LiveProgress(PlainProgress):
    """Two bars, for the run and for the epoch (or the split that is scored), and the figures of the last step below."""

    def __init__(self, console: Console, read_memory: MemoryReader) -> None:
        super().__init__(console, read_memory)
        self._started: RunStarted | None = None
        self._step: StepFinished | None = None
        self._scoring: ScoringStarted | None = None
        self._scored = 0
        self._gpu_busy: float | None = None
        self._is_stopping = False
        self._live = Live(get_renderable=self._render, console=console, refresh_per_second=4, transient=True)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def show(self, record: Record) -> None:
        """Move the bars, or print the line above them."""
        match record:
            case RunStarted():
                self._started = record
            case StepFinished():
                self._step, self._scoring = record, None
            case StepLogged():
                self._gpu_busy = record.gpu_busy
            case ScoringStarted():
                self._scoring, self._scored = record, 0
            case _ if line := milestone(record):
                self._console.print(Text(line))

    def scored(self, samples: int) -> None:
        """Move the bar of the split that is scored."""
        self._scored += samples

    def stopping(self) -> None:
        """Say so with the next refresh."""
        self._is_stopping = True

    def _render(self) -> RenderableType:
        run, step = self._started, self._step
        if run is None:
            return Text("")
        bars = Table.grid(padding=(0, 1), expand=True)
        bars.add_column(no_wrap=True)
        bars.add_column(ratio=1)
        bars.add_column(justify="right", no_wrap=True)
        epoch = step.epoch if step else min(run.epoch + 1, run.epochs)
        done = step.step if step else run.step
        bars.add_row("epoch", ProgressBar(run.total_steps, done), f"{epoch}/{run.epochs}")
        if self._scoring:
            samples = self._scoring.samples
            bars.add_row(self._scoring.split, ProgressBar(samples, self._scored), f"{self._scored:,}/{samples:,}")
        else:
            position = step.step_in_epoch if step else run.step - run.epoch * run.steps_per_epoch
            bars.add_row("step", ProgressBar(run.steps_per_epoch, position), f"{position:,}/{run.steps_per_epoch:,}")
        return Group(bars, Text(_STOPPING, style="yellow") if self._is_stopping else self._figures(step))

    def _figures(self, step: StepFinished | None) -> Text:
        parts = []
        if step:
            parts += [
                f"loss {step.loss:.4f}",
                f"lr {step.learning_rate:.2e}",
                f"{step.samples_per_second:.1f} samples/s",
            ]
        parts += self._machine(self._gpu_busy)
        if step:
            parts.append(f"left {format_duration(step.seconds_left)}")
        return Text("  ".join(parts), style="cyan")


def milestone(record: Record) -> str:
    """The line of what happens seldom; empty for the rest."""
    match record:
        case EpochFinished():
            return (
                f"Epoch: {record.epoch} | train loss: {record.train_loss:.4f} | val loss: {record.val_loss:.4f} | "
                f"val MAE: {record.val_mae:.4f} | test loss: {record.test_loss:.4f} | test MAE: {record.test_mae:.4f}"
            )
        case BestSoFar():
            return f"Validation loss decreased ({record.before:.6f} --> {record.now:.6f}). Saving model ..."
        case NoImprovement():
            limit = f" of {record.patience}" if record.patience else ""
            return f"No lower validation loss for {record.epochs}{limit} epochs (best: {record.best:.6f})"
        case CheckpointSaved(path=path) if path.name.startswith("step-"):
            return f"Saved {path.name}"
        case RunFinished():
            return f"Finished: {record.reason}"
        case _:
            return _shortage(record) if isinstance(record, BatchHalved) else ""


def _shortage(record: BatchHalved) -> str:
    now = f"{format_count(record.samples, 'sample')} at a time"
    if record.during == "step":
        return (
            f"The GPU's memory did not do for step {record.step:,}: it was repeated, and steps go on, with {now}; "
            "batches and updates stay as they are"
        )
    return f"The GPU's memory did not do for scoring: it goes on with {now}, which changes no figure"


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
