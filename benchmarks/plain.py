"""The plain path: Time-LLM in 4 bits as the widely shared fork of it runs, to measure beside ours.

Each step applies the full vocabulary mapping (V to U, trainable, float32, with a bf16 copy under autocast) to the whole
embedding table, tokenises the prompts, reads prompt and patches in one pass with autograd over all of them through
transformers, updates with `torch.optim.Adam`, and reads the loss.

It is spared what would flatter a comparison: the fork keeps the attention maps and hidden states of every layer and
prints statistics with all digits, which makes prompts longer (the variant `published` does both, with the eager
attention it needs), reads those statistics value by value from the GPU, and pads without a mask. Here the prompts are
ours, padding is masked, and attention is fused, in the LLM and in the reprogramming.
"""

from collections.abc import Iterator
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from timellm_cli.config import Config
from timellm_cli.counts import count_patches
from timellm_cli.data.batch import PromptTokens
from timellm_cli.data.windows import WindowDataset
from timellm_cli.model.prompt_tokens import PromptEncoder
from timellm_cli.model.time_llm import (
    ForecastHead,
    PatchEmbedding,
    Reprogramming,
    VocabularyPrototypes,
    cut_patches,
    normalise,
)

Mapping = Literal["full", "compact"]


class PlainTimeLLM(nn.Module):
    """The same model as `TimeLLM`, on shared weights, without its savings."""

    def __init__(self, config: Config, llm: Any, factor_EE: Tensor | None = None, published: bool = False) -> None:
        """`factor_EE` makes the mapping compact. `published` needs an LLM with eager attention."""
        super().__init__()
        model, window = config.model, config.window
        self.model, self.published = model, published
        self.llm = llm.requires_grad_(False).eval()
        words, hidden = llm.get_input_embeddings().weight.shape
        self.mapping: nn.Linear | VocabularyPrototypes
        if factor_EE is None:
            self.mapping = nn.Linear(words, model.num_prototypes)
        else:
            self.mapping = VocabularyPrototypes(factor_EE, model.num_prototypes, words)
        patches = count_patches(window.seq_len, model.patch_len, model.patch_stride)
        self.patch_embedding = PatchEmbedding(model.patch_len, model.d_model, model.dropout)
        self.reprogramming = Reprogramming(model.d_model, hidden, model.n_heads, model.d_ff, model.dropout)
        self.reprogramming.attention_dtype = llm.get_input_embeddings().weight.dtype
        self.head = ForecastHead(model.d_ff, patches, window.pred_len, model.dropout)

    def train(self, mode: bool = True) -> "PlainTimeLLM":
        """The LLM stays in evaluation mode; those measured here have no dropout."""
        super().train(mode)
        self.llm.eval()
        return self

    def forward(self, history_BT: Tensor, prompt: PromptTokens) -> Tensor:
        """Standardised history, B x T, and whole prompts, to standardised forecast, B x H."""
        table = self.llm.get_input_embeddings()
        dtype = table.weight.dtype
        with torch.autocast(history_BT.device.type, dtype, enabled=dtype != torch.float32):
            scaled_BT, moments = normalise(history_BT)
            embedded_BPD = self.patch_embedding(cut_patches(scaled_BT, self.model.patch_len, self.model.patch_stride))
            compact = isinstance(self.mapping, VocabularyPrototypes)
            prototypes_UE = self.mapping() if compact else self.mapping(table.weight.T).T
            tokens_BPE = self.reprogramming(embedded_BPD, prototypes_UE).to(dtype)
            hidden_BPE = self._read(table(prompt.ids_BK), prompt.mask_BK, tokens_BPE)
            return moments.restore(self.head(hidden_BPE).float())

    def _read(self, prompt_BKE: Tensor, mask_BK: Tensor, tokens_BPE: Tensor) -> Tensor:
        """The last hidden states at the patches, of one pass over all tokens."""
        patches = tokens_BPE.shape[1]
        mask = torch.cat([mask_BK, mask_BK.new_ones(len(mask_BK), patches)], dim=1)
        output = self.llm(
            inputs_embeds=torch.cat([prompt_BKE, tokens_BPE], dim=1),
            attention_mask=mask,
            position_ids=(mask.cumsum(dim=1) - 1).clamp_min(0),
            use_cache=self.published,
            output_attentions=self.published,
            output_hidden_states=self.published,
        )
        hidden_BPE: Tensor = output.last_hidden_state[:, -patches:]
        return hidden_BPE


class PlainTraining:
    """Steps of the plain path over shuffled samples."""

    def __init__(self, config: Config, model: PlainTimeLLM, samples: WindowDataset, encoder: PromptEncoder) -> None:
        """The model is on its device already."""
        self._model, self._samples, self._encoder = model.train(), samples, encoder
        self._batch_size = config.train.batch_size
        self._device = model.head.projection.weight.device
        trainable = [weight for weight in model.parameters() if weight.requires_grad]
        self._optimizer = torch.optim.Adam(trainable, lr=config.train.learning_rate)
        self._batches = self._shuffle()

    def step(self) -> float:
        """Take one step; returns its loss."""
        history_BT, future_BH = next(self._batches)
        prompt = self._encoder.encode(history_BT).joined().to(self._device)
        self._optimizer.zero_grad()
        forecast_BH = self._model(history_BT.to(self._device), prompt)
        loss = mse_loss(forecast_BH, future_BH.to(self._device))
        loss.backward()
        self._optimizer.step()
        return loss.item()

    def close(self) -> None:
        """Nothing runs between two steps."""

    def _shuffle(self) -> Iterator[tuple[Tensor, Tensor]]:
        generator = torch.Generator().manual_seed(0)
        while True:
            for chosen in torch.randperm(len(self._samples), generator=generator).split(self._batch_size):
                if len(chosen) == self._batch_size:
                    batch = self._samples.batch(chosen.tolist())
                    yield batch.history_BT, batch.future_BH
