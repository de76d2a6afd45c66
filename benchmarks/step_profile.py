"""Where a step's time on the GPU goes, and what our kernels for attention's gradient save. Prints JSON.

    python benchmarks/step_profile.py --tokenizer FOLDER [--batches 8 64] [--layers 36] [--rounds 3] [--json FILE]

Qwen2.5-3B's shape in NF4 with random weights, through the project's own training loop, steps recorded. The tables: the
time of a step with PyTorch's gradient of attention and with ours, in turns; the time of each kind of kernel; with
`--rates`, the rate at which a matrix is written out, and the rate of each product of a layer.
"""

import argparse
import gc
import json
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from gpu_profiles import make_ett
from measure import matrix_rate
from random_llm import make_folder
from runs import Job, Workplace, give_memory_back

from timellm_cli.model.llm.frozen_matrix import make_matrix, quantise
from timellm_cli.model.llm.ops import TorchOps, choose_ops
from timellm_cli.model.llm.triton_ops import TritonOps

SHAPE = "qwen2.5-3b"
MATRICES = {"qkv": (2560, 2048), "out": (2048, 2048), "gate_up": (22016, 2048), "down": (2048, 11008)}
KINDS = (
    ("dequantize", "writing matrices out"), ("gemm", "products"), ("cutlass", "products"), ("nvjet", "products"),
    ("splitk", "products"), ("fmha", "attention"), ("flash", "attention"), ("attention", "attention"),
    ("split_heads", "heads"), ("merge_heads", "heads"), ("rms_norm", "norms"), ("swiglu", "MLP's gate"),
)  # fmt: skip


@contextmanager
def settings(variant: str) -> Iterator[None]:
    """'ours', or 'autograd': attention's gradient by PyTorch's kernels."""
    kept = TritonOps.patch_attention
    if variant == "autograd":
        TritonOps.patch_attention = TorchOps.patch_attention  # type: ignore[method-assign]
    try:
        yield
    finally:
        TritonOps.patch_attention = kept  # type: ignore[method-assign]


def time_steps(place: Workplace, job: Job, variants: list[str], rounds: int, steps: int) -> dict[str, Any]:
    """Median ms of a step and GiB allocated at the peak, by variant, in turns."""
    times: dict[str, list[float]] = defaultdict(list)
    rows: dict[str, Any] = {}
    for _ in range(rounds):
        for variant in variants:
            with settings(variant), place.running(job) as run:
                torch.cuda.reset_peak_memory_stats()
                for _ in range(4):
                    run.step()
                torch.cuda.synchronize()
                for _ in range(steps):
                    start = time.perf_counter()
                    loss = run.step()
                    times[variant].append((time.perf_counter() - start) * 1000)
                torch.cuda.synchronize()
                rows[variant] = {
                    "loss": loss,
                    "allocated": torch.cuda.max_memory_allocated() / 2**30,
                    "reserved": torch.cuda.max_memory_reserved() / 2**30,
                }
            del run
            give_memory_back(place.device)
    for variant in variants:
        rows[variant]["ms"] = statistics.median(times[variant])
        rows[variant]["fastest"] = min(times[variant])
    return rows


