"""What a run measures of itself: time a step, the share in which the GPU computes, the most memory."""

import sys
from collections import deque
from collections.abc import Iterator

import psutil
import torch

from timellm_cli.planning.memory_bill import Bill
from timellm_cli.training.records import MemoryMeasured


class StepTimes:
    """Seconds a step (a mean that forgets slowly) and seconds to score an epoch (the latest).

    One scoring is `scored_batches` batches as large as a step's. Until one has been timed, each counts as two thirds of
    a step: it reads the prompts too, but the backward pass is of the patches alone.
    """

    def __init__(self, scored_batches: float) -> None:
        self.per_step, self.steps = 0.0, 0
        self._per_scoring, self._scored_batches, self._since_share = 0.0, scored_batches, 0.0

    def add_step(self, seconds: float) -> None:
        """Count one more step, the wait for its batch included."""
        self.steps += 1
        self.per_step += (seconds - self.per_step) * max(1 / self.steps, 0.05)
        self._since_share += seconds

    def add_scoring(self, seconds: float) -> None:
        """Count the scoring of an epoch."""
        self._per_scoring = seconds

    def share_of(self, seconds: float) -> float:
        """These seconds as a share of those that steps took since the last call; at most 1."""
        share = min(seconds / self._since_share, 1.0) if self._since_share else 0.0
        self._since_share = 0.0
        return share

    def seconds_left(self, steps: int, scorings: int) -> float:
        """An estimate for so many steps and scorings."""
        per_scoring = self._per_scoring or self._scored_batches * self.per_step * 2 / 3
        return steps * self.per_step + scorings * per_scoring


class GpuTime:
    """Seconds from the first to the last operation of each step on the GPU; 0 without a GPU.

    A recorded step leaves no gaps, so compared with the time that passed this is the share in which the GPU computes.
    Events are read as soon as their step has ended and used again, so their number does not grow.
    """

    def __init__(self, device: torch.device) -> None:
        self._on_gpu = device.type == "cuda"
        self._running: deque[tuple[torch.cuda.Event, torch.cuda.Event]] = deque()
        self._free: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []
        self._seconds = 0.0

    def __enter__(self) -> None:
        if self._on_gpu:
            self._collect()
            if not self._free:
                self._free.append((torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)))
            self._running.append(self._free.pop())
            self._running[-1][0].record()

    def __exit__(self, *_: object) -> None:
        if self._on_gpu:
            self._running[-1][1].record()

    def take(self) -> float:
        """The seconds of all steps that have ended since the last call."""
        self._collect()
        seconds, self._seconds = self._seconds, 0.0
        return seconds

    def _collect(self) -> None:
        while self._running and self._running[0][1].query():
            start, end = self._running.popleft()
            self._seconds += start.elapsed_time(end) / 1000
            self._free.append((start, end))


_OUTSIDE_TORCH = ("cuda_context", "nccl")
"""The lines of the memory bill that torch does not count."""


class PeakMemory:
    """Measures the steps of the first epoch of a process, before scoring uses all the memory that is free.

    On a GPU that is what torch allocates, and what it reserves for that. On a CPU it is the largest resident set of the
    process so far, so loading the LLM counts as well.
    """

    def __init__(self, device: torch.device, bill: Bill | None) -> None:
        self._device, self._bill = device, bill
        self.measured: MemoryMeasured | None = None
        self.restart()

    def restart(self) -> None:
        """Forget what was allocated so far on a GPU."""
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)

    def measure(self, steps: int, step: int) -> Iterator[MemoryMeasured]:
        """Once, after the first `steps` steps of this process; the last of them is number `step` of the run."""
        if self.measured or not steps:
            return
        if self._device.type == "cuda":
            name = torch.cuda.get_device_name(self._device)
            allocated = torch.cuda.max_memory_allocated(self._device)
            reserved = torch.cuda.max_memory_reserved(self._device)
        else:
            name, allocated = "CPU", _largest_resident_set()
            reserved = allocated
        parts = {part.key: part.bytes for part in self._bill.parts} if self._bill else {}
        predicted = sum(size for key, size in parts.items() if key not in _OUTSIDE_TORCH) or None
        self.measured = MemoryMeasured(step, name, predicted, parts, allocated, reserved)
        yield self.measured


def _largest_resident_set() -> int:
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak
