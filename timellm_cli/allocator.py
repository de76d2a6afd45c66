"""How PyTorch lays memory out on a GPU. Light: to be called before torch is imported."""

import os
import sys

_NAMES = ("PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF")


def use_expandable_segments() -> None:
    """Let the memory of a GPU grow in one piece, unless the user has settings of their own.

    Otherwise blocks of many sizes cause fragmentation: recording a step of Qwen2.5-3B with all layers reserves 0.2 GiB
    more (benchmarks/RESULTS.md). PyTorch does this on Linux alone.
    """
    if sys.platform == "linux" and not any(name in os.environ for name in _NAMES):
        os.environ[_NAMES[0]] = "expandable_segments:True"
