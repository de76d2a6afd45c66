"""A GPU whose memory did not do: how that shows, and what can be let go of."""

import gc

import torch

from timellm_cli.model.captured import forget_recordings

_SIGNS = ("out of memory", "ALLOC_FAILED")
"""What CUDA and its libraries say where torch's allocator is not the one that fails."""


def is_out_of_memory(error: BaseException | None) -> bool:
    """Whether an error is of memory that is short, or came of one: recording a graph may end in another one."""
    while error is not None:
        if isinstance(error, torch.OutOfMemoryError):
            return True
        if isinstance(error, RuntimeError) and any(sign in str(error) for sign in _SIGNS):
            return True
        error = error.__context__
    return False


def free_gpu_memory() -> None:
    """Give back all that torch holds and does not need: recordings can be made again. To be called outside `except`,
    as an error holds the tensors of the functions it went through.
    """
    forget_recordings()
    gc.collect()
    torch.cuda.empty_cache()
