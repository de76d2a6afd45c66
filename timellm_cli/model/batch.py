"""Windows put together to a batch, with their prompts: the work a loader's process does ahead of the model."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from timellm_cli.data.windows import Window, Windows
from timellm_cli.model.tokens import NoPromptEncoder, PromptEncoder, PromptTokens


@dataclass(frozen=True)
class Batch:
    """B samples: standardised values, and which channel and window (by its first row in the table) each one is."""

    history_BT: Tensor
    future_BH: Tensor
    channel_B: Tensor
    start_B: Tensor
    prompt: PromptTokens

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
    """Turns windows into a batch. An object, so that loader processes can receive it."""

    def __init__(self, encoder: PromptEncoder | NoPromptEncoder) -> None:
        self.encoder = encoder

    def __call__(self, windows: Windows | Sequence[Window]) -> Batch:
        if not isinstance(windows, Windows):
            windows = Windows.stack(windows)
        return Batch(
            history_BT=windows.history_BT,
            future_BH=windows.future_BH,
            channel_B=windows.channel_B,
            start_B=windows.start_B,
            prompt=self.encoder.encode(windows.history_BT),
        )
