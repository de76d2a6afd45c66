"""Our decoder: it reads prompt and patches of a Llama-like LLM in one pass, faster and in less memory.

It computes the same as transformers with autograd over all tokens, and saves this:
- the prompt's prefix is read once, when the model is loaded;
- prompt positions keep nothing for the backward pass but keys and values;
- the backward pass is written by hand: it makes the patches' gradient, and no gradient of a weight;
- prompt and patches share every matrix product, so a 4-bit matrix is written out once in each direction;
- with `recompute`, a layer keeps what its patches read, and computes the rest again for its gradient;
- the embedding table stays on disk; only the rows that prompts use are on the GPU.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from timellm_cli.data.batch import PromptTokens
from timellm_cli.model.llm.choice import EMBEDDING_ROWS
from timellm_cli.model.llm.decoder_layer import DecoderLayer, KeptForBackward, Positions, shrunk


class Embedding(nn.Module):
    """Looks tokens up in a table that stays in the computer's memory, or on disk behind it.

    Prompts are numbers and a few words, so a GPU needs some hundred rows of a Qwen's 151,936: a row is copied there
    when a prompt first needs it. On a CPU the table itself is read.
    """

    rows_NE: Tensor
    row_of_V: Tensor

    def __init__(self, table_VE: Tensor, device: torch.device, dtype: torch.dtype, copies: bool | None = None) -> None:
        """`table_VE` is on the CPU, in any number format; embeddings are on `device` in `dtype`.

        `copies=None` copies rows where the device is not the table's.
        """
        super().__init__()
        self.table_VE = table_VE  # no buffer: `.to(device)` must not move it
        self._copies = device.type != "cpu" if copies is None else copies
        self._dtype, self._used = dtype, 0
        words, width = table_VE.shape
        rows, words_on_device = (EMBEDDING_ROWS, words) if self._copies else (0, 0)
        self.register_buffer("rows_NE", torch.zeros(rows, width, dtype=dtype, device=device), persistent=False)
        self.register_buffer("row_of_V", torch.full((words_on_device,), -1, device=device), persistent=False)
        self._known = torch.zeros(words, dtype=torch.bool)

    @property
    def capacity(self) -> int:
        """Rows that fit. When it grows, the rows move to another address."""
        return len(self.rows_NE)

    @torch.inference_mode(False)
    @torch.no_grad()
    def prepare(self, ids: Tensor) -> None:
        """Copy the rows of these tokens (on the CPU) that are not there yet."""
        if not self._copies:
            return
        new = ids.unique()
        new = new[~self._known[new]]
        if not len(new):
            return
        self._known[new] = True
        end = self._used + len(new)
        if end > self.capacity:
            grown = self.rows_NE.new_zeros(max(2 * self.capacity, end), self.rows_NE.shape[1])
            grown[: self._used] = self.rows_NE[: self._used]
            self.rows_NE = grown
        rows = torch.arange(self._used, end)
        self.rows_NE[rows.to(self.rows_NE.device)] = self.table_VE[new].to(self.rows_NE)
        self.row_of_V[new.to(self.row_of_V.device)] = rows.to(self.row_of_V)
        self._used = end

    def forward(self, ids: Tensor) -> Tensor:
        """Embeddings of prepared tokens: the shape of `ids`, then E."""
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
        self.ops, self.eps, self.shrink = layers[0].ops, layers[0].stream_eps, layers[0].shrink
        self.recompute = False
        self.prefix: tuple[int, ...] = ()

    @property
    def dtype(self) -> torch.dtype:
        """The number format the LLM computes in."""
        return self.last_norm_E.dtype

    @property
    def depth(self) -> int:
        """How many layers there are."""
        return len(self.layers)

    @property
    def embedding_VE(self) -> Tensor:
        """The table of token embeddings, V x E, on the CPU."""
        return self.embedding.table_VE

    @property
    def recording_key(self) -> tuple[int, bool]:
        """What a CUDA graph of a step depends on besides its input tensors."""
        return self.embedding.capacity, self.recompute

    @torch.inference_mode(False)
    @torch.no_grad()
    def set_prefix(self, prefix: tuple[int, ...]) -> None:
        """Read the token ids that every prompt begins with. To be called once, before any step is recorded."""
        ids_1K = torch.tensor([prefix], dtype=torch.int64)
        self.embedding.prepare(ids_1K)
        ids_1K = ids_1K.to(self.last_norm_E.device)
        tokens_1KE = shrunk(self.embedding(ids_1K), self.shrink)
        positions = self._positions(PromptTokens(ids_1K[:, :0], ids_1K[:, :0]), len(prefix))
        for layer in self.layers:
            layer.set_prefix(tokens_1KE, positions)
        self.prefix = prefix

    def prepare(self, prompt: PromptTokens) -> None:
        """Make the embeddings of new tokens available. The prompt is on the CPU."""
        self.embedding.prepare(prompt.ids_BK)

    def forward(self, prompt: PromptTokens, tokens_BPE: Tensor) -> Tensor:
        """The LLM's last hidden states at the patches, B x P x E, float32.

        A prompt that is on a GPU must have been prepared on the CPU. Its prefix must be that of `set_prefix`.
        """
        if prompt.ids_BK.device.type == "cpu":
            self.prepare(prompt)
        hidden_BPE: Tensor = _Reading.apply(tokens_BPE.to(self.dtype), prompt, self)
        return hidden_BPE.float()

    @torch.no_grad()
    def read(self, prompt: PromptTokens, tokens_BPE: Tensor, keep: bool) -> tuple[Tensor, "Trace"]:
        """The last layer's output at the patches, times `shrink` and before the norm, B x P x E.

        With `keep`, the trace holds what `propagate_back` needs.
        """
        assert prompt.prefix == self.prefix, "the prompt begins with another prefix than the one that was read"
        patches = tokens_BPE.shape[1]
        tokens_BSE = torch.cat([self.embedding(prompt.ids_BK), tokens_BPE], dim=1)
        tokens_BSE = shrunk(tokens_BSE, self.shrink)
        positions = self._positions(prompt, patches)
        patch_positions = _positions_of_patches(positions, patches)
        *layers, last = self.layers
        kept: list[KeptForBackward] = []
        for layer in layers:
            if keep:
                kept.append(layer.read_and_keep(tokens_BSE, positions, patches, self.recompute))
            else:
                layer.read(tokens_BSE, positions)
        recompute = self.recompute or not keep
        last_BPE, kept_last = last.read_last(tokens_BSE, positions, patch_positions, recompute)
        return last_BPE, Trace([*kept, kept_last] if keep else [], patch_positions)

    @torch.no_grad()
    def propagate_back(self, trace: "Trace", grad_BPE: Tensor) -> Tensor:
        """From the gradient of `read`'s output to that of its tokens, both B x P x E. Empties the trace."""
        for layer in reversed(self.layers):
            grad_BPE = layer.backward(trace.kept.pop(), grad_BPE, trace.positions)
        return grad_BPE

    def _positions(self, prompt: PromptTokens, patches: int) -> Positions:
        """Positions of suffixes and patches. Padding counts for none, and only itself sees it."""
        prefix_len, (batch, suffix) = len(prompt.prefix), prompt.mask_BK.shape
        real_BS = torch.cat([prompt.mask_BK.bool(), prompt.mask_BK.new_ones(batch, patches, dtype=torch.bool)], dim=1)
        positions_BS = (real_BS.cumsum(dim=1) + (prefix_len - 1)).clamp_min(0)
        angles_BSr = positions_BS.unsqueeze(2) * self.frequencies
        angles_BSR = torch.cat([angles_BSr, angles_BSr], dim=2)
        causal_SS = torch.ones(suffix + patches, suffix + patches, dtype=torch.bool, device=real_BS.device).tril()
        itself_SS = torch.eye(suffix + patches, dtype=torch.bool, device=real_BS.device)
        seen_BSS = (causal_SS & real_BS.unsqueeze(1)) | itself_SS
        seen_BSC = torch.cat([seen_BSS.new_ones(batch, suffix + patches, prefix_len), seen_BSS], dim=2)
        mask_BSC = torch.zeros(seen_BSC.shape, dtype=self.dtype, device=real_BS.device)
        mask_BSC.masked_fill_(~seen_BSC, float("-inf"))
        mask_B1QC = mask_BSC.repeat_interleave(self.layers[0].groups, dim=1).unsqueeze(1)
        return Positions(angles_BSR.cos(), angles_BSR.sin(), mask_B1QC)


