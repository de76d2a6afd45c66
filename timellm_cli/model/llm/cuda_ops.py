"""The operations for a GPU without Triton: kernels of PyTorch and bitsandbytes where they help.

16-bit numbers are rounded once more than in `ops.py`, between two kernels. Importing bitsandbytes registers its
operations with torch.
"""

import bitsandbytes  # noqa: F401
import torch
import torch.nn.functional as F
from torch import Tensor

from timellm_cli.model.llm.choice import NESTED_BLOCK, NF4_BLOCK
from timellm_cli.model.llm.ops import Nf4, TorchOps, copy_last


class CudaOps(TorchOps):
    """`TorchOps` with fewer kernels."""

    def rms_norm(self, x_NE: Tensor, weight_E: Tensor, eps: float, last_BPE: Tensor | None = None) -> Tensor:
        """One kernel from PyTorch 2.9 on."""
        copy_last(x_NE, last_BPE)
        return F.rms_norm(x_NE, weight_E.shape, weight_E, eps)

    def rms_norm_backward(
        self,
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

    def swiglu(self, gate_up_N2I: Tensor, last_BP2I: Tensor | None = None) -> Tensor:
        """Two kernels."""
        copy_last(gate_up_N2I, last_BP2I)
        gate_NI, up_NI = gate_up_N2I.chunk(2, dim=-1)
        return F.silu(gate_NI).mul_(up_NI)

    def swiglu_backward(self, grad_act_NI: Tensor, gate_up_N2I: Tensor, out_N2I: Tensor | None = None) -> Tensor:
        """`out_N2I` may be the input itself."""
        out_N2I = torch.empty_like(gate_up_N2I) if out_N2I is None else out_N2I
        gate_NI, up_NI = gate_up_N2I.chunk(2, dim=-1)
        grad_gate_NI, grad_up_NI = out_N2I.chunk(2, dim=-1)
        active_grad_NI, silu_grad_NI = F.silu(gate_NI).mul_(grad_act_NI), grad_act_NI * up_NI
        grad_gate_NI.copy_(torch.ops.aten.silu_backward(silu_grad_NI, gate_NI))
        grad_up_NI.copy_(active_grad_NI)
        return out_N2I

    def dequantize_nf4(self, matrix: Nf4, out_OI: Tensor) -> Tensor:
        """Bitsandbytes' kernels, on the current stream: one for the scales, if they are bytes, and one for the weights.

        The latter has NF4's 16 values built in.
        """
        library = torch.ops.bitsandbytes
        absmax = matrix.absmax
        if matrix.nested is not None:
            nested_absmax, code_256, offset = matrix.nested
            absmax = library.dequantize_blockwise(absmax.view(-1), nested_absmax, code_256, NESTED_BLOCK, torch.float32)
            absmax += offset
        shape, dtype = list(out_OI.shape), out_OI.dtype
        library.dequantize_4bit.out(matrix.packed, absmax, NF4_BLOCK, "nf4", shape, dtype, out=out_OI)
        return out_OI
