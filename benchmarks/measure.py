"""Times steps and reads memory of jobs that take turns in one process; `throughput.py` starts it for each group.

    python benchmarks/measure.py TASK ROUNDS STEPS DEVICE

TASK is a JSON file beside `ett.csv` and the LLM folders: a list of jobs, which is replaced by their rows. A job takes
seconds, its LLM's first one up to a minute.
"""

import argparse
import json
import logging
import statistics
import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from random_llm import linear_parameters
from runs import VARIANTS, Job, Workplace, give_memory_back

from timellm_cli.counts import count_patches

GIB = 2**30
WARM_UP = 4


@dataclass
class Reading:
    """What a job did, over all its turns. Bytes; `fault` says why it did not.

    `left_over` is what the process held of the GPU when the job began, left by the jobs before.
    """

    seconds: list[float] = field(default_factory=list)
    allocated: int = 0
    reserved: int = 0
    device: int = 0
    left_over: int = 0
    loss: float = 0.0
    fault: str = ""


def measure_in_turns(jobs: list[Job], place: Workplace, rounds: int, warm_up: int, steps: int) -> list[dict[str, Any]]:
    """One row a job. In every round each job is built, warmed up, timed and taken away again."""
    rate = matrix_rate(place.device)
    readings = [Reading() for _ in jobs]
    for _ in range(rounds):
        for job, reading in zip(jobs, readings, strict=True):
            if not reading.fault:
                if place.device.type == "cuda":
                    reading.left_over = max(reading.left_over, torch.cuda.memory_reserved())
                _take_a_turn(job, place, warm_up, steps, reading)
                give_memory_back(place.device)
    return [_row(job, reading, rate, place) for job, reading in zip(jobs, readings, strict=True)]


def matrix_rate(device: torch.device) -> float:
    """Floating-point operations a second of bf16 matrix products of 8192 x 8192 on a GPU; 0 on a CPU."""
    if device.type != "cuda":
        return 0.0
    left, right = (torch.randn(8192, 8192, device=device, dtype=torch.bfloat16) for _ in range(2))
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    for _ in range(5):
        left @ right
    start.record()
    for _ in range(20):
        left @ right
    end.record()
    torch.cuda.synchronize()
    return 20 * 2 * 8192**3 / (start.elapsed_time(end) / 1000)


def _take_a_turn(job: Job, place: Workplace, warm_up: int, steps: int, reading: Reading) -> None:
    try:
        with place.running(job) as run:
            _limit(job.cap, place.device)
            _forget_peaks(place.device)
            for _ in range(warm_up):
                run.step()
            _limit(job.cap, place.device)  # the context has grown by the kernels loaded since
            _synchronize(place.device)
            for _ in range(steps):
                start = time.perf_counter()
                reading.loss = run.step()
                reading.seconds.append(time.perf_counter() - start)
            _synchronize(place.device)
            _read_memory(reading, job.cap, place.device)
    except Exception as error:
        reading.fault = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        if "out of memory" in str(error):
            reading.fault = "out of memory"
        else:
            traceback.print_exc()


def _limit(cap: int | None, device: torch.device) -> None:
    """Let the process reserve what the cap leaves beside its context."""
    if cap is None or device.type != "cuda":
        return
    torch.cuda.empty_cache()
    free, total = torch.cuda.mem_get_info()
    context = total - free - torch.cuda.memory_reserved()
    torch.cuda.set_per_process_memory_fraction(max(cap - context, 0) / torch.cuda.get_device_properties(0).total_memory)


def _forget_peaks(device: torch.device) -> None:
    """What building took is no part of a step."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def _read_memory(reading: Reading, cap: int | None, device: torch.device) -> None:
    if device.type != "cuda":
        return
    free, total = torch.cuda.mem_get_info()
    reading.allocated = max(reading.allocated, torch.cuda.max_memory_allocated())
    reading.reserved = max(reading.reserved, torch.cuda.max_memory_reserved())
    reading.device = max(reading.device, total - free)
    context = total - free - torch.cuda.memory_reserved()
    if cap is not None and torch.cuda.max_memory_reserved() + context > cap:
        reading.fault = "out of memory: reserved and context are above the cap"


def _row(job: Job, reading: Reading, rate: float, place: Workplace) -> dict[str, Any]:
    """The job and its figures: times in seconds, memory in GiB, shares of the measured matrix rate."""
    row: dict[str, Any] = {**vars(job), "fault": reading.fault}
    if job.cap is not None:
        row["cap"] = job.cap / GIB
    if reading.fault:
        return row
    window = place.config(job)
    patches = count_patches(job.seq_len, window.model.patch_len, window.model.patch_stride)
    prompt, prefix = place.count_prompt(job)
    variant, seconds = VARIANTS[job.variant], statistics.median(reading.seconds)
    keeps_prefix = not variant.is_plain and variant.settings.get("hardware.keep_prefix", True)
    needed = prompt + 2 * patches
    read = needed - (prefix if keeps_prefix else 0)
    operations = 2 * linear_parameters(job.shape) * job.layers * job.batch / seconds
    on_gpu = place.device.type == "cuda"
    return row | {
        "seconds": seconds, "mean_seconds": statistics.fmean(reading.seconds), "slowest": max(reading.seconds),
        "samples_per_second": job.batch / seconds, "steps": len(reading.seconds), "loss": reading.loss,
        "allocated": reading.allocated / GIB, "reserved": reading.reserved / GIB, "device": reading.device / GIB,
        "share": operations * needed / rate if rate else 0.0, "share_read": operations * read / rate if rate else 0.0,
        "prompt_tokens": prompt, "prefix_tokens": prefix, "patches": patches, "matrix_tflops": rate / 1e12,
        "left_over": reading.left_over / GIB,
        "gpu": torch.cuda.get_device_name() if on_gpu else "CPU", "torch": torch.__version__,
    }  # fmt: skip


def main() -> None:
    """Measure and write the rows."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("task", type=Path, help="JSON file with jobs, to be replaced by rows")
    parser.add_argument("rounds", type=int, help="turns of each job")
    parser.add_argument("steps", type=int, help="timed steps a turn")
    parser.add_argument("device", type=torch.device)
    given = parser.parse_args()
    logging.getLogger("bitsandbytes").setLevel(logging.CRITICAL)
    jobs = [Job(**job) for job in json.loads(given.task.read_text(encoding="utf-8"))]
    on_gpu = given.device.type == "cuda"
    place = Workplace(given.task.parent, given.device, "bf16" if on_gpu else "fp32")
    rows = measure_in_turns(jobs, place, given.rounds, WARM_UP if on_gpu else 1, given.steps)
    given.task.write_text(json.dumps(rows), encoding="utf-8")


if __name__ == "__main__":
    main()
