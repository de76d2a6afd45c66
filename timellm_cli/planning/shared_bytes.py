"""What a card of several needs besides the step itself, in bytes. Light."""

from timellm_cli.planning.case import Case, Part
from timellm_cli.planning.weight_bytes import trainable_tensors

NCCL = 776 * 2**20
"""Measured on 2026-11-28 as what the driver counts of `timellm train --processes 4` beside torch's reserve and the
context, on each of four H200 of one host with NVLink, NCCL of torch 2.11 without multicast. The first sum alone took
840 MiB in a bare process, with two processes as with four, for 64 numbers as for four million; 64 of these a training
has loaded anyway. Fewer channels, as between cards without NVLink, take less."""


def connections(case: Case) -> Part:
    """What NCCL takes, which does not depend on the number of cards."""
    size = NCCL if case.others else 0
    how = f"measured with 2 and 4 H200 of one host; this run shares {case.others + 1} cards"
    return Part("nccl", "NCCL's connections", size, how)


def gradient_row(case: Case) -> Part:
    """All gradients in one row of float32 numbers, which is summed."""
    weights = sum(trainable_tensors(case).values()) if case.others else 0
    return Part("gradient_row", "gradients in one row", 4 * weights, f"{weights:,} weights x 4 bytes")
