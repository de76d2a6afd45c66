"""Memory and time of training runs on one GPU, as `timellm inspect` predicts them: measures `memory_grid.csv` again.

    python benchmarks/memory.py --tokenizer FOLDER --output FILE.csv [--seconds N] [GROUP ...] [--small]

A row of memory_grid.csv names a run and holds what was measured; give one new settings to measure another. Each run is
the project's own training loop for eight steps, with random weights of an exact shape, and then a scoring. Runs of a
group share a process, one after the other. A row takes seconds; nothing starts after `--seconds`, an hour by default.

Memory in bytes, time in seconds. `step_peak` is torch's peak allocated while stepping, of a captured step while a
second recording is made, when the optimizer has its states (in the groups without 'fresh' it had none yet). `device` is
what the driver says that the process has taken after some steps, `reserved` torch's part of it; where another program
had the card as well, `device` is empty, and times mean nothing. `order` counts the runs of a process: `device` holds
what earlier ones left loaded in the context, which is little.
"""

import argparse
import csv
import json
import logging
import os
import statistics
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Iterable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from gpu_profiles import make_ett
from measure import matrix_rate
from random_llm import HUB_NAMES, SHAPES, make_folder
from runs import Job, ProjectTraining, WatchedEncoder, Workplace, give_memory_back

from timellm_cli.llm_files import NO_LLM
from timellm_cli.model.cuda_graphs import forget_recordings

GRID = Path(__file__).with_name("memory_grid.csv")
SETTINGS = (
    "llm.double_quant", "llm.implementation", "train.precision", "train.optimizer", "train.accumulate", "model.d_ff",
    "model.num_prototypes", "model.dropout", "hardware.capture", "hardware.recompute",
)  # fmt: skip
MEASURED = (
    "head_tokens", "prompt_tokens", "patches", "loading_peak", "step_peak", "reserved", "device", "scored",
    "scoring_peak", "seconds", "scoring_seconds", "card", "capability", "multiprocessors", "matrix_rate", "bandwidth",
    "torch", "date",
)  # fmt: skip
OWN_ALLOCATOR = ("qwen-3b", "llama", "qwen-small", "small")
"""Groups that are measured as PyTorch comes, as it is on Windows."""
WARM_UP, TIMED = 2, 6
SCORED = 64
_MOST_OF_A_CONTEXT = 2**31

Row = dict[str, Any]


def read_jobs() -> dict[str, list[Job]]:
    """The runs of the grid, by group."""
    shapes = {name: shape for shape, name in HUB_NAMES.items()}
    jobs: dict[str, list[Job]] = {}
    with GRID.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            settings: Row = {key: row[key.split(".")[1]] for key in SETTINGS}
            if row["llm"] == NO_LLM:
                settings["llm.name"] = NO_LLM
            job = Job(
                row["group"], "ours", shapes.get(row["llm"], "smollm2-135m"), int(row["layers"]), int(row["batch"]),
                row["quantization"], int(row["seq_len"]), settings=settings,
            )  # fmt: skip
            jobs.setdefault(job.part, []).append(job)
    return jobs


def make_small(job: Job) -> Job:
    """A run of toy sizes for the CPU."""
    left_out = ("train.optimizer", "train.precision")
    settings = {key: value for key, value in job.settings.items() if key not in left_out}
    shape = "toy-gpt2" if job.shape == "gpt2" else "toy"
    return replace(job, shape=shape, layers=min(job.layers, 2), batch=2, settings=settings)


