"""How far training and scoring are: bars on a terminal, plain lines elsewhere, and the memory in use. Light.

Everything goes to stderr.
"""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Self

import psutil
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from timellm_cli.console import err, in_language, say_now_and_then, translated
from timellm_cli.training import records
from timellm_cli.units import GIB, format_count, format_duration


@dataclass(frozen=True)
class MemoryUse:
    """Bytes in use and in all. `kind` is 'GPU', used by every process on it, or 'RAM', used by this process alone."""

    kind: str
    used: int
    total: int

    def __str__(self) -> str:
        return f"{self.kind} {self.used / GIB:.1f} of {self.total / GIB:.1f} GiB"


MemoryReader = Callable[[], MemoryUse | None]


def memory_reader(gpu_uuid: str | None) -> MemoryReader:
    """A function that reads the memory of that GPU, or the RAM (None). It returns None where the driver fails."""
    if gpu_uuid is None:
        return lambda: MemoryUse("RAM", psutil.Process().memory_info().rss, psutil.virtual_memory().total)
    import pynvml

    try:
        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByUUID(gpu_uuid)
    except pynvml.NVMLError:
        return lambda: None

    def read_gpu() -> MemoryUse | None:
        try:
            memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
        except pynvml.NVMLError:
            return None
        return MemoryUse("GPU", int(memory.used), int(memory.total))

    return read_gpu


_STOPPING = "Stopping after this step; Ctrl-C once more ends at once."


def watch(console: Console, read_memory: MemoryReader) -> "PlainProgress":
    """Bars for a terminal, plain lines for anything else."""
    return LiveProgress(console, read_memory) if console.is_terminal else PlainProgress(console, read_memory)


class PlainProgress:
    """One line for each record that belongs in a log file."""

    def __init__(self, console: Console, read_memory: MemoryReader) -> None:
        self._console, self._read_memory = console, read_memory
        self._stopping_line = f"{translated(_STOPPING)}\n".encode(console.encoding, "replace")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def show(self, record: records.Record) -> None:
        """Print the line of the record, if it has one."""
        if line := self._line_of(record):
            self._console.print(Text(line), soft_wrap=True)

    def scored(self, samples: int) -> None:
        """`samples` more samples of the split are scored."""

    def stopping(self) -> None:
        """The user asked the run to stop. A signal handler calls this, so it must not use the console's locks."""
        with suppress(OSError):  # the terminal may be gone, which is why the run stops
            os.write(sys.stderr.fileno(), self._stopping_line)

    def _line_of(self, record: records.Record) -> str:
        match record:
            case records.RunStarted():
                return continuing(record)
            case records.StepLogged():
                where = f"iters: {record.step}, epoch: {record.epoch}"
                return " | ".join([where, *_figures(record), *self._machine(record.gpu_busy)])
            case _:
                return milestone(record)

    def _machine(self, gpu_busy: float | None) -> list[str]:
        """The memory in use, and the share of the time in which the GPU computes, where they are known."""
        memory = self._read_memory()
        busy = f"computing {gpu_busy:.0%}" if gpu_busy is not None else ""
        return [part for part in (str(memory or ""), busy) if part]


class LiveProgress(PlainProgress):
    """Two bars, for the run and for the epoch (or the split that is scored), and the figures of the last step below."""

    def __init__(self, console: Console, read_memory: MemoryReader) -> None:
        super().__init__(console, read_memory)
        self._started: records.RunStarted | None = None
        self._step: records.StepFinished | None = None
        self._scoring: records.ScoringStarted | None = None
        self._scored = 0
        self._gpu_busy: float | None = None
        self._is_stopping = False
        self._live = Live(
            get_renderable=lambda: in_language(self._render()), console=console, refresh_per_second=4, transient=True
        )

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def show(self, record: records.Record) -> None:
        """Move the bars, or print the line above them."""
        match record:
            case records.RunStarted():
                self._started = record
                if line := continuing(record):
                    self._console.print(Text(line))
            case records.StepFinished():
                self._step, self._scoring = record, None
            case records.StepLogged():
                self._gpu_busy = record.gpu_busy
            case records.ScoringStarted():
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

    def _figures(self, step: records.StepFinished | None) -> Text:
        parts = _figures(step) if step else []
        parts[3:3] = self._machine(self._gpu_busy)
        return Text("  ".join(parts), style="cyan")


def _figures(step: records.StepLogged | records.StepFinished) -> list[str]:
    """Loss, learning rate, speed and the time that is left."""
    return [
        f"loss: {step.loss:.4f}",
        f"lr {step.learning_rate:.2e}",
        f"{step.samples_per_second:.1f} samples/s",
        f"left {format_duration(step.seconds_left)}",
    ]


def continuing(record: records.RunStarted) -> str:
    """The line of a run that goes on; empty for a new one."""
    return f"Continuing after step {record.step:,} of {record.total_steps:,}" if record.step else ""


def milestone(record: records.Record) -> str:
    """The line of a record that is rare; empty for the rest."""
    line = ""
    match record:
        case records.EpochFinished():
            errors = (
                f"val loss: {record.val_loss:.4f} | val MAE: {record.val_mae:.4f} | "
                f"test loss: {record.test_loss:.4f} | test MAE: {record.test_mae:.4f}"
            )
            line = f"Epoch: {record.epoch} | untrained | {errors}"
            if record.train_loss is not None:
                line = f"Epoch: {record.epoch} | train loss: {record.train_loss:.4f} | {errors}"
        case records.BestSoFar():
            line = f"Validation loss decreased ({record.before:.6f} --> {record.now:.6f}). Saving model ..."
        case records.NoImprovement():
            line = f"No lower validation loss for {record.epochs} epochs (best: {record.best:.6f})"
            if record.patience:
                line = (
                    f"No lower validation loss for {record.epochs} of {record.patience} epochs "
                    f"(best: {record.best:.6f})"
                )
        case records.CheckpointSaved(path=path) if path.name.startswith("step-"):
            line = f"Saved {path.name}"
        case records.RunFinished():
            line = f"Finished: {record.reason}"
        case records.BatchHalved():
            pieces = f"{format_count(record.samples, 'sample')} at a time"
            line = f"The GPU was out of memory in scoring, which continues with {pieces}; no figure changes"
            if record.during == "step":
                line = (
                    f"The GPU was out of memory in step {record.step:,}: the step was repeated with {pieces}, and "
                    "training continues like that; batches and updates stay the same"
                )
    return line


@contextmanager
def scoring_progress(
    name: str, samples: int, verb: str = "Scoring", noun: str = "samples"
) -> Iterator[Callable[[int], None]]:
    """Show how many of `samples` samples are scored. Call the yielded function with the number of each batch."""
    if not err.is_terminal:
        done, update = 0, say_now_and_then(lambda done: f"{verb} {name}: {done:,} of {samples:,} {noun}")

        def add(scored: int) -> None:
            nonlocal done
            done += scored
            update(done)

        yield add
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=err, transient=True) as bar:
        task = bar.add_task(translated(f"{verb} {name}"), total=samples)
        yield lambda scored: bar.advance(task, scored)
