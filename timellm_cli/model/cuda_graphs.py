"""CUDA graphs: a function recorded once for each shape of its inputs, then replayed with one launch.

A small batch keeps a fast GPU busy for less time than Python needs to launch the thousands of kernels of a step. A
replay launches them all at once. The recorded function must not read values on the GPU or wait for it.
"""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import cache
from weakref import WeakSet

import torch
from torch import Tensor

Function = Callable[..., Tensor]
"""From input tensors to one output tensor."""


@dataclass(frozen=True)
class Recording:
    """A recorded call. `replay` computes `output` from what `inputs` hold at that moment."""

    replay: Callable[[], None]
    inputs: tuple[Tensor, ...]
    output: Tensor


Recorder = Callable[[Function, Sequence[Tensor], Callable[[Callable[[], object]], object]], Recording]


class Captured:
    """Calls `function` by replaying recordings. Other tensors that it uses must stay where they are in memory."""

    def __init__(
        self,
        function: Function,
        warm_up: Callable[[Callable[[], object]], object] = lambda call: call(),
        record: Recorder | None = None,
    ) -> None:
        """Before it is recorded, the function runs once on one sample, which compiles and loads all that it needs.

        `warm_up` makes that call and undoes its effects. `record` replaces the GPU's recorder in a test.
        """
        self._function, self._warm_up, self._record = function, warm_up, record or record_on_gpu
        self._recordings: dict[Hashable, Recording] = {}
        _instances.add(self)

    def __call__(self, key: Hashable, inputs: Sequence[Tensor]) -> Tensor:
        """The function's output, valid until the next call. Inputs may still be on the CPU.

        `key` is everything else that the recording depends on. Another key, shape or dtype makes another recording.
        """
        key = key, tuple((tensor.shape, tensor.dtype) for tensor in inputs)
        if key not in self._recordings:
            self._recordings[key] = self._record(self._function, inputs, self._warm_up)
        recording = self._recordings[key]
        for target, tensor in zip(recording.inputs, inputs, strict=True):
            target.copy_(tensor, non_blocking=True)
        recording.replay()
        return recording.output

    def forget(self) -> None:
        """Free the recordings. The next call records again."""
        self._recordings.clear()


def record_on_gpu(
    function: Function, inputs: Sequence[Tensor], warm_up: Callable[[Callable[[], object]], object]
) -> Recording:
    """Record one call as a CUDA graph. The first dimension of every input that has one is the batch."""
    static = tuple(tensor.to("cuda", copy=True) for tensor in inputs)
    current, side = torch.cuda.current_stream(), _side_stream()
    side.wait_stream(current)
    with torch.cuda.stream(side):
        warm_up(lambda: function(*(tensor[:1] if tensor.ndim else tensor for tensor in static)))
    current.wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    try:
        # Another thread may be preparing batches, which must not break the recording.
        with torch.cuda.graph(graph, pool=_shared_pool().pool(), stream=side, capture_error_mode="thread_local"):
            output = function(*static)
    finally:
        torch.cuda.set_stream(current)  # a recording that fails leaves its own stream current
    return Recording(graph.replay, static, output)


_instances: WeakSet[Captured] = WeakSet()


def forget_recordings() -> None:
    """Free every recording and the memory that they share, once no replay is running."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
    for captured in _instances:
        captured.forget()
    _shared_pool.cache_clear()


@cache
def _shared_pool() -> torch.cuda.CUDAGraph:
    """A graph whose memory pool all recordings share: no two run at the same time, and outputs are read at once.

    It is freed only with all recordings, because a pool ends with the last graph that uses it.
    """
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        torch.zeros(1, device="cuda")
    return graph


@cache
def _side_stream() -> torch.cuda.Stream:
    """The stream for all recordings: each stream that multiplies matrices keeps a workspace of up to 32 MiB."""
    return torch.cuda.Stream()
