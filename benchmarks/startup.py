"""How long a start takes: `timellm inspect`, and with --tokenizer an LLM that is loaded again and again.

    python benchmarks/startup.py [--rounds 10] [--tokenizer FOLDER [--layers 36] [--small]] [--json FILE]

`timellm inspect` stands beside the least that typer allows and a peer's estimator, in alternating runs: about a minute.
Their times are the processors' (Linux and macOS), so that other work on the machine changes them little.

For the loads an LLM folder of Qwen2.5-3B's shape is written with random bf16 weights: the first start with it, the next
ones, and transformers' own NF4 loading, a few minutes on a GPU. Each start is a process of its own that loads the model
of the profile `ettm1-qwen3b-6gb` with `--layers`; before each, its files and those it left are dropped from the file
cache, except where the row says 'files in memory'. 'load' counts from the imports of torch and the project on,
'process' is the whole process.
"""

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

from gpu_profiles import make_llm
from random_llm import SHAPES
from rich import box
from rich.console import Console
from rich.table import Table

from timellm_cli import __version__

GOAL_SECONDS = 0.4
GOAL_SHARE = 0.1

GOAL_OF_HELP = 4.0
"""Times an empty Python process, for `--help` of every verb and for a path that is not there."""

EMPTY = 'python -c ""'
VERBS = ("inspect", "train", "eval", "predict", "fetch", "import", "init", "runs", "doctor", "profiles")
MISTAKES = {
    "timellm train absent.csv": ("train", "absent.csv"),
    "timellm eval absent.pt": ("eval", "absent.pt"),
    "timellm predict absent.pt x.csv": ("predict", "absent.pt", "x.csv"),
}
COMMANDS = {
    "timellm inspect": [sys.executable, "-m", "timellm_cli", "inspect"],
    "timellm inspect --explain": [sys.executable, "-m", "timellm_cli", "inspect", "--explain"],
    'python -c "import typer"': [sys.executable, "-c", "import typer"],
    'python -c "import typer, rich, pydantic"': [sys.executable, "-c", "import typer, rich.console, pydantic"],
    "accelerate estimate-memory --help": [
        sys.executable,
        "-m",
        "accelerate.commands.accelerate_cli",
        "estimate-memory",
        "--help",
    ],
    EMPTY: [sys.executable, "-c", ""],
    **{f"timellm {verb} --help": [sys.executable, "-m", "timellm_cli", verb, "--help"] for verb in VERBS},
    **{name: [sys.executable, "-m", "timellm_cli", *words] for name, words in MISTAKES.items()},
}


def seconds_of(command: list[str]) -> float:
    """Seconds that processors worked for one run: unlike those of a clock, other work changes them little."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # an installed package is compiled
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    ended = subprocess.run(command, check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    elapsed = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    is_mistake = any(word.startswith("absent.") for word in command)
    if (ended.returncode != 0) != is_mistake:
        raise SystemExit(f"{command} ended with {ended.returncode}")
    return elapsed


def measure(rounds: int) -> dict[str, list[float]]:
    """Times of every command; one run of each in turn, after one that warms the disk's cache."""
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for turn in range(rounds + 1):
        for name, command in COMMANDS.items():
            elapsed = seconds_of(command)
            if turn:
                times[name].append(elapsed)
    return times


# What `timellm train` does between its imports and the first step, timed.
LOAD = """
import json, logging, sys, time
from pathlib import Path
import torch, transformers, bitsandbytes
from timellm_cli.model.load import load_model
from timellm_cli.model.llm.transformers_loading import load_with_transformers
from timellm_cli.settings import resolve
logging.disable(logging.CRITICAL)
folder, csv, layers, device, kind = sys.argv[1:]
config = resolve("ettm1-qwen3b-6gb").config.with_values({
    "llm.name": folder, "llm.layers": int(layers), "hardware.device": device, "data.path": csv,
    "train.precision": "bf16" if device == "cuda" else "fp32", "hardware.capture": "on", "hardware.recompute": "off"})
device = torch.device(device)
torch.zeros(1, device=device)
start = time.perf_counter()
if kind == "ours":
    model = load_model(config, device)
else:
    model = load_with_transformers(config.llm, config.train.precision, Path(folder), device)
if device.type == "cuda":
    torch.cuda.synchronize()
print(json.dumps(time.perf_counter() - start))
"""


