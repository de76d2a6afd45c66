"""The lines before a training, the best epoch's errors after it, and the table of several runs. Light."""

import os
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from timellm_cli.config import Config, LLMConfig
from timellm_cli.console import as_is, print_command, print_lines, translated
from timellm_cli.counts import RunCounts
from timellm_cli.llm_files import NO_LLM
from timellm_cli.planning.llm_shape import look_up_llm
from timellm_cli.report.tables import describe_samples, titled_table
from timellm_cli.training.records import MemoryMeasured, RunFinished
from timellm_cli.units import format_count, format_duration, format_memory


def print_start(
    console: Console,
    config: Config,
    counts: RunCounts,
    *,
    device: str,
    prompt_tokens: int,
    trainable: int,
    folder: Path,
) -> None:
    """A few lines: samples, steps, tokens, LLM, device and precision, and where the files go."""
    train, llm = config.train, config.llm
    patches = counts.patch_nums
    samples = describe_samples(counts.windows, counts.dataset_len, counts.series, "training sample")
    lines = {
        "data": f"{config.data.dataset}: {samples}",
        "steps": f"{counts.steps_per_epoch:,} an epoch, {counts.total_steps:,} in all, of {train.batch} samples each",
        "tokens": f"{patches} patches + {prompt_tokens} of prompt for each sample",
        "LLM": _describe(llm),
        "trained": f"{trainable:,} parameters with {train.optimizer}, {train.schedule} from {train.learning_rate:g}",
        "device": f"{device}, {train.precision}",
        "files": str(folder),
    }
    grid = Table.grid(padding=(0, 2))
    for name, text in lines.items():
        shown = as_is(text) if name == "files" else Text(text)
        shown.overflow = "fold"
        grid.add_row(Text(name, style="bold"), shown)
    console.print(grid)


def _describe(llm: LLMConfig) -> str:
    """The LLM with its layers, format and weights."""
    if llm.name == NO_LLM:
        return "none"
    layers = "all layers" if llm.layers == "all" else f"the first {format_count(llm.layers, 'layer')}"
    kept = "frozen" if llm.quantization == "none" else f"frozen in {llm.quantization}"
    described = f"{llm.name}: {layers}, {kept}"
    return f"{described}, weights drawn at random" if llm.weights == "random" else described


def _files(folder: Path, best: Path) -> list[str]:
    """The files of a run, a sentence each."""
    others = "last.pt, config.toml, metrics.jsonl, curves.png"
    if best.is_file():
        return [f"Files in {folder}: best.pt ({format_memory(best.stat().st_size)}), {others}"]
    return [f"Files in {folder}: {others}", "best.pt is gone: another program removed it; last.pt is whole"]


def print_end(console: Console, record: RunFinished, config: Config, folder: Path, source: Path) -> None:
    """The best epoch's errors, the files, and what to do next."""
    best = record.best
    table = titled_table(f"Best epoch: {best['epoch']:.0f} of {record.epochs}")
    table.add_column("standardised units")
    for name in ("MSE", "MAE"):
        table.add_column(name, justify="right")
    for split, name in (("val", "validation"), ("test", "test")):
        table.add_row(name, f"{best[f'{split}_mse']:.4f}", f"{best[f'{split}_mae']:.4f}")
    console.print(table)
    checkpoint = folder / "best.pt"
    stride = config.data.window_stride
    thinned = f"These errors are over one window in {stride} (window_stride); `timellm eval` scores every window."
    start = "No epoch had a lower validation loss than the start: best.pt is what training started from."
    lines = [
        *([start] if best["epoch"] == 0 else []),
        *([thinned] if stride > 1 else []),
        f"{record.step:,} steps in {format_duration(record.seconds)}",
        *([memory_line(record.memory)] if record.memory else []),
        *_files(folder, checkpoint),
        "Next:",
    ]
    checkpoint = checkpoint if checkpoint.is_file() else folder / "last.pt"
    for line in lines:
        print_lines(console, Text(line))
    print_command(console, "timellm", "eval", quote(checkpoint))
    print_command(console, "timellm", "predict", quote(checkpoint), quote(source), "--plot forecast.png")


def end_record(record: RunFinished, folder: Path) -> dict[str, Any]:
    """What `print_end` shows, as plain data. Errors are in standardised units."""
    checkpoint = folder / "best.pt"
    return {
        "folder": str(folder),
        "checkpoint": str(checkpoint if checkpoint.is_file() else folder / "last.pt"),
        "ended": record.reason,
        "step": record.step,
        "epochs": record.epochs,
        "best": record.best,
        "seconds": record.seconds,
        "memory": None if record.memory is None else asdict(record.memory),
    }


