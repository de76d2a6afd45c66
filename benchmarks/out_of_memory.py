"""A GPU whose memory is taken in the middle of a run: does the run go on, and with the same losses? And does what
`--batch-size auto` chooses for a 6 GiB card train inside its memory?

    PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True python benchmarks/out_of_memory.py --tokenizer FOLDER
        [--device cpu --shape toy] [--json FILE]

LLMs have random weights (NF4 on a GPU), dropout is off, and the allocator is set as `timellm` sets it. Each case runs
twice: undisturbed, and with ballast that leaves a part of what a step needs. The process is capped at 6 GiB, so that
ballast is small on any card. On a CPU there is none, and both runs are the same. Exits with 1 where a case fails.
"""

import argparse
import json
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from gpu_profiles import make_ett
from random_llm import SHAPES, make_folder
from runs import Job, Workplace, give_memory_back

from timellm_cli.model.runner import free_gpu_memory
from timellm_cli.planning.automatic import resolve_auto
from timellm_cli.planning.hardware import look_at_machine
from timellm_cli.planning.llm_shape import look_up_llm
from timellm_cli.planning.memory_bill import predict
from timellm_cli.units import GIB, format_memory

CAP, STEPS, SCORED = 6 * GIB, 10, 64
TOLERANCE = 0.02
"""Relative difference of a loss: 16-bit products of other shapes are rounded differently, and weights follow."""
EAGER, TRANSFORMERS = {"hardware.capture": "off"}, {"hardware.capture": "off", "llm.implementation": "transformers"}

Row = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """Memory is taken once `moment` steps are told, while another is on its way; `share` of a step's need is left."""

    name: str
    moment: int
    batch: int = 16
    accumulate: int = 1
    share: float = 0.7
    settings: dict[str, str] | None = None


CASES = (
    Case("captured, from the start", 0),
    Case("captured, in an update of 3", 4, accumulate=3),
    Case("captured, odd pieces", 4, batch=15),
    Case("captured, hardly anything left", 4, share=0.3),
    Case("launched, mid-run", 5, settings=EAGER),
    Case("launched, in an update of 3", 4, accumulate=3, settings=EAGER),
    Case("transformers, mid-run", 5, settings=TRANSFORMERS),
)


def run_case(case: Case, place: Workplace, shape: str, layers: int) -> Row:
    """An undisturbed and a disturbed run."""
    values = {"model.dropout": 0.0, "train.accumulate": case.accumulate, "hardware.recompute": "off"}
    quantization = "nf4" if place.device.type == "cuda" else "none"
    settings = {**values, **(case.settings or {})}
    job = Job(case.name, "ours", shape, layers, case.batch, quantization, settings=settings)
    _cap(place.device)
    with place.running(job) as run:
        expected = [run.step() for _ in range(STEPS)]
        need = _held_by_steps(place.device)
    give_memory_back(place.device)
    _cap(place.device)
    with place.running(job) as run:
        found = [run.step() for _ in range(case.moment)]
        missing = 12 * sum(weight.numel() for weight in run.trainer.training_step.weights.values()) if not found else 0
        ballast = _take_memory(int(case.share * need) + missing, place.device)
        found += [run.step() for _ in range(STEPS - case.moment)]
        at_a_time = run.trainer.training_step.samples_at_once
        del ballast
    off = max(abs(a / b - 1) for a, b in zip(found, expected, strict=True))
    was_short = at_a_time is not None or place.device.type == "cpu"
    figures = {"batch": case.batch, "at_a_time": at_a_time, "need": need, "off": off, "last_loss": found[-1]}
    return {**figures, "ok": off < TOLERANCE and was_short}


def run_scoring(place: Workplace, shape: str, layers: int) -> Row:
    """Forecasts of a batch before and after memory is taken, beside a captured training."""
    quantization = "nf4" if place.device.type == "cuda" else "none"
    job = Job("scoring", "ours", shape, layers, 4, quantization, settings={"hardware.recompute": "off"})
    _cap(place.device)
    with place.running(job) as run, torch.inference_mode():
        batch, scorer = run.data.windows("val").batch(range(SCORED)), run.runner
        expected_BH = scorer(batch).clone()
        need = _held_by_steps(place.device)
        ballast = _take_memory(int(0.6 * need), place.device)
        found_BH = scorer(batch)
        del ballast
        off = float((found_BH - expected_BH).norm() / expected_BH.norm())
    was_short = scorer.samples_at_once is not None or place.device.type == "cpu"
    figures = {"batch": SCORED, "at_a_time": scorer.samples_at_once, "need": need, "off": off, "last_loss": None}
    return {**figures, "ok": off < TOLERANCE and was_short}


