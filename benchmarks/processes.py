"""One run shared by 1, 2 and 4 GPUs of a machine: speed, memory of NCCL, the real command, and lost processes.

    python benchmarks/processes.py --tokenizer FOLDER --out FOLDER [--gpus 1,2,4] [--minutes 8] [--small]

Four parts, the most valuable first; each is left out where its time is over, and writes its JSON as it goes.

1. Speed: an LLM of Qwen2.5-3B's shape in NF4 with random weights, trained through the project's own loop with the same
   number of samples per GPU, and validation windows scored. One process a GPU; all counts of GPUs are measured in the
   same processes, three times in turn, while the other GPUs wait. `times` is the median of the three ratios to one GPU.
   `exchange` is one sum of all gradients alone.
2. The real command: `timellm train --processes N` on a small file against one process, losses compared.
3. Lost processes: one of N hangs (SIGSTOP) or is killed; what is said, what is saved, and whether the run goes on as if
   nothing had happened.
4. What NCCL's connections take of a GPU, in new processes, with its usual settings and with smaller ones.

`--small` tries it on the CPU with a toy LLM. The tokeniser's ids have to be below 49,152.
"""

import argparse
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

Row = dict[str, Any]
NCCL_SETTINGS: dict[str, dict[str, str]] = {
    "usual": {},
    "4 channels": {"NCCL_MAX_NCHANNELS": "4"},
    "buffers of 1 MiB": {"NCCL_BUFFSIZE": str(2**20)},
    "both": {"NCCL_MAX_NCHANNELS": "4", "NCCL_BUFFSIZE": str(2**20)},
}


