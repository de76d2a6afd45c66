"""One frozen layer of a Llama-like decoder: forward for prompt and patches together, backward for the patches alone.

Llama, Mistral and Qwen2 share it: RMS norms, rotary positions, grouped keys and values, a gated MLP (Touvron et al.,
2023). The weights are frozen and no prompt position sees a patch, so all that a backward pass needs of a layer are the
patches' own numbers and the keys and values of the prompt. Either pass writes each matrix out once.

Shapes: S tokens read (K of the prompt's tail, then P patches), after Kh of the prompt's constant head, C = Kh + S; k
key-value heads of width R, G query heads to each, Q = G x S rows of queries to each key-value head.
"""

from dataclasses import dataclass
from types import ModuleType

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from timellm_cli.model.frozen_matrix import FrozenMatrix

_ROWS = 4096
"""Tokens that go through the MLP at a time: enough to fill a GPU, and its wide tensors stay small."""

KeysValues = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Places:
    """Where tokens stand and what they see, the same for every layer.

    Cosines and sines of the rotary positions are float32. The mask is added to attention scores: 0, or minus infinity.
    """

    cos_BSR: Tensor
    sin_BSR: Tensor
    mask_B1QC: Tensor


@dataclass(frozen=True)
class Inside:
    """The patches' numbers inside a layer: rotated queries, keys and values, what the MLP reads, its gate and up."""

    query_BkQR: Tensor
    keys_BkPR: Tensor
    values_BkPR: Tensor
    middle_BPE: Tensor
    gate_up_BPI: Tensor


@dataclass(frozen=True)
class Kept:
    """What the backward pass needs of a layer: what its patches read, and keys and values of the prompt's tail.

    Where `inside` is None, it is computed again.
    """

    tokens_BPE: Tensor
    tail: KeysValues
    inside: Inside | None


