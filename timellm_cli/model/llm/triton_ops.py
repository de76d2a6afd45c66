"""The operations of `ops.py` as fused Triton kernels for CUDA: same names, same signatures, letters as there.

Import it only where Triton is installed (it comes with CUDA builds of PyTorch). Call each function once on a shape
before a CUDA graph captures it: the first call compiles. The features of the last dimension must lie side by side;
other strides are free unless a function says otherwise.
"""

import torch
import triton
from torch import Tensor

from timellm_cli.model.llm import triton_kernels as kernels
from timellm_cli.model.llm.choice import NESTED_BLOCK, NF4_BLOCK
from timellm_cli.model.llm.ops import merge_output, split_output

__all__ = [
    "dequantize_int8", "dequantize_nf4", "merge_heads", "merge_output", "rms_norm", "rms_norm_backward",
    "split_heads", "split_output", "swiglu", "swiglu_backward",
]  # fmt: skip

COLUMNS = 1024  # of one row in one program of an elementwise kernel: 8 for each of 128 threads
HEAD_TILE = 4096  # elements of one head (tokens x features) in one program
WORDS = 1024  # of 8 NF4 weights in one program


def _row_stride(x: Tensor) -> int:
    """Of all dimensions but the last taken as one; fails where only a copy could do that."""
    assert x.stride(-1) == 1, "rows must be contiguous"
    return x.view(-1, x.shape[-1]).stride(0)


def _rows(x: Tensor) -> tuple[int, int]:
    """How many rows, and how wide."""
    return x.numel() // x.shape[-1], x.shape[-1]


