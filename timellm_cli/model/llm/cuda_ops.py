"""The operations of `ops.py` for a CUDA device without Triton: PyTorch's and bitsandbytes' own kernels where they help.

Same names, same signatures, letters as there. 16-bit numbers are rounded once more, between two kernels. Importing
bitsandbytes registers its operations with torch.
"""

import bitsandbytes  # noqa: F401
import torch
import torch.nn.functional as F
from torch import Tensor

from timellm_cli.model.llm.choice import NESTED_BLOCK, NF4_BLOCK
from timellm_cli.model.llm.ops import (
    dequantize_int8,
    keep_last,
    merge_heads,
    merge_output,
    split_heads,
    split_output,
)

__all__ = [
    "dequantize_int8", "dequantize_nf4", "merge_heads", "merge_output", "rms_norm", "rms_norm_backward",
    "split_heads", "split_output", "swiglu", "swiglu_backward",
]  # fmt: skip


def rms_norm(x_NE: Tensor, weight_E: Tensor, eps: float, kept_BPE: Tensor | None = None) -> Tensor:
    """One kernel from PyTorch 2.9 on."""
    keep_last(x_NE, kept_BPE)
    return F.rms_norm(x_NE, weight_E.shape, weight_E, eps)


def rms_norm_backward(
    grad_y_NE: Tensor,
    x_NE: Tensor,
    weight_E: Tensor,
    eps: float,
    residual_NE: Tensor | None,
    out_NE: Tensor | None = None,
) -> Tensor:
    """By autograd, which takes the kernel that fits the forward one."""
    x_NE = x_NE.detach().requires_grad_()
    with torch.enable_grad():
        y_NE = F.rms_norm(x_NE, weight_E.shape, weight_E, eps)
    (grad_NE,) = torch.autograd.grad(y_NE, x_NE, grad_y_NE)
    if residual_NE is None:
        return grad_NE if out_NE is None else out_NE.copy_(grad_NE)
    return torch.add(grad_NE, residual_NE, out=out_NE)


def swiglu(gate_up_N2I: Tensor, kept_BP2I: Tensor | None = None) -> Tensor:
    """Two kernels."""
    keep_last(gate_up_N2I, kept_BP2I)
    gate_NI, up_NI = gate_up_N2I.chunk(2, dim=-1)
    return F.silu(gate_NI).mul_(up_NI)


def swiglu_backward(grad_act_NI: Tensor, gate_up_N2I: Tensor, out_N2I: Tensor | None = None) -> Tensor:
    """`out_N2I` may be the input itself."""
    out_N2I = torch.empty_like(gate_up_N2I) if out_N2I is None else out_N2I
    gate_NI, up_NI = gate_up_N2I.chunk(2, dim=-1)
    grad_gate_NI, grad_up_NI = out_N2I.chunk(2, dim=-1)
    active_grad_NI, silu_grad_NI = F.silu(gate_NI).mul_(grad_act_NI), grad_act_NI * up_NI
    grad_gate_NI.copy_(torch.ops.aten.silu_backward(silu_grad_NI, gate_NI))
    grad_up_NI.copy_(active_grad_NI)
    return out_N2I


def dequantize_nf4(
    packed_bytes: Tensor,
    absmax: Tensor,
    code_16: Tensor,  # noqa: ARG001
    nested_absmax: Tensor | None,
    nested_code_256: Tensor | None,
    offset: Tensor | None,
    out_OI: Tensor,
) -> Tensor:
    """Bitsandbytes' kernels, on the current stream: one for the scales, if they are bytes, and one for the weights.

    The latter has NF4's 16 values built in.
    """
    library = torch.ops.bitsandbytes
    if nested_absmax is not None and nested_code_256 is not None and offset is not None:
        bytes_ = absmax.view(-1)
        absmax = library.dequantize_blockwise(bytes_, nested_absmax, nested_code_256, NESTED_BLOCK, torch.float32)
        absmax += offset
    shape, dtype = list(out_OI.shape), out_OI.dtype
    library.dequantize_4bit.out(packed_bytes, absmax, NF4_BLOCK, "nf4", shape, dtype, out=out_OI)
    return out_OI
