"""CUDA graphs: a function recorded once for each shape of its inputs, and replayed with one launch.

A small batch keeps a fast GPU busy for less time than Python needs to launch a step's thousands of kernels; a replay
launches them all at once. The recorded function must not look at values on the GPU or wait for it.
"""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import cache
from weakref import WeakSet

import torch
from torch import Tensor

Rehearse = Callable[[Callable[[], object]], object]
Function = Callable[..., tuple[Tensor, ...]]
"""From constants and input tensors to output tensors."""


@dataclass
class _Recording:
    graph: torch.cuda.CUDAGraph
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]


class Captured:
    """Calls `function` by replaying it. Tensors it uses besides its inputs must stay where they are.

    The first dimension of an input, if it has any, is the batch.
    """

    def __init__(self, function: Function, device: torch.device, rehearse: Rehearse | None = None) -> None:
        """Before it is recorded, the function runs once on one sample, so that all it needs is compiled and loaded.

        `rehearse` makes that call so that no trace of it remains.
        """
        self._function, self._device = function, device
        self._rehearse = rehearse or (lambda call: call())
        self._recordings: dict[Hashable, _Recording] = {}
        _instances.add(self)

    def __call__(self, constants: Hashable, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """What the function makes of inputs, which may lie on the CPU still; it holds until the next call.

        `constants` is all else that the recording depends on: where it differs, another one is made.
        """
        key = constants, tuple((tensor.shape, tensor.dtype) for tensor in inputs)
        recording = self._recordings.get(key)
        if recording is None:
            recording = self._recordings[key] = self._record(constants, inputs)
        for place, tensor in zip(recording.inputs, inputs, strict=True):
            place.copy_(tensor, non_blocking=True)
        recording.graph.replay()
        return recording.outputs

    def forget(self) -> None:
        """Let go of what is recorded; the next call records anew."""
        self._recordings.clear()

    def _record(self, constants: Hashable, inputs: Sequence[Tensor]) -> _Recording:
        places = tuple(tensor.to(self._device, copy=True) for tensor in inputs)
        beside = _side_stream()
        beside.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(beside):
            self._rehearse(lambda: self._function(constants, *(place[:1] if place.ndim else place for place in places)))
        current = torch.cuda.current_stream(self._device)
        current.wait_stream(beside)
        graph = torch.cuda.CUDAGraph()
        try:
            # Another thread may be preparing batches, which must not break the recording.
            with torch.cuda.graph(graph, pool=_anchor().pool(), stream=beside, capture_error_mode="thread_local"):
                outputs = self._function(constants, *places)
        finally:
            torch.cuda.set_stream(current)  # a recording that cannot be ended leaves its own stream in place
        return _Recording(graph, places, outputs)


_instances: WeakSet[Captured] = WeakSet()


def forget_recordings() -> None:
    """Let go of every recording there is, and of the memory they share, once no replay is under way."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
    for captured in _instances:
        captured.forget()
    _anchor.cache_clear()


@cache
def _anchor() -> torch.cuda.CUDAGraph:
    """A graph whose memory pool all recordings share: no two run at the same time, and outputs are read at once.

    It is let go with all recordings alone, as a pool ends with the last graph that uses it.
    """
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        torch.zeros(1, device="cuda")
    return graph


@cache
def _side_stream() -> torch.cuda.Stream:
    """Where everything is recorded: each stream that multiplies matrices has a workspace of up to 32 MiB for good."""
    return torch.cuda.Stream()