def main() -> None:
    """Run the parts that there is time for, and print the tables."""
    given = _parse()
    if "RANK" in os.environ:
        from shared_speed import work

        work(given)
        return
    begun = time.perf_counter()
    given.out.mkdir(parents=True, exist_ok=True)
    end = begun + 60 * given.minutes
    with tempfile.TemporaryDirectory() as folder:
        make_files(Path(folder), given.tokenizer)
        parts = {"speed": measure_speed, "commands": measure_commands, "nccl": measure_nccl}
        for name in given.parts:
            for row in parts[name](given, Path(folder), end):
                print({key: value for key, value in row.items() if key != "losses"}, file=sys.stderr, flush=True)
            print(f"{name} done after {time.perf_counter() - begun:.0f} s", file=sys.stderr, flush=True)
    print_tables(given.out)
    print(f"{time.perf_counter() - begun:.0f} s in all")


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    numbers = lambda text: [int(part) for part in text.split(",")]  # noqa: E731
    parser.add_argument("--tokenizer", type=Path, required=True, help="folder with tokenizer.json")
    parser.add_argument("--out", type=Path, required=True, help="folder for the JSON files")
    parser.add_argument("--gpus", type=numbers, default=None, help="counts of processes, such as 1,2,4")
    parser.add_argument("--layers", type=numbers, default=[36, 6])
    parser.add_argument("--batches", type=numbers, default=[8, 64, 16], help="samples per GPU")
    parser.add_argument("--steps", type=int, default=10, help="timed steps a round")
    parser.add_argument("--minutes", type=float, default=8)
    parser.add_argument("--parts", type=lambda text: text.split(","), default=["speed", "commands", "nccl"])
    parser.add_argument("--small", action="store_true", help="a toy LLM on the CPU")
    for hidden in ("--folder", "--rows"):
        parser.add_argument(hidden, type=Path, default=None, help=argparse.SUPPRESS)
    parser.add_argument("--part", default="", help=argparse.SUPPRESS)
    parser.add_argument("--limit", type=float, default=0, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.small:
        given.layers, given.batches, given.steps = [1], [1], 2
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


def measure_speed(given: argparse.Namespace, folder: Path, end: float) -> list[Row]:
    """Part 1. It may take half of all time."""
    limit = min(30 * given.minutes, end - time.perf_counter())
    return start(given, folder, max(given.gpus), given.gpus, given.out / "speed.json", limit)


def measure_nccl(given: argparse.Namespace, folder: Path, end: float) -> list[Row]:
    """Part 4, and every row with its settings."""
    rows: list[Row] = []
    counts = [count for count in given.gpus if count > 1]
    plans = [(count, "usual") for count in reversed(counts)]
    plans += [(max(counts), name) for name in reversed(NCCL_SETTINGS) if name != "usual"]
    for gpus, name in plans if not given.small else plans[:1]:
        if end - time.perf_counter() < 15:
            break
        found = start(
            given, folder, gpus, [1, gpus], folder / "nccl.json", min(40, end - time.perf_counter()), "nccl",
            NCCL_SETTINGS[name],
        )  # fmt: skip
        rows += [{**row, "settings": name} for row in found if row["part"] != "end"]
        _write(given.out / "nccl.json", rows)
    return rows


def measure_commands(given: argparse.Namespace, folder: Path, end: float) -> list[Row]:
    """Parts 2 and 3."""
    from shared_commands import Commands

    rows: list[Row] = []
    begun = time.perf_counter()
    commands = Commands(folder, given.tokenizer, given.small, 60 if given.small else 400, _card_reader(given.small))
    most = max(given.gpus)
    plan: list[Callable[[], Row]] = [
        lambda: commands.compare(1),
        lambda: commands.compare(most),
        lambda: commands.lose(most, signal.SIGSTOP),
        lambda: commands.lose(most, signal.SIGKILL),
    ]
    plan += [lambda: commands.compare(2)] if most > 2 else []
    longest = 0.0
    for measure in plan:
        if end - time.perf_counter() < max(longest, 20):
            rows.append({"part": "time", "fault": f"no time for {len(plan) - len(rows)} of {len(plan)} commands"})
            break
        started = time.perf_counter()
        try:
            rows.append(measure())
        except Exception as error:  # the other parts are worth having
            rows.append({"part": "fault", "fault": repr(error)})
        longest = max(longest, time.perf_counter() - started)
        _write(given.out / "commands.json", rows)
    print(f"commands took {time.perf_counter() - begun:.0f} s", file=sys.stderr)
    return rows


def start(
    given: argparse.Namespace, folder: Path, processes: int, sizes: list[int], report: Path, limit: float,
    part: str = "", variables: dict[str, str] | None = None,
) -> list[Row]:  # fmt: skip
    """Run this script in so many processes; the rows of the first one. After `limit` seconds they are ended."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    command = [sys.executable, __file__, *sys.argv[1:], "--folder", str(folder), "--rows", str(report)]
    command += ["--gpus", ",".join(map(str, sizes)), "--limit", f"{limit:.0f}", "--part", part]
    common = {
        "NCCL_NVLS_ENABLE": "0", **os.environ, "WORLD_SIZE": str(processes), "LOCAL_WORLD_SIZE": str(processes),
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "TIMELLM_CACHE": str(folder / "cache"),
        "PYTORCH_ALLOC_CONF": "expandable_segments:True", "OMP_NUM_THREADS": "1" if given.small else "4",
        "TOKENIZERS_PARALLELISM": "false", "TIMELLM_PATIENCE": "120", **(variables or {}),
    }  # fmt: skip
    report.unlink(missing_ok=True)
    running = [
        subprocess.Popen(command, env={**common, "RANK": str(rank), "LOCAL_RANK": str(rank)}, stdout=sys.stderr)
        for rank in range(processes)
    ]
    end = time.perf_counter() + limit
    while any(process.poll() is None for process in running) and time.perf_counter() < end:
        if any(process.poll() for process in running):
            end = min(end, time.perf_counter() + 5)  # the others wait for the one that failed
        time.sleep(0.1)
    for process in running:
        process.kill()
        process.wait()
    rows: list[Row] = json.loads(report.read_text(encoding="utf-8")) if report.exists() else []
    if any(process.returncode for process in running):
        rows.append({"part": "fault", "fault": f"ended with {[process.returncode for process in running]}"})
    return rows


def _card_reader(small: bool) -> Callable[[], list[int]]:
    if small:
        return lambda: [0]
    import pynvml

    pynvml.nvmlInit()
    cards = [pynvml.nvmlDeviceGetHandleByIndex(number) for number in range(_count_gpus())]
    return lambda: [int(pynvml.nvmlDeviceGetMemoryInfo(card).used) for card in cards]


def _write(path: Path, rows: list[Row]) -> None:
    path.write_text(json.dumps(rows), encoding="utf-8")


def print_tables(out: Path) -> None:
    """What was measured, from the files."""
    rows = {name: _read(out / f"{name}.json") for name in ("speed", "commands", "nccl")}
    print(", ".join({row["gpu"] for row in rows["speed"] if row["part"] == "end"}) or "not ended", "Qwen2.5-3B NF4")
    print("| layers | batch a GPU | GPUs | samples/s | times | exchange ms | scored/s | times | many | times | mse |")
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    speeds = [row for row in rows["speed"] if row["part"] == "speed"]
    for row in sorted(speeds, key=lambda row: (row["layers"], row["batch"], row["gpus"])):
        print(_speed_line(row, next(one for one in speeds if _job(one) == _job(row) and one["gpus"] == 1)))
    print("| NCCL | GPUs | MiB of each after a short sum and a long one | sum of 4 million, ms |\n|---|---|---|---|")
    for row in (row for name in ("speed", "nccl") for row in rows[name] if row["part"] == "nccl"):
        taken = ", ".join(f"{short:.0f}-{long:.0f}" for short, long in row["mib"])
        print(f"| {row.get('settings', 'beside others')} | {row['gpus']} | {taken} | {row['sum_ms']:.2f} |")
    whole = {row["processes"]: row for row in rows["commands"] if row["part"] == "command"}
    for processes, row in whole.items():
        off = _largest_difference(row["losses"], whole[1]["losses"]) if 1 in whole else None
        print(f"train, {processes}: code {row['code']}, {row['seconds']:.0f} s, val {row['val_mse']}, off {off}")
        memory = row["memory"] or {"reserved": 0, "predicted": 0}
        print(f"  took {[round(mib) for mib in row['took_mib']]} MiB of each card; torch reserved "
              f"{memory['reserved'] / 2**20:.0f}, predicted {memory['predicted'] / 2**20:.0f} MiB")  # fmt: skip
    for row in (row for row in rows["commands"] if row["part"] == "lost"):
        off = _largest_difference(row.get("resumed", {}), whole[1]["losses"]) if 1 in whole else None
        print(f"{row['signal']}: code {row['code']} after {row['seconds']:.1f} s, step {row['saved_step']} saved, "
              f"{row['steps_logged']} logged; resumed {len(row.get('resumed', {}))} steps, off {off}")  # fmt: skip
        print("  " + "\n  ".join(line for line in row["said"] if not line.startswith("iters")))
    for row in (row for name in rows for row in rows[name] if "fault" in row):
        print(row)


def _read(path: Path) -> list[Row]:
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else []


def _job(row: Row) -> tuple[int, int]:
    return row["layers"], row["batch"]


def _speed_line(row: Row, one: Row) -> str:
    """Samples a second, and how many times those of one GPU: the median over the rounds of each."""
    size = row["gpus"]
    shown = [row["layers"], row["batch"], size]
    scored = sorted((key for key in row if key.startswith("score_")), key=lambda key: int(key[6:]))
    for key in ("step", "exchange", *scored):
        samples = row["batch"] if key == "step" else int(key[6:]) if key.startswith("score_") else 0
        if not samples:
            shown.append(f"{1000 * statistics.median(row[key]):.2f}")
            continue
        times = statistics.median(size * alone / own for alone, own in zip(one[key], row[key], strict=True))
        shown += [f"{samples * size / statistics.median(row[key]):,.0f}", f"{times:.2f}"]
    shown += ["", ""] * (2 - len(scored))
    return f"| {' | '.join(map(str, shown))} | {row['mse']:.9f} |"


def _largest_difference(losses: dict[str, float], others: dict[str, float]) -> str:
    shared = losses.keys() & others.keys()
    return f"{max(abs(losses[step] / others[step] - 1) for step in shared):.1e} of {len(shared)}" if shared else "-"


if __name__ == "__main__":
    main()
