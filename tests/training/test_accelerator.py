"""The hardware's side of a run."""

import random

import numpy as np
import pytest
import torch

from tests.training.conftest import MakeConfig
from timellm_cli.errors import ModelError
from timellm_cli.training.accelerator import gpu_memory_faults, make_accelerator, seed_everything


def test_a_run_on_the_cpu_stays_there(make_config: MakeConfig) -> None:
    accelerator = make_accelerator(make_config())
    assert accelerator.device.type == "cpu"
    assert accelerator.mixed_precision == "no"
    assert accelerator.scaler is None


@pytest.mark.parametrize("seed", [0, 7, 2**40])
def test_a_seed_fixes_every_generator_and_ranks_differ(seed: int) -> None:
    def draw(rank: int) -> tuple[float, float, float]:
        seed_everything(seed, rank)
        return random.random(), np.random.random(), torch.rand(1).item()

    assert draw(0) == draw(0)
    assert not set(draw(0)) & set(draw(1))


def test_a_gpu_that_is_too_small_is_told_with_a_way_out() -> None:
    fault = torch.OutOfMemoryError(
        "CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has 5.80 GiB. Try expandable segments.\nMore."
    )
    with (
        pytest.raises(ModelError, match="memory is too small: CUDA out of memory") as caught,
        gpu_memory_faults(),
    ):
        raise fault
    assert caught.value.message.endswith("GPU 0 has 5.80 GiB")
    assert caught.value.hint.startswith("`timellm inspect --explain`")


def test_other_faults_of_the_gpu_stay_what_they_are() -> None:
    with pytest.raises(RuntimeError, match="device-side assert"), gpu_memory_faults():
        raise RuntimeError("CUDA error: device-side assert triggered")
