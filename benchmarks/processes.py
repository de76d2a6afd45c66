"""Samples a second of one run on 1, 2 and 4 GPUs of a machine. Prints one short table at the end.

    python benchmarks/processes.py --tokenizer FOLDER [--gpus 1,2,4] [--layers 6,36] [--batches 8,16,64] [--small]

Every count of GPUs starts that many processes, one a GPU, each with an LLM of Qwen2.5-3B's shape in NF4 whose weights
are drawn at random. They train through the project's own loop with the same number of samples per GPU, and then score
validation windows together. `speed` is that of all GPUs, `times` compares it with one GPU, `exchange` is the time of
one sum of all gradients alone. `--small` tries it on the CPU with a toy LLM. What they learned is
compared: 1 GPU with 16 samples and 2 with 8 each end with the same `loss` within rounding (in the JSON file).
"""

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROUNDS = 3
Row = dict[str, Any]


def main() -> None:
    """Start the processes for each count of GPUs and print the table."""
    given = _parse()
    if "RANK" in os.environ:
        work(given)
        return
    rows: list[Row] = []
    begun = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        make_files(Path(folder), given.tokenizer)
        for gpus in given.gpus:
            rows += start(given, Path(folder), gpus)
            print(f"{gpus} done after {time.perf_counter() - begun:.0f} s", file=sys.stderr, flush=True)
    print_table(rows)
    if given.json:
        given.json.write_text(json.dumps(rows, indent=1), encoding="utf-8")
    print(f"{time.perf_counter() - begun:.0f} s in all")


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    numbers = lambda text: [int(part) for part in text.split(",")]  # noqa: E731
    parser.add_argument("--tokenizer", type=Path, required=True, help="folder with a Qwen2.5 tokeniser")
    parser.add_argument("--gpus", type=numbers, default=None, help="counts of processes, such as 1,2,4")
    parser.add_argument("--layers", type=numbers, default=[6, 36])
    parser.add_argument("--batches", type=numbers, default=[8, 16, 64], help="samples per GPU")
    parser.add_argument("--steps", type=int, default=10, help="timed steps a round")
    parser.add_argument("--limit", type=float, default=100, help="seconds for each count of GPUs; then it is ended")
    parser.add_argument("--small", action="store_true", help="a toy LLM on the CPU")
    parser.add_argument("--json", type=Path, default=None)
    parser.add_argument("--folder", type=Path, default=None, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.small:
        given.layers, given.batches, given.steps, given.limit = [1], [1], 2, 600
    if given.gpus is None:
        given.gpus = [1, 2] if given.small else [count for count in (1, 2, 4) if count <= _count_gpus()]
    return given


def _count_gpus() -> int:
    listed = subprocess.run(["nvidia-smi", "-L"], check=True, capture_output=True, text=True).stdout
    return len(listed.splitlines())


def make_files(folder: Path, tokenizer: Path) -> None:
    """The table and the LLM folders that `Workplace` reads."""
    from gpu_profiles import make_ett
    from random_llm import make_folder

    for shape in ("qwen2.5-3b", "toy"):
        make_folder(folder / shape, shape, tokenizer)
    make_ett(folder / "ett.csv", 69_680, 15)


def start(given: argparse.Namespace, folder: Path, gpus: int) -> list[Row]:
    """Run this script in as many processes as there are GPUs; the rows of the first one."""
    report = folder / f"rows-{gpus}.json"
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    command = [sys.executable, __file__, *sys.argv[1:], "--folder", str(folder)]
    command += ["--gpus", str(gpus), "--json", str(report)]
    common = {
        **os.environ, "WORLD_SIZE": str(gpus), "LOCAL_WORLD_SIZE": str(gpus), "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port), "NCCL_NVLS_ENABLE": "0", "TIMELLM_CACHE": str(folder / "cache"),
        "PYTORCH_ALLOC_CONF": "expandable_segments:True", "OMP_NUM_THREADS": "1" if given.small else "4",
    }  # fmt: skip
    processes = [
        subprocess.Popen(command, env={**common, "RANK": str(rank), "LOCAL_RANK": str(rank)}, stdout=sys.stderr)
        for rank in range(gpus)
    ]
    end = time.perf_counter() + given.limit
    while all(process.poll() is None for process in processes) and time.perf_counter() < end:
        time.sleep(0.1)
    while any(process.poll() is None for process in processes) and time.perf_counter() < end:
        if any(process.poll() for process in processes):
            end = min(end, time.perf_counter() + 5)  # the others wait for the one that failed
        time.sleep(0.1)
    for process in processes:
        process.kill()
        process.wait()
    rows: list[Row] = json.loads(report.read_text(encoding="utf-8")) if report.exists() else []
    if any(process.returncode for process in processes):
        codes = ", ".join(str(process.returncode) for process in processes)
        rows.append({"gpus": gpus, "layers": 0, "batch": 0, "fault": f"ended with {codes}"})
    return rows


def work(given: argparse.Namespace) -> None:
    """One process: train and score each job together with the others."""
    import torch
    from runs import Job, Workplace, give_memory_back

    from timellm_cli.processes.group import Group, SeveralProcesses
    from timellm_cli.processes.place import find_place

    place = find_place()
    device = torch.device("cpu" if given.small else "cuda")
    if not given.small:
        torch.cuda.set_device(place.local_rank)
    group = SeveralProcesses(place, device) if place.size > 1 else Group(place)
    workplace = Workplace(given.folder / "", device, "fp32" if given.small else "bf16")
    workplace.run_folder = given.folder / f"runs-{place.size}-{place.rank}"
    nccl_mib = _memory_of_first_sum(group, device)
    rows: list[Row] = []
    shape = "toy" if given.small else "qwen2.5-3b"
    for layers in given.layers:
        for batch in given.batches:
            settings = {"run.directory": workplace.run_folder, "data.path": given.folder / "ett.csv"}
            job = Job("processes", "ours", shape, layers, batch * place.size, settings=settings)
            row: Row = {"gpus": place.size, "layers": layers, "batch": batch, "fault": "", "nccl_mib": nccl_mib}
            try:
                row |= measure(job, workplace, group, given.steps, batch)
            except RuntimeError as error:
                row["fault"] = str(error).splitlines()[0]
            rows.append(row)
            if place.is_first:
                print(row, file=sys.stderr, flush=True)
                given.json.write_text(json.dumps(rows), encoding="utf-8")
            give_memory_back(device)
            if row["fault"]:
                break
    group.close()


def _memory_of_first_sum(group: Any, device: Any) -> float:
    """MiB of a GPU that NCCL's connections take."""
    import torch

    if device.type != "cuda":
        return 0.0
    numbers = torch.zeros(2**20, device=device)
    torch.cuda.synchronize()
    before = torch.cuda.mem_get_info()[0]
    group.sum_(numbers)
    torch.cuda.synchronize()
    return (before - torch.cuda.mem_get_info()[0]) / 2**20


def measure(job: Any, workplace: Any, group: Any, steps: int, batch: int) -> Row:
    """Seconds of training steps, of one exchange alone, and of scoring."""
    import torch

    from timellm_cli.evaluation.score import score

    def now() -> float:
        if workplace.device.type == "cuda":
            torch.cuda.synchronize()
        group.any(False)
        return time.perf_counter()

    with workplace.running(job, group) as run:
        for _ in range(4):
            run.step()
        seconds, loss = [], 0.0
        for _ in range(ROUNDS):
            begun = now()
            for _ in range(steps):
                loss = run.step()
            seconds.append((now() - begun) / steps)
        weights = sum(weight.numel() for weight in run.runner.model.trainable_weights().values())
        flat = torch.zeros(weights, device=workplace.device)
        exchange = []
        for _ in range(5):
            begun = now()
            group.sum_(flat)
            exchange.append(now() - begun)
        at_once = 4 * batch
        windows = [-(-batches * at_once * group.size // 7) for batches in (1, 8)]
        score(run.runner, run.data, "val", at_once, limit=windows[0], group=group)  # records
        begun = now()
        scored = score(run.runner, run.data, "val", at_once, limit=windows[1], group=group)
        scoring = now() - begun
    second = statistics.median(seconds)
    return {
        "samples_per_second": batch * group.size / second, "ms": 1000 * second, "loss": loss, "weights": weights,
        "exchange_ms": 1000 * statistics.median(exchange), "scored_per_second": scored.samples / scoring,
        "scored": scored.samples, "val_mse": scored.mse,
        "gpu": torch.cuda.get_device_name() if workplace.device.type == "cuda" else "CPU", "torch": torch.__version__,
    }  # fmt: skip


def print_table(rows: list[Row]) -> None:
    """One line a job."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    names = {row["gpu"] for row in rows if row.get("gpu")}
    table = Table(box=box.SIMPLE, title=f"{', '.join(sorted(names))}; Qwen2.5-3B, NF4, seq_len 512, pred_len 96")
    for column in (
        "layers",
        "batch a GPU",
        "GPUs",
        "ms a step",
        "samples/s",
        "times",
        "exchange ms",
        "scored/s",
        "times",
    ):
        table.add_column(column, justify="right")
    one = {(row["layers"], row["batch"]): row for row in rows if row.get("gpus") == 1 and not row["fault"]}
    for row in sorted(rows, key=lambda row: (row.get("layers", 0), row.get("batch", 0), row["gpus"])):
        if row["fault"]:
            table.add_row(str(row.get("layers")), str(row.get("batch")), str(row["gpus"]), row["fault"])
            continue
        base = one.get((row["layers"], row["batch"]))
        times = [f"{row[key] / base[key]:.2f}" if base else "" for key in ("samples_per_second", "scored_per_second")]
        table.add_row(
            str(row["layers"]), str(row["batch"]), str(row["gpus"]), f"{row['ms']:.2f}",
            f"{row['samples_per_second']:,.0f}", times[0], f"{row['exchange_ms']:.2f}",
            f"{row['scored_per_second']:,.0f}", times[1],
        )  # fmt: skip
    Console(width=110).print(table)


if __name__ == "__main__":
    main()
