"""Training speed and memory, plain against ours, in one run on one GPU. Prints one short table at the end.

    python benchmarks/throughput.py --tokenizer FOLDER [PART ...] [--json FILE] [--small]

Weights of the exact shapes are drawn at random on the GPU; inputs are real prompts of a generated ETT table, tokenised
with the tokeniser in FOLDER. `plain.py` says what plain is, `runs.py` what the others are; ours runs through the
project's own training loop. Jobs of a part take turns in one process. `share` is that of the card's bf16 matrix rate,
measured in the same process, counting 2 x linear parameters x (all tokens forward + patches backward), recomputation
left out; `read` counts the tokens that a step really reads, without the prompt's constant head where that is read once.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from gpu_profiles import make_ett
from random_llm import SHAPES, make_folder
from rich import box
from rich.console import Console
from rich.table import Table
from runs import LADDER, Job

GIB = 2**30
Row = dict[str, Any]


class Bench:
    """Runs groups of jobs, each group in a process of its own, and gathers rows."""

    def __init__(
        self, folder: Path, tokenizer: Path, small: bool, rounds: int, steps: int, report: Path | None
    ) -> None:
        self._folder, self._small, self._rounds, self._steps, self._report = folder, small, rounds, steps, report
        self.rows: list[Row] = []
        for shape in SHAPES:
            make_folder(folder / shape, shape, tokenizer)
        make_ett(folder / "ett.csv", 69_680, 15)

    def run(self, jobs: list[Job]) -> None:
        """Measure and keep the rows."""
        rows = self.measure(jobs, self._rounds, self._steps)
        self.rows += rows
        if self._report:
            with self._report.open("a", encoding="utf-8") as file:
                file.writelines(json.dumps(row) + "\n" for row in rows)

    def measure(self, jobs: list[Job], rounds: int, steps: int) -> list[Row]:
        """One row a job."""
        if self._small:
            jobs = [replace(job, shape="toy", layers=min(job.layers, 2), batch=min(job.batch, 4)) for job in jobs]
        task = self._folder / "task.json"
        task.write_text(json.dumps([asdict(job) for job in jobs]), encoding="utf-8")
        command = [sys.executable, str(Path(__file__).with_name("measure.py")), str(task), str(rounds), str(steps)]
        environment = {**os.environ, "TIMELLM_CACHE": str(self._folder / "cache")}
        finished = subprocess.run(
            [*command, "cpu" if self._small else "cuda"], check=False, env=environment, stdout=subprocess.DEVNULL
        )
        if finished.returncode:
            rows = [{**asdict(job), "fault": f"the process ended with {finished.returncode}"} for job in jobs]
        else:
            rows = json.loads(task.read_text(encoding="utf-8"))
        for row in rows:
            print(_line(row), file=sys.stderr, flush=True)
        return rows

    def largest(self, job: Job) -> Job | None:
        """The job with the largest batch found inside its cap, from `job.batch` on; None if none fits."""
        tries: dict[int, Row] = {}

        def fits(batch: int) -> bool:
            if batch not in tries:
                tries[batch] = self.measure([replace(job, batch=batch)], 1, 3)[0]
            return not tries[batch]["fault"]

        low = job.batch
        while not fits(low):
            if low == 1:
                return None
            low //= 2
        found = search_largest(low, fits, lambda batch: tries[batch]["reserved"], lambda: _room(tries[low], job))
        return replace(job, batch=found)


def search_largest(
    low: int, fits: Callable[[int], bool], memory: Callable[[int], float], room: Callable[[], float]
) -> int:
    """The largest batch that fits, to within a thirtieth, in few tries; `low` is known to fit.

    Memory grows in proportion to the batch, so two tries tell where it ends; the next ones correct that.
    """
    first, high = low, None
    if not fits(2 * low):
        high = 2 * low
    else:
        low *= 2
    for _ in range(4):
        step = max(low // 30, 1)
        if high is not None and high - low <= step:
            break
        slope = (memory(low) - memory(first)) / (low - first) if low > first else 0.0
        guess = low + int((room() - memory(low)) / slope) if slope > 0 else 2 * low
        guess = min(guess, 8 * low)
        if high is not None:
            guess = min(max(guess, low + step), high - step) if guess < high else (low + high) // 2
        guess = low + max((guess - low) // step, 1) * step
        if fits(guess):
            if guess - low <= step and high is None and slope > 0:
                return guess
            low = guess
        else:
            high = guess
    return low


def _room(row: Row, job: Job) -> float:
    """GiB that may be reserved under the cap, as the context was in this row."""
    assert job.cap is not None
    return job.cap / GIB - (row["device"] - row["reserved"])


def compare_batches(bench: Bench, layers: int) -> None:
    """Qwen2.5-3B: the same batches, no cap."""
    jobs = [Job(f"batches-{layers}", "plain", "qwen2.5-3b", layers, batch) for batch in (8, 32)]
    bench.run([replace(job, variant=variant) for job in jobs for variant in ("plain", "ours", "ours-recompute")])


def compare_inside(bench: Bench, job: Job, baselines: list[tuple[str, int]], ours: list[tuple[str, int]]) -> None:
    """Each baseline's largest batch inside the job's cap, found first from a given one on, and ours at given ones."""
    jobs = []
    for variant, start in baselines:
        best = bench.largest(replace(job, variant=variant, batch=start))
        if best is None:
            bench.rows.append({**asdict(replace(job, variant=variant, batch=1)), "fault": "not even one sample fits"})
        else:
            jobs.append(best)
    bench.run([*jobs, *(replace(job, variant=variant, batch=batch) for variant, batch in ours)])


def compare_capped_36(bench: Bench) -> None:
    """All layers inside 6 GiB for us; the plain path at batch 8 without a cap, which is more than 6 GiB."""
    plain = Job("cap-36", "plain", "qwen2.5-3b", 36, 8)
    ours = replace(plain, variant="ours-recompute", cap=6 * GIB)
    bench.run([plain, *(replace(ours, batch=batch) for batch in (32, 128))])


def measure_large(bench: Bench) -> None:
    """How near the card's matrix rate large batches come, all layers, no cap."""
    job = Job("large-36", "ours", "qwen2.5-3b", 36, 64)
    jobs = [job, replace(job, variant="ours-recompute"), replace(job, variant="ours-16", quantization="none")]
    bench.run([*jobs, *(replace(job, variant="ours-recompute", batch=batch) for batch in (128, 256))])


