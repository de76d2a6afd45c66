"""Measures the memory and time of one group of runs in a process of its own; `memory_grid.py` starts it.

    python benchmarks/memory_run.py TASK REPORT DEVICE [TRACES]

TASK is a JSON file beside `ett.csv` and the LLM folders: a list of jobs. A JSON line for each is added to REPORT, and
what is alive at the peak of small runs to TRACES.
"""

import json
import logging
import statistics
import sys
import time
import traceback
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from measure import matrix_rate
from peak_trace import PeakTrace, tracing
from runs import ProjectTraining, WatchedEncoder, Workplace, give_memory_back
from variants import Job

from timellm_cli.model.cuda_graphs import forget_recordings

WARM_UP, TIMED = 2, 6
SCORED = 64
TRACED_LAYERS = 8


def main() -> None:
    """Measure, and write a row at a time."""
    task, report, device = Path(sys.argv[1]), Path(sys.argv[2]), torch.device(sys.argv[3])
    traces = Path(sys.argv[4]) if len(sys.argv) > 4 else None
    logging.getLogger("bitsandbytes").setLevel(logging.CRITICAL)
    used_before = driver_used()
    place = Workplace(task.parent, device, "bf16" if device.type == "cuda" else "fp32")
    jobs = [Job(**job) for job in json.loads(task.read_text(encoding="utf-8"))]
    card = describe_card(device)
    give_memory_back(device)
    for order, job in enumerate(jobs):
        row = {**asdict(job), "order": order, "used_before": used_before, **card, **measure(job, place, traces)}
        with report.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        give_memory_back(device)


