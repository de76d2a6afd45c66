"""Token embeddings for a GPU that does not hold their table.

A frozen Llama-like decoder that reads prompt and patches in one pass, as fast and in as little memory as we can.

What it saves, against reading all tokens with autograd through transformers, while computing the same:
- the prompt's constant head is read once a run; no prompt position keeps anything for a backward pass but keys, values;
- the backward pass is written out: it makes the patches' gradient alone, and no gradient of a weight;
- prompt and patches share every matrix product, so a 4-bit matrix is written out once in each direction;
- with `recompute`, a layer keeps what its patches read, and computes the rest again beside its gradient;
- the embedding table stays on disk; only the rows that prompts use are on the GPU.
"""

from dataclasses import dataclass
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from timellm_cli.data.batch import PromptTokens
from timellm_cli.model.llm import ops as plain_ops
from timellm_cli.model.llm.choice import EMBEDDING_ROOM
from timellm_cli.model.llm.decoder_layer import DecoderLayer, Kept, KeysValues, Places


class Embedding(nn.Module):
    """Looks tokens up in a table that stays in the computer's memory, or on disk behind it.

    Prompts are numbers and a few words, so a GPU needs some hundred rows of a Qwen's 151,936: a row is copied there
    when a prompt first needs it. On a CPU the table itself is read.
    """

    rows_NE: Tensor
    row_of_V: Tensor

    def __init__(self, table_VE: Tensor, device: torch.device, dtype: torch.dtype, copies: bool | None = None) -> None:
        """`table_VE` lies on the CPU, in any number format; embeddings come out on `device` in `dtype`.

        `copies=None` copies rows where the device is another than the table's.
        """
        super().__init__()
        self.table_VE = table_VE  # no buffer: `.to(device)` must not move it
        self._copies = device.type != "cpu" if copies is None else copies
        self._dtype, self._used = dtype, 0
        words, width = table_VE.shape
        room = EMBEDDING_ROOM if self._copies else 0
        self.register_buffer("rows_NE", torch.zeros(room, width, dtype=dtype, device=device), persistent=False)
        self.register_buffer(
            "row_of_V", torch.full((words if self._copies else 0,), -1, device=device), persistent=False
        )
        self._known = torch.zeros(words, dtype=torch.bool)

    @property
    def room(self) -> int:
        """Rows there is room for. Where it has grown, the rows lie elsewhere."""
        return len(self.rows_NE)

    @torch.inference_mode(False)
    @torch.no_grad()
    def admit(self, ids: Tensor) -> None:
        """Make sure that these tokens (on the CPU) can be looked up."""
        if not self._copies:
            return
        new = ids.unique()
        new = new[~self._known[new]]
        if not len(new):
            return
        self._known[new] = True
        if self._used + len(new) > len(self.rows_NE):
            room = max(2 * len(self.rows_NE), self._used + len(new))
            grown = self.rows_NE.new_zeros(room, self.rows_NE.shape[1])
            grown[: self._used] = self.rows_NE[: self._used]
            self.rows_NE = grown
        places = torch.arange(self._used, self._used + len(new))
        self.rows_NE[places.to(self.rows_NE.device)] = self.table_VE[new].to(self.rows_NE)
        self.row_of_V[new.to(self.row_of_V.device)] = places.to(self.row_of_V)
        self._used += len(new)

    def forward(self, ids: Tensor) -> Tensor:
        """Embeddings of admitted tokens, of the ids' shape with E behind."""
        if self._copies:
            return self.rows_NE[self.row_of_V[ids]]
        return self.table_VE[ids].to(self._dtype)


