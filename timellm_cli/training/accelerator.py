"""Accelerate, set up for a run: it carries the device, the precision and the processes."""

from collections.abc import Iterator
from contextlib import contextmanager

from accelerate import Accelerator
from accelerate.utils import set_seed

from timellm_cli.config import Config
from timellm_cli.errors import ConfigError, ModelError
from timellm_cli.model.runner import is_out_of_memory

_PRECISIONS = {"fp32": "no", "bf16": "bf16", "fp16": "fp16"}


def make_accelerator(config: Config) -> Accelerator:
    """For a settled configuration; under `accelerate launch`, one in each process.

    Raises ConfigError where the processes cannot share a batch evenly, ModelError where the hardware cannot compute in
    the precision.
    """
    try:
        accelerator = Accelerator(
            mixed_precision=_PRECISIONS[config.train.precision], cpu=config.hardware.device == "cpu"
        )
    except ValueError as error:
        raise ModelError(f"train.precision {config.train.precision}: {error}", "use --precision fp32") from None
    if config.train.batch % accelerator.num_processes:
        raise ConfigError(
            f"train.batch_size {config.train.batch} cannot be shared by {accelerator.num_processes} processes",
            "a step is the same samples however many processes there are: choose a multiple of their number",
        )
    return accelerator


def seed_everything(seed: int, rank: int = 0) -> None:
    """Seed python, numpy and torch. Draw initial weights with rank 0 everywhere; dropout differs from rank to rank."""
    set_seed((seed + rank) % 2**32)  # numpy takes no larger one


@contextmanager
def gpu_memory_faults() -> Iterator[None]:
    """Turn a GPU that is too small, were it for one sample, into a ModelError that says what to try."""
    try:
        yield
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        numbers = ". ".join(str(error).splitlines()[0].split(". ")[:3])  # what follows is advice on torch's allocator
        raise ModelError(
            f"the GPU's memory is too small: {numbers}",
            "`timellm inspect --explain` shows what needs how much and what would need less; `nvidia-smi` shows what "
            "other programs hold",
        ) from None
