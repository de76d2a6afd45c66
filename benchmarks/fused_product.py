"""A product that reads 4-bit weights itself, against writing the matrix out first. Prints a table.

    python benchmarks/fused_product.py [--rows 16 64 128 512 1088] [--json FILE]

A tile of the fused product unpacks its weights on the way to the multipliers, so no 16-bit matrix is ever written. But
every block of rows unpacks the same weights again. The best of some tile sizes is taken for each number of rows.
"""

import argparse
import itertools
import json
from functools import partial
from pathlib import Path
from typing import Any

import torch
import triton
import triton.language as tl
from step_profile import MATRICES, time_call

from timellm_cli.model.llm.frozen_matrix import Nf4Matrix, make_matrix, quantise
from timellm_cli.model.llm.ops import choose_ops

NAME = "gate_up"


@triton.jit
def product_kernel(
    x, packed, absmax, code, y, rows, outputs, inputs, ROWS: tl.constexpr, OUTPUTS: tl.constexpr, INPUTS: tl.constexpr
):
    """y = x W^T for W in NF4 with float32 scales of 64 weights; INPUTS divides 64 or is a multiple of it."""
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    output = tl.program_id(1) * OUTPUTS + tl.arange(0, OUTPUTS)
    half = tl.arange(0, INPUTS // 2)
    result = tl.zeros((ROWS, OUTPUTS), tl.float32)
    for start in range(0, inputs, INPUTS):
        weight = output[None, :].to(tl.int64) * inputs + (start + 2 * half)[:, None]
        pairs = tl.load(packed + weight // 2).to(tl.int32)
        scale = tl.load(absmax + weight // 64)
        first = x + row[:, None] * inputs + (start + 2 * half)[None, :]
        inside = (row < rows)[:, None]
        high = (tl.load(code + (pairs >> 4)) * scale).to(x.dtype.element_ty)
        result = tl.dot(tl.load(first, mask=inside, other=0), high, result)
        low = (tl.load(code + (pairs & 15)) * scale).to(x.dtype.element_ty)
        result = tl.dot(tl.load(first + 1, mask=inside, other=0), low, result)
    target = y + row[:, None].to(tl.int64) * outputs + output[None, :]
    tl.store(target, result.to(y.dtype.element_ty), mask=(row < rows)[:, None])


def multiply(x: torch.Tensor, matrix: Nf4Matrix, tile: tuple[int, int, int], warps: int) -> torch.Tensor:
    """x W^T, N x O."""
    outputs, inputs = matrix.shape
    y = x.new_empty(len(x), outputs)
    rows, columns, depth = tile
    product_kernel[(triton.cdiv(len(x), rows), outputs // columns)](
        x, matrix.packed, matrix.absmax, matrix.code, y, len(x), outputs, inputs,
        ROWS=rows, OUTPUTS=columns, INPUTS=depth, num_warps=warps,
    )  # fmt: skip
    return y


def write_and_multiply(x: torch.Tensor, matrix: Nf4Matrix) -> torch.Tensor:
    """x W^T, with the matrix written out first."""
    return x @ matrix.dense(x.dtype).T


def fastest_tile(x: torch.Tensor, matrix: Nf4Matrix, expected: torch.Tensor) -> tuple[float, Any]:
    """Microseconds of the fused product with the best tile, and the tile with its warps."""
    best: tuple[float, Any] = (float("inf"), None)
    tiles = [(16, 64, 128), (64, 128, 64), (128, 128, 64), (128, 256, 64)]
    for tile, warps in itertools.product(dict.fromkeys(tiles), (4, 8)):
        try:
            y = multiply(x, matrix, tile, warps)
        except triton.runtime.errors.OutOfResources:
            continue
        assert (y - expected).float().norm() < 0.01 * expected.float().norm(), (tile, warps)
        us = time_call(partial(multiply, x, matrix, tile, warps), 10)
        best = min(best, (us, (tile, warps)), key=lambda pair: pair[0])
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[16, 64, 128, 512, 1088])
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    device, found = torch.device("cuda"), []
    ops = choose_ops(device, "triton")
    weight = torch.randn(MATRICES[NAME], device=device, dtype=torch.bfloat16)
    matrix = make_matrix(MATRICES[NAME], quantise(weight, "nf4", False), ops)
    assert isinstance(matrix, Nf4Matrix)
    for rows in options.rows:
        x = torch.randn(rows, MATRICES[NAME][1], device=device, dtype=torch.bfloat16)
        fused = fastest_tile(x, matrix, x @ matrix.dense(torch.bfloat16).T)
        written = time_call(partial(write_and_multiply, x, matrix), 10)
        found.append({"matrix": NAME, "rows": rows, "fused_us": fused[0], "tile": fused[1], "written_us": written})
        print(json.dumps(found[-1]), flush=True)
    if options.json:
        options.json.write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main()
