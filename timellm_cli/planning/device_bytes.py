"""Memory that libraries take of a card before and beside every tensor of ours. Light.

Measured on one H100 (`benchmarks/memory_grid.csv`); what of it depends on the card is said where it is.
"""

import sys

from timellm_cli.planning.case import Case, Part

CUBLAS_WORKSPACE = {9: 32 * 2**20, None: 8_519_680}
"""Bytes that PyTorch allocates for cuBLAS, by CUDA's major version of the card: 32 MiB on Hopper, else 8.125 MiB."""

MULTIPROCESSORS = 84
"""Of a card that is not known: as many as an RTX 3090 has, more than most have."""

CONTEXT_OF_A_MULTIPROCESSOR, KERNELS = 4 * 2**20, 313 * 2**20
"""What the driver sets aside for each multiprocessor, and the code that PyTorch, bitsandbytes and Triton load.

Together 841 MiB on an H100 (132 of them), measured after some steps. How it divides is a guess.
"""

CPU_PROCESS = 2**29
"""Python with torch for CPUs, transformers, pandas and matplotlib loaded: measured on Linux as 480 MiB."""


def matrix_products(case: Case, trains: bool = True) -> Part:
    """The workspaces of cuBLAS, one for each stream and thread that multiplies, and for good.

    Forward and backward pass are of two threads; recorded steps have a stream of their own, beside which the prompt's
    head was read.
    """
    count = (1 + trains if case.on_gpu else 0) + (case.captured and case.head > 0)
    major = case.capability[0] if case.capability else None
    size = CUBLAS_WORKSPACE.get(major, CUBLAS_WORKSPACE[None])
    return Part("matrix_products", "workspaces of cuBLAS", count * size, f"{count} x {size:,} bytes")


def allocator(case: Case, parts: list[Part], in_one_piece: bool | None = None) -> Part:
    """What PyTorch reserves and cannot use: holes that freed tensors leave between those that stay.

    A recorded step keeps its holes for good. `in_one_piece` says that memory grows in expandable segments, as it does
    on Linux (`allocator.py`); elsewhere holes are larger, and this is rough.
    """
    if not case.on_gpu:
        return Part("allocator", "holes between tensors", 0, "")
    if in_one_piece is None:
        in_one_piece = sys.platform == "linux"
    sizes = {part.key: part.bytes for part in parts}
    passing, weights = sizes.get("workspace", 0), sizes.get("linear_weights", 0)
    kept = sum(sizes.get(key, 0) for key in _KEPT)
    if not case.captured:
        mib = 33 if in_one_piece else 64
        size, how = mib * 2**20 + passing // 7, f"{mib} MiB and a seventh of the workspace"
    elif in_one_piece:
        size = 24 * 2**20 + passing // 5 + kept // 28 + weights // 50
        how = "24 MiB, a fifth of the workspace, a part in 28 of what layers keep, in 50 of the weights"
    else:
        size = 64 * 2**20 + passing // 3 + kept // 12 + weights // 20
        how = "64 MiB, a third of the workspace, a part in 12 of what layers keep, in 20 of the weights"
    return Part("allocator", "holes between tensors", size, how)


_KEPT = ("patch_activations", "keys_values", "prompt_keys_values", "reprogramming_activations")


def context(case: Case) -> Part:
    """What is taken before the first tensor."""
    if not case.on_gpu:
        return Part("process", "Python and its libraries", CPU_PROCESS, "rough")
    count = case.multiprocessors or MULTIPROCESSORS
    size = KERNELS + count * CONTEXT_OF_A_MULTIPROCESSOR
    how = f"{KERNELS:,} bytes of kernels and {CONTEXT_OF_A_MULTIPROCESSOR:,} bytes x {count} multiprocessors"
    return Part("cuda_context", "CUDA context", size, how)
