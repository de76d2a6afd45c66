"""The real command with its memory read phase by phase, and with weights drawn where they are used.

    python benchmarks/phases.py TASK.json train --profile ettm1-qwen3b-6gb ...

`small_cards.py` writes the task and starts a process for each run.

A phase ends when the LLM is loaded, when a step was warmed up, when it was recorded, and when the steps of the first
epoch are done. Each is a line of the report: what torch has allocated and reserved, the most of both since the phase
before, and what the driver counts for this process.
"""

import argparse
import json
import sys
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from timellm_cli.model.llm.choice import shape_of_tensor

Line = dict[str, Any]
DEVIATION = 0.02


def driver_bytes() -> int:
    """What the driver counts of the card, all processes together."""
    if not torch.cuda.is_available():
        return 0
    import pynvml

    pynvml.nvmlInit()
    return int(pynvml.nvmlDeviceGetMemoryInfo(pynvml.nvmlDeviceGetHandleByIndex(0)).used)


class Phases:
    """Writes a line at the end of each phase. `before` is what the driver counted before this process began."""

    def __init__(self, report: Path, before: int) -> None:
        self._report, self._before = report, before
        self.on_gpu = torch.cuda.is_available()

    def end(self, name: str, **more: Any) -> None:
        """Close a phase and begin the next one."""
        line: Line = {"phase": name, **more}
        if self.on_gpu:
            torch.cuda.synchronize()
            line |= {
                "allocated": torch.cuda.memory_allocated(), "most_allocated": torch.cuda.max_memory_allocated(),
                "reserved": torch.cuda.memory_reserved(), "most_reserved": torch.cuda.max_memory_reserved(),
                "driver": driver_bytes() - self._before,
            }  # fmt: skip
        self.write(line)
        self.forget_peaks()

    def forget_peaks(self) -> None:
        """Begin a phase."""
        if self.on_gpu:
            torch.cuda.reset_peak_memory_stats()

    def write(self, line: Line) -> None:
        """Add a line to the report."""
        with self._report.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


def segments() -> list[Line]:
    """Torch's memory by pool and size of piece: reserved, in use, and the pieces that are free."""
    if not torch.cuda.is_available():
        return []
    pools: dict[tuple[str, str, int], Line] = {}
    for segment in torch.cuda.memory_snapshot():
        key = str(segment["segment_pool_id"]), segment["segment_type"], segment["stream"] % 997
        pool = pools.setdefault(key, {"pool": key[0], "type": key[1], "reserved": 0, "used": 0, "free": []})
        pool["reserved"] += segment["total_size"]
        pool["used"] += segment["allocated_size"]
        pool["free"] += [block["size"] for block in segment["blocks"] if block["state"] == "inactive"]
    return [{**pool, "free": sorted(pool["free"], reverse=True)[:8]} for pool in pools.values()]


def events() -> list[tuple[str, int, int]]:
    """What torch's allocator did since its history is kept: action, address and bytes."""
    traces = torch.cuda.memory._snapshot()["device_traces"][0]
    return [(event["action"], event.get("addr", 0), event["size"]) for event in traces if "size" in event]


def drawn_tensors(keys: dict[str, Any], device: torch.device, enlarged: float) -> Callable[[Path], Any]:
    """In the place of `open_tensors`: bf16 weights drawn on the device; the table of embeddings on the CPU.

    `enlarged` multiplies the last matrix of the first layer, so that what passes through the layers is that much
    larger.
    """

    def read(name: str) -> Tensor:
        drawn = torch.empty(shape_of_tensor(keys, name), dtype=torch.bfloat16, device=device)
        if drawn.ndim == 1 and "bias" not in name:
            return drawn.fill_(1)
        drawn.normal_(0, DEVIATION, generator=torch.Generator(device).manual_seed(zlib.crc32(name.encode())))
        if name.startswith("embed_tokens"):
            drawn = drawn.cpu()
            if device.type == "cuda":  # a file would not have been on the GPU
                torch.cuda.empty_cache()
                torch.cuda.reset_peak_memory_stats()
        return drawn.mul_(enlarged) if name == "layers.0.mlp.down_proj.weight" else drawn

    return lambda _: read


