"""The order of the samples, the batches that worker processes and a thread prepare."""

import threading
from collections.abc import Iterator

import numpy as np
import psutil
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.training.conftest import MakeConfig
from timellm_cli.data.batch import Batch, PromptTokens
from timellm_cli.data.windows import load_data
from timellm_cli.model.load import load_model
from timellm_cli.model.prefetch import prefetch
from timellm_cli.training.loader import EpochOrder, Loader


@pytest.fixture(autouse=True)
def unpinned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pinned memory needs a GPU's driver."""
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: tensor)


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
    four_are_made = threading.Event()

    def source() -> Iterator[Batch]:
        for number in range(50):
            made.append(number)
            if len(made) == 4:  # one in use, three ahead
                four_are_made.set()
            yield batch(number)

    used = numbers(source())
    for number in range(50):
        assert next(used) == number
        assert number or four_are_made.wait(60)
        assert len(made) <= number + 4


def test_an_error_while_making_a_batch_is_raised_to_the_reader() -> None:
    def source() -> Iterator[Batch]:
        yield batch(0)
        raise ValueError("row 7 is broken")

    used = numbers(source())
    assert next(used) == 0
    with pytest.raises(ValueError, match="row 7 is broken"):
        next(used)


def test_the_thread_ends_when_its_batches_are_no_longer_needed() -> None:
    def forever() -> Iterator[Batch]:
        number = 0
        while True:
            yield batch(number)
            number += 1

    used = prefetch(forever())
    next(used)
    used.close()
    assert not any(thread.name.startswith("prefetch") for thread in threading.enumerate())


@pytest.mark.parametrize("workers", [0, 2])
def test_workers_make_the_same_batches_and_are_started_once(make_config: MakeConfig, workers: int) -> None:
    config = make_config(train__workers=workers)
    data, runner = load_data(config), load_model(config, torch.device("cpu"))
    samples = data.training_windows()
    loader = Loader(samples, config.train, runner.encoder, pin=True)
    processes = set()
    for epoch in range(3):
        for numbers_, made in zip(
            order_of(len(samples), 8, config.train.seed, epoch, range(2, 5)),
            loader.batches(epoch, range(2, 5)),
            strict=True,
        ):
            expected = runner.encode(samples.batch(numbers_))
            assert torch.equal(made.history_BT, expected.history_BT) and torch.equal(made.start_B, expected.start_B)
            assert torch.equal(made.prompt.ids_BK, expected.prompt.ids_BK)
        processes |= {child.pid for child in psutil.Process().children() if "resource_tracker" not in child.cmdline()}
    assert workers == 0 or len([pid for pid in processes if psutil.pid_exists(pid)]) == len(processes)


SIZES = {"samples": st.integers(1, 300), "batch_size": st.integers(1, 40), "seed": st.integers(0, 2**32)}


def order_of(samples: int, batch_size: int, seed: int, epoch: int, steps: range) -> list[list[int]]:
    order = EpochOrder(samples, batch_size, seed)
    order.choose(epoch, steps)
    return list(order)


@given(**SIZES)
def test_an_epoch_holds_no_sample_twice_and_whole_batches_only(samples: int, batch_size: int, seed: int) -> None:
    batches = order_of(samples, batch_size, seed, 0, range(samples // batch_size))
    assert all(len(batch) == batch_size for batch in batches)
    flat = [index for batch in batches for index in batch]
    assert len(set(flat)) == len(flat) == samples // batch_size * batch_size
    assert set(flat) <= set(range(samples))


@given(**SIZES, first=st.integers(0, 20))
def test_an_epoch_can_be_entered_at_any_step(samples: int, batch_size: int, seed: int, first: int) -> None:
    steps = samples // batch_size
    whole = order_of(samples, batch_size, seed, 3, range(steps))
    assert order_of(samples, batch_size, seed, 3, range(first, steps)) == whole[first:]


def test_epochs_and_seeds_differ_and_the_global_generators_are_left_alone() -> None:
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    first, second, other = (order_of(1000, 10, *key, range(100)) for key in ((1, 0), (1, 1), (2, 0)))
    assert first != second
    assert first != other
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])
