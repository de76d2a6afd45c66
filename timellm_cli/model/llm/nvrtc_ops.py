"""The operations as fused CUDA kernels that NVRTC compiles at load: what a GPU without a working Triton uses.

The features of the last dimension must be contiguous; other strides are free unless a method says otherwise. The
kernels are in `kernels.cu`.
"""

from functools import cache
from math import gcd
from pathlib import Path

import torch
from torch import Tensor

from timellm_cli.model.llm.choice import NESTED_BLOCK, NF4_BLOCK
from timellm_cli.model.llm.cuda_ops import CudaOps
from timellm_cli.model.llm.nvrtc import Kernel, compile_kernels
from timellm_cli.model.llm.ops import KeysValues, Nf4, row_stride, rows_of

SOURCE = Path(__file__).with_name("kernels.cu")
TYPES = {torch.float32: 0, torch.bfloat16: 1, torch.float16: 2}
NAMES = (
    "rms_norm", "rms_norm_backward", "split_heads", "merge_heads", "swiglu", "swiglu_backward", "dequantize_nf4",
)  # fmt: skip
_THREADS = 256
_BYTES_AT_ONCE = 16


class NvrtcOps(CudaOps):
    """`TorchOps` with one kernel for each operation but attention and int8."""

    def rms_norm(self, x_NE: Tensor, weight_E: Tensor, eps: float, last_BPE: Tensor | None = None) -> Tensor:
        (rows, width), y_NE = rows_of(x_NE), x_NE.new_empty(x_NE.shape)
        tokens, patches = _copying(x_NE, last_BPE)
        kernel = _kernel("rms_norm", x_NE, width, weight_E, last_BPE)
        kernel((rows,), (_THREADS,), x_NE, weight_E, y_NE, last_BPE, tokens, patches, row_stride(x_NE), width, eps)
        return y_NE

    def rms_norm_backward(
        self,
        grad_y_NE: Tensor,
        x_NE: Tensor,
        weight_E: Tensor,
        eps: float,
        residual_NE: Tensor | None,
        out_NE: Tensor | None = None,
    ) -> Tensor:
        """`out_NE` must be contiguous."""
        (rows, width), out_NE = rows_of(x_NE), x_NE.new_empty(x_NE.shape) if out_NE is None else out_NE
        residual_row = 0 if residual_NE is None else row_stride(residual_NE)
        kernel = _kernel("rms_norm_backward", x_NE, width, grad_y_NE, weight_E, residual_NE, out_NE)
        kernel(
            (rows,), (_THREADS,), grad_y_NE, x_NE, weight_E, residual_NE, out_NE,
            row_stride(grad_y_NE), row_stride(x_NE), residual_row, width, eps,
        )  # fmt: skip
        return out_NE

    def split_heads(
        self, qkv_BSW: Tensor, cos_BSR: Tensor, sin_BSR: Tensor, prefix: KeysValues, groups: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The prefix's keys and values must be contiguous; cos and sin may be expanded over the samples."""
        samples, tokens, _ = qkv_BSW.shape
        kv, prefix_tokens, features = prefix[0].shape
        heads, half = kv * groups, features // 2
        query_BkQR = qkv_BSW.new_empty(samples, tokens * groups, kv, features).transpose(1, 2)
        keys_BkCR = qkv_BSW.new_empty(samples, kv, prefix_tokens + tokens, features)
        values_BkCR = torch.empty_like(keys_BkCR)
        block = _head_block(half)
        _kernel("split_heads", qkv_BSW)(
            (-(-(prefix_tokens + tokens) // block[1]), heads + 2 * kv, samples), block,
            qkv_BSW, cos_BSR, sin_BSR, *prefix, query_BkQR, keys_BkCR, values_BkCR, tokens, prefix_tokens, heads, kv,
            half, *qkv_BSW.stride()[:2], *cos_BSR.stride()[:2],
        )  # fmt: skip
        return query_BkQR, keys_BkCR, values_BkCR

    def merge_heads(
        self,
        query_grad_BkQR: Tensor,
        keys_grad_BkSR: Tensor,
        values_grad_BkSR: Tensor,
        cos_BSR: Tensor,
        sin_BSR: Tensor,
    ) -> Tensor:
        samples, kv, tokens, features = keys_grad_BkSR.shape
        heads, half = kv * (query_grad_BkQR.shape[2] // tokens), features // 2
        grads = (query_grad_BkQR, keys_grad_BkSR, values_grad_BkSR)
        assert all(grad.stride(3) == 1 for grad in grads), "features must be contiguous"
        grad_qkv_BSW = query_grad_BkQR.new_empty(samples, tokens, (heads + 2 * kv) * features)
        block = _head_block(half)
        _kernel("merge_heads", query_grad_BkQR)(
            (-(-tokens // block[1]), heads + 2 * kv, samples), block,
            *grads, cos_BSR, sin_BSR, grad_qkv_BSW, tokens, heads, kv, half,
            *(stride for grad in grads for stride in grad.stride()[:3]), *cos_BSR.stride()[:2],
        )  # fmt: skip
        return grad_qkv_BSW

    def swiglu(self, gate_up_N2I: Tensor, last_BP2I: Tensor | None = None, shrink: float = 1.0) -> Tensor:
        if shrink != 1:  # the kernel does not shrink
            return super().swiglu(gate_up_N2I, last_BP2I, shrink)
        rows, width = rows_of(gate_up_N2I)[0], gate_up_N2I.shape[-1] // 2
        act_NI = gate_up_N2I.new_empty(*gate_up_N2I.shape[:-1], width)
        tokens, patches = _copying(gate_up_N2I, last_BP2I)
        kernel = _kernel("swiglu", gate_up_N2I, width, last_BP2I)
        arguments = gate_up_N2I, act_NI, last_BP2I, tokens, patches, row_stride(gate_up_N2I), width
        kernel((rows, _column_blocks(width)), (_THREADS,), *arguments)
        return act_NI

    def swiglu_backward(self, grad_act_NI: Tensor, gate_up_N2I: Tensor, out_N2I: Tensor | None = None) -> Tensor:
        """`out_N2I` may be the input itself."""
        rows, width = rows_of(grad_act_NI)
        out_N2I = gate_up_N2I.new_empty(gate_up_N2I.shape) if out_N2I is None else out_N2I
        kernel = _kernel("swiglu_backward", gate_up_N2I, width, grad_act_NI, out_N2I)
        strides = row_stride(grad_act_NI), row_stride(gate_up_N2I), row_stride(out_N2I)
        kernel((rows, _column_blocks(width)), (_THREADS,), grad_act_NI, gate_up_N2I, out_N2I, *strides, width)
        return out_N2I

    def dequantize_nf4(self, matrix: Nf4, out_OI: Tensor) -> Tensor:
        """All tensors contiguous, the bytes aligned to 32 bits."""
        assert matrix.packed.is_contiguous() and out_OI.is_contiguous() and out_OI.numel() % NF4_BLOCK == 0
        words = out_OI.numel() // 8
        _kernel("dequantize_nf4", out_OI)(
            (-(-words // _THREADS),), (_THREADS,), matrix.packed, matrix.absmax, matrix.code_16,
            *(matrix.nested or (None, None, None)), out_OI, words, NF4_BLOCK // 8, NESTED_BLOCK,
        )  # fmt: skip
        return out_OI


def _kernel(name: str, like: Tensor, width: int = 0, *others: Tensor | None) -> Kernel:
    """The kernel for the type of `like`. Rows of `width` are moved in the largest pieces that all tensors allow."""
    vec = _BYTES_AT_ONCE // like.element_size()
    for tensor in (like, *others) if width else ():
        if tensor is not None:
            vec = gcd(vec, width, tensor.data_ptr() // tensor.element_size(), *tensor.stride()[:-1])
    return _compiled(like.device.index or 0, TYPES[like.dtype], vec)[name]


def _column_blocks(width: int) -> int:
    """Blocks that share the columns of a row: a thread has at least 8 of them."""
    return -(-width // (8 * _THREADS))


@cache
def _compiled(device: int, number_type: int, vec: int) -> dict[str, Kernel]:
    with torch.cuda.device(device):
        return compile_kernels(SOURCE, NAMES, {"TYPE": number_type, "VEC": vec})


def _copying(x_NX: Tensor, last_BPX: Tensor | None) -> tuple[int, int]:
    """The tokens of a sample, and how many of its last ones are copied to `last_BPX`."""
    if last_BPX is None:
        return 1, 0
    assert last_BPX.is_contiguous(), "copied tokens must be contiguous"
    return x_NX.shape[1], last_BPX.shape[1]


def _head_block(half: int) -> tuple[int, int]:
    """Threads over the half of a head's features, and over rows."""
    across = min(64, half)
    return across, max(_THREADS // across, 1)
