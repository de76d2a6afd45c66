"""Windows put together to a batch, with their prompts: the work a loader's process does ahead of the model."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from timellm_cli.data.windows import Window
from timellm_cli.model.tokens import NoPromptEncoder, PromptEncoder, PromptTokens


@dataclass(frozen=True)
class Batch:
    """B samples: standardised values, and which channel and window (by its first row in the table) each one is."""

    history_BT: Tensor
    future_BH: Tensor
    channel_B: Tensor
    start_B: Tensor
    prompt: PromptTokens

    def to(self, device: torch.device) -> "Batch":
        """The same on another device."""
        return Batch(
            self.history_BT.to(device, non_blocking=True),
            self.future_BH.to(device, non_blocking=True),
            self.channel_B.to(device, non_blocking=True),
            self.start_B.to(device, non_blocking=True),
            self.prompt.to(device),
        )

    def pin_memory(self) -> "Batch":
        """The same in memory from which a GPU copies by itself, while the program goes on."""
        return Batch(
            self.history_BT.pin_memory(),
            self.future_BH.pin_memory(),
            self.channel_B.pin_memory(),
            self.start_B.pin_memory(),
            PromptTokens(self.prompt.ids_BK.pin_memory(), self.prompt.mask_BK.pin_memory(), self.prompt.head),
        )


class Collate:
    """Turns a list of windows into a batch. An object, so that loader processes can receive it."""

    def __init__(self, encoder: PromptEncoder | NoPromptEncoder) -> None:
        self.encoder = encoder

    def __call__(self, windows: Sequence[Window]) -> Batch:
        history_BT = torch.stack([window.history_T for window in windows])
        return Batch(
            history_BT=history_BT,
            future_BH=torch.stack([window.future_H for window in windows]),
            channel_B=torch.tensor([window.channel for window in windows]),
            start_B=torch.tensor([window.start for window in windows]),
            prompt=self.encoder.encode(history_BT),
        )
