"""The order of the samples: drawn from the seed and the epoch alone, so that a run can continue at any step.

Nothing here knows of loader workers, and nothing draws from the global random state.

The batches of an epoch, made ready while the GPU works on the one before.
"""

import os
from collections.abc import Iterable, Iterator
from queue import Full, Queue
from threading import Event, Thread

import numpy as np
import torch
from accelerate import Accelerator
from torch.utils.data import DataLoader, Sampler

from timellm_cli.config import TrainConfig
from timellm_cli.data.batch import Batch
from timellm_cli.data.windows import WindowDataset
from timellm_cli.model.prompt_tokens import Collate, NoPromptEncoder, PromptEncoder
from timellm_cli.training.interruption import ignore_interruptions


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


_AHEAD = 2
_PATIENCE = 0.1
"""Seconds after which the thread looks whether it is still wanted."""


def load_batches(
    samples: WindowDataset,
    train: TrainConfig,
    epoch: int,
    steps: range,
    encoder: PromptEncoder | NoPromptEncoder,
    accelerator: Accelerator,
) -> Iterable[Batch]:
    """The batches of some steps of an epoch (counted from 0); of each, this process's share."""
    if train.workers:  # the tokenisers' threads and forked processes do not go together
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    order = EpochOrder(
        len(samples), train.batch, (train.seed, epoch), steps, accelerator.process_index, accelerator.num_processes
    )
    return DataLoader(
        samples,
        batch_sampler=order,
        collate_fn=Collate(encoder),
        num_workers=train.workers,
        worker_init_fn=ignore_interruptions,
        generator=torch.Generator(),  # else the loader draws from the global one, and a resumed run would differ
    )


def prefetch(batches: Iterable[Batch]) -> Iterator[Batch]:
    """The same batches in memory that a GPU reads by itself, made by a thread up to two steps ahead.

    What making a batch raises is raised here.
    """
    ready: Queue[Batch | BaseException | None] = Queue(_AHEAD)
    unwanted = Event()

    def put(item: Batch | BaseException | None) -> bool:
        while not unwanted.is_set():
            try:
                ready.put(item, timeout=_PATIENCE)
                return True
            except Full:
                continue
        return False

    def work() -> None:
        try:
            for batch in batches:
                if not put(batch.pin_memory()):
                    return
            put(None)
        except BaseException as error:  # it belongs to whoever waits for the batch
            put(error)

    thread = Thread(target=work, name="prefetch", daemon=True)
    thread.start()
    try:
        while (item := ready.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        unwanted.set()
        thread.join()
