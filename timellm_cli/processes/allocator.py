"""How PyTorch takes memory of a GPU, set before it is imported. Light."""

import os
import sys

_ALLOCATOR_SETTINGS = ("PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF")


def use_expandable_segments() -> None:
    """Let the memory of a GPU grow in one piece, unless the user has settings of their own.

    Otherwise blocks of many sizes cause fragmentation: recording a step of Qwen2.5-3B with all layers reserves 0.2 GiB
    more (benchmarks/RESULTS.md). PyTorch does this on Linux alone.
    """
    if sys.platform == "linux" and not any(name in os.environ for name in _ALLOCATOR_SETTINGS):
        os.environ[_ALLOCATOR_SETTINGS[0]] = "expandable_segments:True"
