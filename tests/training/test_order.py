"""The order of the samples."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from timellm_cli.training.loader import EpochOrder

SIZES = {"samples": st.integers(1, 300), "batch_size": st.integers(1, 40), "seed": st.integers(0, 2**32)}


@given(**SIZES)
def test_an_epoch_holds_no_sample_twice_and_whole_batches_only(samples: int, batch_size: int, seed: int) -> None:
    batches = list(EpochOrder(samples, batch_size, (seed, 0), range(samples // batch_size)))
    assert all(len(batch) == batch_size for batch in batches)
    flat = [index for batch in batches for index in batch]
    assert len(set(flat)) == len(flat) == samples // batch_size * batch_size
    assert set(flat) <= set(range(samples))


@given(**SIZES, first=st.integers(0, 20))
def test_an_epoch_can_be_entered_at_any_step(samples: int, batch_size: int, seed: int, first: int) -> None:
    steps = samples // batch_size
    whole = list(EpochOrder(samples, batch_size, (seed, 3), range(steps)))
    assert list(EpochOrder(samples, batch_size, (seed, 3), range(first, steps))) == whole[first:]


@given(processes=st.sampled_from([1, 2, 4]), seed=st.integers(0, 100))
def test_processes_share_every_batch(processes: int, seed: int) -> None:
    whole = list(EpochOrder(50, 8, (seed, 1), range(6)))
    shares = [list(EpochOrder(50, 8, (seed, 1), range(6), rank, processes)) for rank in range(processes)]
    for step, batch in enumerate(whole):
        assert sorted(index for share in shares for index in share[step]) == sorted(batch)
        assert {len(share[step]) for share in shares} == {8 // processes}


def test_epochs_and_seeds_differ_and_the_global_generators_are_left_alone() -> None:
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    first, second, other = (list(EpochOrder(1000, 10, key, range(100))) for key in ((1, 0), (1, 1), (2, 0)))
    assert first != second
    assert first != other
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])
