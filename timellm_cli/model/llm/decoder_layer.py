"""One frozen layer of a Llama-like decoder: forward for prompt and patches together, backward for the patches alone.

Llama, Mistral and Qwen2 share it: RMS norms, rotary positions, grouped keys and values, a gated MLP (Touvron et al.,
2023). The weights are frozen and no prompt position sees a patch, so all that a backward pass needs of a layer are the
patches' own numbers and the keys and values of the prompt. Either pass writes each matrix out once.

Shapes: S tokens read (K of the prompt's tail, then P patches), after Kh of the prompt's constant head, C = Kh + S; k
key-value heads of width R, G query heads to each, Q = S x G rows of queries to each key-value head.
"""

from dataclasses import dataclass
from types import ModuleType

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from timellm_cli.model.llm.choice import WIDE_BYTES
from timellm_cli.model.llm.frozen_matrix import FrozenMatrix

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
    """The patches' numbers inside a layer: rotated queries, what the MLP reads, its gate and up."""

    query_BkQR: Tensor
    middle_BPE: Tensor
    gate_up_BPI: Tensor


@dataclass(frozen=True)
class Kept:
    """What the backward pass needs of a layer: what its patches read, and keys and values of the whole context.

    Where `inside` is None, it is computed again.
    """

    tokens_BPE: Tensor
    keys_BkCR: Tensor
    values_BkCR: Tensor
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
        query, keys, values = self._read_heads(ops, tokens_BSE, head, places)
        self._add_attention(ops, tokens_BSE, query, keys, values, places)
        self._apply_mlp(ops, tokens_BSE)
        return keys, values

    def read_and_keep(
        self, ops: ModuleType, tokens_BSE: Tensor, head: KeysValues, places: Places, patches: int, recompute: bool
    ) -> Kept:
        """Like `read`, and returns what the backward pass needs; `recompute` leaves out what it can compute again."""
        batch, _, width = tokens_BSE.shape
        tokens_BPE = tokens_BSE.new_empty(batch, patches, width)
        query, keys, values = self._read_heads(ops, tokens_BSE, head, places, tokens_BPE)
        self._add_attention(ops, tokens_BSE, query, keys, values, places)
        inside = None if recompute else self._make_inside(self._of_patches(query, patches), tokens_BPE)
        self._apply_mlp(ops, tokens_BSE, inside)
        return Kept(tokens_BPE, keys, values, inside)

    def read_last(
        self,
        ops: ModuleType,
        tokens_BSE: Tensor,
        head: KeysValues,
        places: Places,
        patch_places: Places,
        recompute: bool,
    ) -> tuple[Tensor, Kept]:
        """Like `read_and_keep` for the last layer: of the prompt it makes keys and values only, for nobody reads more.

        Returns what the patches become, B x P x E, in a tensor of its own.
        """
        patches = patch_places.cos_BSR.shape[1]
        tokens_BPE = tokens_BSE.new_empty(len(tokens_BSE), patches, tokens_BSE.shape[2])
        query, keys, values = self._read_heads(ops, tokens_BSE, head, places, tokens_BPE)
        query, last_BPE = self._of_patches(query, patches), tokens_BPE.clone()
        self._add_attention(ops, last_BPE, query, keys, values, patch_places)
        inside = None if recompute else self._make_inside(query, tokens_BPE)
        self._apply_mlp(ops, last_BPE, inside)
        return last_BPE, Kept(tokens_BPE, keys, values, inside)

    def backward(
        self, ops: ModuleType, kept: Kept, grad_BPE: Tensor, nothing: KeysValues, patch_places: Places
    ) -> Tensor:
        """From the gradient of what the patches become to the gradient of what they were, both B x P x E.

        `nothing` are keys and values of no tokens.
        """
        dtype, cos, sin = grad_BPE.dtype, patch_places.cos_BSR, patch_places.sin_BSR
        qkv_WE, out_EW = self.qkv.dense(ops, dtype), self.out.dense(ops, dtype)
        inside = kept.inside
        if inside:
            query = inside.query_BkQR
        else:
            qkv = F.linear(ops.rms_norm(kept.tokens_BPE, self.input_norm_E, self.eps), qkv_WE, self.qkv_bias)
            query = ops.split_heads(qkv, cos, sin, *nothing, self.groups)[0]
            del qkv
        query, keys, values = (part.detach().requires_grad_() for part in (query, kept.keys_BkCR, kept.values_BkCR))
        with torch.enable_grad():
            mixed = attend(query, keys, values, patch_places.mask_B1QC)
        middle_BPE = inside.middle_BPE if inside else self._add_mixed(ops, kept.tokens_BPE, mixed.detach(), out_EW)
        grad_BPE = self._mlp_backward(ops, middle_BPE, inside.gate_up_BPI if inside else None, grad_BPE)
        grad_mixed = ops.split_output(grad_BPE @ out_EW, self.kv_heads, self.head_dim)
        grads = torch.autograd.grad(mixed, (query, keys, values), grad_mixed)
        patches = grad_BPE.shape[1]
        grad_qkv = ops.merge_heads(grads[0], grads[1][:, :, -patches:], grads[2][:, :, -patches:], cos, sin)
        return ops.rms_norm_backward(grad_qkv @ qkv_WE, kept.tokens_BPE, self.input_norm_E, self.eps, grad_BPE)

    def _read_heads(
        self,
        ops: ModuleType,
        tokens_BSE: Tensor,
        head: KeysValues,
        places: Places,
        kept_BPE: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Rotated queries, B x k x Q x R, and the whole context's keys and values, B x k x C x R."""
        qkv = F.linear(
            ops.rms_norm(tokens_BSE, self.input_norm_E, self.eps, kept_BPE),
            self.qkv.dense(ops, tokens_BSE.dtype),
            self.qkv_bias,
        )
        heads: tuple[Tensor, Tensor, Tensor] = ops.split_heads(qkv, places.cos_BSR, places.sin_BSR, *head, self.groups)
        return heads

    def _of_patches(self, query_BkQR: Tensor, patches: int) -> Tensor:
        """The patches' queries, in memory of their own."""
        return query_BkQR[:, :, -patches * self.groups :].transpose(1, 2).contiguous().transpose(1, 2)

    def _make_inside(self, patch_query: Tensor, tokens_BPE: Tensor) -> Inside:
        """What is kept besides; the MLP fills in its part."""
        gate_up_BPI = tokens_BPE.new_empty(*tokens_BPE.shape[:2], self.gate_up.shape[0])
        return Inside(patch_query, torch.empty_like(tokens_BPE), gate_up_BPI)

    def _add_attention(
        self, ops: ModuleType, tokens_BSE: Tensor, query: Tensor, keys: Tensor, values: Tensor, places: Places
    ) -> None:
        """Adds attention to the tokens that the queries are of, in place."""
        mixed = ops.merge_output(attend(query, keys, values, places.mask_B1QC), tokens_BSE.shape[1])
        tokens_BSE.flatten(0, 1).addmm_(mixed.flatten(0, 1), self.out.dense(ops, tokens_BSE.dtype).T)

    def _apply_mlp(self, ops: ModuleType, tokens_BSE: Tensor, inside: Inside | None = None) -> None:
        """Adds the MLP to the tokens, in place, and fills in what `inside` keeps of it."""
        dtype = tokens_BSE.dtype
        for part in self._parts(tokens_BSE):
            rows_NE = tokens_BSE[part].flatten(0, 1)
            rows_NE.addmm_(self._activate(ops, tokens_BSE, part, inside), self.down.dense(ops, dtype).T)

    def _activate(self, ops: ModuleType, tokens_BSE: Tensor, part: slice, inside: Inside | None) -> Tensor:
        """What the last matrix of the MLP reads of some samples' tokens, N x I."""
        kept_middle, kept_wide = (inside.middle_BPE[part], inside.gate_up_BPI[part]) if inside else (None, None)
        wide_BSI = F.linear(
            ops.rms_norm(tokens_BSE[part], self.middle_norm_E, self.eps, kept_middle),
            self.gate_up.dense(ops, tokens_BSE.dtype),
        )
        return ops.swiglu(wide_BSI, kept_wide).flatten(0, 1)

    def _mlp_backward(
        self, ops: ModuleType, middle_BPE: Tensor, gate_up_BPI: Tensor | None, grad_BPE: Tensor
    ) -> Tensor:
        """The gradient of what the MLP block reads, B x P x E. Uses up `gate_up_BPI`."""
        result_BPE = torch.empty_like(grad_BPE)
        for part in self._parts(grad_BPE):
            wide_BPI = None if gate_up_BPI is None else gate_up_BPI[part]
            grad_normed = self._wide_backward(ops, middle_BPE[part], wide_BPI, grad_BPE[part])
            ops.rms_norm_backward(
                grad_normed, middle_BPE[part], self.middle_norm_E, self.eps, grad_BPE[part], result_BPE[part]
            )
        return result_BPE

    def _wide_backward(self, ops: ModuleType, middle_BPE: Tensor, wide_BPI: Tensor | None, grad_BPE: Tensor) -> Tensor:
        """The gradient of what gate and up read, B x P x E. A matrix is written out no longer than it is used."""
        dtype, gate_up = grad_BPE.dtype, None
        if wide_BPI is None:
            gate_up = self.gate_up.dense(ops, dtype)
            wide_BPI = F.linear(ops.rms_norm(middle_BPE, self.middle_norm_E, self.eps), gate_up)
        grad_wide = ops.swiglu_backward(grad_BPE @ self.down.dense(ops, dtype), wide_BPI, wide_BPI)
        return grad_wide @ (self.gate_up.dense(ops, dtype) if gate_up is None else gate_up)

    def _parts(self, tokens_BSE: Tensor) -> list[slice]:
        """The samples that go through the MLP together."""
        wide = self.gate_up.shape[0] * tokens_BSE.shape[1] * tokens_BSE.element_size()
        samples = max(WIDE_BYTES // wide, 1)
        return [slice(at, at + samples) for at in range(0, len(tokens_BSE), samples)]

    def _add_mixed(self, ops: ModuleType, tokens_BPE: Tensor, mixed: Tensor, out_EW: Tensor) -> Tensor:
        """What the MLP reads: the tokens and what attention adds to them, B x P x E."""
        rows = ops.merge_output(mixed, tokens_BPE.shape[1]).flatten(0, 1)
        return torch.addmm(tokens_BPE.flatten(0, 1), rows, out_EW.T).view_as(tokens_BPE)


def attend(query_BkQR: Tensor, keys_BkCR: Tensor, values_BkCR: Tensor, mask_B1QC: Tensor) -> Tensor:
    """Attention of every query to its key-value head's keys, B x k x Q x R.

    The query heads of a group are more rows of one head, so keys and values need no repeating.
    """
    return F.scaled_dot_product_attention(query_BkQR, keys_BkCR, values_BkCR, attn_mask=mask_B1QC)