def kernels_of_a_step(place: Workplace, job: Job, variant: str) -> dict[str, Any]:
    """Milliseconds of a step's kernels by kind, and the largest kernels by name."""
    from torch.profiler import ProfilerActivity, profile

    steps = 5
    with settings(variant), place.running(job) as run:
        for _ in range(4):
            run.step()
        with profile(activities=[ProfilerActivity.CUDA]) as watched:
            for _ in range(steps):
                run.step()
            torch.cuda.synchronize()
    del run
    give_memory_back(place.device)
    kinds: dict[str, float] = defaultdict(float)
    names: dict[str, tuple[float, int]] = {}
    for event in watched.key_averages():
        ms = event.self_device_time_total / 1000 / steps
        if ms <= 0:
            continue
        kind = next((kind for part, kind in KINDS if part in event.key.lower()), "other")
        kinds[kind] += ms
        names[event.key[:90]] = (ms, event.count // steps)
    top = sorted(names.items(), key=lambda item: -item[1][0])[:26]
    return {"kinds": dict(sorted(kinds.items(), key=lambda item: -item[1])), "top": top}


def time_call(call: Callable[[], object], times: int = 30) -> float:
    """Microseconds of a call on the GPU, caches as other calls leave them."""
    for _ in range(3):
        call()
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    start.record()
    for _ in range(times):
        call()
    end.record()
    torch.cuda.synchronize()
    return start.elapsed_time(end) * 1000 / times


def rates_of_matrices(device: torch.device, kernels: str) -> dict[str, Any]:
    """Microseconds and GB/s of writing each matrix out."""
    ops, rows = choose_ops(device, kernels), {}  # type: ignore[arg-type]
    for name, shape in MATRICES.items():
        weight = torch.randn(shape, device=device, dtype=torch.bfloat16)
        matrix = make_matrix(shape, quantise(weight, "nf4", True), ops)
        us = time_call(partial(matrix.dense, torch.bfloat16))
        rows[name] = {"us": us, "GB/s": weight.numel() * 2.53 / us / 1000}  # 2 bytes written, 0.53 read
    return rows


def rates_of_products(device: torch.device, rows: int, patches: int) -> dict[str, Any]:
    """Microseconds and TFLOP/s of a layer's products, forward with all tokens and backward with the patches."""
    found = {}
    for name, (outputs, inputs) in MATRICES.items():
        weight = torch.randn(outputs, inputs, device=device, dtype=torch.bfloat16)
        x = torch.randn(rows, inputs, device=device, dtype=torch.bfloat16)
        grad = torch.randn(patches, outputs, device=device, dtype=torch.bfloat16)
        for way, left, right in (("forward", x, weight.T), ("backward", grad, weight)):
            us = time_call(partial(torch.matmul, left, right))
            found[f"{name} {way}"] = {"us": us, "TFLOP/s": 2 * len(left) * outputs * inputs / us / 1e6}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokenizer", type=Path, required=True)
    parser.add_argument("--batches", type=int, nargs="+", default=[8, 64])
    parser.add_argument("--layers", type=int, default=36)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=15)
    parser.add_argument("--kernels", default="triton")
    parser.add_argument("--variants", nargs="+", default=["autograd", "ours"])
    parser.add_argument("--rates", action="store_true", help="also matrices and products alone")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    device = torch.device("cuda")
    found: dict[str, Any] = {"gpu": torch.cuda.get_device_name(), "matrix_tflops": matrix_rate(device) / 1e12}

    def save() -> None:
        if options.json:
            options.json.write_text(json.dumps(found, indent=1), encoding="utf-8")

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        make_folder(folder / SHAPE, SHAPE, options.tokenizer)
        make_ett(folder / "ett.csv", 69_680, 15)
        place = Workplace(folder, device, "bf16")
        for batch in options.batches:
            job = Job("profile", "ours", SHAPE, options.layers, batch, settings={"hardware.kernels": options.kernels})
            for variant in (options.variants[0], options.variants[-1]):
                found[f"kernels, batch {batch}, {variant}"] = kernels_of_a_step(place, job, variant)
            found[f"steps, batch {batch}"] = time_steps(place, job, options.variants, options.rounds, options.steps)
            print(batch, json.dumps(found[f"steps, batch {batch}"]), file=sys.stderr, flush=True)
            save()
            if options.rates:
                found[f"products, batch {batch}"] = rates_of_products(device, batch * 136, batch * 64)
        if options.rates:
            found["matrices"] = {name: rates_of_matrices(device, name) for name in ("triton", "nvrtc", "torch")}
        del place
        gc.collect()
    save()
    for key, value in found.items():
        print(key, json.dumps(value, indent=None if "kernels" not in key else 1))


if __name__ == "__main__":
    main()