def _row_block(width: int) -> dict[str, int]:
    """One row in one program: the padded width, and warps enough for 8 elements a thread up to 16 warps."""
    block = triton.next_power_of_2(width)
    return {"BLOCK": block, "num_warps": min(16, max(1, block // 256))}


def _keeping(x_NX: Tensor, kept_BPX: Tensor | None) -> tuple[Tensor | None, int, int]:
    """Where the last tokens of each sample go, how many tokens a sample has, and how many of them go there."""
    if kept_BPX is None:
        return None, 1, 0
    assert kept_BPX.is_contiguous(), "kept tokens must lie side by side"
    return kept_BPX, x_NX.shape[1], kept_BPX.shape[1]


def rms_norm(x_NE: Tensor, weight_E: Tensor, eps: float, kept_BPE: Tensor | None = None) -> Tensor:
    rows, width = _rows(x_NE)
    y_NE = x_NE.new_empty(x_NE.shape)
    kernels.rms_norm_kernel[(rows,)](
        x_NE, weight_E, y_NE, *_keeping(x_NE, kept_BPE), _row_stride(x_NE), width, eps, **_row_block(width)
    )
    return y_NE


def rms_norm_backward(
    grad_y_NE: Tensor,
    x_NE: Tensor,
    weight_E: Tensor,
    eps: float,
    residual_NE: Tensor | None,
    out_NE: Tensor | None = None,
) -> Tensor:
    """`out_NE` must be contiguous."""
    rows, width = _rows(x_NE)
    out_NE = x_NE.new_empty(x_NE.shape) if out_NE is None else out_NE
    assert out_NE.is_contiguous()
    residual_row = 0 if residual_NE is None else _row_stride(residual_NE)
    kernels.rms_norm_backward_kernel[(rows,)](
        grad_y_NE, x_NE, weight_E, residual_NE, out_NE, _row_stride(grad_y_NE), _row_stride(x_NE), residual_row,
        width, eps, **_row_block(width),
    )  # fmt: skip
    return out_NE


def _head_tile(features: int) -> dict[str, int]:
    padded = triton.next_power_of_2(features // 2)
    return {"HALF": features // 2, "PADDED": padded, "ROWS": max(1, HEAD_TILE // (2 * padded))}


def _turn_strides(cos_BSR: Tensor, sin_BSR: Tensor) -> tuple[int, int]:
    assert cos_BSR.stride() == sin_BSR.stride() and cos_BSR.stride(2) == 1, "cos and sin must lie alike"
    return cos_BSR.stride(0), cos_BSR.stride(1)


def split_heads(
    qkv_BSW: Tensor, cos_BSR: Tensor, sin_BSR: Tensor, head_keys_kKR: Tensor, head_values_kKR: Tensor, groups: int
) -> tuple[Tensor, Tensor, Tensor]:
    """The prompt head's keys and values must be contiguous; cos and sin may be expanded over the samples."""
    samples, tokens, _ = qkv_BSW.shape
    kv, head_tokens, features = head_keys_kKR.shape
    assert qkv_BSW.stride(2) == 1 and head_keys_kKR.is_contiguous() and head_values_kKR.is_contiguous()
    query_BkQR = qkv_BSW.new_empty(samples, tokens * groups, kv, features).transpose(1, 2)
    keys_BkCR = qkv_BSW.new_empty(samples, kv, head_tokens + tokens, features)
    values_BkCR = torch.empty_like(keys_BkCR)
    tile, heads = _head_tile(features), kv * groups
    kernels.split_heads_kernel[(triton.cdiv(head_tokens + tokens, tile["ROWS"]), heads + 2 * kv, samples)](
        qkv_BSW, cos_BSR, sin_BSR, head_keys_kKR, head_values_kKR, query_BkQR, keys_BkCR, values_BkCR,
        tokens, head_tokens, heads, kv, qkv_BSW.stride(0), qkv_BSW.stride(1), *_turn_strides(cos_BSR, sin_BSR), **tile,
    )  # fmt: skip
    return query_BkQR, keys_BkCR, values_BkCR


def merge_heads(
    query_grad_BkQR: Tensor, keys_grad_BkSR: Tensor, values_grad_BkSR: Tensor, cos_BSR: Tensor, sin_BSR: Tensor
) -> Tensor:
    samples, kv, tokens, features = keys_grad_BkSR.shape
    heads = kv * (query_grad_BkQR.shape[2] // tokens)
    grads = (query_grad_BkQR, keys_grad_BkSR, values_grad_BkSR)
    assert all(grad.stride(3) == 1 for grad in grads), "features must be contiguous"
    strides = [stride for grad in grads for stride in grad.stride()[:3]]
    grad_qkv_BSW = query_grad_BkQR.new_empty(samples, tokens, (heads + 2 * kv) * features)
    tile = _head_tile(features)
    kernels.merge_heads_kernel[(triton.cdiv(tokens, tile["ROWS"]), heads + 2 * kv, samples)](
        *grads, cos_BSR, sin_BSR, grad_qkv_BSW, tokens, heads, kv, *strides, *_turn_strides(cos_BSR, sin_BSR), **tile
    )
    return grad_qkv_BSW


def swiglu(gate_up_N2I: Tensor, kept_BP2I: Tensor | None = None) -> Tensor:
    rows, width = _rows(gate_up_N2I)[0], gate_up_N2I.shape[-1] // 2
    act_NI = gate_up_N2I.new_empty(*gate_up_N2I.shape[:-1], width)
    kernels.swiglu_kernel[(rows, triton.cdiv(width, COLUMNS))](
        None, gate_up_N2I, act_NI, *_keeping(gate_up_N2I, kept_BP2I), 0, _row_stride(gate_up_N2I), width, width,
        COLUMNS=COLUMNS,
    )  # fmt: skip
    return act_NI


def swiglu_backward(grad_act_NI: Tensor, gate_up_N2I: Tensor, out_N2I: Tensor | None = None) -> Tensor:
    rows, width = _rows(grad_act_NI)
    out_N2I = gate_up_N2I.new_empty(gate_up_N2I.shape) if out_N2I is None else out_N2I
    kernels.swiglu_kernel[(rows, triton.cdiv(width, COLUMNS))](
        grad_act_NI, gate_up_N2I, out_N2I, None, 1, 0,
        _row_stride(grad_act_NI), _row_stride(gate_up_N2I), _row_stride(out_N2I), width, COLUMNS=COLUMNS,
    )  # fmt: skip
    return out_N2I


def dequantize_nf4(
    packed_bytes: Tensor,
    absmax: Tensor,
    code_16: Tensor,
    nested_absmax: Tensor | None,
    nested_code_256: Tensor | None,
    offset: Tensor | None,
    out_OI: Tensor,
) -> Tensor:
    """All tensors contiguous, the bytes aligned to 32 bits."""
    assert packed_bytes.is_contiguous() and out_OI.is_contiguous() and out_OI.numel() % NF4_BLOCK == 0
    words = packed_bytes.view(-1).view(torch.int32)
    kernels.dequantize_nf4_kernel[(triton.cdiv(words.numel(), WORDS),)](
        words, absmax, code_16, nested_absmax, nested_code_256, offset, out_OI, words.numel(),
        WORDS=WORDS, WORDS_A_BLOCK=NF4_BLOCK // 8, NESTED=NESTED_BLOCK, num_warps=8,
    )  # fmt: skip
    return out_OI


def dequantize_int8(weight_OI: Tensor, scale_O: Tensor, out_OI: Tensor) -> Tensor:
    rows, width = _rows(weight_OI)
    kernels.dequantize_int8_kernel[(rows, triton.cdiv(width, COLUMNS))](
        weight_OI, scale_O, out_OI, _row_stride(weight_OI), _row_stride(out_OI), width, COLUMNS=COLUMNS
    )
    return out_OI
