"""Counts what PyTorch allocates: the bytes of all tensors that are alive, and the most there ever were."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from timellm_cli.model.llm.ops import TorchOps


class LiveBytes(TorchDispatchMode):
    """Follows every storage that an operation makes while this is active, until nobody holds it any more."""

    def __init__(self) -> None:
        super().__init__()
        self.peak = 0
        self._alive: dict[StorageWeakRef, int] = {}
        self._from_before: set[StorageWeakRef] = set()
        self._paused = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if not self._paused:
            self._from_before |= {ref for ref in _storages((args, kwargs)) if ref not in self._alive}
            self.follow(result)
        return result

    @property
    def now(self) -> int:
        self._alive = {ref: size for ref, size in self._alive.items() if not ref.expired()}
        return sum(self._alive.values())

    def follow(self, tensors: Any) -> None:
        self._alive |= {ref: size for ref, size in _storages(tensors).items() if ref not in self._from_before}
        self.peak = max(self.peak, self.now)

    def fuse(self, ops: TorchOps) -> Any:
        """The same operations as a GPU's kernels do them: of what they allocate only the results count."""
        names = [name for name in dir(ops) if not name.startswith("_")]
        return SimpleNamespace(**{name: self._fused(getattr(ops, name)) for name in names})

    def _fused(self, operation: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            with self._pause():
                result = operation(*args)
            self._from_before |= {ref for ref in _storages(args) if ref not in self._alive}
            self.follow(result)
            return result

        return call

    @contextmanager
    def _pause(self) -> Iterator[None]:
        self._paused = True
        yield
        self._paused = False


def _storages(tensors: Any) -> dict[StorageWeakRef, int]:
    found = [leaf.untyped_storage() for leaf in tree_leaves(tensors) if isinstance(leaf, torch.Tensor)]
    return {StorageWeakRef(storage): storage.nbytes() for storage in found}
