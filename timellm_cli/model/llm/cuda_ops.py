"""The operations for a GPU without Triton: kernels of PyTorch and bitsandbytes where they help.

16-bit numbers are rounded once more than in `ops.py`, between two kernels. Importing bitsandbytes registers its
operations with torch.
"""

import bitsandbytes  # noqa: F401
import torch
import torch.nn.functional as F
from torch import Tensor

from timellm_cli.model.llm.choice import NESTED_BLOCK, NF4_BLOCK
from timellm_cli.model.llm.ops import KeysValues, Nf4, TorchOps, copy_last


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

    def split_heads(
        self, qkv_BSW: Tensor, cos_BSR: Tensor, sin_BSR: Tensor, prefix: KeysValues, groups: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Everything is written where it belongs: three kernels each for queries and keys, one for the values, two for
        the prefix.
        """
        samples, tokens, _ = qkv_BSW.shape
        kv, known, features = prefix[0].shape
        heads_BShR = qkv_BSW.unflatten(-1, (-1, features))
        query_BShR, keys_BSkR, values_BSkR = heads_BShR.split((kv * groups, kv, kv), dim=2)
        turned_BShR = qkv_BSW.new_empty(query_BShR.shape)
        keys_BkCR = qkv_BSW.new_empty(samples, kv, known + tokens, features)
        values_BkCR = torch.empty_like(keys_BkCR)
        _rotate(query_BShR, cos_BSR[:, :, None], sin_BSR[:, :, None], turned_BShR)
        _rotate(keys_BSkR.transpose(1, 2), cos_BSR[:, None], sin_BSR[:, None], keys_BkCR[:, :, known:])
        values_BkCR[:, :, known:] = values_BSkR.transpose(1, 2)
        if known:
            keys_BkCR[:, :, :known], values_BkCR[:, :, :known] = prefix
        return turned_BShR.view(samples, tokens * groups, kv, features).transpose(1, 2), keys_BkCR, values_BkCR

    def merge_heads(
        self,
        query_grad_BkQR: Tensor,
        keys_grad_BkSR: Tensor,
        values_grad_BkSR: Tensor,
        cos_BSR: Tensor,
        sin_BSR: Tensor,
    ) -> Tensor:
        """As `split_heads`, the other way round."""
        samples, kv, tokens, features = keys_grad_BkSR.shape
        query_BSGkR = query_grad_BkQR.transpose(1, 2).unflatten(1, (tokens, -1))
        heads = query_BSGkR.shape[2] * kv
        grad_BShR = query_grad_BkQR.new_empty(samples, tokens, heads + 2 * kv, features)
        turned_BShR, keys_BSkR, values_BSkR = grad_BShR.split((heads, kv, kv), dim=2)
        cos_BS1R, back_BS1R = cos_BSR[:, :, None], -sin_BSR[:, :, None]
        _rotate(query_BSGkR, cos_BS1R[:, :, None], back_BS1R[:, :, None], turned_BShR.unflatten(2, (-1, kv)))
        _rotate(keys_grad_BkSR.transpose(1, 2), cos_BS1R, back_BS1R, keys_BSkR)
        values_BSkR.copy_(values_grad_BkSR.transpose(1, 2))
        return grad_BShR.flatten(2)

    def swiglu(self, gate_up_N2I: Tensor, last_BP2I: Tensor | None = None, shrink: float = 1.0) -> Tensor:
        """Two kernels, and a third to shrink."""
        copy_last(gate_up_N2I, last_BP2I)
        gate_NI, up_NI = gate_up_N2I.chunk(2, dim=-1)
        active_NI = F.silu(gate_NI)
        return (active_NI if shrink == 1 else active_NI.mul_(shrink)).mul_(up_NI)

    def swiglu_backward(self, grad_act_NI: Tensor, gate_up_N2I: Tensor, out_N2I: Tensor | None = None) -> Tensor:
        """`out_N2I` may be the input itself."""
        out_N2I = torch.empty_like(gate_up_N2I) if out_N2I is None else out_N2I
        gate_NI, up_NI = gate_up_N2I.chunk(2, dim=-1)
        grad_gate_NI, grad_up_NI = out_N2I.chunk(2, dim=-1)
        active_NI, silu_grad_NI = F.silu(gate_NI), grad_act_NI * up_NI
        torch.mul(active_NI, grad_act_NI, out=grad_up_NI)
        torch.ops.aten.silu_backward.grad_input(silu_grad_NI, gate_NI, grad_input=grad_gate_NI)
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


def _rotate(x: Tensor, cos: Tensor, sin: Tensor, out: Tensor) -> None:
    """Fill `out` with x turned by the angle, whose halves are equal: three kernels, the last two in place."""
    (first, second), (out_first, out_second) = x.chunk(2, dim=-1), out.chunk(2, dim=-1)
    half_sin = sin.chunk(2, dim=-1)[0]
    torch.mul(x, cos, out=out)
    out_first.addcmul_(second, half_sin, value=-1)
    out_second.addcmul_(first, half_sin)