def compare_without_triton(bench: Bench) -> None:
    """What a machine without a working Triton gets, as on Windows, beside one that has it."""
    for layers, batch in ((36, 8), (6, 32)):
        jobs = [
            Job("without-triton", variant, "qwen2.5-3b", layers, batch) for variant in ("captured", "nvrtc", "triton")
        ]
        bench.run(jobs)


def compare_smollm2(bench: Bench) -> None:
    """SmolLM2-135M in bf16."""
    jobs = [Job("smollm2", "plain", "smollm2-135m", layers, 128, quantization="none") for layers in (30, 6)]
    bench.run([replace(job, variant=variant) for job in jobs for variant in ("plain", "ours")])


PARTS: dict[str, Callable[[Bench], None]] = {
    "batches-6": lambda bench: compare_batches(bench, 6),
    "batches-36": lambda bench: compare_batches(bench, 36),
    "cap-6": lambda bench: compare_inside(
        bench, Job("cap-6", "", "qwen2.5-3b", 6, 0, cap=6 * GIB), [("published", 2), ("plain", 16)],
        [("ours", 32), ("ours", 64), ("ours", 128), ("ours-recompute", 512)],
    ),
    "cap-36": compare_capped_36,
    "large-36": measure_large,
    "without-triton": compare_without_triton,
    "smollm2": compare_smollm2,
    "llama": lambda bench: compare_inside(
        bench, Job("llama", "", "llama-3-8b", 32, 0, seq_len=256, cap=15 * GIB), [("plain", 2)],
        [("ours", 2), ("ours", 64), ("ours-recompute", 192)],
    ),
    "variants": lambda bench: bench.run([Job("variants", name, "qwen2.5-3b", 36, 8) for name in LADDER]),
}  # fmt: skip


def _line(row: Row) -> str:
    what = f"{row['part']}: {row['variant']}, {row['shape']}, {row['layers']} layers, batch {row['batch']}"
    if row["fault"]:
        return f"{what}: {row['fault']}"
    return f"{what}: {row['seconds'] * 1000:.1f} ms, reserved {row['reserved']:.2f} GiB, loss {row['loss']:.4f}"


def print_table(rows: list[Row]) -> None:
    """The short table, and the sentence it needs."""
    table = Table(box=box.SIMPLE_HEAD)
    for name in ("part", "variant"):
        table.add_column(name, no_wrap=True)
    numbers = ("layers", "batch", "samples/s", "ms", "alloc", "resv", "device", "share", "read")
    for name in numbers:
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        cells = [row["part"], row["variant"], str(row["layers"]), str(row["batch"])]
        if row["fault"]:
            cells.append(row["fault"])
        else:
            cells += [f"{row['samples_per_second']:.1f}", f"{row['seconds'] * 1000:.1f}"]
            cells += [f"{row[name]:.2f}" for name in ("allocated", "reserved", "device")]
            cells += [f"{row[name]:.1%}" for name in ("share", "share_read")]
        table.add_row(*cells)
    console = Console(width=150)
    console.print(table)
    measured = [row for row in rows if not row["fault"]]
    if measured:
        last = measured[-1]
        console.print(f"{last['gpu']}, torch {last['torch']}, {last['matrix_tflops']:.0f} TFLOP/s bf16; memory in GiB")


def main() -> None:
    """Measure the parts asked for, all of them by default."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; default: all")
    parser.add_argument("--tokenizer", type=Path, required=True, help="folder with tokenizer.json, ids below 49,152")
    parser.add_argument("--json", type=Path, help="append a JSON object a row to this file")
    parser.add_argument("--rounds", type=int, default=2, help="turns of each job")
    parser.add_argument("--steps", type=int, default=10, help="timed steps a turn, after 4 more")
    parser.add_argument("--small", action="store_true", help="toy sizes on the CPU, to try the script")
    arguments = parser.parse_args()
    if unknown := set(arguments.parts) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}; parts are {', '.join(PARTS)}")
    with tempfile.TemporaryDirectory() as temporary:
        bench = Bench(
            Path(temporary), arguments.tokenizer, arguments.small, arguments.rounds, arguments.steps, arguments.json
        )
        for part in arguments.parts or PARTS:
            PARTS[part](bench)
    print_table(bench.rows)


if __name__ == "__main__":
    main()