def watch(task: Line, phases: Phases) -> None:
    """Put the weights' drawing and the ends of phases into the project's own functions."""
    from timellm_cli.commands import train
    from timellm_cli.model import cuda_graphs, load
    from timellm_cli.planning import weight_bytes
    from timellm_cli.training.measure import PeakMemory

    load.open_tensors = drawn_tensors(task["keys"], torch.device(task["device"]), task["enlarged"])
    if not task["in_one_piece"]:
        weight_bytes.allocator = partial(weight_bytes.allocator, in_one_piece=False)
    load_model, record, measure = train.load_model, cuda_graphs.record_on_gpu, PeakMemory.measure

    def loaded(*arguments: Any) -> Any:
        phases.end("begun")
        runner = load_model(*arguments)
        phases.end("loaded", kernels=type(getattr(runner.model.llm, "ops", None)).__name__)
        return runner

    def recorded(function: Any, inputs: Any, warm_up: Any) -> Any:
        phases.end("before a recording")

        def warmed(call: Any) -> None:
            warm_up(call)
            phases.end("warmed up")
            if task["traced"]:
                torch.cuda.memory._record_memory_history(enabled="all", context=None, max_entries=200_000)

        recording = record(function, inputs, warmed)
        phases.end("recorded", inputs=[list(tensor.shape) for tensor in inputs[:2]])
        if task["traced"]:
            phases.write({"phase": "trace", "events": events()})
            torch.cuda.memory._record_memory_history(enabled=None)
            task["traced"] = False
        return recording

    def measured(self: PeakMemory, steps: int, step: int) -> Any:
        if not self.measured and steps:
            phases.end("steps", steps=steps)
            phases.write({"phase": "segments", "segments": segments()})
        yield from measure(self, steps, step)

    train.load_model, cuda_graphs.record_on_gpu, PeakMemory.measure = loaded, recorded, measured  # type: ignore[method-assign]
    _watch_numbers(phases)


def _watch_numbers(phases: Phases) -> None:
    """Lines for the largest number that passes the layers, and for an update that its scaler leaves out."""
    from timellm_cli.model.llm.decoder import Decoder

    read, update = Decoder.read, torch.amp.GradScaler.update
    largest = 0.0

    def reading(self: Decoder, *arguments: Any, **given: Any) -> Any:
        nonlocal largest
        last_BPE, trace = read(self, *arguments, **given)
        if not (phases.on_gpu and torch.cuda.is_current_stream_capturing()):
            number = max(abs(float(end)) for end in torch.aminmax(last_BPE)) / self.shrink
            if not number <= largest:
                largest = number
                phases.write({"phase": "number", "largest": number})
        return last_BPE, trace

    def updating(self: torch.amp.GradScaler, *arguments: Any) -> None:
        before = self.get_scale() if self.is_enabled() else 0.0
        update(self, *arguments)
        if self.is_enabled():
            phases.write({"phase": "scaler", "left_out": self.get_scale() < before, "scale": self.get_scale()})

    Decoder.read = reading  # type: ignore[method-assign]
    torch.amp.GradScaler.update = updating  # type: ignore[method-assign]


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("task", type=Path, help="JSON file that small_cards.py writes")
    parser.add_argument("words", nargs=argparse.REMAINDER, help="of the command, 'train' first")
    given = parser.parse_args()
    task: Line = json.loads(given.task.read_text(encoding="utf-8"))
    if task["without_triton"]:
        sys.modules["triton"] = None  # type: ignore[assignment]
    phases = Phases(Path(task["report"]), task["before"])
    if phases.on_gpu:
        torch.zeros(1, device="cuda")
        phases.end("context")
        if task["cap"]:
            total = torch.cuda.get_device_properties(0).total_memory
            torch.cuda.set_per_process_memory_fraction(task["cap"] / total)
    watch(task, phases)
    from timellm_cli.cli import main as command

    sys.argv = ["timellm", *given.words]
    command()


if __name__ == "__main__":
    main()
