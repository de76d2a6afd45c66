"""One frozen layer of a Llama-like decoder: forward for prompt and patches together, backward for the patches alone.

Llama, Mistral, Qwen2 and Qwen3 share it: RMS norms, rotary positions, grouped keys and values, a gated MLP (Touvron et
al., 2023); Qwen3 norms each head's query and key before they are rotated. The weights are frozen and no prompt position
sees a patch. So the backward pass needs only the patches' own numbers and the keys and values of the prompt. Each pass
writes each matrix out once.

Shapes: S tokens read (the prompt's suffix, then P patches), after the K tokens of the prompt's prefix, C = K + S; k
key-value heads of width R, G query heads to each, Q = S x G rows of queries to each key-value head.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from timellm_cli.model.llm.attention import attend
from timellm_cli.model.llm.choice import WIDE_BYTES
from timellm_cli.model.llm.frozen_matrix import FrozenMatrix
from timellm_cli.model.llm.ops import KeysValues, TorchOps


@dataclass(frozen=True)
class Positions:
    """Rotary positions of tokens and what each token sees, the same for every layer.

    Cosines and sines are float32. The mask is added to attention scores: 0, or minus infinity.
    """

    cos_BSR: Tensor
    sin_BSR: Tensor
    mask_B1QC: Tensor


@dataclass(frozen=True)
class PatchActivations:
    """The patches' numbers inside a layer: rotated queries, what the MLP reads, its gate and up.

    `raw_BPW` are queries and keys before their norms, in a layer that has such norms.
    """

    query_BkQR: Tensor
    middle_BPE: Tensor
    gate_up_BPI: Tensor
    raw_BPW: Tensor | None


@dataclass(frozen=True)
class KeptForBackward:
    """What the backward pass needs of a layer: what its patches read, and keys and values of the whole context.

    Without `activations`, it computes them again.
    """

    tokens_BPE: Tensor
    keys_BkCR: Tensor
    values_BkCR: Tensor
    activations: PatchActivations | None


class DecoderLayer(nn.Module):
    """Weights and arithmetic of one layer.

    `ops` does everything but matrix products and attention. `prefix` are keys and values of the prompt's prefix, k x K
    x R each, that every later reading sees.
    """

    input_norm_E: Tensor
    middle_norm_E: Tensor
    qkv_bias: Tensor | None
    head_norms_hR: Tensor | None

    def __init__(
        self,
        qkv: FrozenMatrix,
        out: FrozenMatrix,
        gate_up: FrozenMatrix,
        down: FrozenMatrix,
        input_norm_E: Tensor,
        middle_norm_E: Tensor,
        qkv_bias: Tensor | None,
        head_norms_hR: Tensor | None,
        heads: int,
        kv_heads: int,
        eps: float,
        ops: TorchOps,
    ) -> None:
        super().__init__()
        self.qkv, self.out, self.gate_up, self.down = qkv, out, gate_up, down
        self.register_buffer("input_norm_E", input_norm_E)
        self.register_buffer("middle_norm_E", middle_norm_E)
        self.register_buffer("qkv_bias", qkv_bias)
        self.register_buffer("head_norms_hR", head_norms_hR)
        self.kv_heads, self.groups, self.eps, self.ops = kv_heads, heads // kv_heads, eps, ops
        self.head_dim = out.shape[1] // heads
        self.shrink = shrink_of(input_norm_E.dtype)
        self.stream_eps = eps * self.shrink**2
        self.prefix = self._of_no_tokens(input_norm_E)

    def set_prefix(self, tokens_1KE: Tensor, positions: Positions) -> None:
        """Read the prompt's prefix and keep its keys and values. The tokens change into the layer's output."""
        self.prefix = self._of_no_tokens(tokens_1KE)
        if tokens_1KE.shape[1]:
            keys, values = self.read(tokens_1KE, positions)
            self.prefix = keys.squeeze(0), values.squeeze(0)

    def read(self, tokens_BSE: Tensor, positions: Positions) -> KeysValues:
        """Change the tokens into the layer's output, in place. Returns keys and values, B x k x C x R."""
        query, keys, values, _ = self._read_heads(tokens_BSE, positions)
        self._add_attention(tokens_BSE, query, keys, values, positions)
        self._add_mlp(tokens_BSE)
        return keys, values

    def read_and_keep(self, tokens_BSE: Tensor, positions: Positions, patches: int, recompute: bool) -> KeptForBackward:
        """Like `read`, and returns what the backward pass needs: with `recompute`, less of it."""
        tokens_BPE = tokens_BSE.new_empty(len(tokens_BSE), patches, tokens_BSE.shape[2])
        query, keys, values, raw = self._read_heads(tokens_BSE, positions, tokens_BPE, keeps_raw=not recompute)
        self._add_attention(tokens_BSE, query, keys, values, positions)
        activations = None if recompute else self._new_activations(self._of_patches(query, patches), tokens_BPE, raw)
        self._add_mlp(tokens_BSE, activations)
        return KeptForBackward(tokens_BPE, keys, values, activations)

    def read_last(
        self, tokens_BSE: Tensor, positions: Positions, patch_positions: Positions, recompute: bool
    ) -> tuple[Tensor, KeptForBackward]:
        """Like `read_and_keep` for the last layer, where the prompt is read for its keys and values only.

        Returns the layer's output at the patches, B x P x E, in a tensor of its own.
        """
        patches = patch_positions.cos_BSR.shape[1]
        tokens_BPE = tokens_BSE.new_empty(len(tokens_BSE), patches, tokens_BSE.shape[2])
        query, keys, values, raw = self._read_heads(tokens_BSE, positions, tokens_BPE, keeps_raw=not recompute)
        query, last_BPE = self._of_patches(query, patches), tokens_BPE.clone()
        self._add_attention(last_BPE, query, keys, values, patch_positions)
        activations = None if recompute else self._new_activations(query, tokens_BPE, raw)
        self._add_mlp(last_BPE, activations)
        return last_BPE, KeptForBackward(tokens_BPE, keys, values, activations)

    def backward(self, kept: KeptForBackward, grad_BPE: Tensor, positions: Positions) -> Tensor:
        """From the gradient of the output at the patches to that of the input there, both B x P x E.

        `positions` are those of the patches.
        """
        ops, dtype, cos, sin = self.ops, grad_BPE.dtype, positions.cos_BSR, positions.sin_BSR
        qkv_WE = out_EW = None
        activations = kept.activations
        if activations:
            query, raw = activations.query_BkQR, activations.raw_BPW
        else:
            qkv_WE = self.qkv.dense(dtype)
            qkv = F.linear(ops.rms_norm(kept.tokens_BPE, self.input_norm_E, self.stream_eps), qkv_WE, self.qkv_bias)
            raw = self._norm_heads(qkv, qkv.shape[1])
            query = ops.split_heads(qkv, cos, sin, self._of_no_tokens(qkv), self.groups)[0]
            del qkv
        attention = ops.patch_attention(query, kept.keys_BkCR, kept.values_BkCR, positions.mask_B1QC)
        if activations:
            middle_BPE, gate_up_BPI = activations.middle_BPE, activations.gate_up_BPI
        else:
            out_EW = self.out.dense(dtype)
            middle_BPE, gate_up_BPI = self._middle(kept.tokens_BPE, attention.mixed(), out_EW), None
        grad_BPE = self._mlp_backward(middle_BPE, gate_up_BPI, grad_BPE)
        grad_mixed = grad_BPE @ (self.out.dense(dtype) if out_EW is None else out_EW)
        grad_mixed = ops.split_output(grad_mixed, self.kv_heads, self.head_dim)
        grad_qkv = ops.merge_heads(*attention.backward(grad_mixed, grad_BPE.shape[1]), cos, sin)
        del attention, grad_mixed
        if self.head_norms_hR is not None and raw is not None:
            ops.norm_heads_backward(grad_qkv, raw, self.head_norms_hR, self.eps)
        grad_normed = grad_qkv @ (self.qkv.dense(dtype) if qkv_WE is None else qkv_WE)
        norm_E = shrunk(self.input_norm_E, self.shrink)
        return ops.rms_norm_backward(grad_normed, kept.tokens_BPE, norm_E, self.stream_eps, grad_BPE)

    def _of_no_tokens(self, like: Tensor) -> KeysValues:
        """Keys and values of no tokens, k x 0 x R each."""
        nothing = like.new_empty(self.kv_heads, 0, self.head_dim)
        return nothing, nothing

    def _read_heads(
        self, tokens_BSE: Tensor, positions: Positions, last_BPE: Tensor | None = None, keeps_raw: bool = False
    ) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """Rotated queries, B x k x Q x R, and the whole context's keys and values, B x k x C x R.

        Copies the last P tokens to `last_BPE`; with `keeps_raw`, the fourth is their `PatchActivations.raw_BPW`.
        """
        qkv = F.linear(  # the normalised tokens have no name, so that they are freed before the heads are split
            self.ops.rms_norm(tokens_BSE, self.input_norm_E, self.stream_eps, last_BPE),
            self.qkv.dense(tokens_BSE.dtype),
            self.qkv_bias,
        )
        raw_BPW = self._norm_heads(qkv, last_BPE.shape[1] if keeps_raw and last_BPE is not None else 0)
        heads = self.ops.split_heads(qkv, positions.cos_BSR, positions.sin_BSR, self.prefix, self.groups)
        return *heads, raw_BPW

    def _norm_heads(self, qkv_BSW: Tensor, kept: int) -> Tensor | None:
        """Norm queries and keys in place, where the LLM does. Returns those of the last `kept` tokens as they were."""
        if self.head_norms_hR is None:
            return None
        raw_BPW = qkv_BSW[:, qkv_BSW.shape[1] - kept :, : self.head_norms_hR.numel()].clone() if kept else None
        self.ops.norm_heads(qkv_BSW, self.head_norms_hR, self.eps)
        return raw_BPW

    def _of_patches(self, query_BkQR: Tensor, patches: int) -> Tensor:
        """The patches' queries, in memory of their own."""
        return query_BkQR[:, :, -patches * self.groups :].transpose(1, 2).contiguous().transpose(1, 2)

    def _new_activations(self, patch_query: Tensor, tokens_BPE: Tensor, raw_BPW: Tensor | None) -> PatchActivations:
        """With memory that `_add_mlp` fills in."""
        gate_up_BPI = tokens_BPE.new_empty(*tokens_BPE.shape[:2], self.gate_up.shape[0])
        return PatchActivations(patch_query, torch.empty_like(tokens_BPE), gate_up_BPI, raw_BPW)

    def _add_attention(
        self, tokens_BSE: Tensor, query: Tensor, keys: Tensor, values: Tensor, positions: Positions
    ) -> None:
        """Add attention to the tokens that the queries belong to, in place."""
        mixed = self.ops.merge_output(attend(query, keys, values, positions.mask_B1QC), tokens_BSE.shape[1])
        tokens_BSE.flatten(0, 1).addmm_(mixed.flatten(0, 1), self.out.dense(tokens_BSE.dtype).T, alpha=self.shrink)

    def _middle(self, tokens_BPE: Tensor, mixed: Tensor, out_EW: Tensor) -> Tensor:
        """What the MLP reads, B x P x E: the tokens plus attention."""
        rows = self.ops.merge_output(mixed, tokens_BPE.shape[1]).flatten(0, 1)
        return torch.addmm(tokens_BPE.flatten(0, 1), rows, out_EW.T, alpha=self.shrink).view_as(tokens_BPE)

    def _add_mlp(self, tokens_BSE: Tensor, activations: PatchActivations | None = None) -> None:
        """Add the MLP to the tokens, in place, and fill in its part of the activations."""
        for part in self._parts(tokens_BSE):
            rows_NE = tokens_BSE[part].flatten(0, 1)
            rows_NE.addmm_(  # neither factor has a name, so that both are freed before the next part
                self._activate(tokens_BSE, part, activations),
                self.down.dense(tokens_BSE.dtype).T,
            )

    def _activate(self, tokens_BSE: Tensor, part: slice, activations: PatchActivations | None) -> Tensor:
        """The input of the MLP's last matrix for some samples, times `shrink`, N x I."""
        middle = wide = None
        if activations:
            middle, wide = activations.middle_BPE[part], activations.gate_up_BPI[part]
        gate_up_BSI = F.linear(
            self.ops.rms_norm(tokens_BSE[part], self.middle_norm_E, self.stream_eps, middle),
            self.gate_up.dense(tokens_BSE.dtype),
        )
        return self.ops.swiglu(gate_up_BSI, wide, self.shrink).flatten(0, 1)

    def _mlp_backward(self, middle_BPE: Tensor, gate_up_BPI: Tensor | None, grad_BPE: Tensor) -> Tensor:
        """The gradient of the MLP block's input, B x P x E. Overwrites `gate_up_BPI`."""
        result_BPE, norm_E = torch.empty_like(grad_BPE), shrunk(self.middle_norm_E, self.shrink)
        for part in self._parts(grad_BPE):
            gate_up = None if gate_up_BPI is None else gate_up_BPI[part]
            grad_normed = self._gate_up_backward(middle_BPE[part], gate_up, grad_BPE[part])
            self.ops.rms_norm_backward(
                grad_normed, middle_BPE[part], norm_E, self.stream_eps, grad_BPE[part], result_BPE[part]
            )
        return result_BPE

    def _gate_up_backward(self, middle_BPE: Tensor, gate_up_BPI: Tensor | None, grad_BPE: Tensor) -> Tensor:
        """The gradient of what gate and up read, B x P x E. A matrix is written out only while it is used."""
        dtype, matrix = grad_BPE.dtype, None
        if gate_up_BPI is None:
            matrix = self.gate_up.dense(dtype)
            gate_up_BPI = F.linear(self.ops.rms_norm(middle_BPE, self.middle_norm_E, self.stream_eps), matrix)
        grad_wide = self.ops.swiglu_backward(grad_BPE @ self.down.dense(dtype), gate_up_BPI, gate_up_BPI)
        return grad_wide @ (self.gate_up.dense(dtype) if matrix is None else matrix)

    def _parts(self, tokens_BSE: Tensor) -> list[slice]:
        """The samples that go through the MLP together."""
        wide = self.gate_up.shape[0] * tokens_BSE.shape[1] * tokens_BSE.element_size()
        samples = max(WIDE_BYTES // wide, 1)
        return [slice(start, start + samples) for start in range(0, len(tokens_BSE), samples)]


def shrink_of(dtype: torch.dtype) -> float:
    """What tokens are multiplied by while they pass the layers: a 64th in fp16, else one.

    LLMs write some features so large that fp16, which ends at 65,504, overflows. Each layer reads its tokens through an
    RMS norm, which a common factor leaves alone (with the epsilon times its square). What attention adds is scaled
    inside the product; what the MLP adds before it, because the numbers inside the MLP overflow as well. Gradients are
    those of the tokens as they would be without it.
    """
    return 1 / 64 if dtype == torch.float16 else 1.0


def shrunk(values: Tensor, shrink: float) -> Tensor:
    """The values times `shrink`; no copy where that is one."""
    return values if shrink == 1 else values * shrink
