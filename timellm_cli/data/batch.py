"""The one batch type: what the loader makes, the model reads and the score compares."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class PromptTokens:
    """Prompts of a batch: `head`, the token ids that every prompt begins with, and the tails, ids and mask of B x K.

    The tails (int64; mask 1: a token, 0: padding) are padded on the left, so that the last prompt token stands beside
    the first patch, whatever the batch-mates' lengths are.
    """

    ids_BK: Tensor
    mask_BK: Tensor
    head: tuple[int, ...] = ()

    @property
    def length(self) -> int:
        """Tokens of the longest prompt, head and padding included."""
        return len(self.head) + self.ids_BK.shape[1]

    @property
    def tensors(self) -> tuple[Tensor, Tensor]:
        """Ids and mask."""
        return self.ids_BK, self.mask_BK

    def joined(self) -> "PromptTokens":
        """The same prompts with the head repeated in front of every tail, and no head apart."""
        head_BK = self.ids_BK.new_tensor(self.head).expand(len(self.ids_BK), -1)
        return PromptTokens(
            torch.cat([head_BK, self.ids_BK], dim=1), torch.cat([torch.ones_like(head_BK), self.mask_BK], dim=1)
        )

    def to(self, device: torch.device) -> "PromptTokens":
        """The same on another device."""
        return PromptTokens(
            self.ids_BK.to(device, non_blocking=True), self.mask_BK.to(device, non_blocking=True), self.head
        )


@dataclass(frozen=True, eq=False)
class Batch:
    """B samples: standardised values in float32, and each one's channel and first row in the table.

    `prompt` is None until the model's runner has encoded it.
    """

    history_BT: Tensor
    future_BH: Tensor
    channel_B: Tensor
    start_B: Tensor
    prompt: PromptTokens | None = None

    def __len__(self) -> int:
        return len(self.history_BT)
