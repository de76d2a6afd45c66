"""The operations of a decoder layer besides matrix products and attention, in plain PyTorch, and which ones to use.

`TorchOps` is the reference and what CPUs run. `TritonOps`, `NvrtcOps` and `CudaOps` do the same on a GPU, faster.
Arithmetic is done in float32 at least, whatever the inputs' type; results have the inputs' type. No operation waits for
the device or looks at values, so a CUDA graph can record all of them.

Letters: N rows of tokens (also as two dimensions, B samples of S tokens), E the LLM's width, I that of its MLP, O
outputs of a weight, R features of a head (even), k key-value heads of G query heads each, Q = G·S, K positions of the
prompt's prefix, C = K + S, P patches, and W = (kG + 2k)·R columns of queries, keys and values side by side.
"""

import os
from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import embedding, silu

from timellm_cli.errors import ModelError
from timellm_cli.model.llm.attention import PatchAttention
from timellm_cli.model.llm.choice import NESTED_BLOCK, NF4_BLOCK
from timellm_cli.model.llm.triton_check import find_obstacle

KeysValues = tuple[Tensor, Tensor]
Kernels = Literal["auto", "triton", "nvrtc", "torch"]


class Nf4(NamedTuple):
    """A matrix in bitsandbytes' NF4. A byte holds two weights, the first in its high half.

    `absmax` is the scale of each 64 weights: float32, or, doubly quantised, uint8 with `nested`: a scale for each 256
    of them, their code book of 256 values, and a 0-dimensional offset. `code_16` are the 16 values of a weight.
    """

    packed: Tensor
    absmax: Tensor
    code_16: Tensor
    nested: tuple[Tensor, Tensor, Tensor] | None