def measure(job: Job, place: Workplace, traces: Path | None) -> dict[str, Any]:
    """What a run took, or its fault."""
    small = job.layers <= TRACED_LAYERS and place.device.type == "cuda"
    try:
        with tracing() if traces and small else nullcontext() as trace:
            figures, found = _measure(job, place, trace)
    except Exception as error:
        traceback.print_exc()
        return {"fault": f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"}
    if traces and found:
        with traces.open("a", encoding="utf-8") as file:
            file.write(json.dumps({**asdict(job), "peak": found}) + "\n")
    return {"fault": "", **figures}


def _measure(job: Job, place: Workplace, trace: PeakTrace | None) -> tuple[dict[str, Any], dict[str, int]]:
    found: dict[str, int] = {}
    figures: dict[str, Any] = {}
    on_gpu = place.device.type == "cuda"
    if "llm.name" not in job.settings:
        place.llm(job.shape).factor_EE()  # drawn here and not while loading is measured
        give_memory_back(place.device)
    figures["before"] = _allocated(on_gpu)
    _forget_peaks(on_gpu)
    with place.running(job) as run:
        assert isinstance(run, ProjectTraining)
        watched = run.watch_prompts()
        figures |= _peaks("loading", on_gpu) | {"built": _allocated(on_gpu)}
        _forget_peaks(on_gpu)
        if trace:
            trace.begin_step()
        run.step()
        if trace:
            found = trace.at_peak()
            torch.cuda.memory._record_memory_history(enabled=None)
        for _ in range(WARM_UP - 1):
            run.step()
        if run.runner.captures:  # as prompts of another length will find it: optimizer states are there
            forget_recordings()
            figures |= {f"first_{name}": size for name, size in _peaks("step", on_gpu).items()}
            _forget_peaks(on_gpu)
        figures |= _time(run, on_gpu)
        figures |= _peaks("step", on_gpu) | _prompts(watched, run) | {"kept": _allocated(on_gpu)}
        figures |= _device(on_gpu)
        figures |= _score(run, on_gpu)
    return figures, found


def _time(run: ProjectTraining, on_gpu: bool) -> dict[str, Any]:
    """Median of a step by the clock, and mean of its time on the GPU."""
    if on_gpu:
        torch.cuda.synchronize()
        run.trainer.training_step.gpu_time.take()
    seconds = []
    for _ in range(TIMED):
        start = time.perf_counter()
        loss = run.step()
        seconds.append(time.perf_counter() - start)
    if on_gpu:
        torch.cuda.synchronize()
    gpu_time = run.trainer.training_step.gpu_time
    steps = len(gpu_time._running)
    return {
        "seconds": statistics.median(seconds), "gpu_seconds": gpu_time.take() / steps if steps else 0.0, "loss": loss,
        "steps": WARM_UP + TIMED,
    }  # fmt: skip


def _score(run: ProjectTraining, on_gpu: bool) -> dict[str, Any]:
    """Forecasts of a batch beside the training that is held."""
    batch = run.data.windows("val").batch(range(SCORED))
    if on_gpu:
        torch.cuda.empty_cache()
    _forget_peaks(on_gpu)
    run.runner(batch)
    if on_gpu:
        torch.cuda.synchronize()
    start = time.perf_counter()
    run.runner(batch)
    if on_gpu:
        torch.cuda.synchronize()
    return {"scored": SCORED, "scoring_seconds": time.perf_counter() - start} | _peaks("scoring", on_gpu)


def _prompts(watched: WatchedEncoder, run: ProjectTraining) -> dict[str, int]:
    embedding = getattr(run.runner.model.llm, "embedding", None)
    lengths = sorted({length for _, length in watched.prompts})
    return {
        "head_tokens": watched.prompts[0][0], "prompt_tokens": lengths[-1], "shortest_prompt": lengths[0],
        "prompt_lengths": len(lengths), "rows_used": embedding._used if embedding else 0,
        "patches": run.runner.model.patch_nums,
        "trainable": sum(weight.numel() for weight in run.runner.model.trainable_weights().values()),
    }  # fmt: skip


def _allocated(on_gpu: bool) -> int:
    return torch.cuda.memory_allocated() if on_gpu else 0


def _forget_peaks(on_gpu: bool) -> None:
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()


def _peaks(name: str, on_gpu: bool) -> dict[str, int]:
    if not on_gpu:
        return {f"{name}_peak": 0, f"{name}_reserved": 0}
    return {f"{name}_peak": torch.cuda.max_memory_allocated(), f"{name}_reserved": torch.cuda.max_memory_reserved()}


def _device(on_gpu: bool) -> dict[str, int]:
    """What the driver says that is taken, and what torch has reserved of it."""
    if not on_gpu:
        return {"device_used": 0, "reserved": 0, "driver_used": 0}
    free, total = torch.cuda.mem_get_info()
    return {"device_used": total - free, "reserved": torch.cuda.memory_reserved(), "driver_used": driver_used()}


def driver_used() -> int:
    """Bytes of the first card that the driver says are taken; 0 where there is none."""
    import pynvml

    try:
        pynvml.nvmlInit()
        return int(pynvml.nvmlDeviceGetMemoryInfo(pynvml.nvmlDeviceGetHandleByIndex(0)).used)
    except pynvml.NVMLError:
        return 0


def describe_card(device: torch.device) -> dict[str, Any]:
    """The card, its measured matrix rate (operations a second) and copy bandwidth (bytes a second, read and write)."""
    known: dict[str, Any] = {"torch": torch.__version__, "date": time.strftime("%Y-%m-%d")}
    if device.type != "cuda":
        return {**known, "card": "CPU"}
    torch.zeros(1, device=device)
    free, total = torch.cuda.mem_get_info()
    known["bare_context"] = total - free - torch.cuda.memory_reserved()
    properties = torch.cuda.get_device_properties(0)
    return {
        **known, "card": properties.name, "capability": [properties.major, properties.minor],
        "total": properties.total_memory, "multiprocessors": properties.multi_processor_count,
        "matrix_rate": matrix_rate(device), "bandwidth": _bandwidth(),
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
    main()