def memory_line(memory: MemoryMeasured) -> str:
    """The predicted memory beside the measured one: on a GPU what torch reserves, which is what the bill adds up to."""
    measured = f"{format_memory(memory.reserved)} of RAM at most, loading included"
    if memory.device != "CPU":
        allocated = format_memory(memory.allocated)
        measured = f"{format_memory(memory.reserved)} reserved by torch at most ({allocated} allocated)"
    if memory.predicted is None:
        return f"Memory of a step: {measured}"
    error = memory.predicted / memory.reserved - 1
    accuracy = f"{abs(error):.0%} too {'much' if error > 0 else 'little'}" if round(100 * error) else "right to 1%"
    return f"Memory of a step: {format_memory(memory.predicted)} predicted ({accuracy}), {measured}"


def quote(path: Path) -> str:
    """A path as one word of a command line of this system."""
    return subprocess.list2cmdline([str(path)]) if os.name == "nt" else shlex.quote(str(path))


_COLUMNS = {
    "val_mse": "val MSE", "val_mae": "val MAE", "test_mse": "test MSE", "test_mae": "test MAE",
}  # fmt: skip


def summarise_runs(variants: Sequence[Mapping[str, int]], best: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    """The best epoch of each run as plain data: `runs`, their `mean` and sample standard deviation `std`.

    `variants` say what each run is: its seed, its fold, or both. Runs of several folds and seeds scatter by fold: `std`
    is that of the folds, each a mean over its seeds. Errors are in standardised units, of a fold in those of its own
    training rows. One run has no `std`.
    """
    runs = [
        {**variant, "epoch": int(figures["epoch"]), **{key: figures[key] for key in _COLUMNS}}
        for variant, figures in zip(variants, best, strict=True)
    ]
    by: dict[float, list[dict[str, Any]]] = {}
    for place, run in enumerate(runs):
        by.setdefault(run.get("fold", place), []).append(run)
    columns = {key: [mean(run[key] for run in group) for group in by.values()] for key in _COLUMNS}
    return {
        "runs": runs,
        "mean": {key: mean(values) for key, values in columns.items()},
        "std": {key: stdev(values) for key, values in columns.items()} if len(by) > 1 else None,
    }


def print_runs(console: Console, summary: Mapping[str, Any], path: Path, checkpoints: Sequence[Path]) -> None:
    """The table, the file that holds it, and the command that compares all runs with the baselines."""
    words = [word for word in ("seed", "fold") if word in summary["runs"][0]]
    counts = [format_count(len({run[word] for run in summary["runs"]}), word) for word in words]
    table = titled_table(f"{' and '.join(counts)}, the best epoch of each run")
    for word in words:
        table.add_column(word, no_wrap=True)
    for name in ("epoch", *(translated(name).replace(" ", "\n") for name in _COLUMNS.values())):
        table.add_column(name, justify="right")
    for run in summary["runs"]:
        table.add_row(*(str(run[word]) for word in words), str(run["epoch"]), *_format(run))
    table.add_section()
    blanks = [""] * len(words)
    table.add_row("mean", *blanks, *_format(summary["mean"]))
    if summary["std"]:
        table.add_row("deviation", *blanks, *_format(summary["std"]))
    console.print(table)
    own = ", of each fold's own training rows" if "fold" in words else ""
    print_lines(console, Text(f"In standardised units{own}, and in {path}"))
    print_lines(console, Text("Next:"))
    print_command(console, "timellm", "eval", *map(quote, checkpoints))


def _format(figures: Mapping[str, float]) -> list[str]:
    return [f"{figures[key]:.4f}" for key in _COLUMNS]


def starting_line(llm: LLMConfig) -> str:
    """What takes the first seconds of a training, and what is loaded then."""
    if llm.name == NO_LLM:
        return "Loading PyTorch"
    if (size := _size_of(llm)) is None:
        return f"Loading PyTorch, then the LLM {llm.name}"
    return f"Loading PyTorch, then the LLM {llm.name}: {format_count(size[0], 'layer')}, {format_memory(size[1])}"


def loading_line(llm: LLMConfig) -> str:
    """What is loaded: the LLM, and, where its size is known, its used layers and what they take in its files."""
    if llm.name == NO_LLM:
        return "Making the model"
    if (size := _size_of(llm)) is None:
        return f"Loading the LLM {llm.name}"
    return f"Loading the LLM {llm.name}: {format_count(size[0], 'layer')}, {format_memory(size[1])}"


def _size_of(llm: LLMConfig) -> tuple[int, int] | None:
    """The used layers and what they take in the LLM's files; None where its size is not known."""
    shape = look_up_llm(llm.name)
    if shape is None:
        return None
    layers = shape.used_layers(llm.layers)
    return layers, layers * shape.layer_parameters * shape.file_bytes_per_weight
