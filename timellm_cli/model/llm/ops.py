"""The dense operations of a decoder layer in plain PyTorch: the reference, and what CPUs run.

Arithmetic is done in float32 at least, whatever the inputs' type; results have the inputs' type. Nothing here waits for
the device or looks at values, so a CUDA graph may capture all of it.

Letters: N rows of tokens (also as two dimensions, B samples of S tokens), E the LLM's width, I that of its MLP, O
outputs of a weight, R features of a head (even), k key-value heads of G query heads each, Q = G·S, K positions of the
constant prompt head, C = K + S, and W = (kG + 2k)·R columns of queries, keys and values side by side.
"""

import torch
from torch import Tensor
from torch.nn.functional import embedding, silu

from timellm_cli.model.llm.choice import NESTED_BLOCK, NF4_BLOCK


def _widen(values: Tensor) -> Tensor:
    return values.to(torch.promote_types(values.dtype, torch.float32))


def rms_norm(x_NE: Tensor, weight_E: Tensor, eps: float, kept_BPE: Tensor | None = None) -> Tensor:
    """N x E: each row over its root mean square, times the weight.

    `kept_BPE`, where given, is filled with the last P tokens of each sample of x, which is B x S x E then.
    """
    keep_last(x_NE, kept_BPE)
    wide_NE = _widen(x_NE)
    rstd_N1 = torch.rsqrt(wide_NE.square().mean(-1, keepdim=True) + eps)
    return (wide_NE * rstd_N1).mul_(_widen(weight_E)).to(x_NE.dtype)


def keep_last(x_BSX: Tensor, kept_BPX: Tensor | None) -> None:
    """Copy the last P tokens of each sample, where there is room for them."""
    if kept_BPX is not None:
        kept_BPX.copy_(x_BSX[:, -kept_BPX.shape[1] :])