class Decoder(nn.Module):
    """The layers of an LLM, its embedding and its last norm. `recompute` may be changed between two steps."""

    last_norm_E: Tensor
    frequencies: Tensor

    def __init__(
        self,
        embedding: Embedding,
        layers: list[DecoderLayer],
        last_norm_E: Tensor,
        frequencies: Tensor,
        max_positions: int,
    ) -> None:
        """`frequencies` are those of the rotary positions, R/2, in radians a token."""
        super().__init__()
        self.embedding = embedding
        self.layers: Any = nn.ModuleList(layers)
        self.register_buffer("last_norm_E", last_norm_E)
        self.register_buffer("frequencies", frequencies)
        self.hidden_size, self.max_positions = len(last_norm_E), max_positions
        self.ops = fastest_ops(last_norm_E.device)
        self.recompute = False
        self._head: tuple[tuple[int, ...], list[KeysValues]] | None = None

    @property
    def dtype(self) -> torch.dtype:
        """The number format the LLM computes in."""
        return self.last_norm_E.dtype

    @property
    def embedding_VE(self) -> Tensor:
        """The table of token embeddings, V x E, on the CPU."""
        return self.embedding.table_VE

    def set_prefix(self, prefix: tuple[int, ...]) -> None:
        pass

    def prepare(self, prompt: PromptTokens) -> None:
        self.admit(prompt)

    def admit(self, prompt: PromptTokens) -> None:
        """Make ready for prompts that are still on the CPU: embeddings of new tokens, keys and values of a new head."""
        self.embedding.admit(prompt.ids_BK)
        if self._head is None or self._head[0] != prompt.prefix:
            self._head = prompt.prefix, self._read_head(prompt.prefix)

    def forward(self, prompt: PromptTokens, tokens_BPE: Tensor) -> Tensor:
        """The LLM's last hidden states at the patches, B x P x E, float32. On a GPU, admit the prompt before."""
        if prompt.ids_BK.device.type == "cpu":
            self.admit(prompt)
        hidden_BPE: Tensor = _Reading.apply(tokens_BPE.to(self.dtype), prompt, self)
        return hidden_BPE.float()

    @torch.no_grad()
    def read(self, prompt: PromptTokens, tokens_BPE: Tensor, keep: bool) -> tuple[Tensor, "Trace"]:
        """Tokens after the last layer, before its norm, B x P x E, and with `keep` what `propagate_back` needs."""
        assert self._head is not None
        assert self._head[0] == prompt.prefix
        patches = tokens_BPE.shape[1]
        tokens_BSE = torch.cat([self.embedding(prompt.ids_BK), tokens_BPE], dim=1)
        places = self._place(prompt, patches)
        patch_places = _patches_of(places, patches)
        *layers, last = self.layers
        *heads, last_head = self._head[1]
        kept: list[Kept] = []
        for layer, head in zip(layers, heads, strict=True):
            if keep:
                kept.append(layer.read_and_keep(self.ops, tokens_BSE, head, places, patches, self.recompute))
            else:
                layer.read(self.ops, tokens_BSE, head, places)
        recompute = self.recompute or not keep
        last_BPE, kept_last = last.read_last(self.ops, tokens_BSE, last_head, places, patch_places, recompute)
        return last_BPE, Trace([*kept, kept_last] if keep else [], patch_places)

    @torch.no_grad()
    def propagate_back(self, trace: "Trace", grad_BPE: Tensor) -> Tensor:
        """The gradient of the tokens that were read, B x P x E, from that of what came out. Uses the trace up."""
        nothing = (self.layers[0].no_keys(self.dtype),) * 2
        for layer in reversed(self.layers):
            grad_BPE = layer.backward(self.ops, trace.kept.pop(), grad_BPE, nothing, trace.places)
        return grad_BPE

    @torch.inference_mode(False)
    @torch.no_grad()
    def _read_head(self, head: tuple[int, ...]) -> list[KeysValues]:
        """Keys and values of the prompt's head in every layer, k x Kh x R each; of no tokens if there is no head."""
        nothing = self.layers[0].no_keys(self.dtype)
        if not head:
            return [(nothing, nothing)] * len(self.layers)
        ids_1K = torch.tensor([head])
        self.embedding.admit(ids_1K)
        ids_1K = ids_1K.to(nothing.device)
        tokens_1KE = self.embedding(ids_1K)
        places = self._place(PromptTokens(ids_1K[:, :0], ids_1K[:, :0]), len(head))
        read = [layer.read(self.ops, tokens_1KE, (nothing, nothing), places) for layer in self.layers]
        return [(keys.squeeze(0), values.squeeze(0)) for keys, values in read]

    def _place(self, prompt: PromptTokens, patches: int) -> Places:
        """Where prompt tails and patches stand. Padding takes no position, and only itself sees it."""
        head_len, (batch, tail) = len(prompt.prefix), prompt.mask_BK.shape
        real_BS = torch.cat([prompt.mask_BK.bool(), prompt.mask_BK.new_ones(batch, patches, dtype=torch.bool)], dim=1)
        positions_BS = (real_BS.cumsum(dim=1) + (head_len - 1)).clamp_min(0)
        angles_BSr = positions_BS.unsqueeze(2) * self.frequencies
        angles_BSR = torch.cat([angles_BSr, angles_BSr], dim=2)
        causal_SS = torch.ones(tail + patches, tail + patches, dtype=torch.bool, device=real_BS.device).tril()
        itself_SS = torch.eye(tail + patches, dtype=torch.bool, device=real_BS.device)
        seen_BSS = (causal_SS & real_BS.unsqueeze(1)) | itself_SS
        seen_BSC = torch.cat([seen_BSS.new_ones(batch, tail + patches, head_len), seen_BSS], dim=2)
        mask_BSC = torch.zeros(seen_BSC.shape, dtype=self.dtype, device=real_BS.device)
        mask_BSC.masked_fill_(~seen_BSC, float("-inf"))
        mask_B1QC = mask_BSC.repeat_interleave(self.layers[0].groups, dim=1).unsqueeze(1)
        return Places(angles_BSR.cos(), angles_BSR.sin(), mask_B1QC)


