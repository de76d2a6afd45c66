"""What processes that train or score together exchange, through torch.distributed.

Each holds a whole model. They exchange sums and errors, never buffers or the LLM's weights. One process alone uses the
same code, which then exchanges nothing.
"""

import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from timellm_cli.errors import ModelError
from timellm_cli.processes.faults import read_loss
from timellm_cli.processes.patience import patience
from timellm_cli.processes.place import Place

_TO_SAVE = timedelta(minutes=1)
"""NCCL ends the whole process when its own patience is over: by then what the GPU holds has to be saved."""
_BETWEEN_LOOKS = 0.5
"""Seconds between looks at what the launcher says."""
_TO_STOP = 15.0
"""Seconds for a step after a request to stop: torchrun makes one where a process is lost, and kills all after 30."""


class ProcessLostError(Exception):
    """Another process has ended, or does not answer."""


class Group:
    """One process alone: a group of one."""

    def __init__(self, place: Place | None = None) -> None:
        self.place = place or Place()
        self.is_stopping: Callable[[], bool] = lambda: False
        """Whether this process is requested to stop."""

    @property
    def size(self) -> int:
        """How many processes there are."""
        return self.place.size

    def sum_(self, numbers: Tensor) -> None:
        """Replace the numbers by their sum over all processes, the same bits in each."""

    def join(self, rows: Tensor) -> Tensor:
        """The rows of all processes, those of the first one first. They may have any number of rows, also none."""
        return rows

    def parts(self, numbers: Tensor, counts: Sequence[int]) -> list[Tensor]:  # noqa: ARG002
        """The numbers of each process. All know how many these are."""
        return [numbers]

    def any(self, fact: bool) -> bool:
        """Whether it is so in one process at least."""
        return fact

    def copy_from_first(self, tensors: Mapping[str, Tensor]) -> None:
        """Put the first process's numbers into these tensors of every process."""

    def require_same(self, what: str, value: str) -> None:
        """Raise ModelError where the first process has another value."""

    def texts(self, text: str) -> list[str]:
        """The texts of all processes."""
        return [text]

    def text_of_first(self, text: str) -> str:
        """The first process's text, in every process. They also wait for each other here."""
        return text

    def wait_for(self, event: torch.cuda.Event) -> None:
        """Wait until the GPU is there."""
        event.synchronize()

    def close(self) -> None:
        """Leave the group."""


class SeveralProcesses(Group):
    """Processes that torch.distributed connects: tensors on a GPU through NCCL, those on a CPU through gloo."""

    def __init__(self, place: Place, device: torch.device, wait: timedelta | None = None) -> None:
        """Meets the others. `wait`: how long to wait for another one. Raises ModelError where they do not come."""
        super().__init__(place)
        self._patience = wait = wait or timedelta(seconds=patience())
        backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
        timeout = wait + _TO_SAVE if device.type == "cuda" else wait
        try:
            dist.init_process_group(backend, rank=place.rank, world_size=place.size, timeout=timeout)
        except (RuntimeError, ValueError) as error:
            where = f"{os.environ.get('MASTER_ADDR', '')}:{os.environ.get('MASTER_PORT', '')}"
            raise ModelError(
                f"process {place.rank} of {place.size} could not meet the others at {where}: {_first_line(error)}",
                "start all processes at the same time, with the same MASTER_ADDR and MASTER_PORT, which every machine "
                "must be able to reach",
            ) from None

    def sum_(self, numbers: Tensor) -> None:
        self._exchange(dist.all_reduce, numbers)

    def join(self, rows: Tensor) -> Tensor:
        sizes = torch.zeros(self.size, dtype=torch.int64)
        sizes[self.place.rank] = len(rows)
        self._exchange(dist.all_reduce, sizes)
        return torch.cat(self.parts(rows, sizes.tolist()))

    def parts(self, numbers: Tensor, counts: Sequence[int]) -> list[Tensor]:
        padded = numbers.new_zeros(max(counts), *numbers.shape[1:])
        padded[: len(numbers)] = numbers
        parts = [torch.empty_like(padded) for _ in range(self.size)]
        self._exchange(dist.all_gather, parts, padded)
        return [part[:count] for part, count in zip(parts, counts, strict=True)]

    def any(self, fact: bool) -> bool:
        count = torch.tensor([int(fact)])
        self._exchange(dist.all_reduce, count)
        return bool(count > 0)

    def copy_from_first(self, tensors: Mapping[str, Tensor]) -> None:
        for tensor in tensors.values():
            self._exchange(dist.broadcast, tensor.detach(), 0)

    def require_same(self, what: str, value: str) -> None:
        values = self.texts(value)
        for rank, other in enumerate(values):
            if other != values[0]:
                raise ModelError(
                    f"process {rank} has another {what} than process 0: {other}, not {values[0]}",
                    "give every process the same configuration, the same files and the same version of timellm",
                )

    def texts(self, text: str) -> list[str]:
        every: list[Any] = [None] * self.size
        self._exchange(dist.all_gather_object, every, text)
        return every

    def text_of_first(self, text: str) -> str:
        texts = [text]
        self._exchange(dist.broadcast_object_list, texts, 0)
        return texts[0]

    def wait_for(self, event: torch.cuda.Event) -> None:
        begun = looked = time.monotonic()
        stopping = float("inf")
        while not event.query():
            if (now := time.monotonic()) > begun + self._patience.total_seconds():
                raise ProcessLostError(f"a step took longer than {self._patience}")
            if now > looked + _BETWEEN_LOOKS:
                looked = now
                if loss := read_loss():
                    raise ProcessLostError(loss)
                if self.is_stopping():
                    stopping = min(stopping, now)
                    if now > stopping + _TO_STOP:
                        raise ProcessLostError(f"no step ended within {_TO_STOP:.0f} seconds of a request to stop")
            time.sleep(1e-4)

    def _exchange(self, function: Any, *arguments: Any) -> None:
        try:
            function(*arguments)
        except RuntimeError as error:
            if "out of memory" in str(error):
                raise
            raise ProcessLostError(_plain(error)) from None

    def close(self) -> None:
        dist.destroy_process_group()


def sum_all(group: Group, *tensors: Tensor) -> None:
    """Replace these tensors' numbers, float64 on the CPU, by their sums over all processes, in one exchange."""
    flat = torch.cat([tensor.flatten() for tensor in tensors])
    group.sum_(flat)
    for tensor, part in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
        tensor.copy_(part.view(tensor.shape))


def _plain(error: Exception) -> str:
    """What gloo says, without the place in its code and its advice."""
    return re.sub(r"^\[[^]]*\]\s*", "", _first_line(error)).split(". ")[0]


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else repr(error)