def rms_norm_backward(
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


def _rotate_half(x: Tensor) -> Tensor:
    first, second = x.chunk(2, dim=-1)
    return torch.cat((-second, first), dim=-1)


def split_heads(
    qkv_BSW: Tensor, cos_BSR: Tensor, sin_BSR: Tensor, head_keys_kKR: Tensor, head_values_kKR: Tensor, groups: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Rotated queries (B x k x Q x R), and keys and values (B x k x C x R) with the prompt head's before the tokens'.

    The columns of W begin with the first query head of every kv head, then the second of every one, and so on. Row
    s·G + g of the queries of a kv head is its query head g at token s; in memory they lie as the columns do, so that
    attention's result needs no sorting. The prompt head's keys are rotated already; K may be 0. The halves of cos and
    sin (float32) are equal, as in every Llama-like model.
    """
    samples, tokens, _ = qkv_BSW.shape
    kv, _, features = head_keys_kKR.shape
    heads_BhSR = qkv_BSW.view(samples, tokens, -1, features).transpose(1, 2)
    turned_BhSR, values_BkSR = heads_BhSR.split((kv * (groups + 1), kv), dim=1)
    cos_B1SR, sin_B1SR = cos_BSR[:, None], sin_BSR[:, None]

    def rotate(x: Tensor) -> Tensor:
        wide = _widen(x)
        return (wide * cos_B1SR).add_(_rotate_half(wide).mul_(sin_B1SR)).to(x.dtype)

    def after_head(head_kKR: Tensor, x_BkSR: Tensor) -> Tensor:
        return torch.cat((head_kKR.expand(samples, -1, -1, -1), x_BkSR), dim=2)

    query_BhSR, keys_BkSR = rotate(turned_BhSR).split((kv * groups, kv), dim=1)
    query_BShR = query_BhSR.transpose(1, 2).contiguous()
    query_BkQR = query_BShR.view(samples, tokens * groups, kv, features).transpose(1, 2)
    return query_BkQR, after_head(head_keys_kKR, keys_BkSR), after_head(head_values_kKR, values_BkSR)


def merge_heads(
    query_grad_BkQR: Tensor, keys_grad_BkSR: Tensor, values_grad_BkSR: Tensor, cos_BSR: Tensor, sin_BSR: Tensor
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


def merge_output(out_BkQR: Tensor, tokens: int) -> Tensor:
    """B x S x (G·k·R): what attention returned, one row a token, heads in the order of W's columns."""
    return out_BkQR.transpose(1, 2).reshape(len(out_BkQR), tokens, -1)


def split_output(grad_BSO: Tensor, kv: int, features: int) -> Tensor:
    """B x k x Q x R: the inverse of `merge_output`, for its gradient."""
    return grad_BSO.view(len(grad_BSO), -1, kv, features).transpose(1, 2)


def swiglu(gate_up_N2I: Tensor, kept_BP2I: Tensor | None = None) -> Tensor:
    """N x I: silu of the first I columns, times the last I. `kept_BP2I` as `rms_norm` has it."""
    keep_last(gate_up_N2I, kept_BP2I)
    gate_NI, up_NI = _widen(gate_up_N2I).chunk(2, dim=-1)
    return silu(gate_NI).mul_(up_NI).to(gate_up_N2I.dtype)


def swiglu_backward(grad_act_NI: Tensor, gate_up_N2I: Tensor, out_N2I: Tensor | None = None) -> Tensor:
    """N x 2I: the gradient of `swiglu`'s input, written to `out_N2I` where given, which may be the input itself."""
    gate_NI, up_NI = _widen(gate_up_N2I).chunk(2, dim=-1)
    grad_NI, sigmoid_NI = _widen(grad_act_NI), torch.sigmoid(gate_NI)
    grad_gate_NI = grad_NI * up_NI * sigmoid_NI * (1 + gate_NI * (1 - sigmoid_NI))
    grad_up_NI = grad_NI * gate_NI * sigmoid_NI
    grad_N2I = torch.cat((grad_gate_NI, grad_up_NI), dim=-1)
    return grad_N2I.to(gate_up_N2I.dtype) if out_N2I is None else out_N2I.copy_(grad_N2I)


def dequantize_nf4(
    packed_bytes: Tensor,
    absmax: Tensor,
    code_16: Tensor,
    nested_absmax: Tensor | None,
    nested_code_256: Tensor | None,
    offset: Tensor | None,
    out_OI: Tensor,
) -> Tensor:
    """Fill and return `out_OI` (contiguous, O·I a multiple of 64) with the weights of bitsandbytes' NF4 bytes.

    A byte holds two weights, the first in its high half. `absmax` is the scale of each 64 weights: float32, or, doubly
    quantized, uint8 with a code book, a scale for each 256 and a 0-dimensional offset. Pure torch rather than a call of
    bitsandbytes: nothing here knows that package, and its CPU kernels differ from one processor to the next.
    """
    if nested_absmax is None or nested_code_256 is None or offset is None:
        scale = absmax
    else:
        blocks = torch.arange(absmax.numel(), device=absmax.device) // NESTED_BLOCK
        scale = nested_code_256[absmax.view(-1).int()] * nested_absmax[blocks] + offset
    high_16x16, low_16x16 = code_16[:, None].expand(16, 16), code_16[None, :].expand(16, 16)
    pairs_256x2 = torch.stack((high_16x16, low_16x16), dim=-1).view(256, 2)
    weights = embedding(packed_bytes.view(-1).int(), pairs_256x2).view(-1, NF4_BLOCK)
    torch.mul(weights, scale.view(-1, 1), out=out_OI.view(-1, NF4_BLOCK))
    return out_OI


def dequantize_int8(weight_OI: Tensor, scale_O: Tensor, out_OI: Tensor) -> Tensor:
    """Fill and return `out_OI` with int8 weights times their row's largest magnitude (float32) over 127."""
    return torch.mul(weight_OI, scale_O[:, None] / 127, out=out_OI)