def measure_group(jobs: list[Job], folder: Path, small: bool, limit: float) -> list[Row]:
    """Rows of a group, measured in a process of its own for at most `limit` seconds."""
    task, report, name = folder / "task.json", folder / "report.jsonl", jobs[0].part
    report.write_text("", encoding="utf-8")
    task.write_text(json.dumps([asdict(make_small(job) if small else job) for job in jobs]), encoding="utf-8")
    environment = {**os.environ, "TIMELLM_CACHE": str(folder / "cache")}
    environment["PYTORCH_CUDA_ALLOC_CONF"] = f"expandable_segments:{name not in OWN_ALLOCATOR}"
    command = [sys.executable, __file__, "--of-group", str(task), str(report), "cpu" if small else "cuda"]
    try:
        finished = subprocess.run(command, check=False, env=environment, stdout=subprocess.DEVNULL, timeout=limit)
        if finished.returncode:
            print(f"{name}: ended with {finished.returncode}", file=sys.stderr)
    except subprocess.TimeoutExpired:
        print(f"{name}: stopped after {limit:.0f} s", file=sys.stderr)
    return [json.loads(line) for line in report.read_text(encoding="utf-8").splitlines()]


def main() -> None:
    """Measure the groups asked for, all of them by default."""
    groups = read_jobs()
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("groups", nargs="*", metavar="GROUP", help=f"of {', '.join(groups)}; default: all")
    parser.add_argument("--tokenizer", type=Path, required=True, help="folder with tokenizer.json, ids below 49,152")
    parser.add_argument("--output", type=Path, required=True, help="write the table to this file")
    parser.add_argument("--seconds", type=float, default=3600, help="start nothing after so many seconds")
    parser.add_argument("--small", action="store_true", help="toy sizes on the CPU, to try the script")
    given = parser.parse_args()
    if unknown := set(given.groups) - set(groups):
        parser.error(f"no such group: {', '.join(sorted(unknown))}; groups are {', '.join(groups)}")
    started, rows = time.monotonic(), list[Row]()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for shape in SHAPES:
            make_folder(folder / shape, shape, given.tokenizer)
        make_ett(folder / "ett.csv", 69_680, 15)
        for name in given.groups or groups:
            left = given.seconds - (time.monotonic() - started)
            if left > 15:
                rows += measure_group(groups[name], folder, given.small, left)
                write_table(given.output, [row for row in rows if not row["fault"]])
    for row in rows:
        print(row["part"], row["shape"], row["layers"], "layers, batch", row["batch"], row["fault"] or shown(row))


def shown(row: Row) -> str:
    """Memory in MiB and time in milliseconds, in short."""
    peaks = (f"{name} {row[key] >> 20}" for name, key in (("step", "step_peak"), ("device", "device_used")))
    return f"{', '.join(peaks)} MiB, {row['seconds'] * 1000:.1f} ms"


def write_table(path: Path, rows: Iterable[Row]) -> None:
    """Rows as memory_grid.csv has them."""
    names = ["group", "order", "llm", "layers", "batch", "seq_len", "quantization"]
    names += [*(key.split(".")[1] for key in SETTINGS), *MEASURED]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, names, lineterminator="\n", extrasaction="ignore")
        writer.writeheader()
        for row in rows:
            settings = {key.split(".")[1]: value for key, value in row["settings"].items()}
            llm = settings.pop("name", HUB_NAMES.get(row["shape"], row["shape"]))
            is_alone = row["device_used"] - row["reserved"] < _MOST_OF_A_CONTEXT
            line = {**row, **settings, "group": row["part"], "llm": llm, "device": row["device_used"] * is_alone or ""}
            writer.writerow({key: f"{v:.6g}" if isinstance(v, float) else v for key, v in line.items()})


def measure_jobs(task: Path, report: Path, device: torch.device) -> None:
    """The process of a group: a JSON line for each job is added to the report."""
    logging.getLogger("bitsandbytes").setLevel(logging.CRITICAL)
    place = Workplace(task.parent, device, "bf16" if device.type == "cuda" else "fp32")
    jobs = [Job(**job) for job in json.loads(task.read_text(encoding="utf-8"))]
    card = describe_card(device)
    give_memory_back(device)
    for order, job in enumerate(jobs):
        row = {**asdict(job), "order": order, **card, "fault": ""}
        try:
            row |= measure(job, place)
        except Exception as error:
            traceback.print_exc()
            row["fault"] = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        with report.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        give_memory_back(device)


