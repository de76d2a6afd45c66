"""The operations as fused Triton kernels for a GPU.

Import it only where Triton is installed (it comes with CUDA builds of PyTorch). Call each method once on a shape before
a CUDA graph records it: the first call compiles. The features of the last dimension must be contiguous; other strides
are free unless a method says otherwise. With TRITON_INTERPRET=1 in the environment before the import, the kernels run
on CPU tensors, slowly.
"""

import torch
import triton
from torch import Tensor

from timellm_cli.model.llm import triton_kernels as kernels
from timellm_cli.model.llm.attention import PatchAttention
from timellm_cli.model.llm.choice import NESTED_BLOCK, NF4_BLOCK
from timellm_cli.model.llm.ops import KeysValues, Nf4, TorchOps, row_stride, rows_of
from timellm_cli.model.llm.triton_attention import TritonPatchAttention

COLUMNS = 1024  # of one row in one program of an elementwise kernel: 8 for each of 128 threads
HEAD_TILE = 4096  # elements of one head (tokens x features) in one program
WORDS = 1024  # of 8 NF4 weights in one program


class TritonOps(TorchOps):
    """`TorchOps` with one kernel for each operation; attention's output needs no kernel."""

    def rms_norm(self, x_NE: Tensor, weight_E: Tensor, eps: float, last_BPE: Tensor | None = None) -> Tensor:
        rows, width = rows_of(x_NE)
        y_NE = x_NE.new_empty(x_NE.shape)
        kernels.rms_norm_kernel[(rows,)](
            x_NE, weight_E, y_NE, *_copying(x_NE, last_BPE), row_stride(x_NE), width, eps, **_row_block(width)
        )
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
        rows, width = rows_of(x_NE)
        out_NE = x_NE.new_empty(x_NE.shape) if out_NE is None else out_NE
        assert out_NE.is_contiguous()
        residual_row = 0 if residual_NE is None else row_stride(residual_NE)
        kernels.rms_norm_backward_kernel[(rows,)](
            grad_y_NE, x_NE, weight_E, residual_NE, out_NE, row_stride(grad_y_NE), row_stride(x_NE), residual_row,
            width, eps, **_row_block(width),
        )  # fmt: skip
        return out_NE

    def split_heads(
        self, qkv_BSW: Tensor, cos_BSR: Tensor, sin_BSR: Tensor, prefix: KeysValues, groups: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The prefix's keys and values must be contiguous; cos and sin may be expanded over the samples."""
        samples, tokens, _ = qkv_BSW.shape
        kv, prefix_tokens, features = prefix[0].shape
        assert qkv_BSW.stride(2) == 1 and prefix[0].is_contiguous() and prefix[1].is_contiguous()
        query_BkQR = qkv_BSW.new_empty(samples, tokens * groups, kv, features).transpose(1, 2)
        keys_BkCR = qkv_BSW.new_empty(samples, kv, prefix_tokens + tokens, features)
        values_BkCR = torch.empty_like(keys_BkCR)
        tile, heads = _head_tile(features), kv * groups
        kernels.split_heads_kernel[(triton.cdiv(prefix_tokens + tokens, tile["ROWS"]), heads + 2 * kv, samples)](
            qkv_BSW, cos_BSR, sin_BSR, *prefix, query_BkQR, keys_BkCR, values_BkCR,
            tokens, prefix_tokens, heads, kv, *qkv_BSW.stride()[:2], *_rotation_strides(cos_BSR, sin_BSR), **tile,
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
        heads = kv * (query_grad_BkQR.shape[2] // tokens)
        grads = (query_grad_BkQR, keys_grad_BkSR, values_grad_BkSR)
        assert all(grad.stride(3) == 1 for grad in grads), "features must be contiguous"
        strides = [stride for grad in grads for stride in grad.stride()[:3]]
        grad_qkv_BSW = query_grad_BkQR.new_empty(samples, tokens, (heads + 2 * kv) * features)
        tile = _head_tile(features)
        kernels.merge_heads_kernel[(triton.cdiv(tokens, tile["ROWS"]), heads + 2 * kv, samples)](
            *grads,
            cos_BSR,
            sin_BSR,
            grad_qkv_BSW,
            tokens,
            heads,
            kv,
            *strides,
            *_rotation_strides(cos_BSR, sin_BSR),
            **tile,
        )
        return grad_qkv_BSW

    def patch_attention(
        self, query_BkQR: Tensor, keys_BkCR: Tensor, values_BkCR: Tensor, mask_B1QC: Tensor
    ) -> PatchAttention:
        """Two kernels for the gradient."""
        return TritonPatchAttention(query_BkQR, keys_BkCR, values_BkCR, mask_B1QC)

    def swiglu(self, gate_up_N2I: Tensor, last_BP2I: Tensor | None = None, shrink: float = 1.0) -> Tensor:
        rows, width = rows_of(gate_up_N2I)[0], gate_up_N2I.shape[-1] // 2
        act_NI = gate_up_N2I.new_empty(*gate_up_N2I.shape[:-1], width)
        kernels.swiglu_kernel[(rows, triton.cdiv(width, COLUMNS))](
            None, gate_up_N2I, act_NI, *_copying(gate_up_N2I, last_BP2I), 0, row_stride(gate_up_N2I), width, width,
            shrink, COLUMNS=COLUMNS,
        )  # fmt: skip
        return act_NI

    def swiglu_backward(self, grad_act_NI: Tensor, gate_up_N2I: Tensor, out_N2I: Tensor | None = None) -> Tensor:
        rows, width = rows_of(grad_act_NI)
        out_N2I = gate_up_N2I.new_empty(gate_up_N2I.shape) if out_N2I is None else out_N2I
        kernels.swiglu_kernel[(rows, triton.cdiv(width, COLUMNS))](
            grad_act_NI, gate_up_N2I, out_N2I, None, 1, 0,
            row_stride(grad_act_NI), row_stride(gate_up_N2I), row_stride(out_N2I), width, 1.0, COLUMNS=COLUMNS,
        )  # fmt: skip
        return out_N2I

    def dequantize_nf4(self, matrix: Nf4, out_OI: Tensor) -> Tensor:
        """All tensors contiguous, the bytes aligned to 32 bits."""
        packed, absmax, code_16, nested = matrix
        assert packed.is_contiguous() and out_OI.is_contiguous() and out_OI.numel() % NF4_BLOCK == 0
        words = packed.view(-1).view(torch.int32)
        kernels.dequantize_nf4_kernel[(triton.cdiv(words.numel(), WORDS),)](
            words, absmax, code_16, *(nested or (None, None, None)), out_OI, words.numel(),
            WORDS=WORDS, WORDS_A_BLOCK=NF4_BLOCK // 8, NESTED=NESTED_BLOCK, num_warps=8,
        )  # fmt: skip
        return out_OI

    def dequantize_int8(self, weight_OI: Tensor, scale_O: Tensor, out_OI: Tensor) -> Tensor:
        rows, width = rows_of(weight_OI)
        kernels.dequantize_int8_kernel[(rows, triton.cdiv(width, COLUMNS))](
            weight_OI, scale_O, out_OI, row_stride(weight_OI), row_stride(out_OI), width, COLUMNS=COLUMNS
        )
        return out_OI


def _row_block(width: int) -> dict[str, int]:
    """One row in one program: the padded width, and warps for 8 elements a thread, at most 16 warps."""
    block = triton.next_power_of_2(width)
    return {"BLOCK": block, "num_warps": min(16, max(1, block // 256))}


def _copying(x_NX: Tensor, last_BPX: Tensor | None) -> tuple[Tensor | None, int, int]:
    """Where the last tokens of each sample are copied, the tokens of a sample, and how many of them are copied."""
    if last_BPX is None:
        return None, 1, 0
    assert last_BPX.is_contiguous(), "copied tokens must be contiguous"
    return last_BPX, x_NX.shape[1], last_BPX.shape[1]


def _head_tile(features: int) -> dict[str, int]:
    padded = triton.next_power_of_2(features // 2)
    return {"HALF": features // 2, "PADDED": padded, "ROWS": max(1, HEAD_TILE // (2 * padded))}


def _rotation_strides(cos_BSR: Tensor, sin_BSR: Tensor) -> tuple[int, int]:
    assert cos_BSR.stride() == sin_BSR.stride() and cos_BSR.stride(2) == 1, "cos and sin need the same strides"
    return cos_BSR.stride(0), cos_BSR.stride(1)