def drop_from_memory(folders: Iterable[Path]) -> None:
    """Let the system forget what it holds of these files."""
    for path in (path for folder in folders for path in folder.rglob("*") if path.is_file()):
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def load_once(llm: Path, cache: Path, layers: int, device: str, kind: str) -> tuple[float, float]:
    """Seconds of one load in a fresh process, and of that process."""
    environment = {**os.environ, "TIMELLM_CACHE": str(cache), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-c", LOAD, str(llm), "unread.csv", str(layers), device, kind]
    start = time.perf_counter()
    finished = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    return float(json.loads(finished.stdout.splitlines()[-1])), time.perf_counter() - start


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=10, help="alternating runs of inspect and its peers; 0: none")
    parser.add_argument("--tokenizer", type=Path, help="folder with tokenizer.json: time the loading of an LLM, too")
    parser.add_argument("--json", type=Path, help="append a JSON object a load to this file")
    parser.add_argument("--layers", type=int, default=36)
    parser.add_argument("--small", action="store_true", help="a toy LLM on the CPU, to try the script")
    given = parser.parse_args()
    if given.rounds:
        print_starts(given.rounds)
    if given.tokenizer:
        rows = measure_loads(given.tokenizer, given.layers, given.small)
        if given.json:
            with given.json.open("a", encoding="utf-8") as file:
                file.writelines(json.dumps(row) + "\n" for row in rows)
        print(f"first / second: {rows[1]['load'] / rows[2]['load']:.2f}")


def print_starts(rounds: int) -> None:
    """Measure `inspect` and its peers, and print."""
    times = measure(rounds)
    title = f"Start-up, {rounds} alternating runs, timellm {__version__}, Python {platform.python_version()}"
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    table.add_column("command", no_wrap=True)
    for name in ("median s", "fastest s", "slowest s", "times empty"):
        table.add_column(name, justify="right")
    medians = {name: statistics.median(elapsed) for name, elapsed in times.items()}
    ratios = {name: median / medians[EMPTY] for name, median in medians.items()}
    for name, elapsed in times.items():
        seconds = (medians[name], min(elapsed), max(elapsed))
        table.add_row(name, *(f"{one:.3f}" for one in seconds), f"{ratios[name]:.1f}")
    console = Console(width=100)
    console.print(table)
    ours, peer = medians["timellm inspect"], medians["accelerate estimate-memory --help"]
    reached = ours <= GOAL_SECONDS and ours <= GOAL_SHARE * peer
    console.print(
        f"inspect takes {ours / peer:.1%} of the peer's time; goal: {GOAL_SECONDS} s and {GOAL_SHARE:.0%}: "
        + ("reached" if reached else "missed"),
        highlight=False,
    )
    quick = [f"timellm {verb} --help" for verb in VERBS] + list(MISTAKES)
    slowest = max(quick, key=lambda name: ratios[name])
    console.print(
        f"{slowest} is the slowest of {len(quick)}: {ratios[slowest]:.1f} times an empty Python process; "
        f"goal: {GOAL_OF_HELP:g}: " + ("reached" if ratios[slowest] <= GOAL_OF_HELP else "missed"),
        highlight=False,
    )


def measure_loads(tokenizer: Path, layers: int, small: bool) -> list[dict[str, str | int | float]]:
    """Write the LLM and load it again and again; a row for each load, in seconds."""
    device, shape = ("cpu", "toy") if small else ("cuda", "qwen2.5-3b")
    rows: list[dict[str, str | int | float]] = []
    with tempfile.TemporaryDirectory() as temporary:
        llm, cache = Path(temporary) / "llm", Path(temporary) / "cache"
        written = [sys.executable, __file__, "--write", str(llm), str(tokenizer), shape, device]
        subprocess.run(written, check=True, stdout=subprocess.DEVNULL)
        turns = [("transformers", "transformers", True), ("first start", "ours", True), ("second start", "ours", True),
                 ("third start", "ours", True), ("fourth start, files in memory", "ours", False)]  # fmt: skip
        for name, kind, forget in turns:
            if forget:
                drop_from_memory([llm, cache])
            load, process = load_once(llm, cache, layers, device, kind)
            rows.append({"part": "loads", "variant": name, "layers": layers, "load": load, "process": process})
            print(f"{name:30} load {load:6.2f} s, process {process:6.2f} s", flush=True)
    return rows


if __name__ == "__main__":
    if sys.argv[1:2] == ["--write"]:  # in a process of its own, which gives the GPU back
        make_llm(Path(sys.argv[2]), SHAPES[sys.argv[4]], Path(sys.argv[3]), sys.argv[5])
    else:
        main()