def measure(job: Job, place: Workplace) -> Row:
    """What a run took."""
    on_gpu = place.device.type == "cuda"
    if "llm.name" not in job.settings:
        place.llm(job.shape).factor_EE()  # drawn here and not while loading is measured
        give_memory_back(place.device)
    _forget_peaks(on_gpu)
    with place.running(job) as run:
        assert isinstance(run, ProjectTraining)
        watched = run.watch_prompts()
        figures: Row = {"loading_peak": _peak(on_gpu)}
        _forget_peaks(on_gpu)
        for _ in range(WARM_UP):
            run.step()
        if run.runner.captures:  # as prompts of another length will find it: optimizer states are there
            forget_recordings()
            _forget_peaks(on_gpu)
        figures["seconds"] = _time(run, on_gpu)
        figures |= {"step_peak": _peak(on_gpu)} | _prompts(watched, run) | _device(on_gpu)
        return figures | _score(run, on_gpu)


def _time(run: ProjectTraining, on_gpu: bool) -> float:
    """Median of a step by the clock."""
    _synchronize(on_gpu)
    seconds = []
    for _ in range(TIMED):
        start = time.perf_counter()
        run.step()
        seconds.append(time.perf_counter() - start)
    _synchronize(on_gpu)
    return statistics.median(seconds)


def _score(run: ProjectTraining, on_gpu: bool) -> Row:
    """Forecasts of a batch beside the training that is held."""
    batch = run.data.windows("val").batch(range(SCORED))
    if on_gpu:
        torch.cuda.empty_cache()
    _forget_peaks(on_gpu)
    run.runner(batch)
    _synchronize(on_gpu)
    start = time.perf_counter()
    run.runner(batch)
    _synchronize(on_gpu)
    return {"scored": SCORED, "scoring_seconds": time.perf_counter() - start, "scoring_peak": _peak(on_gpu)}


def _prompts(watched: WatchedEncoder, run: ProjectTraining) -> dict[str, int]:
    longest = max(length for _, length in watched.prompts)
    return {"head_tokens": watched.prompts[0][0], "prompt_tokens": longest, "patches": run.runner.model.patch_nums}


def _forget_peaks(on_gpu: bool) -> None:
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()


def _synchronize(on_gpu: bool) -> None:
    if on_gpu:
        torch.cuda.synchronize()


def _peak(on_gpu: bool) -> int:
    return torch.cuda.max_memory_allocated() if on_gpu else 0


def _device(on_gpu: bool) -> dict[str, int]:
    """What the driver says that is taken, and what torch has reserved of it."""
    if not on_gpu:
        return {"device_used": 0, "reserved": 0}
    free, total = torch.cuda.mem_get_info()
    return {"device_used": total - free, "reserved": torch.cuda.memory_reserved()}


def describe_card(device: torch.device) -> Row:
    """The card, its measured matrix rate (operations a second) and copy bandwidth (bytes a second, read and write)."""
    known: Row = {"torch": torch.__version__, "date": time.strftime("%Y-%m-%d")}
    if device.type != "cuda":
        return {**known, "card": "CPU"}
    properties = torch.cuda.get_device_properties(0)
    return {
        **known, "card": properties.name, "capability": f"{properties.major}.{properties.minor}",
        "multiprocessors": properties.multi_processor_count, "matrix_rate": matrix_rate(device),
        "bandwidth": _bandwidth(),
    }  # fmt: skip


def _bandwidth() -> float:
    here, there = (torch.empty(2**30, dtype=torch.uint8, device="cuda") for _ in range(2))
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    there.copy_(here)
    start.record()
    for _ in range(10):
        there.copy_(here)
    end.record()
    torch.cuda.synchronize()
    return 10 * 2 * 2**30 / (start.elapsed_time(end) / 1000)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--of-group"]:  # in a process of its own, which gives the GPU back
        measure_jobs(Path(sys.argv[2]), Path(sys.argv[3]), torch.device(sys.argv[4]))
    else:
        main()