class TorchOps:
    """Every operation in plain PyTorch. Those of subclasses have the same meaning, arguments and results."""

    def rms_norm(self, x_NE: Tensor, weight_E: Tensor, eps: float, last_BPE: Tensor | None = None) -> Tensor:
        """N x E: each row over its root mean square, times the weight.

        Where `last_BPE` is given, x is B x S x E, and the last P tokens of each sample are copied there.
        """
        copy_last(x_NE, last_BPE)
        wide_NE = _widen(x_NE)
        rstd_N1 = torch.rsqrt(wide_NE.square().mean(-1, keepdim=True) + eps)
        return (wide_NE * rstd_N1).mul_(_widen(weight_E)).to(x_NE.dtype)

    def rms_norm_backward(
        self,
        grad_y_NE: Tensor,
        x_NE: Tensor,
        weight_E: Tensor,
        eps: float,
        residual_NE: Tensor | None,
        out_NE: Tensor | None = None,
    ) -> Tensor:
        """N x E: the gradient of `rms_norm`'s x plus, where given, the gradient that went around the norm."""
        wide_NE = _widen(x_NE)
        rstd_N1 = torch.rsqrt(wide_NE.square().mean(-1, keepdim=True) + eps)
        scaled_NE = _widen(grad_y_NE) * _widen(weight_E)
        along_N1 = (scaled_NE * wide_NE).mean(-1, keepdim=True) * rstd_N1.square()
        grad_NE = rstd_N1 * (scaled_NE - wide_NE * along_N1)
        if residual_NE is not None:
            grad_NE += _widen(residual_NE)
        return grad_NE.to(x_NE.dtype) if out_NE is None else out_NE.copy_(grad_NE)

    def norm_heads(self, qkv_BSW: Tensor, weight_hR: Tensor, eps: float) -> Tensor:
        """W's columns of queries and keys, each of the h heads normed and weighted as in `rms_norm`, in place.

        Qwen3 does so before rotation. `weight_hR` has a row for each query head and key-value head.
        """
        heads_BShR = _heads_of(qkv_BSW, weight_hR)
        heads_BShR.copy_(self.rms_norm(heads_BShR.contiguous(), torch.ones_like(weight_hR[0]), eps) * weight_hR)
        return qkv_BSW

    def norm_heads_backward(self, grad_BSW: Tensor, raw_BSW: Tensor, weight_hR: Tensor, eps: float) -> Tensor:
        """From the gradient of `norm_heads`' result to that of its input, in place; `raw_BSW` was the input.

        Of the input only the columns of queries and keys are read, so it may end with them.
        """
        grad_BShR, raw_BShR = _heads_of(grad_BSW, weight_hR), _heads_of(raw_BSW, weight_hR).contiguous()
        weighted_BShR, one_R = grad_BShR * weight_hR, torch.ones_like(weight_hR[0])
        grad_BShR.copy_(self.rms_norm_backward(weighted_BShR, raw_BShR, one_R, eps, None))
        return grad_BSW

    def split_heads(
        self, qkv_BSW: Tensor, cos_BSR: Tensor, sin_BSR: Tensor, prefix: KeysValues, groups: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Rotated queries (B x k x Q x R), and keys and values (B x k x C x R): the prefix's, then the tokens'.

        The columns of W begin with the first query head of every kv head, then the second of every one, and so on. Row
        s·G + g of the queries of a kv head is its query head g at token s. Their memory layout is that of the columns,
        so attention's result needs no sorting. The prefix's keys and values are k x K x R, its keys already rotated; K
        may be 0. The halves of cos and sin (float32) are equal, as in every Llama-like model.
        """
        samples, tokens, _ = qkv_BSW.shape
        kv, _, features = prefix[0].shape
        heads_BhSR = qkv_BSW.view(samples, tokens, -1, features).transpose(1, 2)
        turned_BhSR, values_BkSR = heads_BhSR.split((kv * (groups + 1), kv), dim=1)
        cos_B1SR, sin_B1SR = cos_BSR[:, None], sin_BSR[:, None]

        def rotate(x: Tensor) -> Tensor:
            wide = _widen(x)
            return (wide * cos_B1SR).add_(_rotate_half(wide).mul_(sin_B1SR)).to(x.dtype)

        def after_prefix(prefix_kKR: Tensor, x_BkSR: Tensor) -> Tensor:
            return torch.cat((prefix_kKR.expand(samples, -1, -1, -1), x_BkSR), dim=2)

        query_BhSR, keys_BkSR = rotate(turned_BhSR).split((kv * groups, kv), dim=1)
        query_BShR = query_BhSR.transpose(1, 2).contiguous()
        query_BkQR = query_BShR.view(samples, tokens * groups, kv, features).transpose(1, 2)
        return query_BkQR, after_prefix(prefix[0], keys_BkSR), after_prefix(prefix[1], values_BkSR)

    def merge_heads(
        self,
        query_grad_BkQR: Tensor,
        keys_grad_BkSR: Tensor,
        values_grad_BkSR: Tensor,
        cos_BSR: Tensor,
        sin_BSR: Tensor,
    ) -> Tensor:
        """B x S x W: the backward of `split_heads` for S tokens. The gradients may be views of larger tensors."""
        samples, _, tokens, features = keys_grad_BkSR.shape
        cos_B1SR, sin_B1SR = cos_BSR[:, None], sin_BSR[:, None]

        def unrotate(grad: Tensor) -> Tensor:
            wide = _widen(grad)
            return (wide * cos_B1SR).sub_(_rotate_half(wide * sin_B1SR)).to(grad.dtype)

        query_grad_BhSR = query_grad_BkQR.transpose(1, 2).reshape(samples, tokens, -1, features).transpose(1, 2)
        grads = (unrotate(query_grad_BhSR), unrotate(keys_grad_BkSR), values_grad_BkSR)
        return torch.cat(grads, dim=1).transpose(1, 2).reshape(samples, tokens, -1)

    def patch_attention(
        self, query_BkQR: Tensor, keys_BkCR: Tensor, values_BkCR: Tensor, mask_B1QC: Tensor
    ) -> PatchAttention:
        """The patches' attention in the backward pass. The mask is 0 or minus infinity."""
        return PatchAttention(query_BkQR, keys_BkCR, values_BkCR, mask_B1QC)

    def merge_output(self, out_BkQR: Tensor, tokens: int) -> Tensor:
        """B x S x (G·k·R): what attention returned, one row a token, heads in the order of W's columns."""
        return out_BkQR.transpose(1, 2).reshape(len(out_BkQR), tokens, -1)

    def split_output(self, grad_BSO: Tensor, kv: int, features: int) -> Tensor:
        """B x k x Q x R: the inverse of `merge_output`, for its gradient."""
        return grad_BSO.view(len(grad_BSO), -1, kv, features).transpose(1, 2)

    def swiglu(self, gate_up_N2I: Tensor, last_BP2I: Tensor | None = None, shrink: float = 1.0) -> Tensor:
        """N x I: silu of the first I columns, times the last I and `shrink`. `last_BP2I` is used as in `rms_norm`."""
        copy_last(gate_up_N2I, last_BP2I)
        gate_NI, up_NI = _widen(gate_up_N2I).chunk(2, dim=-1)
        return silu(gate_NI).mul_(up_NI).mul_(shrink).to(gate_up_N2I.dtype)

    def swiglu_backward(self, grad_act_NI: Tensor, gate_up_N2I: Tensor, out_N2I: Tensor | None = None) -> Tensor:
        """N x 2I: the gradient of `swiglu`'s input, written to `out_N2I` where given, which may be the input itself."""
        gate_NI, up_NI = _widen(gate_up_N2I).chunk(2, dim=-1)
        grad_NI, sigmoid_NI = _widen(grad_act_NI), torch.sigmoid(gate_NI)
        grad_gate_NI = grad_NI * up_NI * sigmoid_NI * (1 + gate_NI * (1 - sigmoid_NI))
        grad_up_NI = grad_NI * gate_NI * sigmoid_NI
        grad_N2I = torch.cat((grad_gate_NI, grad_up_NI), dim=-1)
        return grad_N2I.to(gate_up_N2I.dtype) if out_N2I is None else out_N2I.copy_(grad_N2I)

    def dequantize_nf4(self, matrix: Nf4, out_OI: Tensor) -> Tensor:
        """Fill and return `out_OI`, which is contiguous, O·I a multiple of 64.

        This is torch alone rather than a call of bitsandbytes, whose CPU kernels differ from one processor to the next.
        """
        packed, scale, code_16, nested = matrix
        if nested is not None:
            nested_absmax, nested_code_256, offset = nested
            blocks = torch.arange(scale.numel(), device=scale.device) // NESTED_BLOCK
            scale = nested_code_256[scale.view(-1).int()] * nested_absmax[blocks] + offset
        high_16x16, low_16x16 = code_16[:, None].expand(16, 16), code_16[None, :].expand(16, 16)
        pairs_256x2 = torch.stack((high_16x16, low_16x16), dim=-1).view(256, 2)
        weights = embedding(packed.view(-1).int(), pairs_256x2).view(-1, NF4_BLOCK)
        torch.mul(weights, scale.view(-1, 1), out=out_OI.view(-1, NF4_BLOCK))
        return out_OI

    def dequantize_int8(self, weight_OI: Tensor, scale_O: Tensor, out_OI: Tensor) -> Tensor:
        """Fill and return `out_OI` with int8 weights times their row's largest magnitude (float32) over 127."""
        return torch.mul(weight_OI, scale_O[:, None] / 127, out=out_OI)


def _heads_of(qkv_BSW: Tensor, weight_hR: Tensor) -> Tensor:
    """The columns of queries and keys as a view of heads, B x S x h x R."""
    return qkv_BSW[..., : weight_hR.numel()].unflatten(-1, weight_hR.shape)


def copy_last(x_BSX: Tensor, last_BPX: Tensor | None) -> None:
    """Copy the last P tokens of each sample to `last_BPX`, where it is given."""
    if last_BPX is not None:
        last_BPX.copy_(x_BSX[:, -last_BPX.shape[1] :])


def rows_of(x_NX: Tensor) -> tuple[int, int]:
    """The number of rows, and their width."""
    return x_NX.numel() // x_NX.shape[-1], x_NX.shape[-1]


def row_stride(x_NX: Tensor) -> int:
    """The stride of all dimensions but the last, seen as one. Fails where that would need a copy."""
    assert x_NX.stride(-1) == 1, "rows must be contiguous"
    return x_NX.view(-1, x_NX.shape[-1]).stride(0)


def _widen(values: Tensor) -> Tensor:
    return values.to(torch.promote_types(values.dtype, torch.float32))


def _rotate_half(x: Tensor) -> Tensor:
    first, second = x.chunk(2, dim=-1)
    return torch.cat((-second, first), dim=-1)


def choose_ops(device: torch.device, kernels: Kernels, on_note: Callable[[str], None] = lambda _: None) -> TorchOps:
    """The operations for a device. On a GPU, 'auto' takes Triton's, else those that NVRTC compiles, else torch's.

    `on_note` is called with a sentence where 'auto' does without the first. Raises ModelError where 'triton' or 'nvrtc'
    cannot be had.
    """
    interpreted = os.environ.get("TRITON_INTERPRET") == "1"
    if kernels in _COMPILED and device.type != "cuda" and not (kernels == "triton" and interpreted):
        raise ModelError(
            f"hardware.kernels is '{kernels}', but {_COMPILED[kernels]} needs an NVIDIA GPU", "use --kernels auto"
        )
    if kernels in _COMPILED:
        found = _try(kernels, device)
        if isinstance(found, str):
            raise ModelError(f"hardware.kernels is '{kernels}', but {found}", "use --kernels auto")
        return found
    if device.type != "cuda":
        return TorchOps()
    obstacles: list[str] = []
    for name in _COMPILED if kernels == "auto" else ():
        found = _try(name, device)
        if isinstance(found, TorchOps):
            if obstacles:
                on_note(f"{'; '.join(obstacles)}: kernels compiled by {_COMPILED[name]} are used")
            return found
        obstacles.append(found)
    if obstacles:
        on_note(f"{'; '.join(obstacles)}: torch's own operations are used, which take longer")
    from timellm_cli.model.llm.cuda_ops import CudaOps

    return CudaOps()


_COMPILED = {"triton": "Triton", "nvrtc": "NVRTC"}
"""Values of `hardware.kernels` that compile kernels, the first that 'auto' tries first, and what compiles them."""


def _try(name: str, device: torch.device) -> "TorchOps | str":
    """Compiled operations after one of them has computed what torch computes; else why they cannot be used.

    A compiler fails in many ways: at the import (a build for another torch), at the first kernel (no C compiler, no
    headers of Python, a card it does not know). Triton keeps what it compiled, so a later trial takes milliseconds;
    NVRTC takes some seconds.
    """
    capability = torch.cuda.get_device_capability(device) if device.type == "cuda" else None
    obstacle = find_obstacle(capability) if name == "triton" else None
    if obstacle and "compiler" not in obstacle:  # kernels that were compiled before need none
        return obstacle
    try:
        ops: TorchOps
        if name == "triton":
            from timellm_cli.model.llm.triton_ops import TritonOps

            ops = TritonOps()
        else:
            from timellm_cli.model.llm.nvrtc_ops import NvrtcOps

            ops = NvrtcOps()
        x_12 = torch.tensor([[1.0, 2.0]], device=device)
        found, expected = ops.swiglu(x_12), TorchOps().swiglu(x_12)
        if not torch.allclose(found, expected, rtol=1e-3):
            return f"{_COMPILED[name]} computes {found.item():.4g} where torch computes {expected.item():.4g}"
    except Exception as error:  # compilers, drivers and linkers raise whatever they like
        lines = str(error).strip().splitlines() or [type(error).__name__]
        return obstacle or f"{_COMPILED[name]} compiles no kernel here ({lines[0]:.120})"
    return ops
