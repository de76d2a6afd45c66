"""The batches of an epoch, encoded and ready while the GPU works on the one before.

The order of the samples is drawn from the seed and the epoch alone, so a run can continue at any step.
"""

import os
from collections.abc import Generator, Iterator
from dataclasses import replace

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from timellm_cli.config import TrainConfig
from timellm_cli.data.batch import Batch
from timellm_cli.data.windows import WindowDataset
from timellm_cli.model.prefetch import prefetch
from timellm_cli.model.prompt_tokens import NoPromptEncoder, PromptEncoder
from timellm_cli.processes.place import Place
from timellm_cli.training.interruption import ignore_interruptions


class Loader:
    """Makes the batches of a run. Worker processes are started once and kept from epoch to epoch."""

    def __init__(
        self,
        samples: WindowDataset,
        train: TrainConfig,
        encoder: PromptEncoder | NoPromptEncoder,
        pin: bool,
        place: Place | None = None,
    ) -> None:
        """`pin`: batches are prepared by a thread, in pinned memory, from which a GPU copies by itself. `place` says
        which part of every batch is wanted.
        """
        if train.workers:  # the tokenisers' threads and forked processes do not go together
            os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        self._order = EpochOrder(len(samples), train.batch, train.seed)
        self._pin = pin
        self._batches: DataLoader[Batch] = DataLoader(
            _EncodedBatches(samples, encoder, place or Place()),
            batch_size=None,
            sampler=self._order,
            num_workers=train.workers,
            persistent_workers=train.workers > 0,
            worker_init_fn=ignore_interruptions,
            generator=torch.Generator(),  # else the global one is used, and a resumed run would differ
        )

    def batches(self, epoch: int, steps: range) -> Generator[Batch]:
        """The batches of some steps of an epoch, both counted from 0."""
        self._order.choose(epoch, steps)
        yield from prefetch(self._batches) if self._pin else self._batches


class EpochOrder(Sampler[list[int]]):
    """The numbers of the samples in each batch of some steps of an epoch."""

    def __init__(self, samples: int, batch_size: int, seed: int) -> None:
        self._samples, self._batch_size, self._seed = samples, batch_size, seed
        self._epoch, self._steps = 0, range(0)

    def choose(self, epoch: int, steps: range) -> None:
        """Set the epoch and the steps that follow, both counted from 0."""
        self._epoch, self._steps = epoch, steps

    def __len__(self) -> int:
        return len(self._steps)

    def __iter__(self) -> Iterator[list[int]]:
        order = np.arange(self._samples, dtype=np.uint32 if self._samples < 2**32 else np.uint64)
        np.random.default_rng((self._seed, self._epoch)).shuffle(order)
        for step in self._steps:
            yield order[step * self._batch_size : (step + 1) * self._batch_size].tolist()


class _EncodedBatches(Dataset[Batch]):
    """This process's part of the batch for a list of sample numbers, as a loader's process makes it."""

    def __init__(self, samples: WindowDataset, encoder: PromptEncoder | NoPromptEncoder, place: Place) -> None:
        self._samples, self._encoder, self._place = samples, encoder, place

    def __getitem__(self, numbers: list[int]) -> Batch:
        own = self._place.part(len(numbers))
        batch = self._samples.batch(numbers[own.start : own.stop])
        if self._place.size > 1 and batch.known_BH is not None:
            known_BH = self._samples.batch(numbers).known_BH
            assert known_BH is not None
            batch = replace(batch, known_share=max(float(known_BH.sum()), 1.0) / known_BH.numel())
        return replace(batch, prompt=self._encoder.encode(batch.history_BT, batch.series))
