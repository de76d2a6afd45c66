"""The one batch type: what the loader makes, the model reads and the score compares."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class PromptTokens:
    """Prompts of a batch: `prefix`, the token ids that every prompt begins with, and the suffixes, B x K.

    The suffixes (int64 ids; mask 1: a token, 0: padding) are padded on the left, so the last prompt token is next to
    the first patch, whatever the lengths of the other prompts are.
    """

    ids_BK: Tensor
    mask_BK: Tensor
    prefix: tuple[int, ...] = ()

    @property
    def length(self) -> int:
        """Tokens of the longest prompt, prefix and padding included."""
        return len(self.prefix) + self.ids_BK.shape[1]

    @property
    def tensors(self) -> tuple[Tensor, Tensor]:
        """Ids and mask of the suffixes."""
        return self.ids_BK, self.mask_BK

    def joined(self) -> "PromptTokens":
        """The same prompts with the prefix repeated in front of every suffix, and an empty prefix."""
        prefix_BK = self.ids_BK.new_tensor(self.prefix).expand(len(self.ids_BK), -1)
        return PromptTokens(
            torch.cat([prefix_BK, self.ids_BK], dim=1), torch.cat([torch.ones_like(prefix_BK), self.mask_BK], dim=1)
        )

    def to(self, device: torch.device) -> "PromptTokens":
        """The same on another device."""
        return PromptTokens(
            self.ids_BK.to(device, non_blocking=True), self.mask_BK.to(device, non_blocking=True), self.prefix
        )


@dataclass(frozen=True, eq=False)
class AheadBatch:
    """What B samples know of their horizon, H steps; shapes are static.

    `line_BH` is the line of each step's day, `slot_BH` the step's slot in its day, `week_BT` the slot in its week of
    each row of history, `columns_BHF` the raw values of the columns that are known ahead (F may be 0). `channel_B` is
    the number of the sample's channel among the scored ones of the training, -1 for one that was not there.
    """

    line_BH: Tensor
    slot_BH: Tensor
    week_BT: Tensor
    columns_BHF: Tensor
    channel_B: Tensor

    @property
    def tensors(self) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """All of it, as the model's inputs."""
        return self.line_BH, self.slot_BH, self.week_BT, self.columns_BHF, self.channel_B

    def pinned(self) -> "AheadBatch":
        """The same in pinned memory."""
        return AheadBatch(*(tensor.pin_memory() for tensor in self.tensors))


@dataclass(frozen=True, eq=False)
class Batch:
    """B samples: standardised values in float32, and each one's channel and first row in the table.

    Histories are filled. `known_BH` says which targets have a value; None where no value of the table is absent. The
    other targets are NaN: they are neither trained on nor scored. `prompt` is None until the model's runner has encoded
    it. `series` names each sample's channel, where the prompt does. `ahead` is what is known of the horizon. Where
    these are a process's part of a batch, `known_share` is the share of the whole batch's targets that have a value.
    """

    history_BT: Tensor
    future_BH: Tensor
    channel_B: Tensor
    start_B: Tensor
    prompt: PromptTokens | None = None
    known_BH: Tensor | None = None
    series: tuple[str, ...] = ()
    known_share: float | None = None
    ahead: "AheadBatch | None" = None

    @property
    def ahead_tensors(self) -> tuple[Tensor, ...]:
        """What is known of the horizon, as inputs of the model; none where nothing is."""
        return self.ahead.tensors if self.ahead else ()

    def __len__(self) -> int:
        return len(self.history_BT)
