"""How long the GPU computed.

The most memory that steps take, measured, against what the bill predicted.
"""

import sys
from collections.abc import Iterator

import psutil
import torch

from timellm_cli.planning.memory_bill import Bill
from timellm_cli.training.records import MemoryMeasured


class GpuTime:
    """Seconds from the first to the last operation of each step on the GPU; nothing where there is none.

    A recorded step leaves no gaps, so against the time that passed this is the share in which the GPU computes.
    """

    def __init__(self, device: torch.device) -> None:
        self._on_gpu = device.type == "cuda"
        self._running: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []
        self._seconds = 0.0

    def __enter__(self) -> None:
        if self._on_gpu:
            self._start = torch.cuda.Event(enable_timing=True)
            self._start.record()

    def __exit__(self, *_: object) -> None:
        if self._on_gpu:
            end = torch.cuda.Event(enable_timing=True)
            end.record()
            self._running.append((self._start, end))

    def take(self) -> float:
        """The seconds of all steps that have ended since the last call."""
        ended = [(start, end) for start, end in self._running if end.query()]
        self._running = self._running[len(ended) :]
        return sum(start.elapsed_time(end) for start, end in ended) / 1000


_OUTSIDE_TORCH = "cuda_context"
"""The part of the bill that torch does not count."""


class PeakMemory:
    """Measures the steps of the first epoch of a process, before scoring takes as much as there is.

    Of a GPU that is what torch allocates, and what it reserves for that. Of a CPU it is the process's largest resident
    set so far: loading the LLM counts as well.
    """

    def __init__(self, device: torch.device, bill: Bill | None) -> None:
        self._device, self._bill = device, bill
        self.measured: MemoryMeasured | None = None
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)

    def measure(self, taken: int, step: int) -> Iterator[MemoryMeasured]:
        """Once, after the first `taken` steps of this process, of which the last is number `step` of the run."""
        if self.measured or not taken:
            return
        if self._device.type == "cuda":
            name = torch.cuda.get_device_name(self._device)
            allocated = torch.cuda.max_memory_allocated(self._device)
            reserved = torch.cuda.max_memory_reserved(self._device)
        else:
            name, allocated = "CPU", _largest_resident_set()
            reserved = allocated
        parts = {part.key: part.bytes for part in self._bill.parts} if self._bill else {}
        predicted = sum(size for key, size in parts.items() if key != _OUTSIDE_TORCH) or None
        self.measured = MemoryMeasured(step, name, predicted, parts, allocated, reserved)
        yield self.measured


def _largest_resident_set() -> int:
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak
