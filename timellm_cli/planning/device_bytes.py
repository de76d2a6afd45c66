"""Memory that libraries take of a card before and beside every tensor of ours. Light."""

from timellm_cli.planning.case import Case, Part
from timellm_cli.units import GIB

CUBLAS_WORKSPACE = {9: 32 * 2**20, None: 8_519_680}
"""Bytes that PyTorch allocates for cuBLAS, by CUDA's major version of the card: 32 MiB on Hopper, else 8.125 MiB."""

CUDA_CONTEXT = {7: int(0.35 * GIB), 8: int(0.45 * GIB), 9: int(0.83 * GIB), None: GIB // 2}
"""Driver, kernels and libraries on the card, by CUDA's major version: rough, until it has been measured."""

CPU_PROCESS = GIB // 2
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


def context(case: Case) -> Part:
    """What is taken before the first tensor."""
    if not case.on_gpu:
        return Part("process", "Python and its libraries", CPU_PROCESS, "rough")
    major = case.capability[0] if case.capability else None
    size = CUDA_CONTEXT.get(major, CUDA_CONTEXT[None])
    return Part("cuda_context", "CUDA context", size, "rough, by the class of the card")
