"""The gradient of the patches' attention as two Triton kernels.

PyTorch's kernels make the gradients of all keys. Most belong to the frozen prompt, which needs none. With the few
key-value heads of a small batch, these kernels also keep only a fraction of a GPU busy. Here a program has some rows of
queries, or the keys of some patches. The softmax is computed again, and its sums are kept between the two kernels (Dao,
FlashAttention-2, 2023).
The letters are those of `ops.py`.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from timellm_cli.model.llm.attention import Gradients, PatchAttention, attend

LOG2_E = tl.constexpr(1.4426950408889634)
QUERIES, KEYS, PATCH_KEYS = 64, 64, 16
"""Rows of queries in one program; keys that it reads at once; keys of patches in one program."""


class TritonPatchAttention(PatchAttention):
    """Keys, values and mask have to be contiguous. Of queries and gradients only the last dimension has to be."""

    def mixed(self) -> Tensor:
        return attend(self.query_BkQR, self.keys_BkCR, self.values_BkCR, self.mask_B1QC)

    def backward(self, grad_BkQR: Tensor, patches: int) -> Gradients:
        query, keys, values, mask = self.query_BkQR, self.keys_BkCR, self.values_BkCR, self.mask_B1QC
        batch, kv, rows, features = query.shape
        context = keys.shape[2]
        assert keys.is_contiguous() and values.is_contiguous() and mask.is_contiguous()
        assert query.stride(3) == grad_BkQR.stride(3) == 1, "features must be contiguous"
        query_grad = query.new_empty(batch, rows, kv, features).transpose(1, 2)
        keys_grad = keys.new_empty(batch, kv, patches, features)
        values_grad = torch.empty_like(keys_grad)
        sums_2BkQ = query.new_empty(2, batch, kv, rows, dtype=torch.float32)
        inputs = (query, keys, values, mask, grad_BkQR)
        sizes = (rows, context, kv, patches, rows // patches, features**-0.5)
        strides = (*query.stride()[:3], *grad_BkQR.stride()[:3])
        features_fit = {"FEATURES": features, "PADDED": max(16, triton.next_power_of_2(features))}
        query_kernel[(triton.cdiv(rows, QUERIES), batch * kv)](
            *inputs, query_grad, *sums_2BkQ, *sizes, *strides, *query_grad.stride()[:3], **features_fit,
            QUERIES=QUERIES, KEYS=KEYS,
        )  # fmt: skip
        key_kernel[(triton.cdiv(patches, PATCH_KEYS), batch * kv)](
            *inputs, keys_grad, values_grad, *sums_2BkQ, *sizes, *strides, **features_fit,
            QUERIES=QUERIES, KEYS=PATCH_KEYS,
        )  # fmt: skip
        return query_grad, keys_grad, values_grad


@triton.jit
def _load_rows(base, row, rows, stride, FEATURES: tl.constexpr, PADDED: tl.constexpr):
    column = tl.arange(0, PADDED)
    mask = (row < rows)[:, None] & (column < FEATURES)[None, :]
    return tl.load(base + row[:, None] * stride + column[None, :], mask=mask, other=0)


@triton.jit
def _store_rows(base, values, row, rows, stride, FEATURES: tl.constexpr, PADDED: tl.constexpr):
    column = tl.arange(0, PADDED)
    mask = (row < rows)[:, None] & (column < FEATURES)[None, :]
    tl.store(base + row[:, None] * stride + column[None, :], values.to(base.dtype.element_ty), mask=mask)


@triton.jit
def _scores(query, keys, mask, row, column, rows, context, scale):
    """Rows x columns, float32, times the binary logarithm of e, because `exp2` is one instruction; outside -inf."""
    inside = (row < rows)[:, None] & (column < context)[None, :]
    bias = tl.load(mask + row[:, None] * context + column[None, :], mask=inside, other=float("-inf"))
    return tl.dot(query, tl.trans(keys), input_precision="ieee") * (scale * LOG2_E) + bias.to(tl.float32)


@triton.jit
def query_kernel(
    query, keys, values, mask, grad, query_grad, log_sums, means, rows, context, kv, patches, groups, scale,
    query_sample, query_kv, query_row, grad_sample, grad_kv, grad_row, out_sample, out_kv, out_row,
    FEATURES: tl.constexpr, PADDED: tl.constexpr, QUERIES: tl.constexpr, KEYS: tl.constexpr,
):  # fmt: skip
    """The gradient of some rows of queries of one key-value head, and each row's sum and mean for `key_kernel`.

    `log_sums` is the binary logarithm of a row's softmax sum; `means` is the mean gradient of its weights.
    """
    head = tl.program_id(1).to(tl.int64)
    sample, k = head // kv, head % kv
    row = tl.program_id(0) * QUERIES + tl.arange(0, QUERIES)
    q = _load_rows(query + sample * query_sample + k * query_kv, row, rows, query_row, FEATURES, PADDED)
    g = _load_rows(grad + sample * grad_sample + k * grad_kv, row, rows, grad_row, FEATURES, PADDED)
    keys += head * context * FEATURES
    values += head * context * FEATURES
    mask += sample * rows * context
    last = tl.minimum(tl.program_id(0) * QUERIES + QUERIES, rows) - 1
    seen = context - patches + last // groups + 1  # no row of these sees a later key
    most = tl.full((QUERIES,), -1e30, tl.float32)  # finite: a block may be masked as a whole
    total = tl.zeros((QUERIES,), tl.float32)
    along = tl.zeros((QUERIES,), tl.float32)
    for start in range(0, seen, KEYS):
        column = start + tl.arange(0, KEYS)
        key = _load_rows(keys, column, context, FEATURES, FEATURES, PADDED)
        value = _load_rows(values, column, context, FEATURES, FEATURES, PADDED)
        scores = _scores(q, key, mask, row, column, rows, context, scale)
        higher = tl.maximum(most, tl.max(scores, 1))
        weights = tl.exp2(scores - higher[:, None])
        decay = tl.exp2(most - higher)
        total = total * decay + tl.sum(weights, 1)
        along = along * decay + tl.sum(weights * tl.dot(g, tl.trans(value), input_precision="ieee"), 1)
        most = higher
    total = tl.where(row < rows, total, 1)
    log_sum, mean = most + tl.log2(total), along / total
    tl.store(log_sums + head * rows + row, log_sum, mask=row < rows)
    tl.store(means + head * rows + row, mean, mask=row < rows)
    result = tl.zeros((QUERIES, PADDED), tl.float32)
    for start in range(0, seen, KEYS):
        column = start + tl.arange(0, KEYS)
        key = _load_rows(keys, column, context, FEATURES, FEATURES, PADDED)
        value = _load_rows(values, column, context, FEATURES, FEATURES, PADDED)
        weights = tl.exp2(_scores(q, key, mask, row, column, rows, context, scale) - log_sum[:, None])
        slopes = weights * (tl.dot(g, tl.trans(value), input_precision="ieee") - mean[:, None])
        result = tl.dot(slopes.to(key.dtype), key, result, input_precision="ieee")
    out = query_grad + sample * out_sample + k * out_kv
    _store_rows(out, result * scale, row, rows, out_row, FEATURES, PADDED)


@triton.jit
def key_kernel(
    query, keys, values, mask, grad, keys_grad, values_grad, log_sums, means, rows, context, kv, patches, groups, scale,
    query_sample, query_kv, query_row, grad_sample, grad_kv, grad_row,
    FEATURES: tl.constexpr, PADDED: tl.constexpr, QUERIES: tl.constexpr, KEYS: tl.constexpr,
):  # fmt: skip
    """The gradients of the keys and values of some patches of one key-value head. A patch is seen from itself on."""
    head = tl.program_id(1).to(tl.int64)
    sample, k = head // kv, head % kv
    first = tl.program_id(0) * KEYS
    patch = first + tl.arange(0, KEYS)
    column = context - patches + patch
    key = _load_rows(keys + head * context * FEATURES, column, context, FEATURES, FEATURES, PADDED)
    value = _load_rows(values + head * context * FEATURES, column, context, FEATURES, FEATURES, PADDED)
    query += sample * query_sample + k * query_kv
    grad += sample * grad_sample + k * grad_kv
    mask += sample * rows * context
    key_result = tl.zeros((KEYS, PADDED), tl.float32)
    value_result = tl.zeros((KEYS, PADDED), tl.float32)
    for start in range(first * groups, rows, QUERIES):
        row = start + tl.arange(0, QUERIES)
        q = _load_rows(query, row, rows, query_row, FEATURES, PADDED)
        g = _load_rows(grad, row, rows, grad_row, FEATURES, PADDED)
        log_sum = tl.load(log_sums + head * rows + row, mask=row < rows, other=0)
        mean = tl.load(means + head * rows + row, mask=row < rows, other=0)
        weights = tl.exp2(_scores(q, key, mask, row, column, rows, context, scale) - log_sum[:, None])
        slopes = weights * (tl.dot(g, tl.trans(value), input_precision="ieee") - mean[:, None])
        value_result = tl.dot(tl.trans(weights.to(g.dtype)), g, value_result, input_precision="ieee")
        key_result = tl.dot(tl.trans(slopes.to(q.dtype)), q, key_result, input_precision="ieee")
    target = head * patches * FEATURES
    _store_rows(keys_grad + target, key_result * scale, patch, patches, FEATURES, FEATURES, PADDED)
    _store_rows(values_grad + target, value_result, patch, patches, FEATURES, FEATURES, PADDED)