class DecoderLayer(nn.Module):
    """Weights and arithmetic of one layer. `ops` is the module that does everything but products and attention."""

    input_norm_E: Tensor
    middle_norm_E: Tensor
    qkv_bias: Tensor | None

    def __init__(
        self,
        qkv: FrozenMatrix,
        out: FrozenMatrix,
        gate_up: FrozenMatrix,
        down: FrozenMatrix,
        input_norm_E: Tensor,
        middle_norm_E: Tensor,
        qkv_bias: Tensor | None,
        heads: int,
        kv_heads: int,
        eps: float,
    ) -> None:
        super().__init__()
        self.qkv, self.out, self.gate_up, self.down = qkv, out, gate_up, down
        self.register_buffer("input_norm_E", input_norm_E)
        self.register_buffer("middle_norm_E", middle_norm_E)
        self.register_buffer("qkv_bias", qkv_bias)
        self.kv_heads, self.groups, self.eps = kv_heads, heads // kv_heads, eps
        self.head_dim = out.shape[1] // heads

    def no_keys(self, dtype: torch.dtype) -> Tensor:
        """Keys, or values, of no tokens: k x 0 x R."""
        return torch.empty(self.kv_heads, 0, self.head_dim, dtype=dtype, device=self.input_norm_E.device)

    def read(self, ops: ModuleType, tokens_BSE: Tensor, head: KeysValues, places: Places) -> KeysValues:
        """Change the tokens into what the layer makes of them, in place. Returns keys and values, B x k x C x R."""
        keys_values, _ = self._attend(ops, tokens_BSE, head, places)
        self._apply_mlp(ops, tokens_BSE)
        return keys_values

    def read_and_keep(
        self, ops: ModuleType, tokens_BSE: Tensor, head: KeysValues, places: Places, patches: int, recompute: bool
    ) -> Kept:
        """Like `read`, and returns what the backward pass needs; `recompute` leaves out what it can compute again."""
        tokens_BPE = tokens_BSE[:, -patches:].clone()
        (keys, values), query = self._attend(ops, tokens_BSE, head, places)
        tail = slice(head[0].shape[-2], -patches)
        kept_tail = keys[:, :, tail].clone(), values[:, :, tail].clone()
        if recompute:
            self._apply_mlp(ops, tokens_BSE)
            return Kept(tokens_BPE, kept_tail, None)
        inside = Inside(
            query.unflatten(2, (self.groups, -1))[:, :, :, -patches:].flatten(2, 3),
            keys[:, :, -patches:].clone(),
            values[:, :, -patches:].clone(),
            tokens_BSE[:, -patches:].clone(),
            tokens_BSE.new_empty(len(tokens_BSE), patches, self.gate_up.shape[0]),
        )
        self._apply_mlp(ops, tokens_BSE, inside.gate_up_BPI)
        return Kept(tokens_BPE, kept_tail, inside)

    def backward(self, ops: ModuleType, kept: Kept, grad_BPE: Tensor, head: KeysValues, patch_places: Places) -> Tensor:
        """From the gradient of what the patches become to the gradient of what they were, both B x P x E."""
        dtype, cos, sin = grad_BPE.dtype, patch_places.cos_BSR, patch_places.sin_BSR
        qkv_WE, out_EW = self.qkv.dense(ops, dtype), self.out.dense(ops, dtype)
        inside = kept.inside
        if inside:
            parts = inside.query_BkQR, inside.keys_BkPR, inside.values_BkPR
        else:
            nothing = head[0][:, :0]
            qkv = F.linear(ops.rms_norm(kept.tokens_BPE, self.input_norm_E, self.eps), qkv_WE, self.qkv_bias)
            parts = ops.split_heads(qkv, cos, sin, nothing, nothing, self.groups)
        query, keys, values = self._beside_prompt(parts, head, kept.tail)
        with torch.enable_grad():
            mixed = attend(query, keys, values, patch_places.mask_B1QC)
        middle_BPE = inside.middle_BPE if inside else self._add_mixed(ops, kept.tokens_BPE, mixed.detach(), out_EW)
        grad_BPE = self._mlp_backward(ops, middle_BPE, inside.gate_up_BPI if inside else None, grad_BPE)
        grad_mixed = ops.split_output(grad_BPE @ out_EW, *keys.shape[1::2])
        grads = torch.autograd.grad(mixed, (query, keys, values), grad_mixed)
        patches = kept.tokens_BPE.shape[1]
        grad_qkv = ops.merge_heads(grads[0], grads[1][:, :, -patches:], grads[2][:, :, -patches:], cos, sin)
        return ops.rms_norm_backward(grad_qkv @ qkv_WE, kept.tokens_BPE, self.input_norm_E, self.eps, grad_BPE)

    def _attend(
        self, ops: ModuleType, tokens_BSE: Tensor, head: KeysValues, places: Places
    ) -> tuple[KeysValues, Tensor]:
        """Adds attention to the tokens, in place. Returns (keys, values) of B x k x C x R, and the queries."""
        qkv = F.linear(
            ops.rms_norm(tokens_BSE, self.input_norm_E, self.eps), self.qkv.dense(ops, tokens_BSE.dtype), self.qkv_bias
        )
        query, keys, values = ops.split_heads(qkv, places.cos_BSR, places.sin_BSR, *head, self.groups)
        mixed = ops.merge_output(attend(query, keys, values, places.mask_B1QC), tokens_BSE.shape[1])
        tokens_BSE.flatten(0, 1).addmm_(mixed.flatten(0, 1), self.out.dense(ops, tokens_BSE.dtype).T)
        return (keys, values), query

    def _apply_mlp(self, ops: ModuleType, tokens_BSE: Tensor, gate_up_BPI: Tensor | None = None) -> None:
        """Adds the MLP to the tokens, in place, and writes the patches' gate and up where they are to be kept."""
        gate_up, down = self.gate_up.dense(ops, tokens_BSE.dtype), self.down.dense(ops, tokens_BSE.dtype)
        samples = max(_ROWS // tokens_BSE.shape[1], 1)
        for at in range(0, len(tokens_BSE), samples):
            part_BSE = tokens_BSE[at : at + samples]
            wide_BSI = F.linear(ops.rms_norm(part_BSE, self.middle_norm_E, self.eps), gate_up)
            if gate_up_BPI is not None:
                gate_up_BPI[at : at + samples] = wide_BSI[:, -gate_up_BPI.shape[1] :]
            part_BSE.flatten(0, 1).addmm_(ops.swiglu(wide_BSI).flatten(0, 1), down.T)

    def _mlp_backward(
        self, ops: ModuleType, middle_BPE: Tensor, gate_up_BPI: Tensor | None, grad_BPE: Tensor
    ) -> Tensor:
        """The gradient of what the MLP block reads, B x P x E."""
        gate_up, down = self.gate_up.dense(ops, grad_BPE.dtype), self.down.dense(ops, grad_BPE.dtype)
        result_BPE = torch.empty_like(grad_BPE)
        samples = max(_ROWS // grad_BPE.shape[1], 1)
        for at in range(0, len(grad_BPE), samples):
            part = slice(at, at + samples)
            if gate_up_BPI is None:
                wide_BPI = F.linear(ops.rms_norm(middle_BPE[part], self.middle_norm_E, self.eps), gate_up)
            else:
                wide_BPI = gate_up_BPI[part]
            grad_wide = ops.swiglu_backward(grad_BPE[part] @ down, wide_BPI, wide_BPI)
            result_BPE[part] = ops.rms_norm_backward(
                grad_wide @ gate_up, middle_BPE[part], self.middle_norm_E, self.eps, grad_BPE[part]
            )
        return result_BPE

    def _add_mixed(self, ops: ModuleType, tokens_BPE: Tensor, mixed: Tensor, out_EW: Tensor) -> Tensor:
        """What the MLP reads: the tokens and what attention adds to them, B x P x E."""
        rows = ops.merge_output(mixed, tokens_BPE.shape[1]).flatten(0, 1)
        return torch.addmm(tokens_BPE.flatten(0, 1), rows, out_EW.T).view_as(tokens_BPE)

    def _beside_prompt(self, parts: tuple[Tensor, Tensor, Tensor], head: KeysValues, tail: KeysValues) -> list[Tensor]:
        """The patches' queries, and keys and values of the whole context, B x k x C x R, as leaves of a graph."""
        query, *own = parts
        whole = [
            torch.cat([of_head.expand(len(query), -1, -1, -1), of_tail, of_patches], dim=2)
            for of_head, of_tail, of_patches in zip(head, tail, own, strict=True)
        ]
        return [part.requires_grad_() for part in (query, *whole)]


def attend(query_BkQR: Tensor, keys_BkCR: Tensor, values_BkCR: Tensor, mask_B1QC: Tensor) -> Tensor:
    """Attention of every query to its key-value head's keys, B x k x Q x R.

    The query heads of a group are more rows of one head, so keys and values need no repeating.
    """
    return F.scaled_dot_product_attention(query_BkQR, keys_BkCR, values_BkCR, attn_mask=mask_B1QC)
