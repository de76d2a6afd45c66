"""Memory and time of many different training runs on one GPU: the data that `timellm inspect` is held against.

    python benchmarks/memory_grid.py --tokenizer FOLDER --json FILE [--traces FILE] [--seconds N] [GROUP ...] [--small]

Each run is the project's own training loop for a few steps, with random weights of an exact shape. Runs of a group
share a process, one after the other. A row holds the settings, what the prompts were like, torch's peaks while loading,
while stepping and while scoring (bytes), what the driver says that is taken, and seconds a step.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, replace
from pathlib import Path

from gpu_profiles import make_ett
from memory_runs import FIRST, FRESH
from random_llm import SHAPES, make_folder

GROUPS = {**FIRST, **FRESH}
OWN_ALLOCATOR = ("qwen-3b", "llama", "qwen-small", "small", "default-allocator")
"""Groups that are measured as PyTorch comes, as it is on Windows."""


def run_group(name: str, folder: Path, report: Path, traces: Path | None, small: bool, limit: float) -> None:
    """Measure a group in a process of its own, for at most `limit` seconds."""
    jobs = GROUPS[name]()
    if small:
        jobs = [
            replace(
                job, shape="toy-gpt2" if job.shape == "gpt2" else "toy", layers=min(job.layers, 2), batch=2,
                settings={key: value for key, value in job.settings.items() if key != "train.optimizer"},
            )
            for job in jobs
        ]  # fmt: skip
    jobs = [replace(job, part=name) for job in jobs]
    task = folder / "task.json"
    task.write_text(json.dumps([asdict(job) for job in jobs]), encoding="utf-8")
    environment = {**os.environ, "TIMELLM_CACHE": str(folder / "cache")}
    environment["PYTORCH_CUDA_ALLOC_CONF"] = f"expandable_segments:{name not in OWN_ALLOCATOR}"
    command = [sys.executable, str(Path(__file__).with_name("memory_run.py")), str(task), str(report)]
    command += ["cpu" if small else "cuda", *([str(traces)] if traces else [])]
    try:
        finished = subprocess.run(command, check=False, env=environment, stdout=subprocess.DEVNULL, timeout=limit)
    except subprocess.TimeoutExpired:
        print(f"{name}: stopped after {limit:.0f} s", file=sys.stderr)
        return
    if finished.returncode:
        print(f"{name}: ended with {finished.returncode}", file=sys.stderr)


def main() -> None:
    """Measure the groups asked for, all of them by default."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("groups", nargs="*", metavar="GROUP", help=f"of {', '.join(GROUPS)}; default: all")
    parser.add_argument("--tokenizer", type=Path, required=True, help="folder with tokenizer.json, ids below 49,152")
    parser.add_argument("--json", type=Path, required=True, help="append a JSON object a run to this file")
    parser.add_argument("--traces", type=Path, help="append to this file what is alive at the peak of small runs")
    parser.add_argument("--seconds", type=float, default=3600, help="start nothing after so many seconds")
    parser.add_argument("--small", action="store_true", help="toy sizes on the CPU, to try the script")
    arguments = parser.parse_args()
    if unknown := set(arguments.groups) - set(GROUPS):
        parser.error(f"no such group: {', '.join(sorted(unknown))}; groups are {', '.join(GROUPS)}")
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for shape in SHAPES:
            make_folder(folder / shape, shape, arguments.tokenizer)
        make_ett(folder / "ett.csv", 69_680, 15)
        for name in arguments.groups or GROUPS:
            left = arguments.seconds - (time.monotonic() - started)
            if left > 15:
                run_group(name, folder, arguments.json, arguments.traces, arguments.small, left)
    print_rows(arguments.json)


def print_rows(report: Path) -> None:
    """One short line a run; memory in MiB, time in milliseconds."""
    mib = 2**20
    for line in report.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        what = f"{row['part']:10} {row['shape']:13} {row['layers']:2} x {row['batch']:3} {row['quantization']:4}"
        what += f" T {row['seq_len']:4}"
        if not row["fault"]:
            what += (
                f" load {row['loading_peak'] // mib:6} step {row['step_peak'] // mib:6}"
                f" reserved {row['step_reserved'] // mib:6} device {row['device_used'] // mib:6}"
                f" score {row['scoring_peak'] // mib:6} {row['seconds'] * 1000:7.1f} ms"
            )
        print(what, row["fault"] or row["settings"])


if __name__ == "__main__":
    main()
