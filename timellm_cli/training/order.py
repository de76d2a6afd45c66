"""The order of the samples: drawn from the seed and the epoch alone, so that a run can continue at any step.

Nothing here knows of loader workers, and nothing draws from the global random state.
"""

from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler


class EpochOrder(Sampler[list[int]]):
    """The batches of some steps of an epoch. `key` is (seed, epoch); `steps` counts from 0.

    Several processes share each batch: process `rank` of `processes` takes every `processes`-th sample of it, so a step
    is the same `batch_size` samples however many processes there are.
    """

    def __init__(
        self, samples: int, batch_size: int, key: tuple[int, int], steps: range, rank: int = 0, processes: int = 1
    ) -> None:
        self._order = np.arange(samples, dtype=np.uint32 if samples < 2**32 else np.uint64)
        np.random.default_rng(key).shuffle(self._order)
        self._batch_size, self._steps = batch_size, steps
        self._share = slice(rank, None, processes)

    def __len__(self) -> int:
        return len(self._steps)

    def __iter__(self) -> Iterator[list[int]]:
        for step in self._steps:
            batch = self._order[step * self._batch_size : (step + 1) * self._batch_size]
            yield batch[self._share].tolist()
