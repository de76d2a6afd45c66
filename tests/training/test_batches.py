"""Batches that a thread makes ahead: the same ones, in order, and none too many."""

import threading
import time
from collections.abc import Iterator

import pytest
import torch

from timellm_cli.data.batch import Batch, PromptTokens
from timellm_cli.training import loader as batches
from timellm_cli.training.loader import prefetch


@pytest.fixture(autouse=True)
def unpinned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pinned memory needs a GPU's driver."""
    monkeypatch.setattr(Batch, "pin_memory", lambda batch: batch)


def batch(number: int) -> Batch:
    nothing = torch.zeros(1, 0, dtype=torch.int64)
    return Batch(*(torch.tensor([float(number)]) for _ in range(4)), PromptTokens(nothing, nothing))


def numbers(source: Iterator[Batch]) -> Iterator[int]:
    return (int(made.history_BT) for made in prefetch(source))


def test_the_batches_come_in_order_and_all() -> None:
    assert list(numbers(batch(number) for number in range(20))) == list(range(20))
    assert list(numbers(iter(()))) == []


def test_they_are_made_while_the_one_before_is_used_but_only_a_few_ahead() -> None:
    made: list[int] = []

    def source() -> Iterator[Batch]:
        for number in range(50):
            made.append(number)
            yield batch(number)

    used = numbers(source())
    next(used)
    for _ in range(200):
        if len(made) == 1 + batches._AHEAD + 1:
            break
        time.sleep(0.01)
    time.sleep(0.05)
    assert len(made) == 1 + batches._AHEAD + 1  # the one in use, two that wait, one that waits to be put there
    assert list(used) == list(range(1, 50))


def test_what_making_a_batch_raises_is_raised_where_it_is_asked_for() -> None:
    def source() -> Iterator[Batch]:
        yield batch(0)
        raise ValueError("row 7 is broken")

    used = numbers(source())
    assert next(used) == 0
    with pytest.raises(ValueError, match="row 7 is broken"):
        next(used)


def test_the_thread_ends_with_the_one_who_asked() -> None:
    def forever() -> Iterator[Batch]:
        number = 0
        while True:
            yield batch(number)
            number += 1

    used = prefetch(forever())
    next(used)
    used.close()
    assert not any(thread.name == "prefetch" for thread in threading.enumerate())