def run_automatic(place: Workplace, shape: str, layers: int) -> Row:
    """Steps of the batch that is chosen for 6 GiB, in a process that gets no more."""
    first = Job("auto", "ours", shape, layers, 1, settings={"hardware.vram": "6GiB", "hardware.recompute": "auto"})
    config = place.config(first).with_values({"train.batch_size": "auto"})
    machine = look_at_machine()
    resolved = resolve_auto(config, machine, look_up_llm(config.llm.name))
    train, bill = resolved.train, predict(resolved, machine)
    assert bill is not None
    chosen = {
        "train.accumulate": train.accumulate, "hardware.recompute": resolved.hardware.recompute,
        "hardware.capture": resolved.hardware.capture,
    }  # fmt: skip
    context = bill["cuda_context"]
    _cap(place.device, CAP - context)
    if place.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    with place.running(Job("auto", "ours", shape, layers, train.batch, settings=chosen)) as run:
        losses = [run.step() for _ in range(STEPS)]
        at_a_time = run.trainer.training_step.samples_at_once
    peak = torch.cuda.max_memory_allocated() if place.device.type == "cuda" else 0
    held = torch.cuda.max_memory_reserved() if place.device.type == "cuda" else 0
    return {
        "batch": train.batch, "accumulate": train.accumulate, "at_a_time": at_a_time, "need": peak, "held": held,
        "bill": bill.total, "bill_without_context": bill.total - context, "off": None, "last_loss": losses[-1],
        "ok": at_a_time is None and losses[-1] < 10,
    }  # fmt: skip


def _cap(device: torch.device, size: int = CAP) -> None:
    if device.type == "cuda":
        share = size / torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction(min(share, 1.0))


def _held_by_steps(device: torch.device) -> int:
    """Bytes that come back once recordings and cached memory are let go: what a step takes beside what stays."""
    if device.type != "cuda":
        return 0
    before = torch.cuda.memory_reserved()
    free_gpu_memory()
    return before - torch.cuda.memory_reserved()


def _take_memory(left: int, device: torch.device) -> torch.Tensor | None:
    """Ballast that leaves so many bytes of the cap."""
    if device.type != "cuda":
        return None
    free_gpu_memory()
    return torch.empty(CAP - torch.cuda.memory_reserved() - left, dtype=torch.uint8, device=device)


def main() -> None:
    """Run every case, write a row at a time, print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokenizer", type=Path, required=True, help="folder with tokenizer.json, ids below 49,152")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda")
    parser.add_argument("--shape", choices=sorted(SHAPES), default="qwen2.5-3b")
    parser.add_argument("--layers", type=int, default=6, help="of the disturbed runs; the automatic batch has all")
    parser.add_argument("--json", type=Path, help="write the rows here as well, one a line")
    arguments = parser.parse_args()
    shape, device = arguments.shape, torch.device(arguments.device)
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        make_folder(folder / shape, shape, arguments.tokenizer)
        make_ett(folder / "ett.csv", 69_680, 15)
        place = Workplace(folder, device, "bf16" if device.type == "cuda" else "fp32")
        jobs: list[tuple[str, Callable[[], Row]]] = [
            (case.name, lambda case=case: run_case(case, place, shape, arguments.layers)) for case in CASES
        ]
        jobs.append(("scoring, captured", lambda: run_scoring(place, shape, arguments.layers)))
        if device.type == "cuda":
            every = SHAPES[shape]["num_hidden_layers"]
            jobs.append(("--batch-size auto, 6 GiB", lambda: run_automatic(place, shape, every)))
        for name, job in jobs:
            rows.append(_guarded(name, job))
            give_memory_back(device)
            if arguments.json:
                with arguments.json.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(rows[-1]) + "\n")
    print(f"{'case':30}{'batch':>6}{'at a time':>10}{'need':>11}{'loss off by':>13}{'seconds':>9}  verdict")
    for row in rows:
        off = f"{row['off']:.1e}" if row.get("off") is not None else ""
        need = format_memory(row.get("need") or 0)
        pieces = row.get("at_a_time") or ""
        verdict = "ok" if row["ok"] else row.get("fault") or "FAILED"
        print(
            f"{row['case']:30}{row.get('batch', ''):>6}{pieces:>10}{need:>11}{off:>13}{row['seconds']:9.1f}  {verdict}"
        )
        if "bill" in row:
            print(f"  {'bill ' + format_memory(row['bill_without_context']) + ' without context':38}"
                  f"held {format_memory(row['held'])}, {row['accumulate']} steps an update")  # fmt: skip
    sys.exit(not all(row["ok"] for row in rows))


def _guarded(name: str, job: Callable[[], Row]) -> Row:
    start = time.perf_counter()
    try:
        row = job()
    except Exception as error:
        traceback.print_exc()
        row = {"ok": False, "fault": f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"}
    return {"case": name, **row, "seconds": time.perf_counter() - start}


if __name__ == "__main__":
    main()
