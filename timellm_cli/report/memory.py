"""Memory in use where a run computes: the GPU's through its driver, or the computer's. Light."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import psutil

from timellm_cli.units import GIB


@dataclass(frozen=True)
class MemoryUse:
    """Bytes in use, and bytes there are: of the 'GPU' by everyone, of the 'RAM' by this process."""

    kind: str
    used: int
    total: int

    def __str__(self) -> str:
        return f"{self.kind} {self.used / GIB:.1f} of {self.total / GIB:.1f} GiB"


def memory_reader(gpu_uuid: str | None) -> Callable[[], MemoryUse | None]:
    """Reads the GPU of that identity (None: the RAM) whenever it is called; None where the driver does not answer."""
    if gpu_uuid is None:
        return _read_ram
    import pynvml

    try:
        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByUUID(gpu_uuid)
    except pynvml.NVMLError:
        return lambda: None
    return lambda: _read_gpu(handle)


def _read_ram() -> MemoryUse:
    return MemoryUse("RAM", psutil.Process().memory_info().rss, psutil.virtual_memory().total)


def _read_gpu(handle: Any) -> MemoryUse | None:
    import pynvml

    try:
        memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
    except pynvml.NVMLError:
        return None
    return MemoryUse("GPU", int(memory.used), int(memory.total))
