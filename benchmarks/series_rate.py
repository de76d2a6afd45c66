"""How many series a minute `timellm predict` forecasts, in one process and in several, and what 100,000 would take.

    python benchmarks/series_rate.py [--series 2000] [--processes 1 2] [--llm FOLDER --layers 6] [--device cpu]
    python benchmarks/series_rate.py --tokenizer FOLDER --series 20000 --processes 1 --device cuda

With `--tokenizer` the LLM has SmolLM2-135M's shape and random weights: the time does not depend on their values.
A checkpoint is trained for one step on a table of made-up hourly series, then the real command forecasts every series
of a Parquet file, in alternating order, `--rounds` times each. 'whole' is the command from start to end, loading
included; the rate leaves out the seconds that the same command takes for one series. The last lines are the table for
RESULTS.md.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import polars as pl
import torch
from random_llm import SMOLLM2
from real_commands import write_llm

SEQ_LEN, PRED_LEN = 96, 24
PATHS = [Path(__file__).parents[1]]
PATHS += [Path(path).absolute() for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
"""Where timellm_cli is, and the caller's own folders."""


def write_series(path: Path, count: int) -> None:
    """Hourly waves of so many series, `SEQ_LEN` + 8 * `PRED_LEN` rows each."""
    rows = SEQ_LEN + 8 * PRED_LEN
    random = np.random.default_rng(1)
    hours = np.arange(rows)
    phase, level = random.uniform(0, 24, (count, 1)), random.uniform(1, 100, (count, 1))
    values = level * (1 + 0.3 * np.sin(2 * np.pi * (hours + phase) / 24)) + random.normal(0, 0.1, (count, rows))
    stamps = np.datetime64("2025-01-01", "us") + hours.astype("timedelta64[h]")
    pl.DataFrame(
        {
            "unique_id": np.repeat([f"s{number:06}" for number in range(count)], rows),
            "ds": np.tile(stamps, count),
            "y": values.ravel(),
        }
    ).write_parquet(path)


def run(folder: Path, *arguments: object) -> tuple[float, float]:
    """Seconds of one command, and seconds of processor time. Ends the benchmark with what it printed where it fails."""
    start, worked = time.perf_counter(), processor_time()
    finished = subprocess.run(
        [sys.executable, "-m", "timellm_cli", *map(str, arguments)], cwd=folder, capture_output=True, text=True,
        check=False, env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, PATHS))},
    )  # fmt: skip
    if finished.returncode:
        sys.exit(finished.stderr)
    print(f"{arguments[0]}: {time.perf_counter() - start:.1f} s", file=sys.stderr, flush=True)
    return time.perf_counter() - start, processor_time() - worked


def processor_time() -> float:
    """Seconds that all commands so far have computed."""
    import resource  # not on Windows

    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def train(folder: Path, options: argparse.Namespace) -> None:
    """Leave a checkpoint of one step in the folder."""
    write_series(folder / "train.parquet", 8)
    run(
        folder, "train", "train.parquet", "--id-column", "unique_id", "--target", "y", "--date-column", "ds",
        "--llm", options.llm, *(["--layers", options.layers] if options.llm != "none" else []),
        "--seq-len", SEQ_LEN, "--pred-len", PRED_LEN, "--max-steps", 1, "--run-name", "rate",
        "--device", options.device,
    )  # fmt: skip


def forecast(folder: Path, source: str, processes: int, device: str) -> tuple[float, float]:
    """Seconds to forecast a file, its output removed before, and seconds of processor time."""
    (folder / "out.parquet").unlink(missing_ok=True)
    shared = ("--processes", processes) if processes > 1 else ()
    return run(folder, "predict", "checkpoints/rate/best.pt", source, "-o", "out.parquet", "--device", device, *shared)


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--series", type=int, default=2000)
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--llm", default="none")
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--tokenizer", type=Path, help="folder with tokenizer.json, for an LLM with random weights")
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if options.tokenizer:
            options.llm = "smollm2-random"
            keys = {**SMOLLM2, "num_hidden_layers": options.layers}
            write_llm(folder / options.llm, keys, options.tokenizer)
        train(folder, options)
        write_series(folder / "one.parquet", 1)
        write_series(folder / "many.parquet", options.series)
        whole: dict[int, list[tuple[float, float]]] = {count: [] for count in options.processes}
        start: dict[int, list[tuple[float, float]]] = {count: [] for count in options.processes}
        for _ in range(options.rounds):
            for count in options.processes:
                start[count].append(forecast(folder, "one.parquet", count, options.device))
                whole[count].append(forecast(folder, "many.parquet", count, options.device))
    layers = f", {options.layers} layers" if options.llm != "none" else ""
    device = "CPU" if options.device == "cpu" or not torch.cuda.is_available() else torch.cuda.get_device_name()
    print(f"{device}: {options.series:,} series, {SEQ_LEN} rows to {PRED_LEN}, LLM {options.llm}{layers}")
    print("| processes | start, s | whole, s | series a minute | 100,000 series | series a minute of processor time |")
    print("|---|---|---|---|---|---|")
    for count in options.processes:
        (began, begun), (ended, worked) = min(start[count]), min(whole[count])
        rate, of_one = (60 * (options.series - 1) / taken for taken in (ended - began, worked - begun))
        shown = f"{rate:,.0f} | {100_000 / rate + began / 60:,.0f} min" if rate > 0 else "too few series to tell | "
        print(f"| {count} | {began:.1f} | {ended:.1f} | {shown} | {of_one:,.0f} |")


if __name__ == "__main__":
    main()
