"""A history in overlapping patches, each embedded. Source: PatchTST's patching, with Time-LLM's token embedding."""

import torch.nn.functional as F
from torch import Tensor, nn


def cut_patches(scaled_BT: Tensor, patch_len: int, patch_stride: int) -> Tensor:
    """Patches of a history that is padded on the right by repeating its last value `patch_stride` times; B x P x L."""
    padded = F.pad(scaled_BT.unsqueeze(1), (0, patch_stride), mode="replicate").squeeze(1)
    return padded.unfold(dimension=1, size=patch_len, step=patch_stride)


class PatchEmbedding(nn.Module):
    """Each patch with its two neighbours, to `d_model` dimensions: a circular convolution over the patches, no bias."""

    def __init__(self, patch_len: int, d_model: int, dropout: float) -> None:
        super().__init__()
        self.convolution = nn.Conv1d(patch_len, d_model, kernel_size=3, padding=1, padding_mode="circular", bias=False)
        nn.init.kaiming_normal_(self.convolution.weight, mode="fan_in", nonlinearity="leaky_relu")
        self.dropout = nn.Dropout(dropout)

    def forward(self, patches_BPL: Tensor) -> Tensor:
        """B x P x L to B x P x D."""
        return self.dropout(self.convolution(patches_BPL.transpose(1, 2)).transpose(1, 2))