def fastest_ops(device: torch.device) -> ModuleType:
    """The fused operations on a GPU, where Triton is installed; else those of libraries, on a CPU of PyTorch alone."""
    if device.type != "cuda":
        return plain_ops
    if find_spec("triton"):
        from timellm_cli.model.llm import triton_ops

        return triton_ops
    from timellm_cli.model.llm import cuda_ops

    return cuda_ops


@dataclass(frozen=True)
class Trace:
    """What is kept between the two passes of a step: of each layer, and the patches' places."""

    kept: list[Kept]
    places: Places


def _patches_of(places: Places, patches: int) -> Places:
    """The same of the patches alone."""
    groups = places.mask_B1QC.shape[2] // places.cos_BSR.shape[1]
    return Places(
        places.cos_BSR[:, -patches:].contiguous(),
        places.sin_BSR[:, -patches:].contiguous(),
        places.mask_B1QC[:, :, -patches * groups :].contiguous(),
    )


class _Reading(torch.autograd.Function):
    """The decoder as one operation: from the tokens of the patches to the hidden states there."""

    @staticmethod
    def forward(ctx: Any, tokens_BPE: Tensor, prompt: PromptTokens, decoder: Decoder) -> Tensor:
        last_BPE, trace = decoder.read(prompt, tokens_BPE, keep=ctx.needs_input_grad[0])
        norm, eps = decoder.last_norm_E, decoder.layers[0].eps
        if ctx.needs_input_grad[0]:
            ctx.decoder, ctx.trace, ctx.last_BPE = decoder, trace, last_BPE
        return decoder.ops.rms_norm(last_BPE, norm, eps)

    @staticmethod
    def backward(ctx: Any, grad_BPE: Tensor) -> tuple[Tensor, None, None]:
        decoder, last_BPE = ctx.decoder, ctx.last_BPE
        eps = decoder.layers[0].eps
        grad_BPE = decoder.ops.rms_norm_backward(grad_BPE.contiguous(), last_BPE, decoder.last_norm_E, eps, None)
        return decoder.propagate_back(ctx.trace, grad_BPE), None, None
