"""The gradient of the patches' attention: by autograd and by the Triton kernels, against its definition in float64."""

import pytest
import torch
from torch import Tensor

from tests.model.llm.test_ops import DEVICE, DTYPES, INTERPRETED, assert_close, draw, fused  # noqa: F401
from timellm_cli.model.llm.ops import TorchOps

SHAPES = [(1, 1, 1, 3, 5, 8), (2, 2, 3, 5, 21, 6), (1, 1, 2, 40, 150, 32), (2, 3, 8, 20, 20, 24)]
"""Samples, key-value heads, groups, patches, context, features."""
FUSED_DTYPES = [dtype for dtype in DTYPES if not INTERPRETED or dtype != torch.bfloat16]
"""Triton's interpreter multiplies the bits of bf16 as whole numbers; a GPU does not."""


def inputs_of(shape: tuple[int, ...], dtype: torch.dtype, device: str = DEVICE) -> tuple[Tensor, ...]:
    """Queries, keys, values, the mask and a gradient. The second sample cannot see some of its first tokens."""
    samples, kv, groups, patches, context, features = shape
    rows = patches * groups
    query, grad = (draw(samples, rows, kv, features, dtype=dtype, device=device).transpose(1, 2) for _ in range(2))
    keys, values = draw(2, samples, kv, context, features, dtype=dtype, device=device)
    token = torch.arange(rows) // groups + context - patches
    seen_BQC = (torch.arange(context) <= token[:, None]).repeat(samples, 1, 1)
    seen_BQC[-1, :, : (context - patches) // 2] = False
    mask = torch.zeros(samples, 1, rows, context, dtype=dtype).masked_fill_(~seen_BQC[:, None], float("-inf"))
    return query, keys, values, mask.to(device), grad


def gradients_of(inputs: tuple[Tensor, ...], patches: int) -> tuple[Tensor, ...]:
    """By their definition, in float64."""
    query, keys, values, mask, grad = (part.double() for part in inputs)
    leaves = [part.requires_grad_() for part in (query, keys, values)]
    weights = (leaves[0] @ leaves[1].transpose(2, 3) * query.shape[-1] ** -0.5 + mask).softmax(dim=-1)
    query_grad, keys_grad, values_grad = torch.autograd.grad(weights @ leaves[2], leaves, grad)
    return query_grad, keys_grad[:, :, -patches:], values_grad[:, :, -patches:]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_torchs_gradient_of_attention_is_that_of_its_definition(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    inputs = inputs_of(shape, dtype, "cpu")
    found = TorchOps().patch_attention(*inputs[:4]).backward(inputs[4], shape[3])
    for got, want in zip(found, gradients_of(inputs, shape[3]), strict=True):
        assert (got.double() - want).norm() <= 16 * torch.finfo(dtype).eps * want.norm()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", FUSED_DTYPES)
def test_the_fused_gradient_of_attention_is_that_of_its_definition(
    fused: TorchOps,  # noqa: F811
    shape: tuple[int, ...],
    dtype: torch.dtype,
) -> None:
    inputs = inputs_of(shape, dtype)
    found = fused.patch_attention(*inputs[:4]).backward(inputs[4], shape[3])
    for got, want in zip(found, gradients_of(inputs, shape[3]), strict=True):
        assert_close(got, want.to(dtype))


@pytest.mark.parametrize("dtype", DTYPES)
def test_attention_is_computed_again_only_where_it_is_needed(dtype: torch.dtype) -> None:
    query, keys, values, mask, grad = inputs_of(SHAPES[1], dtype)
    before = TorchOps().patch_attention(query, keys, values, mask)
    mixed, first = before.mixed(), before.backward(grad, SHAPES[1][3])
    after = TorchOps().patch_attention(query, keys, values, mask).backward(grad, SHAPES[1][3])
    assert mixed.shape == query.shape and not mixed.requires_grad
    assert all(torch.equal(a, b) for a, b in zip(first, after, strict=True))