@dataclass(frozen=True)
class Trace:
    """What is kept between the forward and the backward pass: of each layer, and the patches' positions."""

    kept: list[KeptForBackward]
    positions: Positions


def _positions_of_patches(positions: Positions, patches: int) -> Positions:
    groups = positions.mask_B1QC.shape[2] // positions.cos_BSR.shape[1]
    return Positions(
        positions.cos_BSR[:, -patches:].contiguous(),
        positions.sin_BSR[:, -patches:].contiguous(),
        positions.mask_B1QC[:, :, -patches * groups :].contiguous(),
    )


class _Reading(torch.autograd.Function):
    """The decoder as one operation: from the tokens of the patches to the hidden states there."""

    @staticmethod
    def forward(ctx: Any, tokens_BPE: Tensor, prompt: PromptTokens, decoder: Decoder) -> Tensor:
        last_BPE, trace = decoder.read(prompt, tokens_BPE, keep=ctx.needs_input_grad[0])
        if ctx.needs_input_grad[0]:
            ctx.decoder, ctx.trace, ctx.last_BPE = decoder, trace, last_BPE
        return decoder.ops.rms_norm(last_BPE, decoder.last_norm_E, decoder.eps)

    @staticmethod
    def backward(ctx: Any, grad_BPE: Tensor) -> tuple[Tensor, None, None]:
        decoder = ctx.decoder
        grad_BPE = decoder.ops.rms_norm_backward(
            grad_BPE.contiguous(), ctx.last_BPE, shrunk(decoder.last_norm_E, decoder.shrink), decoder.eps, None
        )
        return decoder.propagate_back(ctx.trace, grad_BPE), None, None
