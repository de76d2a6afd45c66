"""How long the GPU computed."""

import torch


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
