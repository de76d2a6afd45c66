"""What is alive at the peak of a run's allocations, by the line of code that allocated it."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

_HISTORY = {"enabled": "all", "context": "alloc", "stacks": "python", "max_entries": 1_000_000}


class PeakTrace:
    """Follows the allocator. `begin_step` says that the peak is looked for from here on, not while building."""

    def __init__(self) -> None:
        self._begin = 0

    def begin_step(self) -> None:
        """What was allocated before counts only where it is still alive."""
        self._begin = len(_events())

    def at_peak(self, most: int = 60) -> dict[str, int]:
        """Bytes by place, the largest first."""
        return dict(_alive_at_peak(_events(), self._begin).most_common(most))


@contextmanager
def tracing() -> Iterator[PeakTrace]:
    """Inside, every allocation on the GPU is recorded with its place."""
    torch.cuda.memory._record_memory_history(**_HISTORY)
    try:
        yield PeakTrace()
    finally:
        torch.cuda.memory._record_memory_history(enabled=None)


def _events() -> list[dict[str, Any]]:
    return torch.cuda.memory._snapshot()["device_traces"][torch.cuda.current_device()]


def _alive_at_peak(events: list[dict[str, Any]], begin: int) -> Counter[str]:
    live: dict[int, tuple[int, str]] = {}
    now = most = moment = 0
    for place, event in enumerate(events):
        if event["action"] == "alloc":
            now += event["size"]
        elif event["action"] == "free_requested":
            now -= event["size"]
        if place >= begin and now > most:
            most, moment = now, place
    for event in events[: moment + 1]:
        if event["action"] == "alloc":
            live[event["addr"]] = event["size"], _place(event.get("frames", []))
        elif event["action"] == "free_requested":
            live.pop(event["addr"], None)
    found: Counter[str] = Counter()
    for size, place in live.values():
        found[place] += size
    return found


def _place(frames: list[dict[str, Any]]) -> str:
    """The innermost frame of the project, and the innermost of all where that is another."""
    if not frames:
        return "unknown"
    names = [f"{Path(frame['filename']).name}:{frame['line']} {frame['name']}" for frame in frames]
    own = next((place for place, frame in enumerate(frames) if "timellm_cli" in frame["filename"]), 0)
    return names[own] if own == 0 else f"{names[own]} < {names[0]}"
